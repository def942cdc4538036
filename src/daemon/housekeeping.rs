//! What a mount does of its own accord, now and then.

use crate::fetch::Fetch;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Soon after the start: what an earlier mount left in live rows gets nothing more for the time being.
const FIRST: Duration = Duration::from_secs(5);
/// From one pass through the live rows to the next.
const EVERY: Duration = Duration::from_secs(60);

/// Moves live rows that have come to rest into files, until `stop`.
pub(super) async fn keep_house(store: Arc<Store>, fetch: Arc<Fetch>, stop: CancellationToken) {
    let mut rest = FIRST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
        rest = EVERY;
        tokio::select! {
            () = stop.cancelled() => return,
            moved = store.move_quiet_rows() => {
                if let Err(error) = moved {
                    tracing::debug!(%error, "live rows stay in the catalogue until the next pass");
                }
                fetch.heal_sick();
            }
        }
    }
}

/// How soon a size that was told is written down, if no commit takes it along before.
const SIZES: Duration = Duration::from_secs(1);

/// Writes sizes that were told of files in other formats, until `stop`.
pub(super) async fn write_sizes(store: Arc<Store>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SIZES) => {}
        }
        if let Err(error) = store.write_sizes().await {
            tracing::debug!(%error, "sizes are written with the next commit");
        }
    }
}
