//! What whole-group reads vouch for. Pure.
//!
//! A stream's row says up to where it is settled by reads of its own. Whole-group checks would have to write every row, so they extend
//! one chain a group instead: every stream settled up to some moment within it is settled up to its end. The planner finds the moment
//! from which the next check must read so that it vouches for those who wait.

use crate::clock::ServiceClock;
use crate::model::{StreamId, Timestamp};
use crate::store::row::{Extent, Vouch};
use std::collections::HashSet;
use std::time::Duration;

/// How far ahead of now events may be stamped (the service takes 2 h), with a margin for clocks.
pub(crate) const AHEAD: Duration = Duration::from_secs(2 * 3600 + 5 * 60);
/// How far before the last look a poll starts: writers and clocks are not exact.
pub(crate) const OVERLAP: Duration = Duration::from_secs(5);

/// How far ahead of the service's clock an edge may lie: answers bound that clock to a second or two.
const SLIP: Duration = Duration::from_secs(60);

/// Which recorded edges can be relied on. One that was set by a machine's clock alone, or lies ahead of the service's, may have been set by
/// a clock that was wrong: what it calls settled was perhaps never read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trust {
    /// The service's clock is known. Without it there is nothing to measure by.
    known: bool,
    /// The earlier of both clocks.
    now: Timestamp,
}

impl Trust {
    /// By the clock now.
    pub(crate) fn of(clock: &ServiceClock) -> Trust {
        Trust { known: clock.is_known(), now: clock.moment().earliest }
    }

    fn holds(self, edge: Timestamp, by_service: bool) -> bool {
        !self.known || (by_service && edge <= self.now + SLIP)
    }

    /// Whether a stream's own edge can be relied on.
    pub(crate) fn holds_of(self, extent: &Extent) -> bool {
        extent.settled_to == Timestamp::EPOCH || self.holds(extent.settled_to, extent.settled_by_service)
    }

    /// The chain, if it can be relied on.
    pub(crate) fn chain(self, chain: Option<Vouch>) -> Option<Vouch> {
        chain.filter(|chain| self.holds(chain.to, chain.by_service))
    }

    /// Whether what is settled now is so by the service's clock.
    pub(crate) fn is_by_service(self) -> bool {
        self.known
    }
}

/// Up to where reads of its own have settled a stream. Where that can't be relied on, up to its newest event, which was read for sure.
pub(crate) fn own_edge(extent: &Extent, trust: Trust) -> Timestamp {
    if trust.holds_of(extent) {
        return extent.settled_to;
    }
    extent.settled_to.min(extent.newest.unwrap_or(Timestamp::EPOCH)).min(trust.now)
}

/// Up to where a stream is settled, the group's chain counted in.
///
/// The chain speaks only for streams whose own last read began before the check that ended it.
pub(crate) fn edge(extent: &Extent, chain: Option<Vouch>, settle_after: Duration, trust: Trust) -> Timestamp {
    let own = own_edge(extent, trust);
    match trust.chain(chain) {
        Some(chain) if chain.from <= own && own <= chain.to && extent.read_to <= chain.to + settle_after => chain.to,
        _ => own,
    }
}

/// Up to where a drained read that began at `began` settles; `young` is the least timestamp among events of its range that were
/// taken in at or after `began - settle_after`.
pub(crate) fn settles(began: Timestamp, settle_after: Duration, young: Option<Timestamp>) -> Timestamp {
    let by_age = began - settle_after;
    young.map_or(by_age, |young| young.min(by_age))
}

/// The chain after a whole check from `from` that settles up to `to`. A check that doesn't meet the chain starts a new one if
/// `anew` (as many streams profit), else leaves it.
pub(crate) fn extend(chain: Option<Vouch>, check: Vouch, anew: bool) -> Option<Vouch> {
    match chain {
        Some(chain) if check.from <= chain.to => {
            let by_service = chain.by_service && check.by_service;
            Some(Vouch { from: chain.from, to: chain.to.max(check.to), by_service })
        }
        Some(chain) if !anew || check.to < check.from => Some(chain),
        _ if check.to < check.from => None,
        _ => Some(check),
    }
}

/// What the last whole check of this run was, as far as the next one leans on it.
#[derive(Clone, Debug)]
pub(crate) struct Past {
    /// When it began.
    pub(crate) began_at: Timestamp,
    /// The streams that it, and those before it without a gap, read from their settled edges on.
    pub(crate) covered: HashSet<StreamId>,
    /// It took more than one page of events.
    pub(crate) large: bool,
}

/// Where the next whole check must start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) from: Timestamp,
    /// It reads from settled edges, so it can move the chain.
    pub(crate) from_edges: bool,
}

/// How deep a check may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// From the settled edges, whatever was read before.
    Edges,
    /// From the last check less the late window.
    Late,
    /// As `Late`, but from just before the last check if that was large.
    Near,
}

/// Plans a whole check for `waiting` (indexes into `edges`, which holds every complete stream of the group and its edge).
///
/// A read from settled edges takes the other streams along whose edges lie up to `slack` before: they are probably next.
pub(crate) fn plan(
    edges: &[(StreamId, Timestamp)],
    waiting: &HashSet<StreamId>,
    past: Option<&Past>,
    depth: Depth,
    late_window: Duration,
    slack: Duration,
) -> Option<Plan> {
    let back = back(past, depth, late_window);
    let mut from = None::<Timestamp>;
    let mut from_edges = false;
    for (id, edge) in edges.iter().filter(|(id, _)| waiting.contains(id)) {
        let need = match past {
            Some(past) if depth != Depth::Edges && past.covered.contains(id) => (*edge).max(past.began_at - back),
            _ => *edge,
        };
        from_edges |= need == *edge;
        from = Some(from.map_or(need, |f| f.min(need)));
    }
    let mut from = from?;
    if from_edges {
        let reach = from - slack;
        from = edges.iter().map(|(_, e)| *e).filter(|e| *e >= reach).min().map_or(from, |e| e.min(from));
    }
    Some(Plan { from, from_edges })
}

/// How far before the last check one of `depth` begins.
pub(crate) fn back(past: Option<&Past>, depth: Depth, late_window: Duration) -> Duration {
    match depth {
        Depth::Near if past.is_some_and(|p| p.large) => OVERLAP.min(late_window),
        _ => late_window,
    }
}

/// The streams that a check from `from` vouches for: whichever stream waited for it, it must look at each as far `back` as it would for that one.
pub(crate) fn covered(
    edges: &[(StreamId, Timestamp)],
    past: Option<&Past>,
    from: Timestamp,
    back: Duration,
) -> HashSet<StreamId> {
    let past = past.filter(|p| from <= p.began_at - back);
    edges
        .iter()
        .filter(|(id, edge)| *edge >= from || past.is_some_and(|p| p.covered.contains(id)))
        .map(|(id, _)| *id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn extent(settled: i64, read: i64) -> Extent {
        Extent {
            complete: true,
            settled_to: Timestamp(settled),
            settled_by_service: true,
            read_to: Timestamp(read),
            ..Extent::default()
        }
    }

    fn check(from: i64, to: i64) -> Vouch {
        Vouch { from: Timestamp(from), to: Timestamp(to), by_service: true }
    }

    /// Long after everything here.
    const LATER: Trust = Trust { known: true, now: Timestamp(1_000_000_000) };

    #[test]
    fn the_chain_carries_edges_within_it() {
        let chain = Some(check(100, 500));
        assert_eq!(edge(&extent(100, 200), chain, MINUTE, LATER), Timestamp(500));
        assert_eq!(edge(&extent(500, 200), chain, MINUTE, LATER), Timestamp(500));
        assert_eq!(edge(&extent(99, 200), chain, MINUTE, LATER), Timestamp(99));
        assert_eq!(edge(&extent(501, 200), chain, MINUTE, LATER), Timestamp(501));
        assert_eq!(
            edge(&extent(100, 60_501), chain, MINUTE, LATER),
            Timestamp(100),
            "read after the check that ended the chain"
        );
    }

    #[test]
    fn a_chain_grows_only_where_checks_meet_it() {
        let chain = Some(check(100, 500));
        assert_eq!(extend(chain, check(500, 900), true), Some(check(100, 900)));
        assert_eq!(extend(chain, check(500, 300), true), chain, "never back");
        assert_eq!(extend(chain, check(501, 900), false), chain);
        assert_eq!(extend(chain, check(501, 900), true), Some(check(501, 900)));
        assert_eq!(extend(None, check(501, 400), true), None);
    }

    #[test]
    fn what_a_wrong_clock_may_have_set_is_no_edge() {
        let newest = |extent| Extent { newest: Some(Timestamp(50)), ..extent };
        let by_machine = Extent { settled_by_service: false, ..newest(extent(300, 400)) };
        assert_eq!(own_edge(&by_machine, LATER), Timestamp(50), "read again from the newest event on");
        let unknown = Trust { known: false, ..LATER };
        assert_eq!(
            own_edge(&by_machine, unknown),
            Timestamp(300),
            "without the service's clock nothing is known of it"
        );
        let early = Trust { known: true, now: Timestamp(100_000) };
        assert_eq!(
            own_edge(&newest(extent(160_000, 0)), early),
            Timestamp(160_000),
            "clocks are known to a second or two"
        );
        assert_eq!(own_edge(&newest(extent(160_001, 0)), early), Timestamp(50), "ahead of the service's clock");
        assert_eq!(own_edge(&extent(160_001, 0), early), Timestamp::EPOCH, "without any event");
        let chain = Vouch { by_service: false, ..check(100, 500) };
        assert_eq!(edge(&extent(100, 200), Some(chain), MINUTE, LATER), Timestamp(100));
        assert_eq!(edge(&extent(100, 200), Some(chain), MINUTE, unknown), Timestamp(500));
        assert_eq!(extend(Some(chain), check(500, 900), true), Some(Vouch { by_service: false, ..check(100, 900) }));
    }

    #[test]
    fn young_events_hold_the_edge_back() {
        assert_eq!(settles(Timestamp(100_000), MINUTE, None), Timestamp(40_000));
        assert_eq!(settles(Timestamp(100_000), MINUTE, Some(Timestamp(7))), Timestamp(7));
        assert_eq!(settles(Timestamp(100_000), MINUTE, Some(Timestamp(70_000))), Timestamp(40_000));
    }

    #[test]
    fn the_first_check_reads_from_the_edges_and_later_ones_from_the_late_window() {
        let edges =
            [(StreamId(1), Timestamp(1_000)), (StreamId(2), Timestamp(900)), (StreamId(3), Timestamp(-9_000_000))];
        let waiting = HashSet::from([StreamId(1)]);
        let first = plan(&edges, &waiting, None, Depth::Near, MINUTE, MINUTE).unwrap();
        assert_eq!(first, Plan { from: Timestamp(900), from_edges: true });
        let covered_now = covered(&edges, None, first.from, MINUTE);
        assert_eq!(covered_now, HashSet::from([StreamId(1), StreamId(2)]));
        let mut past = Past { began_at: Timestamp(500_000), covered: covered_now, large: false };
        let next = plan(&edges, &waiting, Some(&past), Depth::Near, MINUTE, MINUTE).unwrap();
        assert_eq!(next, Plan { from: Timestamp(440_000), from_edges: false });
        past.large = true;
        let near = plan(&edges, &waiting, Some(&past), Depth::Near, MINUTE, MINUTE).unwrap();
        assert_eq!(near.from, Timestamp(495_000));
        assert_eq!(covered(&edges, Some(&past), near.from, OVERLAP), past.covered);
        assert!(!covered(&edges, Some(&past), near.from, MINUTE).contains(&StreamId(1)), "looked less far back");
        let other = HashSet::from([StreamId(3)]);
        assert_eq!(plan(&edges, &other, Some(&past), Depth::Near, MINUTE, MINUTE).unwrap().from, Timestamp(-9_000_000));
        assert!(plan(&edges, &HashSet::new(), Some(&past), Depth::Near, MINUTE, MINUTE).is_none());
    }

    #[test]
    fn a_gap_between_checks_covers_nobody_by_the_past() {
        let edges = [(StreamId(1), Timestamp(10))];
        let past = Past { began_at: Timestamp(500), covered: HashSet::from([StreamId(1)]), large: false };
        assert!(covered(&edges, Some(&past), Timestamp(501), Duration::ZERO).is_empty());
        assert!(covered(&edges, Some(&past), Timestamp(500), Duration::ZERO).contains(&StreamId(1)));
    }
}
