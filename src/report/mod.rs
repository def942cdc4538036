//! Registries that are written to from everywhere and read by `.cwlogs/`: calls, requests, errors. No policy.
//!
//! Every one is bounded: a fixed table by call and outcome, one by kind of request, at most [`metrics::MAX_GROUPS`] groups, the newest
//! [`errors::KEPT`] errors. Writing takes at most one short lock and never waits for anything else.

pub mod errors;
pub mod metrics;
pub mod requests;
pub mod status;

use crate::error::Error;
use crate::model::Timestamp;
use crate::source::{Call, SourceErrorKind};
use status::MountFacts;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// What the mount knows about itself.
#[derive(Debug, Default)]
pub struct Report {
    mount: OnceLock<MountFacts>,
    metrics: metrics::Metrics,
    requests: requests::Requests,
    errors: errors::Errors,
}

impl Report {
    /// Says what is mounted where; once, at the start. Later calls change nothing.
    pub fn describe(&self, facts: MountFacts) {
        let _ = self.mount.set(facts);
    }

    /// What is mounted where, if it was said.
    pub fn mount(&self) -> Option<&MountFacts> {
        self.mount.get()
    }

    /// One try of a call ended: answered with `Ok(events or rows)`, or failed; `waited` is the time spent waiting for quota.
    pub fn call(&self, call: Call, group: Option<&str>, outcome: Result<u64, SourceErrorKind>, waited: Duration) {
        self.metrics.call(call, group, outcome, waited, SystemTime::now());
    }

    /// An error that a reader met.
    pub fn error(&self, error: &Error) {
        self.errors.push(error, Timestamp::from_system_time(SystemTime::now()));
    }

    /// The counters.
    pub fn metrics(&self) -> &metrics::Metrics {
        &self.metrics
    }

    /// The counters of the kernel's requests.
    pub fn requests(&self) -> &requests::Requests {
        &self.requests
    }

    /// The newest errors, newest first.
    pub fn errors(&self) -> Vec<errors::Entry> {
        self.errors.newest_first()
    }
}
