//! One stream's copy: its live state, how it is read, compared and committed, and up to where it is settled.

pub(crate) mod access_pattern;
pub(crate) mod checks;
pub(crate) mod commit;
pub(crate) mod cursor;
pub(crate) mod deserts;
pub(crate) mod downloads;
pub(crate) mod drain;
pub(crate) mod following;
pub(crate) mod gap;
pub(crate) mod group_cursor;
pub(crate) mod hourly_counts;
pub(crate) mod merge;
pub(crate) mod page;
pub(crate) mod position;
pub(crate) mod sick;
pub(crate) mod stale;
pub(crate) mod state;
pub(crate) mod tail_buffer;
pub(crate) mod via;
pub(crate) mod watermark;
