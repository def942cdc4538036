//! Locks of small tables.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. A panic elsewhere must not take this down too: the tables that are locked so are whole after each statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
