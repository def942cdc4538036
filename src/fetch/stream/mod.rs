//! One stream's copy: its live state, how it is read, compared and committed, and up to where it is settled.

pub(crate) mod access_pattern;
pub(crate) mod commit;
pub(crate) mod cursor;
pub(crate) mod drain;
pub(crate) mod gap;
pub(crate) mod hourly_counts;
pub(crate) mod merge;
pub(crate) mod stale;
pub(crate) mod state;
pub(crate) mod watermark;
