//! What the user set about fetching.

use crate::model::Timestamp;
use crate::source::Quotas;
use std::time::Duration;

/// Which groups and streams the mount shows.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only groups whose exact name starts with one of these; empty means all.
    pub group_prefixes: Vec<String>,
    /// Only groups whose exact name matches one of these globs; empty means all.
    pub group_patterns: globset::GlobSet,
    /// Only streams of these exact names; empty means all.
    pub streams: Vec<String>,
    /// Only streams with events since.
    pub since: Option<Since>,
}

/// A moment, fixed or sliding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// That long before now.
    Ago(Duration),
    /// A fixed time.
    At(Timestamp),
}

/// What the user set about fetching; can change while mounted.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// What is shown.
    pub selection: Selection,
    /// How often followed streams are asked (default 1 s).
    pub poll_interval: Duration,
    /// How far back a followed stream is read again for late events (default 5 min).
    pub late_window: Duration,
    /// How long after its newest event a range counts as settled (default 15 min).
    pub settle_after: Duration,
    /// How long a listing is believed (default 10 s).
    pub listing_ttl: Duration,
    /// Calls a second to start from.
    pub quotas: Quotas,
    /// How long one waiting request may go without progress (30 s): bounds retries too.
    pub patience: Duration,
}
