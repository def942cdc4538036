//! What the catalogue knows about a group or a stream.

use crate::model::{GroupId, LogGroup, LogStream, StreamId, Timestamp};

/// A log group's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// Its number, for ever.
    pub id: GroupId,
    /// What the service tells.
    pub group: LogGroup,
    /// The name it was given here, without regard to `--names`; never changes.
    pub slug: String,
    /// Its place in the order of discovery: a readdir cookie. Starts at 1.
    pub seq: u64,
    /// When its streams were last listed to the end (ms since epoch); `None` if never.
    pub walked_at: Option<Timestamp>,
    /// The unbroken chain of whole-group checks, if any (see [`Vouch`]).
    pub vouch: Option<Vouch>,
}

/// What a name means, as far as the catalogue knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named<Row> {
    /// This row.
    Row(Row),
    /// This exact name and no other: as it says, or because its slug was given to that one. There is no row of it now.
    Exact(String),
    /// A slug that was given to no name yet; it may be an exact name, too.
    Slug,
    /// A slug with a hash of a name that has no row.
    Hashed,
    /// Nothing is ever called so.
    Nothing,
}

impl<Row> Named<Row> {
    /// The row, if it is one's name.
    pub fn row(self) -> Option<Row> {
        match self {
            Named::Row(row) => Some(row),
            Named::Exact(_) | Named::Slug | Named::Hashed | Named::Nothing => None,
        }
    }

    /// The same of what `other` makes of the row.
    pub(crate) fn map<Other>(self, other: impl FnOnce(Row) -> Other) -> Named<Other> {
        match self {
            Named::Row(row) => Named::Row(other(row)),
            Named::Exact(name) => Named::Exact(name),
            Named::Slug => Named::Slug,
            Named::Hashed => Named::Hashed,
            Named::Nothing => Named::Nothing,
        }
    }
}

/// An unbroken chain of whole-group reads: every stream settled up to some moment within `from..=to` is settled up to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vouch {
    /// Where the chain begins.
    pub from: Timestamp,
    /// Up to where it settles.
    pub to: Timestamp,
    /// The service's clock was known to all of its reads.
    pub by_service: bool,
}

/// A log stream's row: one generation of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRow {
    /// Its number, for ever.
    pub id: StreamId,
    /// The group it is in.
    pub group: GroupId,
    /// What the service tells (lags).
    pub stream: LogStream,
    /// The name it was given here, without `.log` and without regard to `--names`; never changes.
    pub slug: String,
    /// Its place in its group's order of discovery: a readdir cookie. Starts at 1.
    pub seq: u64,
    /// What is stored of it.
    pub extent: Extent,
    /// The stream was deleted, or deleted and made again: only open handles still see this row.
    pub gone: bool,
}

/// How much of a stream is stored and how much of that can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Committed bytes of canonical text.
    pub text_len: u64,
    /// Committed events.
    pub events: u64,
    /// It was once read to the end: its size is known, for ever growing from `text_len`.
    pub complete: bool,
    /// Everything stamped before this is settled: a drained read that began `settle-after` later added nothing. `EPOCH`: nothing is.
    pub settled_to: Timestamp,
    /// The service's clock was known when that was set: it doesn't lean on this machine's alone, which may have been wrong.
    pub settled_by_service: bool,
    /// What lies before its oldest event may be missing: a read met nothing but empty pages there, without an end, and passed it over.
    pub doubted: bool,
    /// The moment at which the last drained read began; `EPOCH` if there was none.
    pub read_to: Timestamp,
    /// Least event timestamp stored.
    pub oldest: Option<Timestamp>,
    /// Greatest event timestamp stored.
    pub newest: Option<Timestamp>,
    /// Greatest ingestion time stored.
    pub newest_ingestion: Option<Timestamp>,
}
