//! redb's errors as the store's.

use crate::store::trouble::kind_of;
use crate::store::{StoreError, StoreErrorKind};
use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> StoreError {
        let kind = match &error {
            StorageError::Io(io) => kind_of(io),
            StorageError::Corrupted(_) => StoreErrorKind::CatalogueLost,
            _ => StoreErrorKind::Damaged,
        };
        StoreError::new(kind, format!("the catalogue: {error}"))
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> StoreError {
        match error {
            DatabaseError::Storage(storage) => storage.into(),
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                StoreError::new(StoreErrorKind::Refused, "another process has this cache open")
            }
            other => StoreError::new(StoreErrorKind::Damaged, format!("the catalogue: {other}")),
        }
    }
}

impl From<TransactionError> for StoreError {
    fn from(error: TransactionError) -> StoreError {
        match error {
            TransactionError::Storage(storage) => storage.into(),
            other => StoreError::new(StoreErrorKind::Damaged, format!("the catalogue: {other}")),
        }
    }
}

impl From<TableError> for StoreError {
    fn from(error: TableError) -> StoreError {
        match error {
            TableError::Storage(storage) => storage.into(),
            other => StoreError::new(StoreErrorKind::Damaged, format!("the catalogue: {other}")),
        }
    }
}

impl From<CommitError> for StoreError {
    fn from(error: CommitError) -> StoreError {
        match error {
            CommitError::Storage(storage) => storage.into(),
            other => StoreError::new(StoreErrorKind::Damaged, format!("the catalogue: {other}")),
        }
    }
}
