//! Counters of the kernel's requests: what a program's work on the mount has cost in trips to this process.
//!
//! Time on a shared machine says little; how often the kernel had to ask says whether its caches do their work.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the kernel asks for, as far as it is worth telling apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// What a name means.
    Lookup,
    /// Attributes.
    Getattr,
    /// Extended attributes, by name or their list.
    Xattr,
    /// A file opened ...
    Open,
    /// ... for reads that go to the cached text itself.
    Passthrough,
    /// Bytes.
    Read,
    /// A file's descriptor closed.
    Flush,
    /// A file's last descriptor closed.
    Release,
    /// A folder opened.
    Opendir,
    /// Entries of a folder, with or without their attributes.
    Readdir,
    /// An inode forgotten.
    Forget,
    /// Anything else.
    Other,
}

impl Request {
    /// All, in the order in which they are shown.
    pub const ALL: [Request; 12] = [
        Request::Lookup,
        Request::Getattr,
        Request::Xattr,
        Request::Open,
        Request::Passthrough,
        Request::Read,
        Request::Flush,
        Request::Release,
        Request::Opendir,
        Request::Readdir,
        Request::Forget,
        Request::Other,
    ];

    /// Its name in `status`.
    pub fn name(self) -> &'static str {
        match self {
            Request::Lookup => "lookup",
            Request::Getattr => "getattr",
            Request::Xattr => "xattr",
            Request::Open => "open",
            Request::Passthrough => "passthrough",
            Request::Read => "read",
            Request::Flush => "flush",
            Request::Release => "release",
            Request::Opendir => "opendir",
            Request::Readdir => "readdir",
            Request::Forget => "forget",
            Request::Other => "other",
        }
    }
}

/// The counters, since the mount.
#[derive(Debug, Default)]
pub struct Requests([AtomicU64; Request::ALL.len()]);

impl Requests {
    /// One more.
    pub fn count(&self, request: Request) {
        self.0[request as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Each request's number so far.
    pub fn counts(&self) -> impl Iterator<Item = (Request, u64)> {
        Request::ALL.into_iter().zip(&self.0).map(|(request, count)| (request, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_by_its_own_name() {
        let requests = Requests::default();
        for (times, request) in Request::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| requests.count(request));
        }
        for (times, (request, count)) in requests.counts().enumerate() {
            assert_eq!((request, count), (Request::ALL[times], times as u64));
        }
        assert_eq!(Request::Open.name(), "open");
    }
}
