//! Keeps complete copies up to date: opens are joined into checks of their group.

pub(crate) mod check;
pub(crate) mod expired;
pub(crate) mod one_stream;
pub(crate) mod refresh;
pub(crate) mod untrusted;
