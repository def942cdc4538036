//! One complete stream read again by requests of its own.

use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::commit::{Seal, commit_one};
use crate::fetch::stream::drain::{Drained, Read, ahead, drain};
use crate::fetch::stream::state::Stream;
use crate::model::Timestamp;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Reads one complete stream from `from` (not after its settled edge) to now, drained, and what is stamped ahead; for as long as
/// `waits` lives.
pub(crate) async fn read_from(
    stream: Arc<Stream>,
    priority: Priority,
    from: Timestamp,
    waits: Weak<()>,
) -> Result<(), Fault> {
    let began = stream.streams.begin();
    let clock = &stream.streams.shared.clock;
    let mut now = clock.moment();
    let mut end = now.latest + Duration::from_millis(1);
    let settled = stream.row()?.extent.settled_to;
    let mut start = stream.past_the_desert(Some(from)).unwrap_or(from);
    loop {
        let read = Read {
            stream: &stream,
            priority,
            start: Some(start),
            end,
            read_to: None,
            only_complete: true,
            barren: 0,
            calls: None,
            hours: None,
        };
        match drain(read, &|| waits.strong_count() > 0).await {
            Err(fault) if fault.is_not_found() => {
                stream.is_gone();
                return Err(stream.not_found().into());
            }
            Ok(Drained::All(_)) if clock.again(now).latest > now.latest => {
                // The first answer told that the service's clock is ahead of what this read to.
                now = clock.moment();
                end = now.latest + Duration::from_millis(1);
            }
            Ok(Drained::All(_)) => break,
            Ok(Drained::LeftEarly) => return Ok(()),
            Ok(Drained::Stuck(at)) => start = stream.leave_desert(at)?.ok_or(Fault::Empties)?,
            Err(fault) => return Err(fault),
        }
    }
    let mut last = ahead(&stream, priority, end, now.latest).await?;
    last.only_complete = true;
    last.read_to = Some(now);
    last.seal = Some(Seal { from, began: now });
    // What was passed over may hold events yet, unless it was read and settled before.
    if start > from.max(settled) {
        last.doubted = Some(true);
        stream.doubted.store(true, Ordering::Relaxed);
    }
    last.beat = true;
    commit_one(&stream.streams, last).await?;
    stream.was_read(began);
    Ok(())
}
