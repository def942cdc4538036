//! Followed streams: one poll loop a group.

pub(crate) mod poll;
pub(crate) mod poll_loop;
pub(crate) mod reread;
