//! The end of a stream that isn't downloaded: what `tail` asks for.

pub(crate) mod newest;
pub(crate) mod read_back;
