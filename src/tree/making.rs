//! How far the making of a file in another format is. Plain state; `maker` makes it.

use crate::error::Error;
use crate::store::Store;
use crate::sync::lock;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// How far the making of one file is.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) running: bool,
    /// The newest failure, and its number: a waiter is told only of later ones than it knows.
    pub(crate) failure: Option<Error>,
    pub(crate) failures: u64,
}

/// The making of one file.
pub(crate) struct Making {
    pub(crate) store: Arc<Store>,
    pub(crate) state: Mutex<State>,
    /// The number of failures, told to those who wait.
    pub(crate) failed: watch::Sender<u64>,
}

impl Making {
    pub(crate) fn new(store: Arc<Store>) -> Making {
        Making { store, state: Mutex::default(), failed: watch::Sender::new(0) }
    }

    pub(crate) fn end(&self, failure: Option<Error>) {
        let failures = {
            let mut state = lock(&self.state);
            state.running = false;
            if failure.is_some() {
                state.failures += 1;
                state.failure = failure;
            }
            state.failures
        };
        self.failed.send_replace(failures);
    }
}
