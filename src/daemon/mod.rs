//! The life of a mount: start (in the background if asked), wait, reload, stop.
//!
//! `run` starts; `background` makes the process that outlives the terminal, and its parent, which waits for one line on a pipe;
//! `lock` keeps a second daemon off the cache; `signals` says stop and reload; `housekeeping` goes on meanwhile; `log` writes down; `check` and `live` answer whether one could be mounted, and whether one that is answers; `notify` tells systemd.

mod background;
mod check;
mod housekeeping;
mod live;
mod lock;
mod log;
mod notify;
mod process;
mod run;
mod signals;
mod verify;

pub use check::check_setup;
pub use live::{ask, check_live};
pub use run::run;
pub use verify::verify_cache;

/// Why the mount couldn't be started or went down: one line, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    why: String,
    status: u8,
}

/// Exit status of a mount whose connection to the kernel broke.
const BROKEN: u8 = 3;

impl Failure {
    /// `why` is made printable: it ends up on a terminal.
    pub fn new(why: impl std::fmt::Display) -> Failure {
        Failure { why: crate::model::printable(&why.to_string()), status: 1 }
    }

    /// The mount stood, and what it was served by broke.
    pub(crate) fn broken(why: impl std::fmt::Display) -> Failure {
        Failure { status: BROKEN, ..Failure::new(why) }
    }

    /// The process's exit status: 1, or 3 if a mount that stood broke.
    pub fn status(&self) -> u8 {
        self.status
    }
}
