//! One check of a group: what is new in it, as cheaply as the group allows.
//!
//! 1. FilterLogEvents over the whole group, at most [`PAGES`] pages: vouches for every complete stream that it covers.
//! 2. Past that, by up to 100 names a call: the streams that wait, and those that follow them in the catalogue, for they are probably
//!    opened next.
//! 3. Past that again, and for a single stream: GetLogEvents from its settled edge.
//!
//! Events of complete streams in an answer are kept; names that the catalogue doesn't know go to the listing. Where the group refuses
//! FilterLogEvents, or gives empty pages only, the third way is the only one. A stream of which something can't be kept, or which can't be
//! read by itself, is told apart from the others: they are vouched for all the same.

use crate::clock::Moment;
use crate::error::ErrorKind;
use crate::fetch::freshness::one_stream::read_from;
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::commit::{Batch, Seal, commit};
use crate::fetch::stream::group_cursor::GroupCursor;
use crate::fetch::stream::merge::Counted;
use crate::fetch::stream::page::NAMES;
use crate::fetch::stream::state::{Group, Streams};
use crate::fetch::stream::watermark::{AHEAD, Depth, Past, Plan, Trust, back, covered, edge, extend, plan, settles};
use crate::model::{StreamId, Timestamp};
use crate::source::Call;
use crate::store::row::{Extent, Vouch};
use crate::sync::lock;
use futures_util::{FutureExt, StreamExt};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Pages with which one answer is worth its calls.
const PAGES: usize = 4;
/// Streams that are read by themselves at a time.
const SIDE_BY_SIDE: usize = 8;
/// How often the chain is extended while the group is being opened.
const EDGES_INTERVAL: Duration = Duration::from_secs(60);
/// How often a large group is read from the late window on, rather than from just before the last check.
pub(crate) const LATE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a group that was too large for a whole check isn't tried again.
const TOO_LARGE: Duration = Duration::from_secs(60);
/// How many seconds before the waiting streams' edges others are taken along.
const SLACK: Duration = Duration::from_secs(600);
/// A row is written when its settled edge moves by at least this much.
const SEAL_STEP: Duration = Duration::from_secs(60);

/// The complete streams of a group, as a check finds them.
pub(crate) struct Members {
    by_name: HashMap<String, StreamId>,
    extents: BTreeMap<StreamId, (String, Extent)>,
}

impl Members {
    pub(crate) fn of(rows: Vec<(StreamId, String, Extent)>) -> Members {
        let mut by_name: HashMap<String, StreamId> = HashMap::with_capacity(rows.len());
        for (id, name, _) in &rows {
            // Of two generations under one name, the later one is what the service means.
            by_name.entry(name.clone()).and_modify(|known| *known = (*known).max(*id)).or_insert(*id);
        }
        let extents = rows
            .into_iter()
            .filter(|(id, name, _)| by_name.get(name) == Some(id))
            .map(|(id, name, extent)| (id, (name, extent)))
            .collect();
        Members { by_name, extents }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (StreamId, &str, &Extent)> {
        self.extents.iter().map(|(id, (name, extent))| (*id, name.as_str(), extent))
    }

    /// From where each is read again: its settled edge, and further back by `back`.
    fn edges(
        &self,
        chain: Option<Vouch>,
        settle_after: Duration,
        trust: Trust,
        back: Duration,
    ) -> Vec<(StreamId, Timestamp)> {
        let from = |extent| (edge(extent, chain, settle_after, trust) - back).max(Timestamp::EPOCH);
        self.extents.iter().map(|(id, (_, extent))| (*id, from(extent))).collect()
    }
}

/// Streams of which nothing could be kept or read, and why.
pub(crate) type Refused = HashMap<StreamId, Fault>;

/// What one read over several streams brought.
#[derive(Default)]
pub(crate) struct Swept {
    /// Read to the end, within the pages allowed.
    pub(crate) drained: bool,
    pub(crate) pages: usize,
    pages_with_events: usize,
    /// Least timestamp of an event taken in since `now - settle_after`.
    young: Option<Timestamp>,
    /// Exact names of streams in the answer.
    seen: HashSet<String>,
    /// Streams of which something could not be kept.
    pub(crate) refused: Refused,
}

/// Brings the complete streams among `wanted` up to date and notes what it vouches for; tells for which of them it can't.
pub(crate) async fn check(
    streams: Arc<Streams>,
    group: Arc<Group>,
    wanted: HashSet<StreamId>,
) -> Result<Refused, Fault> {
    loop {
        let trust = Trust::of(&streams.shared.clock);
        // At most once more: once the service's clock is known it stays known.
        if let Some(refused) = check_by(&streams, &group, &wanted, trust).await? {
            return Ok(refused);
        }
    }
}

/// Whether the first answer has come since a check of `waiting` began at `now`, and tells that it must begin anew: it may have taken for
/// settled, or for the future, what isn't.
fn was_misled(streams: &Streams, members: &Members, waiting: &HashSet<StreamId>, trust: Trust, now: Moment) -> bool {
    let clock = &streams.shared.clock;
    if trust.is_by_service() || !clock.is_known() {
        return false;
    }
    let (by_service, trust) = (clock.again(now), Trust::of(clock));
    (by_service.earliest, by_service.latest) != (now.earliest, now.latest)
        || waiting.iter().any(|id| members.extents.get(id).is_some_and(|(_, extent)| !trust.holds_of(extent)))
}

/// As `check`; `None` if it was misled by the machine's clock.
async fn check_by(
    streams: &Arc<Streams>,
    group: &Arc<Group>,
    wanted: &HashSet<StreamId>,
    trust: Trust,
) -> Result<Option<Refused>, Fault> {
    let began = streams.begin();
    let now = streams.shared.clock.moment();
    let settings = streams.shared.settings.borrow().clone();
    let members = load(streams, group, |_| true).await?;
    let waiting: HashSet<StreamId> = wanted.iter().copied().filter(|id| members.extents.contains_key(id)).collect();
    let (chain, past, from_edges, late, too_large, unread) = {
        let mut state = lock(&group.checks.state);
        let unread = waiting.iter().any(|id| !state.was_read_within(*id, EDGES_INTERVAL));
        let chain = state.trusted_chain(trust);
        (chain, state.whole.clone().map(|w| w.1), state.from_edges, state.late, state.too_large, unread)
    };
    // What was settled when a stream was last read may since have got events that are late by no more than the window.
    let back_more = settings.late_window.saturating_sub(settings.settle_after);
    let edges = members.edges(chain, settings.settle_after, trust, back_more);
    // Their rows are gone or not complete: no check says anything about them, and no open must wait for one.
    lock(&group.checks.state).note_reads(wanted.difference(&waiting).copied(), began);

    // Where one page holds all that isn't settled, looking at all of it costs nothing more.
    let small = past.as_ref().is_some_and(|past| !past.large);
    let is_large = too_large.is_some_and(|(_, until)| Instant::now() < until);
    let due = small || from_edges.is_none_or(|at| at.elapsed() >= EDGES_INTERVAL) || (is_large && unread);
    let depths: &[Depth] = match late {
        _ if streams.refusals.get(Call::FilterLogEvents, &group.name).is_some() => &[],
        _ if due => &[Depth::Edges, Depth::Late, Depth::Near],
        Some(at) if at.elapsed() >= LATE_INTERVAL => &[Depth::Late, Depth::Near],
        _ => &[Depth::Near],
    };
    let pages = pages_for(waiting.len());
    let mut tried = None;
    let mut busy = HashSet::new();
    for depth in depths {
        let Some(plan) = plan(&edges, &waiting, past.as_ref(), *depth, settings.late_window, SLACK) else {
            return Ok(Some(Refused::new()));
        };
        let hopeless = too_large.is_some_and(|(from, until)| plan.from <= from && Instant::now() < until);
        // What isn't settled is looked at again however large the group is: a read of the late window doesn't stand for that.
        let by_itself = *depth == Depth::Edges && unread;
        if hopeless && by_itself {
            break;
        }
        if hopeless || tried == Some(plan.from) {
            continue;
        }
        tried = Some(plan.from);
        let swept = sweep(streams, group, &members, &[], plan.from, now, Priority::Refreshing, pages).await;
        let swept = match swept {
            Err(fault) if fault.is_refusal() => break,
            swept => swept?,
        };
        if was_misled(streams, &members, &waiting, trust, now) {
            return Ok(None);
        }
        if swept.drained {
            let near = *depth == Depth::Near && past.as_ref().is_some_and(|p| p.large);
            let back = back(past.as_ref(), *depth, settings.late_window);
            let settle_after = settings.settle_after;
            let by_service = streams.shared.clock.is_known();
            let now = streams.shared.clock.again(now);
            let done = Done { plan, near, back, began, now, swept, edges: &edges, settle_after, trust, by_service };
            note_whole(group, past.as_ref(), &done);
            seal_aged(streams, &members, &done).await?;
            return Ok(Some(done.swept.refused));
        }
        lock(&group.checks.state).too_large = Some((plan.from, Instant::now() + TOO_LARGE));
        busy = swept.seen;
        if by_itself {
            break;
        }
    }
    if due {
        lock(&group.checks.state).from_edges = Some(began);
    }
    if was_misled(streams, &members, &waiting, trust, now) {
        return Ok(None);
    }
    by_names(streams, group, &members, &edges, &waiting, &busy, back_more).await.map(Some)
}

struct Done<'a> {
    plan: Plan,
    /// It looked less far back than the late window.
    near: bool,
    back: Duration,
    began: Instant,
    now: Moment,
    swept: Swept,
    edges: &'a [(StreamId, Timestamp)],
    settle_after: Duration,
    trust: Trust,
    by_service: bool,
}

/// A whole check ended well: it vouches, and extends the chain if it read from edges.
fn note_whole(group: &Group, past: Option<&Past>, done: &Done<'_>) {
    let mut covered = covered(done.edges, past, done.plan.from, done.back);
    covered.retain(|id| !done.swept.refused.contains_key(id));
    let mut state = lock(&group.checks.state);
    if done.near && state.too_large.is_some_and(|(_, until)| Instant::now() < until) {
        // No read of the late window comes to its end here: only a read of its own shows what a stream got late.
        covered.retain(|id| state.was_read_within(*id, EDGES_INTERVAL));
    }
    if done.plan.from_edges {
        state.from_edges = Some(done.began);
    }
    if !done.near {
        state.late = Some(done.began);
    }
    let to = settles(done.now.earliest, done.settle_after, done.swept.young);
    let within = |from: Timestamp, to: Timestamp| done.edges.iter().filter(|(_, e)| from <= *e && *e <= to).count();
    let anew = done.plan.from_edges
        && state.chain.is_none_or(|chain| within(done.plan.from, to) >= within(chain.from, chain.to));
    // What wasn't kept of one stream is missing behind its edge: no chain may speak for it.
    if done.swept.refused.is_empty() {
        let check = Vouch { from: done.plan.from, to, by_service: done.by_service };
        let chain = extend(state.chain, check, anew);
        state.set_chain(chain);
    }
    state.whole = Some((
        done.began,
        Past { began_at: done.now.earliest, covered, large: done.near || done.swept.pages_with_events > 1 },
    ));
}

/// Streams whose edges could not be relied on have been read from there on: they get edges that can be.
async fn seal_aged(streams: &Arc<Streams>, members: &Members, done: &Done<'_>) -> Result<(), Fault> {
    let mut seals = Vec::new();
    for (id, from) in done.edges {
        let aged = members.extents.get(id).is_some_and(|(_, extent)| !done.trust.holds_of(extent));
        if aged && *from >= done.plan.from && !done.swept.refused.contains_key(id) {
            let mut batch = Batch::events(streams.stream(*id)?, Vec::new(), true);
            batch.seal = Some(Seal { from: *from, began: done.now });
            seals.push(batch);
        }
    }
    // One that can't be written is read again next time.
    commit(streams, seals).await.map(drop)
}

/// The complete streams of a group whose extents `is_wanted` takes.
pub(crate) async fn load(
    streams: &Arc<Streams>,
    group: &Group,
    is_wanted: impl Fn(&Extent) -> bool + Send + 'static,
) -> Result<Members, Fault> {
    let id = group.id;
    Ok(Members::of(streams.shared.stored(move |store| store.complete_streams(id, is_wanted)).await?))
}

/// Reads `names` (all, if empty) from `from` on, to the end or past `max_pages` pages of events, and keeps what belongs to members.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn sweep(
    streams: &Arc<Streams>,
    group: &Group,
    members: &Members,
    names: &[String],
    from: Timestamp,
    now: Moment,
    priority: Priority,
    max_pages: usize,
) -> Result<Swept, Fault> {
    let since = now.earliest - streams.shared.settings.borrow().settle_after;
    let mut swept = Swept::default();
    let mut cursor = GroupCursor::new(group, names.to_vec(), Some(from), Some(now.latest + AHEAD), now.latest);
    loop {
        let page = cursor.next(streams, priority).await?;
        let events = page.by_stream.values().flatten().map(|counted| &counted.event);
        let young = events.filter(|event| event.ingestion_time >= since).map(|event| event.timestamp);
        swept.young = young.chain(swept.young).min();
        swept.pages += 1;
        swept.pages_with_events += usize::from(page.events > 0);
        keep(streams, group, members, page.by_stream, &mut swept).await?;
        swept.drained = page.is_over;
        if page.is_over || page.is_barren || swept.pages_with_events > max_pages {
            return Ok(swept);
        }
    }
}

/// Commits one page's events of members, in one append; tells of names that are new.
async fn keep(
    streams: &Arc<Streams>,
    group: &Group,
    members: &Members,
    by_stream: HashMap<String, Vec<Counted>>,
    swept: &mut Swept,
) -> Result<(), Fault> {
    let mut batches = Vec::with_capacity(by_stream.len());
    let mut unknown = Vec::new();
    for (name, events) in by_stream {
        match members.by_name.get(&name) {
            Some(id) => batches.push(Batch::events(streams.stream(*id)?, events, true)),
            None if swept.seen.contains(&name) => {}
            None if streams.shared.store.stream_by_name(group.id, &name)?.is_none() => unknown.push(name.clone()),
            None => {}
        }
        swept.seen.insert(name);
    }
    swept.refused.extend(commit(streams, batches).await?.refused);
    if !unknown.is_empty() {
        streams.lister.learn(group.id, unknown);
    }
    Ok(())
}

/// Which streams go together in one call: (ids, from). The waiting ones by their edges, filled up with their successors.
fn chunks(
    edges: &[(StreamId, Timestamp)],
    waiting: &HashSet<StreamId>,
    leave_out: &dyn Fn(StreamId) -> bool,
) -> Vec<(Vec<StreamId>, Timestamp)> {
    let mut first: Vec<(StreamId, Timestamp)> = edges.iter().copied().filter(|(id, _)| waiting.contains(id)).collect();
    first.sort_by_key(|(id, edge)| (*edge, *id));
    let mut chunks: Vec<(Vec<StreamId>, Timestamp)> =
        first.chunks(NAMES).map(|chunk| (chunk.iter().map(|(id, _)| *id).collect(), chunk[0].1)).collect();
    if let Some((ids, from)) = chunks.last_mut() {
        let after = ids.iter().copied().max();
        let spare = NAMES - ids.len();
        let fill: Vec<StreamId> = edges
            .iter()
            .filter(|(id, edge)| Some(*id) > after && *edge >= *from && !waiting.contains(id) && !leave_out(*id))
            .map(|(id, _)| *id)
            .take(spare)
            .collect();
        ids.extend(fill);
    }
    chunks
}

async fn by_names(
    streams: &Arc<Streams>,
    group: &Group,
    members: &Members,
    edges: &[(StreamId, Timestamp)],
    waiting: &HashSet<StreamId>,
    busy: &HashSet<String>,
    back: Duration,
) -> Result<Refused, Fault> {
    let settle_after = streams.shared.settings.borrow().settle_after;
    let name_of = |id: &StreamId| members.extents.get(id).map(|(name, _)| name.clone());
    let leave_out = |id: StreamId| name_of(&id).is_none_or(|name| busy.contains(&name));
    let by_id: HashMap<StreamId, Timestamp> = edges.iter().copied().collect();
    let mut refused = Refused::new();
    for (ids, from) in chunks(edges, waiting, &leave_out) {
        let began = streams.begin();
        let now = streams.shared.clock.moment();
        let names: Vec<String> = ids.iter().filter_map(name_of).collect();
        let swept = match names.len() {
            1 => None,
            _ => {
                let pages = pages_for(ids.iter().filter(|id| waiting.contains(id)).count());
                match sweep(streams, group, members, &names, from, now, Priority::Refreshing, pages).await {
                    Ok(swept) => Some(swept),
                    // One of them may be gone; reading each by itself tells which.
                    Err(fault) if fault.is_not_found() || fault.is_refusal() => None,
                    Err(fault) => return Err(fault),
                }
            }
        };
        if let Some(swept) = swept.filter(|s| s.drained) {
            let trust = Trust::of(&streams.shared.clock);
            let mut seals = Vec::new();
            let kept: Vec<StreamId> = ids.iter().copied().filter(|id| !swept.refused.contains_key(id)).collect();
            for id in &kept {
                let old = by_id.get(id).copied().unwrap_or(Timestamp::EPOCH);
                let aged = members.extents.get(id).is_some_and(|(_, extent)| !trust.holds_of(extent));
                if aged || now.earliest - settle_after >= old + back + SEAL_STEP {
                    let mut batch = Batch::events(streams.stream(*id)?, Vec::new(), true);
                    batch.seal = Some(Seal { from: old, began: now });
                    seals.push(batch);
                }
            }
            // A row that can't be written is read from the same edge again.
            commit(streams, seals).await?;
            lock(&group.checks.state).note_reads(kept, began);
            refused.extend(swept.refused);
            continue;
        }
        let waits = Arc::new(());
        let mut alone = Vec::new();
        for id in ids.into_iter().filter(|id| waiting.contains(id)) {
            let from = by_id.get(&id).copied().unwrap_or(Timestamp::EPOCH);
            let read = read_from(streams.stream(id)?, Priority::Refreshing, from, Arc::downgrade(&waits));
            alone.push(read.map(move |read| (id, read)));
        }
        let mut reads = futures_util::stream::iter(alone).buffer_unordered(SIDE_BY_SIDE);
        while let Some((id, read)) = reads.next().await {
            match read {
                // It is gone: what is cached of it is all that there is.
                Err(Fault::Known(error)) if error.kind() == ErrorKind::NotFound => {
                    lock(&group.checks.state).note_reads([id], began)
                }
                Err(fault) if fault.is_of_one_stream() || matches!(fault, Fault::Known(_)) => {
                    drop(refused.insert(id, fault))
                }
                other => other?,
            }
        }
    }
    Ok(refused)
}

/// Pages that may be read for so many waiting streams together: each of them alone would cost two calls at least.
fn pages_for(waiting: usize) -> usize {
    PAGES.max(2 * waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_at_most_a_hundred_and_take_successors_along() {
        let edges: Vec<(StreamId, Timestamp)> =
            (0..500).map(|i| (StreamId(i), Timestamp(1_000 + (i as i64 % 3)))).collect();
        let one = chunks(&edges, &HashSet::from([StreamId(10)]), &|id| id.0 % 2 == 0);
        assert_eq!(one.len(), 1);
        assert_eq!(one[0].0.len(), NAMES);
        assert_eq!(one[0].0[0], StreamId(10));
        assert!(one[0].0[1..].iter().all(|id| id.0 > 10 && id.0 % 2 == 1));
        let waiting: HashSet<StreamId> = (0..150).map(StreamId).collect();
        let two = chunks(&edges, &waiting, &|_| false);
        assert_eq!(two.len(), 2);
        assert!(two.iter().all(|(ids, _)| ids.len() <= NAMES));
        let held: HashSet<StreamId> = two.iter().flat_map(|(ids, _)| ids.iter().copied()).collect();
        assert!(waiting.is_subset(&held));
        for (ids, from) in &two {
            assert!(ids.iter().all(|id| edges[id.0 as usize].1 >= *from));
        }
        assert!(chunks(&edges, &HashSet::new(), &|_| false).is_empty());
    }

    #[test]
    fn the_later_generation_has_the_name() {
        let rows = vec![
            (StreamId(4), "a".to_string(), Extent::default()),
            (StreamId(9), "a".to_string(), Extent::default()),
            (StreamId(2), "b".to_string(), Extent::default()),
        ];
        let members = Members::of(rows);
        assert_eq!(members.by_name["a"], StreamId(9));
        assert!(!members.extents.contains_key(&StreamId(4)));
    }
}
