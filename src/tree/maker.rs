//! A file in another format than the stored one is made in the blocking pool, a step at a time. Who needs it waits, and everything else
//! goes on; once no open file and no waiter is left, the making stops where it is.

use super::file::File;
use crate::error::{Error, ErrorKind};
use crate::store::{StoreError, StoreErrorKind};
use crate::sync::lock;
use std::sync::{Arc, Weak};

/// How often text is fetched again without a step forward.
const REPAIRS: u32 = 3;

impl File {
    /// Has it made in the background, unless it is, or is being made.
    pub(crate) fn start_making(self: &Arc<Self>) {
        if self.reader().is_level() || std::mem::replace(&mut lock(&self.making().state).running, true) {
            return;
        }
        tokio::spawn(run(Arc::downgrade(self)));
    }

    /// Waits until there are `length` bytes of it, or all that there are. Fails with the first failure of the making from now on.
    pub(crate) async fn made(self: &Arc<Self>, length: u64) -> Result<(), Error> {
        let mut lengths = self.reader().subscribe();
        let mut failed = self.making().failed.subscribe();
        let known = *failed.borrow_and_update();
        loop {
            if self.reader().is_level() || *lengths.borrow_and_update() >= length {
                return Ok(());
            }
            if *failed.borrow_and_update() > known
                && let Some(error) = lock(&self.making().state).failure.clone()
            {
                return Err(error);
            }
            self.start_making();
            // Both senders live in the file.
            tokio::select! {
                _ = lengths.changed() => {}
                _ = failed.changed() => {}
            }
        }
    }

    /// Ends with the first failure of the making from now on.
    pub(crate) async fn making_fails(&self) -> Error {
        let mut failed = self.making().failed.subscribe();
        failed.mark_unchanged();
        loop {
            // The sender lives in the file.
            let _ = failed.changed().await;
            if let Some(error) = lock(&self.making().state).failure.clone() {
                return error;
            }
        }
    }
}

/// Makes it until it is level, fails, or is wanted no more.
async fn run(file: Weak<File>) {
    let mut remedies = 0;
    loop {
        let Some(file) = file.upgrade() else { return };
        let store = &file.making().store;
        if store.is_too_large() {
            // What can't be taken away now stays: one stream may outgrow the cache while it is read.
            let _ = store.make_room().await;
        }
        let step = tokio::task::spawn_blocking({
            let file = Arc::clone(&file);
            move || file.reader().make()
        });
        let failure = match step.await {
            Ok(Ok(true)) => None,
            Ok(Ok(false)) => {
                remedies = 0;
                continue;
            }
            Ok(Err(error)) => {
                remedies += 1;
                match remedy(&file, error, remedies).await {
                    Ok(()) => continue,
                    Err(error) => Some(error),
                }
            }
            Err(_) => Some(Error::new(ErrorKind::Damaged, file.label(), "it can't be made: a defect of this program")),
        };
        file.making().end(failure);
        return;
    }
}

/// Does what lets the next step succeed; for the n-th time in a row.
async fn remedy(file: &Arc<File>, error: StoreError, times: u32) -> Result<(), Error> {
    match error.kind {
        StoreErrorKind::NoSpace if times == 1 => {
            let _ = file.making().store.make_room().await;
            Ok(())
        }
        // Evicted or damaged: fetched again from where the making stands, a bounded part.
        StoreErrorKind::TextLost(_) if times <= REPAIRS => file.stream().repair(file.reader().made_of(), 1).await,
        StoreErrorKind::IndexLost(_) | StoreErrorKind::Sick(_) => Err(file.stream().lost(error).await),
        _ => Err(file.damaged(&error)),
    }
}
