//! One poll of a group's followed streams.
//!
//! One stream is asked by GetLogEvents, several by FilterLogEvents with up to 100 names a call, all calls at once; more than a hundred by
//! a read of the whole group, where that takes no more pages than there would be calls. A poll is one page;
//! its token is followed only if the page is more than half full, or cut: it ends before what is known to exist. The service may give
//! less than a page anywhere, and a poll must not see the same part for ever. So, too, once a page was cut, polls read on until nothing
//! comes, for a while; and since a page may be cut just where the known ends, which looks as if there were nothing new, every few polls
//! without news look only behind what is known. None of this costs a call while the service gives what it has.
//!
//! Events of streams that were complete when the poll began are stored; those of the others go only to the tails that read their ends,
//! for behind the part of a download they would leave a hole.
//!
//! Where the group refuses one of the calls the other does the work: one stream is then asked by FilterLogEvents, and several one by one. A
//! stream whose events can't be kept is passed over, and asked for again from where it stands once they can.

use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::commit::{Batch, Committed, commit};
use crate::fetch::stream::cursor::Cursor;
use crate::fetch::stream::group_cursor::GroupCursor;
use crate::fetch::stream::merge::{Counted, Pass};
use crate::fetch::stream::page::{HALF_EVENTS, NAMES, is_half_full};
use crate::fetch::stream::state::{Group, Stream, Streams};
use crate::fetch::stream::tail_buffer::TailBuffer;
use crate::fetch::stream::via::Via;
use crate::fetch::stream::watermark::OVERLAP;
use crate::model::{StreamId, Timestamp};
use crate::source::Call;
use crate::store::row::Extent;
use futures_util::future::join_all;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Pages of one poll; the next poll goes on.
const PAGES: usize = 50;
/// Of so many polls without news, one looks only behind what is known. What is older and late by less than this waits a poll longer.
const LOOK_BEHIND: u32 = 4;

/// One followed stream in one poll.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) stream: Arc<Stream>,
    /// As it was when the poll began.
    pub(crate) extent: Extent,
    /// Where this stream alone would start.
    pub(crate) start: Timestamp,
    /// Greatest timestamp that each taker of its events has.
    pub(crate) newest: Option<Timestamp>,
    /// Up to this moment each taker of its events has all that the service showed.
    pub(crate) asked: Timestamp,
    /// Tails that read its end alone.
    pub(crate) tails: Vec<Arc<TailBuffer>>,
    /// This poll stands for a read of the late window too.
    pub(crate) deep: bool,
    /// Polls in a row that brought it nothing.
    pub(crate) quiet: u32,
}

impl Target {
    /// Where this poll starts if it looks only behind what is known.
    fn behind(&self, now: Timestamp) -> Option<Timestamp> {
        if self.deep { None } else { behind(self.newest, self.quiet, now) }
    }

    /// Up to where it has been asked once a poll has shown all up to `at`.
    fn asked_to(&self, at: Timestamp) -> (StreamId, Timestamp) {
        (self.stream.id, self.asked.max(at))
    }
}

/// See [`Target::behind`]. Not of what is stamped ahead: what comes now would lie before it.
fn behind(newest: Option<Timestamp>, quiet: u32, now: Timestamp) -> Option<Timestamp> {
    let due = quiet % LOOK_BEHIND == LOOK_BEHIND - 1;
    // A page may be cut within a millisecond: first its rest is looked for, or that would come after what is later.
    let step = Duration::from_millis(u64::from(quiet % (2 * LOOK_BEHIND) > LOOK_BEHIND));
    newest.filter(|newest| due && *newest < now).map(|newest| newest + step)
}

/// What a poll did.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Up to where streams have been asked: a page behind which more is said to follow tells of nothing later than its last event.
    pub(crate) asked: Vec<(StreamId, Timestamp)>,
    /// The service has them no more.
    pub(crate) gone: Vec<StreamId>,
    /// They got something new.
    pub(crate) news: Vec<StreamId>,
    /// Nothing could be kept or read of them, and why; the others have nothing to do with it.
    pub(crate) refused: Vec<(StreamId, Fault)>,
    /// A page was cut.
    pub(crate) cut: bool,
    /// How far back the next poll of several streams may start.
    pub(crate) reach: Option<Duration>,
    /// Whether a read of the whole group, if it was tried, was the cheaper way.
    pub(crate) whole: Option<bool>,
    pub(crate) fault: Option<Fault>,
}

/// Where a stream's poll starts: just before the least of what was seen last by each that takes its events, and of the moment up to
/// which polls have asked (what was seen may have come from elsewhere, past a gap in the polls).
pub(crate) fn start(
    newest: &[Option<Timestamp>],
    asked: Option<Timestamp>,
    now: Timestamp,
    late_window: Duration,
) -> Timestamp {
    let empty = newest.iter().any(Option::is_none).then_some(now - late_window);
    let least = newest.iter().flatten().copied().chain(empty).chain(asked).min();
    least.map_or(now, |at| at.min(now)) - OVERLAP
}

/// Where the poll of several streams starts. A quiet stream would drag a busy one's start back for days, so not before `reach` ago;
/// but never after what the polls have asked for already.
fn common_start(chunk: &[Target], now: Timestamp, reach: Duration) -> Timestamp {
    let least = chunk.iter().map(|t| t.start).min().unwrap_or(now);
    let asked = chunk.iter().map(|t| t.asked).min().unwrap_or(now) - OVERLAP;
    least.max((now - reach).min(asked))
}

/// A busy answer that brought little looks less far back next time; a small one, further.
fn next_reach(reach: Duration, late_window: Duration, events: usize, added: u64) -> Duration {
    if events > HALF_EVENTS && added.saturating_mul(4) < events as u64 {
        (reach / 2).max(OVERLAP)
    } else if events < HALF_EVENTS / 4 {
        reach.saturating_mul(2).min(late_window)
    } else {
        reach
    }
}

/// How streams are polled.
#[derive(Clone, Copy)]
pub(crate) struct How {
    /// Whom the calls are for.
    pub(crate) priority: Priority,
    pub(crate) now: Timestamp,
    /// How far back a poll of several streams may start.
    pub(crate) reach: Option<Duration>,
    /// Each is read until nothing comes.
    pub(crate) drain: bool,
    /// A read of the whole group is tried where that may be cheaper.
    pub(crate) try_whole: bool,
}

/// Polls `targets`.
pub(crate) async fn poll(streams: Arc<Streams>, group: Arc<Group>, targets: Vec<Target>, how: How) -> Outcome {
    let takers: HashMap<StreamId, Vec<Arc<TailBuffer>>> =
        targets.iter().map(|target| (target.stream.id, target.tails.clone())).collect();
    let outcome = ask(streams, group, targets, how).await;
    for (id, at) in &outcome.asked {
        takers.get(id).into_iter().flatten().for_each(|tail| tail.was_asked(*at));
    }
    outcome
}

async fn ask(streams: Arc<Streams>, group: Arc<Group>, mut targets: Vec<Target>, how: How) -> Outcome {
    let late_window = streams.shared.settings.borrow().late_window;
    let reach = how.reach.unwrap_or(late_window).clamp(OVERLAP.min(late_window), late_window);
    if let [target] = targets.as_slice() {
        let mut outcome = one(&streams, target, how, late_window).await;
        outcome.reach = Some(reach);
        return outcome;
    }
    let chunks = targets.len().div_ceil(NAMES);
    if streams.refusals.get(Call::FilterLogEvents, &group.name).is_some() {
        return each(&streams, &targets, how, late_window, reach).await;
    }
    let several = Several { streams: &streams, group: &group, how, late_window, reach };
    let mut total = Outcome { reach: Some(reach), ..Outcome::default() };
    if how.try_whole && chunks > 1 {
        match several.poll(&targets, Scope::Group, chunks).await {
            outcome if outcome.whole == Some(false) => total.whole = Some(false),
            outcome => return outcome,
        }
    }
    // Quiet ones with quiet ones.
    targets.sort_by_key(|t| t.start);
    let calls = targets.chunks(NAMES).map(|chunk| several.poll(chunk, Scope::Names, PAGES));
    for part in join_all(calls).await {
        total.reach = total.reach.into_iter().chain(part.reach).reduce(|a, b| if a == reach { b } else { a.min(b) });
        total.add(part);
    }
    total
}

impl Outcome {
    /// One call's share of a poll.
    fn add(&mut self, part: Outcome) {
        self.asked.extend(part.asked);
        self.gone.extend(part.gone);
        self.news.extend(part.news);
        self.refused.extend(part.refused);
        self.cut |= part.cut;
        if self.fault.is_none() {
            self.fault = part.fault;
        }
    }

    /// Streams that took nothing were not asked: the next poll begins where this one did.
    fn without(mut self, refused: HashMap<StreamId, Fault>) -> Outcome {
        self.asked.retain(|(id, _)| !refused.contains_key(id));
        self.refused.extend(refused);
        self
    }

    fn failed(fault: Fault) -> Outcome {
        Outcome { fault: Some(fault), ..Outcome::default() }
    }
}

/// Each stream by itself, where no call takes several.
async fn each(streams: &Arc<Streams>, targets: &[Target], how: How, late_window: Duration, reach: Duration) -> Outcome {
    let mut total = Outcome { reach: Some(reach), ..Outcome::default() };
    let polls = targets.iter().map(async |target| (target.stream.id, one(streams, target, how, late_window).await));
    for (id, mut part) in join_all(polls).await {
        // What one stream fails by is its own.
        if let Some(fault) = part.fault.take_if(|fault| fault.is_of_one_stream()) {
            part.refused.push((id, fault));
        }
        total.add(part);
    }
    // Where none of them can be asked for, that is the group's.
    if total.refused.len() == targets.len()
        && let Some((_, fault)) = total.refused.first().filter(|(_, fault)| fault.is_refusal())
    {
        total.fault = Some(fault.clone());
    }
    total
}

/// Whether a page stopped before events that are known to exist.
fn ends_before(last: Option<Timestamp>, known: Option<Timestamp>) -> bool {
    last.zip(known).is_some_and(|(last, known)| last < known)
}

/// Which pages a poll asks for.
struct Paging {
    known: Option<Timestamp>,
    drain: bool,
    cut: bool,
}

impl Paging {
    fn new(known: Option<Timestamp>, drain: bool) -> Paging {
        Paging { known, drain, cut: false }
    }

    /// Whether there may be more behind a page that ends with an event of `last`.
    fn goes_on(&mut self, last: Option<Timestamp>, half_full: bool, limit: Option<u32>) -> bool {
        // Of pages that had to be made smaller, each may be full.
        let full = limit.is_some() || half_full;
        // A full page ends where it is full.
        self.cut |= !full && ends_before(last, self.known);
        last.is_some() && (self.cut || self.drain || full)
    }
}

async fn one(streams: &Arc<Streams>, target: &Target, how: How, late_window: Duration) -> Outcome {
    let How { priority, now, drain, .. } = how;
    let id = target.stream.id;
    let start = target.behind(now).unwrap_or(target.start);
    let mut outcome = Outcome::default();
    let mut paging = Paging::new(target.newest, drain);
    let mut pass = Pass::default();
    let mut cursor = Cursor::onwards(Via::Get, Some(start));
    let mut newest = None;
    for _ in 0..PAGES {
        let page = match cursor.next(&target.stream, priority, None).await {
            Ok(page) => page,
            Err(fault) if fault.is_not_found() => return Outcome { gone: vec![id], ..Outcome::default() },
            Err(fault) => return Outcome::failed(fault),
        };
        if page.restarted {
            pass = Pass::default();
        }
        let last = page.events.last().map(|event| event.timestamp);
        let more = paging.goes_on(last, is_half_full(page.events.iter()), cursor.limit()) && !page.ended;
        newest = page.events.iter().map(|e| e.timestamp).chain(newest).max();
        let mut give = Give { streams, now, late_window, batches: Vec::new(), news: Vec::new() };
        give.to(target, pass.page(page.events));
        match give.finish().await {
            Ok(given) if given.refused.is_empty() => outcome.news.extend(given.news),
            Ok(given) => return Outcome { refused: given.refused.into_iter().collect(), ..Outcome::default() },
            Err(fault) => return Outcome::failed(fault),
        }
        outcome.cut = paging.cut;
        // An empty page tells nothing, not even that there is no more.
        let to = if page.ended { now } else { newest.map_or(target.asked, |newest| newest.min(now)) };
        outcome.asked = vec![target.asked_to(to)];
        if !more {
            return outcome;
        }
    }
    outcome
}

/// What a call for several streams asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Names,
    /// All streams of the group; those that aren't followed are passed over.
    Group,
}

/// A poll of several streams.
struct Several<'a> {
    streams: &'a Arc<Streams>,
    group: &'a Group,
    how: How,
    late_window: Duration,
    reach: Duration,
}

impl Several<'_> {
    /// Polls some of them. A read of the group that takes more than `most_pages` isn't the cheaper way.
    async fn poll(&self, chunk: &[Target], scope: Scope, most_pages: usize) -> Outcome {
        let Several { streams, group, how, late_window, reach } = *self;
        let How { priority, now, drain, .. } = how;
        let by_name: HashMap<&str, &Target> = chunk.iter().map(|t| (t.stream.name.as_str(), t)).collect();
        let mut start = common_start(chunk, now, reach);
        if chunk.iter().any(|t| t.deep && !t.extent.complete) {
            start = start.min(now - late_window);
        }
        // Behind what is known of all of them: the page is cut for all at once.
        let behind = chunk.iter().map(|t| t.behind(now)).try_fold(start, |start, at| at.map(|at| start.max(at)));
        // Short pages of what was not asked for in time would be seen for ever: this poll goes on to what was there when it began. What
        // every poll overlaps with the one before it isn't late.
        let is_late = common_start(chunk, now, reach) < now - reach - OVERLAP;
        start = behind.filter(|_| !is_late).unwrap_or(start);
        let mut outcome = Outcome::default();
        let mut paging = Paging::new(chunk.iter().filter_map(|t| t.newest).max(), drain);
        let mut refused: HashMap<StreamId, Fault> = HashMap::new();
        let mut newest = None;
        let (mut events, mut added) = (0, 0);
        outcome.whole = (scope == Scope::Group).then_some(true);
        let names: Vec<String> = match scope {
            Scope::Names => chunk.iter().map(|t| t.stream.name.clone()).collect(),
            Scope::Group => Vec::new(),
        };
        let mut cursor = GroupCursor::new(group, names, Some(start), None, now);
        for _ in 0..most_pages {
            let page = match cursor.next(streams, priority).await {
                Ok(page) => page,
                // The rest of the poll, too: what was given already is known by its counts.
                Err(fault) if fault.is_refusal() => return each(streams, chunk, how, late_window, reach).await,
                Err(fault) if fault.is_not_found() && scope == Scope::Names => {
                    return find_gone(chunk, priority, fault).await;
                }
                Err(fault) => return Outcome::failed(fault),
            };
            let more = paging.goes_on(page.last, page.half_full, cursor.limit());
            newest = newest.max(page.last);
            events += page.events;
            let mut give = Give { streams, now, late_window, batches: Vec::new(), news: Vec::new() };
            for (name, events) in page.by_stream {
                if let Some(target) = by_name.get(name.as_str()) {
                    give.to(target, events);
                }
            }
            match give.finish().await {
                Ok(given) => {
                    added += given.added;
                    outcome.news.extend(given.news);
                    refused.extend(given.refused);
                }
                Err(fault) => return Outcome::failed(fault),
            }
            outcome.cut = paging.cut;
            let to = if page.ended { Some(now) } else { newest.map(|newest| newest.min(now)) };
            outcome.asked = chunk.iter().map(|t| t.asked_to(to.unwrap_or(t.asked))).collect();
            if is_late && page.is_barren {
                return each(streams, chunk, how, late_window, reach).await;
            }
            // In a busy group each page brings what came since the last one, and there is no end.
            let is_behind = is_late && newest.is_none_or(|newest| newest < now);
            if !(more || is_behind) || page.ended {
                outcome.reach = Some(next_reach(reach, late_window, events, added));
                return outcome.without(refused);
            }
        }
        outcome.whole = (scope == Scope::Group).then_some(false);
        outcome.without(refused)
    }
}

/// A call with several names was refused for one that isn't there: asks for each.
async fn find_gone(chunk: &[Target], priority: Priority, fault: Fault) -> Outcome {
    let mut gone = Vec::new();
    for target in chunk {
        let via = if target.stream.may(Via::Get) { Via::Get } else { Via::Filter };
        match Cursor::onwards(via, Some(target.start)).next(&target.stream, priority, None).await {
            Err(e) if e.is_not_found() => gone.push(target.stream.id),
            Err(e) => return Outcome { gone, ..Outcome::failed(e) },
            Ok(_) => {}
        }
    }
    // All of them are there: the refusal was about something else.
    let fault = gone.is_empty().then_some(fault);
    Outcome { gone, fault, ..Outcome::default() }
}

/// Hands one page's events to store and tails.
struct Give<'a> {
    streams: &'a Arc<Streams>,
    now: Timestamp,
    late_window: Duration,
    batches: Vec<Batch>,
    news: Vec<StreamId>,
}

impl Give<'_> {
    fn to(&mut self, target: &Target, page: Vec<Counted>) {
        debug_assert!(Arc::ptr_eq(self.streams, &target.stream.streams));
        if target.extent.complete {
            // The commit hands it to the tails too.
            if !page.is_empty() {
                let batch = Batch::events(target.stream.clone(), page, true);
                self.batches.push(Batch { polled: true, ..batch });
            }
            return;
        }
        let mut news = false;
        for tail in &target.tails {
            news |= tail.take(page.clone(), self.now, self.late_window);
        }
        self.news.extend(news.then_some(target.stream.id));
    }

    async fn finish(mut self) -> Result<Given, Fault> {
        let given: Vec<StreamId> = self.batches.iter().map(|b| b.stream.id).collect();
        let Committed { added, refused } = commit(self.streams, self.batches).await?;
        if added > 0 {
            self.news.extend(given.into_iter().filter(|id| !refused.contains_key(id)));
        }
        Ok(Given { added, news: self.news, refused })
    }
}

/// What became of a page.
struct Given {
    /// Events stored.
    added: u64,
    /// Streams that got something new.
    news: Vec<StreamId>,
    /// Streams that took nothing.
    refused: HashMap<StreamId, Fault>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    #[test]
    fn a_poll_starts_before_what_was_seen_last() {
        let now = Timestamp(1_000_000);
        let seen = |at: i64| [Some(Timestamp(at))];
        assert_eq!(start(&seen(990_000), None, now, WINDOW), Timestamp(985_000));
        assert_eq!(start(&seen(5_000_000), None, now, WINDOW), Timestamp(995_000), "stamped ahead");
        assert_eq!(start(&[None], None, now, WINDOW), Timestamp(695_000), "nothing seen");
        assert_eq!(start(&seen(999_000), Some(Timestamp(400_000)), now, WINDOW), Timestamp(395_000), "after an outage");
        let two = [Some(Timestamp(990_000)), Some(Timestamp(980_000))];
        assert_eq!(start(&two, None, now, WINDOW), Timestamp(975_000), "the tail and the copy");
    }

    #[test]
    fn the_reach_follows_the_answers() {
        assert_eq!(next_reach(WINDOW, WINDOW, 20_000, 10), WINDOW / 2);
        assert_eq!(next_reach(WINDOW, WINDOW, 20_000, 19_000), WINDOW, "catching up");
        assert_eq!(next_reach(WINDOW / 4, WINDOW, 10, 10), WINDOW / 2);
        assert_eq!(next_reach(OVERLAP, WINDOW, 20_000, 0), OVERLAP);
    }

    #[test]
    fn a_cut_page_is_followed_to_the_end_and_a_whole_one_not() {
        let (known, at) = (Some(Timestamp(20)), |stamp| Some(Timestamp(stamp)));
        let mut paging = Paging::new(known, false);
        assert!(!paging.goes_on(at(20), false, None), "reaches what is known");
        assert!(!paging.goes_on(None, false, None));
        assert!(!paging.cut);
        assert!(paging.goes_on(at(10), false, None));
        assert!(paging.cut);
        assert!(paging.goes_on(at(20), false, None), "it may be cut here too");
        assert!(!paging.goes_on(None, false, None));
        assert!(Paging::new(known, true).goes_on(at(20), false, None));
        let mut full = Paging::new(known, false);
        assert!(full.goes_on(at(10), true, None) && full.goes_on(at(20), false, Some(500)) && !full.cut);
    }

    #[test]
    fn now_and_then_a_quiet_poll_looks_only_behind_what_is_known() {
        let now = Timestamp(1_000);
        let starts: Vec<_> = (0..8).map(|quiet| behind(Some(Timestamp(900)), quiet, now)).collect();
        let due = |at| Some(Timestamp(at));
        assert_eq!(starts, [None, None, None, due(900), None, None, None, due(901)]);
        assert_eq!(behind(None, 3, now), None);
        assert_eq!(behind(Some(Timestamp(9_000)), 3, now), None, "stamped ahead");
    }
}
