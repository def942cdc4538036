//! Copies that lost something: text that was evicted or damaged, files on which the disk failed.

pub(crate) mod files;
pub(crate) mod text;
