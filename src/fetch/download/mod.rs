//! The first copy of a stream, by one reader or by several side by side.

pub(crate) mod first_copy;
pub(crate) mod parallel;
pub(crate) mod windows;
