//! The end of a stream that isn't downloaded: what `tail` asks for, and what comes after it.
//!
//! The last lines are read backwards, a page or a few; nothing is stored. What polls of the followed stream bring later is compared with
//! a multiset of the recent events and put behind, in order of discovery. What is older than the first event read isn't part of it,
//! unless the service took it in later: then it is new. The text is in memory, bounded: what was read by the tail is let go of, and a
//! tail that doesn't read isn't polled for.

use crate::error::Error;
use crate::fetch::follow::poll_loop::Follow;
use crate::fetch::shared::Last;
use crate::fetch::stream::state::Stream;
use crate::fetch::stream::tail_buffer::TailBuffer;
use crate::model::Timestamp;
use crate::sync::lock;
use read_back::read_back;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

mod read_back;

/// How often an empty answer that the listing contradicts is asked again, and how long after.
const DOUBTS: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(400)];

/// The end of a stream that isn't downloaded: offset 0 is the start of a line; grows as events arrive. Rendered canonically.
pub struct Tail {
    pub(crate) buffer: Arc<TailBuffer>,
    _follow: Follow,
}

impl Tail {
    /// Bytes now; only grows.
    pub fn len(&self) -> u64 {
        self.buffer.len()
    }

    /// Whether there is nothing yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells of each growth of `len`.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.buffer.subscribe()
    }

    /// Up to `size` bytes at `offset`. Of a tail that went on for more than 64 MiB the beginning is gone: empty.
    pub fn read_at(&self, offset: u64, size: usize) -> Vec<u8> {
        self.buffer.read_at(offset, size)
    }

    /// When it last grew, or the newest event's time.
    pub fn grown_at(&self) -> Timestamp {
        self.buffer.grown_at()
    }
}

impl Stream {
    /// The stream's last part alone, and what comes after it while the value lives (it is followed).
    pub async fn last(self: &Arc<Self>, last: Last) -> Result<Arc<Tail>, Error> {
        self.check_class()?;
        let row = self.row()?;
        if row.gone {
            return Err(self.not_found());
        }
        let moment = self.streams.shared.clock.moment();
        let mut doubts = DOUBTS.iter();
        let events = loop {
            let events = match read_back(self, last, moment.latest).await {
                Ok(events) => events,
                Err(fault) if fault.is_not_found() => {
                    self.is_gone();
                    return Err(self.not_found());
                }
                Err(fault) => return Err(fault.about(&self.subject)),
            };
            let told = self.row()?.stream;
            if events.is_empty()
                && (told.first_event.is_some() || told.last_event.is_some())
                && let Some(delay) = doubts.next()
            {
                tokio::time::sleep(*delay).await;
                continue;
            }
            break events;
        };
        let late_window = self.streams.shared.settings.borrow().late_window;
        let (group, stream) = (self.group.name.clone(), self.name.clone());
        let start = |text: &[u8]| start_of(text, last);
        let buffer = Arc::new(TailBuffer::new(group, stream, &events, start, moment.now, late_window));
        let tail = Arc::new(Tail { buffer: buffer.clone(), _follow: self.follow() });
        lock(&self.tails).push(Arc::downgrade(&buffer));
        Ok(tail)
    }
}

/// Where the last part begins in `text`, which ends in a newline if it isn't empty: at the start of a line.
fn start_of(text: &[u8], last: Last) -> usize {
    let newlines_before =
        |end: usize| text[..end].iter().enumerate().rev().filter(|(_, b)| **b == b'\n').map(|(i, _)| i);
    match last {
        Last::Lines(k) => {
            let nth = usize::try_from(k).unwrap_or(usize::MAX);
            newlines_before(text.len()).nth(nth).map_or(0, |i| i + 1)
        }
        Last::Bytes(k) => {
            let at = text.len().saturating_sub(usize::try_from(k).unwrap_or(usize::MAX));
            newlines_before(at).next().map_or(0, |i| i + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_the_start_of_a_line() {
        let text = b"one\ntwo\nthree\n";
        assert_eq!(start_of(text, Last::Lines(0)), text.len());
        assert_eq!(start_of(text, Last::Lines(1)), 8);
        assert_eq!(start_of(text, Last::Lines(2)), 4);
        assert_eq!(start_of(text, Last::Lines(3)), 0);
        assert_eq!(start_of(text, Last::Lines(9)), 0);
        assert_eq!(start_of(text, Last::Bytes(0)), text.len());
        assert_eq!(start_of(text, Last::Bytes(1)), 8);
        assert_eq!(start_of(text, Last::Bytes(6)), 8);
        assert_eq!(start_of(text, Last::Bytes(7)), 4);
        assert_eq!(start_of(text, Last::Bytes(99)), 0);
        assert_eq!(start_of(b"", Last::Lines(3)), 0);
    }
}
