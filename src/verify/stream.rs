//! One stream: looked up, brought up to date, counted on both sides, fetched where they differ, counted again.

use super::compare::{Difference, differences, is_removed, kept_from, larger, runs};
use super::lines::{Mark, Proof, Verdict};
use super::{Bench, name_of};
use crate::error::{Error, ErrorKind};
use crate::fetch::{Count, Stream, store_error};
use crate::model::{Hours, Span, StreamId, Timestamp};
use crate::store::row::{GroupRow, StreamRow};
use std::sync::Arc;
use std::time::Duration;

/// Writers may add events that are 14 days older than the stream; a day more for clocks.
const BEFORE_CREATION: Duration = Duration::from_secs(15 * 86_400);

/// Nothing could be found out about a stream.
pub(super) fn failed(group: &str, row: &StreamRow, error: &Error) -> Proof {
    let name = format!("{group}/{}", row.stream.name);
    let text = format!("{}; {}", error.cause(), error.advice());
    Proof { name, verdict: Verdict::Failed, fetched: 0, lines: vec![(Mark::Failed, text)] }
}

/// The service doesn't list a stream any more.
pub(super) fn gone(name: &str, row: &StreamRow) -> Proof {
    let text = format!("the service no longer has it; the {} cached stay", events(row.extent.events));
    Proof { name: name.to_owned(), verdict: Verdict::Gone, fetched: 0, lines: vec![(Mark::Gone, text)] }
}

impl Bench {
    /// Proves one stream of a group that is there.
    pub(super) async fn stream(&self, group: &GroupRow, known: StreamRow) -> Proof {
        let name = name_of(group, &known);
        let listed = match self.fetch.look_up_stream(group, &known.stream.name).await {
            // A stream made again under the name is another one, which isn't cached.
            Ok(listed) => listed.filter(|row| row.id == known.id),
            Err(error) => return failed(&group.group.name, &known, &error),
        };
        let Some(row) = listed else { return gone(&name, &known) };
        if !row.extent.complete {
            let text = format!("only its first {} are cached; reading it fetches the rest", events(row.extent.events));
            return Proof { name, verdict: Verdict::Part, fetched: 0, lines: vec![(Mark::Part, text)] };
        }
        match self.prove(group, &row).await {
            Ok(proof) => proof,
            Err(error) if error.kind() == ErrorKind::NotFound => gone(&name, &row),
            Err(error) => failed(&group.group.name, &row, &error),
        }
    }

    async fn prove(&self, group: &GroupRow, row: &StreamRow) -> Result<Proof, Error> {
        let stream = self.fetch.stream(row.id)?;
        stream.catch_up(self.options.settled).await?;
        let span = self.span(row);
        let mut lines = Vec::new();
        let before = self.cached(row.id, span).await?;
        let (mut service, read_again) = self.service(group, &stream, span, &mut lines).await?;
        let kept_from = kept_from(group.group.retention_days, &service, self.options.now);
        let (removed, found): (Vec<_>, Vec<_>) =
            differences(&before, &service).into_iter().partition(|difference| is_removed(difference, kept_from));
        lines.extend(found.iter().map(|difference| (Mark::Differs, of_hour(difference))));
        let still_differs = |cached: &Hours, service: &Hours| -> Vec<Difference> {
            let all = differences(cached, service);
            all.into_iter().filter(|difference| !is_removed(difference, kept_from)).collect()
        };
        let mut after = if read_again { self.cached(row.id, span).await? } else { before.clone() };
        // Where it was only counted, this fetches; where it was read, a second answer may hold what the first one lacked.
        let again = runs(&still_differs(&after, &service));
        for (first, end) in &again {
            let run = Span { start: Timestamp::of_hour(*first), end: Timestamp::of_hour(*end) };
            larger(&mut service, &stream.read_again(run).await?);
        }
        if !again.is_empty() {
            after = self.cached(row.id, span).await?;
        }
        let fetched = total(&after).saturating_sub(total(&before));
        if fetched > 0 {
            lines.push((Mark::Fetched, format!("{} that the copy lacked", events(fetched))));
        }
        let stays = still_differs(&after, &service);
        lines.extend(stays.iter().map(|difference| (Mark::Stays, of_hour(difference))));
        lines.extend(told_removed(&removed));
        let verdict = match (stays.is_empty(), found.is_empty() && fetched == 0) {
            (false, _) => Verdict::Differs,
            (true, false) => Verdict::Healed,
            (true, true) => Verdict::Equal,
        };
        if verdict != Verdict::Differs {
            lines.push((Mark::Equal, format!("{} in {}", events(total(&after)), hours(after.len()))));
        }
        Ok(Proof { name: name_of(group, row), verdict, fetched, lines })
    }

    /// The whole hours to prove.
    fn span(&self, row: &StreamRow) -> Span {
        let told = row.stream.first_event.into_iter().chain(row.extent.oldest);
        let oldest = told.fold(row.stream.created - BEFORE_CREATION, Timestamp::min).max(Timestamp::EPOCH);
        let start = oldest.max(self.options.since.unwrap_or(Timestamp::EPOCH)).hour();
        let end = self.options.settled.hour().max(start);
        Span { start: Timestamp::of_hour(start), end: Timestamp::of_hour(end) }
    }

    async fn cached(&self, id: StreamId, span: Span) -> Result<Hours, Error> {
        let store = self.store.clone();
        let counted = tokio::task::spawn_blocking(move || store.hours(id, span)).await;
        let broke_off = |_| Error::new(ErrorKind::Damaged, format!("stream {}", id.0), "counting it broke off");
        counted.map_err(broke_off)?.map_err(|error| store_error(&format!("stream {}", id.0), &error))
    }

    /// The service's side, and whether it was read again (and so fetched) because it couldn't be counted or wasn't to be.
    async fn service(
        &self,
        group: &GroupRow,
        stream: &Arc<Stream>,
        span: Span,
        lines: &mut Vec<(Mark, String)>,
    ) -> Result<(Hours, bool), Error> {
        if !self.options.reread && !self.is_refused(group.id) {
            match stream.count(span).await? {
                Count::Hours(hours) => return Ok((hours, false)),
                Count::Refused(why) => {
                    if self.note_refusal(group.id) {
                        let text =
                            format!("Logs Insights doesn't count this log group ({why}); it is read again instead");
                        lines.push((Mark::Note, text));
                    }
                }
                Count::Failed(why) => {
                    lines.push((Mark::Note, format!("Logs Insights can't count it ({why}); it is read again instead")));
                }
            }
        }
        Ok((stream.read_again(span).await?, true))
    }
}

fn of_hour(difference: &Difference) -> String {
    format!("{}  cached {}, service {}", hour(difference.hour), difference.cached, difference.service)
}

/// `2026-11-23T10:00Z`.
fn hour(hour: i64) -> String {
    let text = Timestamp::of_hour(hour).to_string();
    text.strip_suffix(":00.000Z").map_or(text.clone(), |short| format!("{short}Z"))
}

/// One line for all that retention has taken.
fn told_removed(removed: &[Difference]) -> Option<(Mark, String)> {
    let (first, last) = (removed.first()?, removed.last()?);
    let missing: u64 = removed.iter().map(|difference| difference.cached - difference.service).sum();
    let text = format!(
        "{} from {} to {} that the log group's retention has removed at the service stay cached",
        events(missing),
        hour(first.hour),
        hour(last.hour + 1)
    );
    Some((Mark::Removed, text))
}

fn total(hours: &Hours) -> u64 {
    hours.values().sum()
}

fn events(count: u64) -> String {
    if count == 1 { "1 event".into() } else { format!("{count} events") }
}

fn hours(count: usize) -> String {
    if count == 1 { "1 hour".into() } else { format!("{count} hours") }
}
