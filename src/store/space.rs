//! Whether the cache takes too much: by its own limit, or by what its disk must keep free.

use super::live::Context;
use super::{StoreError, StoreErrorKind};
use crate::sync::lock;

/// Bytes that are missing on the disk to what must stay free.
pub(crate) fn lacking(context: &Context) -> u64 {
    let limits = *lock(&context.limits);
    // A disk that doesn't tell is used until it is full.
    context.disk.space(&context.dir).map_or(0, |(free, total)| limits.min_free.of(total).saturating_sub(free))
}

/// Refuses what would take room that has to stay free.
pub(crate) fn refuse(context: &Context) -> Result<(), StoreError> {
    match lacking(context) {
        0 => Ok(()),
        lacking => {
            let text = format!("{} has {lacking} bytes less free than --min-free keeps", context.dir.display());
            Err(StoreError::new(StoreErrorKind::NoSpace, text))
        }
    }
}

/// The cache is larger than it may be, or its disk too full.
pub(crate) fn is_too_much(context: &Context) -> bool {
    context.used_bytes() > lock(&context.limits).size || lacking(context) > 0
}
