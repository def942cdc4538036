//! How many files are open at a time: the process may have so many and no more, and what it keeps open for later is let go first.

use rustix::process::{Resource, getrlimit};
use std::num::NonZeroUsize;

// The unwraps below are of constants: the compiler proves them.

/// Streams kept ready though no file of theirs is open: followed ones are asked for each second.
const RECENT: NonZeroUsize = NonZeroUsize::new(128).unwrap();
/// The same of streams that take little memory, so that a walk through a folder finds the proofs of the last one.
const RECENT_LIGHT: NonZeroUsize = NonZeroUsize::new(2_048).unwrap();

/// How many of each may be held, each of which may have a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pools {
    /// Streams kept ready.
    pub(crate) recent: NonZeroUsize,
    /// Those of them that take little.
    pub(crate) recent_light: NonZeroUsize,
    /// Texts that the kernel reads by itself.
    pub(crate) passthrough: usize,
}

impl Pools {
    /// By the process's limit.
    pub(crate) fn of_this_process() -> Pools {
        // Nothing is said of a limit that isn't there.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Pools::of(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// A half of `limit` for what is kept, a quarter for passthrough; the rest is for connections, other users' questions and files in use.
    fn of(limit: usize) -> Pools {
        let at_most =
            |most: NonZeroUsize, share: usize| most.min(NonZeroUsize::new(share).unwrap_or(NonZeroUsize::MIN));
        Pools {
            recent: at_most(RECENT, limit / 8),
            recent_light: at_most(RECENT_LIGHT, limit / 8 * 3),
            passthrough: limit / 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_open_leaves_a_quarter_of_the_limit() {
        for limit in [1, 64, 256, 1_024, 2_300, 4_096, 65_536, usize::MAX] {
            let Pools { recent, recent_light, passthrough } = Pools::of(limit);
            assert!(recent.get() + recent_light.get() + passthrough <= (limit / 4 * 3).max(2), "{limit}");
            assert!(recent <= RECENT && recent_light <= RECENT_LIGHT);
        }
        assert_eq!(Pools::of(65_536).recent_light, RECENT_LIGHT, "with room for all");
    }
}
