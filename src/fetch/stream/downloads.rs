//! Who waits for a stream's download. Plain state; `download` does it.

use crate::model::Timestamp;

/// Who waits for a download, and whether one runs.
#[derive(Debug, Default)]
pub(crate) struct Downloads {
    /// All who are interested.
    pub(crate) held: usize,
    /// Those of them who wait.
    pub(crate) waiting: usize,
    pub(crate) running: bool,
    pub(crate) began: Timestamp,
}

impl Downloads {
    /// Whether a transfer is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// When the transfer under way began.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.running.then_some(self.began)
    }
}
