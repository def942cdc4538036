//! `--verify`: proves the local copy. Each cached stream's events are counted by the hour at the service and in the cache; hours
//! that differ are named, fetched, and named again if they stay.
//!
//! What isn't settled yet is simply read again, as every open does, so the counts are about hours that nobody looks at any more:
//! there an event that was written days late stays unseen by everything else. A copy is only ever added to. Counting costs what
//! Logs Insights costs; where it doesn't answer, or isn't wanted, the stream is read again instead.

mod compare;
mod lines;
mod pick;
mod stream;

use crate::error::Error;
use crate::fetch::{Fetch, Selection};
use crate::model::{GroupId, Timestamp};
use crate::store::Store;
use crate::store::row::{GroupRow, StreamRow};
use crate::sync::lock;
use futures_util::StreamExt;
use lines::Lines;
use pick::Globs;
use std::collections::HashSet;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Streams that are looked at side by side: enough to fill the quotas, few enough for the service's limit of running queries.
const SIDE_BY_SIDE: usize = 8;
/// Rows that are taken from the catalogue at once.
const ROWS: usize = 1000;

/// What to prove.
pub struct VerifyOptions {
    /// Patterns over `group/stream`, exact or as on the mount; empty means all that is cached.
    pub globs: Vec<String>,
    /// Groups and streams beyond this are left out.
    pub selection: Selection,
    /// Only hours that end after this.
    pub since: Option<Timestamp>,
    /// Where the settled part ends.
    pub settled: Timestamp,
    /// The present.
    pub now: Timestamp,
    /// Read everything again instead of counting.
    pub reread: bool,
    /// Leave out the streams that are equal.
    pub quiet: bool,
}

/// What every stream's proof works with.
struct Bench {
    fetch: Arc<Fetch>,
    store: Arc<Store>,
    options: VerifyOptions,
    /// Groups for which Insights doesn't answer.
    refused: Mutex<HashSet<GroupId>>,
}

/// Proves what `options` chooses and writes what it finds to `out`. True if all is equal at the end.
pub async fn verify(
    fetch: Arc<Fetch>,
    store: Arc<Store>,
    options: VerifyOptions,
    out: &mut impl Write,
) -> Result<bool, Error> {
    let globs = Globs::new(&options.globs);
    let bench = Bench { fetch, store, options, refused: Mutex::default() };
    let mut lines = Lines::new(out, bench.options.quiet);
    let mut groups_after = 0;
    loop {
        let groups = bench.store.groups_after(groups_after, ROWS).map_err(|e| crate::fetch::store_error("/", &e))?;
        let Some(last) = groups.last() else { break };
        groups_after = last.seq;
        for group in groups {
            bench.group(group, &globs, &mut lines).await?;
        }
    }
    Ok(lines.end(!globs.is_empty()))
}

impl Bench {
    async fn group<W: Write>(&self, known: GroupRow, globs: &Globs, lines: &mut Lines<'_, W>) -> Result<(), Error> {
        let name = known.group.name.clone();
        let mut now: Option<Result<Option<GroupRow>, Error>> = None;
        let mut after = 0;
        loop {
            let rows = self.store.streams_after(known.id, after, ROWS);
            let rows = rows.map_err(|e| crate::fetch::store_error(&name, &e))?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.seq;
            let rows: Vec<StreamRow> = rows.into_iter().filter(|row| self.is_wanted(&known, row, globs)).collect();
            if rows.is_empty() {
                continue;
            }
            if now.is_none() {
                now = Some(self.fetch.look_up_group(known.id).await);
            }
            let listed = match &now {
                Some(Ok(listed)) => listed.as_ref(),
                Some(Err(error)) => {
                    rows.iter().for_each(|row| lines.tell(&stream::failed(&name, row, error)));
                    continue;
                }
                None => None,
            };
            let known = &known;
            let proofs = futures_util::stream::iter(rows).map(|row| async move {
                match listed {
                    Some(group) => self.stream(group, row).await,
                    None => stream::gone(&name_of(known, &row), &row),
                }
            });
            let mut proofs = std::pin::pin!(proofs.buffered(SIDE_BY_SIDE));
            while let Some(proof) = proofs.next().await {
                lines.tell(&proof);
            }
        }
    }

    /// Cached, selected and meant.
    fn is_wanted(&self, group: &GroupRow, row: &StreamRow, globs: &Globs) -> bool {
        let cached = row.extent.complete || row.extent.events > 0;
        cached
            && self.options.selection.names(&group.group.name, &row.stream.name)
            && globs.choose((&group.group.name, &group.slug), (&row.stream.name, &row.slug))
    }

    fn is_refused(&self, group: GroupId) -> bool {
        lock(&self.refused).contains(&group)
    }

    /// True the first time.
    fn note_refusal(&self, group: GroupId) -> bool {
        lock(&self.refused).insert(group)
    }
}

/// `group/stream`, exact names.
fn name_of(group: &GroupRow, row: &StreamRow) -> String {
    format!("{}/{}", group.group.name, row.stream.name)
}
