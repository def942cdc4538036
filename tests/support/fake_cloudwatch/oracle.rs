//! What a stream's file must hold: every accepted event in the service's order, hidden ones included.

use super::account::Stream;
use super::key::Key;
use super::locks::RwLocked;
use super::state::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An event as the oracle tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OracleEvent {
    /// In ms.
    pub(crate) timestamp: i64,
    /// In ms.
    pub(crate) ingestion_time: i64,
    /// The text.
    pub(crate) message: String,
}

/// Reads a stream's bytes piece by piece.
pub(crate) struct Oracle {
    state: Arc<State>,
    stream: Arc<Stream>,
    behind: Key,
    visible_only: bool,
}

impl Oracle {
    /// All accepted events of a stream, or only those that reads show now.
    pub(crate) fn new(state: &Arc<State>, group: &str, stream: &str, visible_only: bool) -> Option<Oracle> {
        let stream = state.account.group(group)?.stream(stream)?;
        Some(Oracle { state: state.clone(), stream, behind: Key::MIN, visible_only })
    }

    /// The next piece, about 1 MiB; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let events = self.stream.events.reading();
        let now = self.state.now();
        let mut out = Vec::with_capacity((1 << 20) + 4096);
        let mut spot = events.seek(self.behind, true);
        while let Some((event, next)) = events.next(spot).filter(|_| out.len() < 1 << 20) {
            spot = next;
            self.behind = event.key();
            if !self.visible_only || event.visible(now) {
                event.write_line(&mut out);
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// All of it.
    pub(crate) fn bytes(mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = self.next() {
            all.extend_from_slice(&piece);
        }
        all
    }

    /// The last `lines` lines (a message may hold several), without computing what is before.
    pub(crate) fn tail(&self, lines: usize) -> Vec<u8> {
        let events = self.stream.events.reading();
        let now = self.state.now();
        let mut newest_first: Vec<Vec<u8>> = Vec::new();
        let mut found = 0;
        let mut spot = events.end();
        while let Some((event, previous)) = events.previous(spot).filter(|_| found < lines) {
            spot = previous;
            if !self.visible_only || event.visible(now) {
                let mut text = Vec::new();
                event.write_line(&mut text);
                found += text.iter().filter(|b| **b == b'\n').count();
                newest_first.push(text);
            }
        }
        newest_first.reverse();
        let all = newest_first.concat();
        let ends = all.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
        let start = ends.take(found.saturating_sub(lines)).last().unwrap_or(0);
        all[start..].to_vec()
    }

    /// The events themselves.
    pub(crate) fn events(&self) -> Vec<OracleEvent> {
        let events = self.stream.events.reading();
        let now = self.state.now();
        let mut all = Vec::new();
        let mut spot = events.seek(Key::MIN, false);
        while let Some((event, next)) = events.next(spot) {
            spot = next;
            if !self.visible_only || event.visible(now) {
                let mut message = Vec::new();
                event.write(&mut message);
                let message = String::from_utf8(message).expect("messages are UTF-8");
                let key = event.key();
                all.push(OracleEvent { timestamp: key.timestamp, ingestion_time: key.ingestion, message });
            }
        }
        all
    }
}
