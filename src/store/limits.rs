//! How large the cache may grow, and what it leaves free. Pure.

/// How large the cache may grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of the cache, indexes and catalogue included.
    pub size: u64,
    /// What stays free on its disk.
    pub min_free: MinFree,
}

/// Room that stays free on the cache's disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MinFree {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the disk.
    Percent(f64),
}

impl Default for Limits {
    /// None.
    fn default() -> Limits {
        Limits { size: u64::MAX, min_free: MinFree::Bytes(0) }
    }
}

impl MinFree {
    /// In bytes, on a disk of `total`.
    pub fn of(self, total: u64) -> u64 {
        match self {
            MinFree::Bytes(bytes) => bytes,
            // A byte more or less doesn't matter; a share above all of it is all of it.
            MinFree::Percent(share) => (total as f64 * share / 100.0) as u64,
        }
    }
}
