//! Counters of what was asked, and a bounded log of the calls themselves.

use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// What was asked since the start or the last reset.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Calls {
    /// All calls, refused ones included.
    pub(crate) total: u64,
    /// Calls refused by a quota or a throttling fault.
    pub(crate) throttled: u64,
    /// Calls by name, refused ones included.
    pub(crate) by_call: BTreeMap<String, u64>,
    /// Throttled calls by name.
    pub(crate) throttled_by_call: BTreeMap<String, u64>,
    /// Calls by group, then by name.
    pub(crate) by_group: BTreeMap<String, BTreeMap<String, u64>>,
    /// Refusals and faults by their name.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Events given.
    pub(crate) events: u64,
    /// Bytes of answers' bodies.
    pub(crate) bytes: u64,
    /// Connections accepted.
    pub(crate) connections: u64,
}

impl Calls {
    /// How often `call` was made.
    pub(crate) fn of(&self, call: &str) -> u64 {
        self.by_call.get(call).copied().unwrap_or(0)
    }
}

/// One call.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct CallLine {
    /// When it came by the machine's clock, in ms since the epoch.
    pub(crate) at: i64,
    /// Its name.
    pub(crate) call: String,
    /// The group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// The streams named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) streams: Vec<String>,
    /// startTime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<i64>,
    /// endTime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<i64>,
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<i64>,
    /// startFromHead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from_head: Option<bool>,
    /// The token sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Events given.
    pub(crate) events: u64,
    /// The refusal or fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

const LOG: usize = 20_000;

/// Counters and log.
#[derive(Default)]
pub(crate) struct Stats {
    /// The counters.
    pub(crate) calls: Calls,
    /// The latest calls, oldest first.
    pub(crate) log: VecDeque<CallLine>,
}

impl Stats {
    /// Counts a call that has been answered with `bytes` of body.
    pub(crate) fn add(&mut self, line: CallLine, bytes: u64) {
        let calls = &mut self.calls;
        calls.total += 1;
        calls.events += line.events;
        calls.bytes += bytes;
        *calls.by_call.entry(line.call.clone()).or_default() += 1;
        if let Some(group) = &line.group {
            *calls.by_group.entry(group.clone()).or_default().entry(line.call.clone()).or_default() += 1;
        }
        if let Some(error) = &line.error {
            *calls.errors.entry(error.clone()).or_default() += 1;
            if error == "ThrottlingException" {
                calls.throttled += 1;
                *calls.throttled_by_call.entry(line.call.clone()).or_default() += 1;
            }
        }
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }
}
