//! What can happen: the steps of a history and how they are drawn.
//!
//! Numbers choose among what there is at that moment, so that every part of a history is a history too and failures shrink well.

use crate::source::Call;
use crate::store::in_memory::{Failing, Unsynced};
use proptest::prelude::*;
use std::fmt;
use std::ops::RangeInclusive;

/// How late an event may be put, in ms: the late window of the settings.
const LATEST: i64 = 300_000;
/// How long a batch may be hidden, in s. With [`LATEST`] and [`super::reference::YOUNG`] less than the time after which a range counts as
/// settled: what is later than that is not promised to be found.
const HIDDEN: RangeInclusive<u16> = 1..=300;
/// How far ahead events may be stamped, in ms: what the service takes.
const AHEAD: i64 = 7_200_000;

/// A whole test case.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) weather: Weather,
    pub(crate) ops: Vec<Op>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.weather)?;
        self.ops.iter().enumerate().try_for_each(|(number, op)| write!(f, "\n{number:3} {op:?}"))
    }
}

/// What the service is like all the time.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Of the service's own chances.
    pub(crate) seed: u64,
    /// Most events a page.
    pub(crate) page: usize,
    /// How often a page is empty though events follow, in percent.
    pub(crate) empty: u8,
    /// How often a page ends early, in percent.
    pub(crate) short: u8,
    /// How often an answer lacks a young event, in percent.
    pub(crate) miss: u8,
    /// Longest latency of a call, in ms.
    pub(crate) latency: u64,
    /// The most that the listing of streams lags, in s.
    pub(crate) lag: u64,
    /// So many empty pages lie before a stream's first event, for a read that begins long before it.
    pub(crate) desert: u64,
    /// By how many ms the machine's clock is ahead of the service's; [`Op::SetClock`] changes it.
    pub(crate) ahead: i64,
}

/// One step. Streams are chosen by slot, see [`super::reference::SLOTS`].
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A writer puts a batch; the stream is made if it isn't there.
    Put { slot: usize, batch: Vec<Put>, hidden: Hidden },
    /// The stream's last batch is put a second time: equal events, which count.
    PutAgain { slot: usize },
    /// The service deletes a stream.
    Delete { slot: usize },
    /// The service deletes a stream and makes it again under the same name.
    Remake { slot: usize },
    /// Everything hidden is shown.
    Release,
    /// The next calls fail.
    Trouble { kind: Trouble, calls: u8 },
    /// Every page token given so far is refused from now on.
    ExpireTokens,
    /// Somebody opens a stream and waits until it is up to date.
    Open { slot: usize },
    /// Every stream is opened at once.
    OpenAll,
    /// Somebody opens a stream; other things happen meanwhile.
    Begin { slot: usize },
    /// Somebody reads the head of a stream and leaves after so many commits.
    Leave { slot: usize, commits: u8 },
    /// Somebody reads so many bytes at a part (of 255) of what is there.
    Read { slot: usize, part: u8, size: u16 },
    /// A stream is followed until [`Op::Unwatch`].
    Watch { slot: usize },
    /// Nothing is followed any more.
    Unwatch,
    /// Groups and streams are listed, by a program that searches what it lists or by another.
    List { searches: bool },
    /// A name is looked up.
    Lookup { slot: usize, form: Form },
    /// So many ms go by.
    Wait { ms: u32 },
    /// The machine's clock is set: from now on it is so many ms ahead of the service's.
    SetClock { ahead: i64 },
    /// The machine sleeps for so many seconds.
    Suspend { seconds: u16 },
    /// A group's policy allows these calls alone, of [`GUARDED`]; bit by bit.
    Policy { group: usize, allows: u8 },
    /// Such calls on one of a stream's files fail.
    Fail { slot: usize, text: bool, failing: Failing },
    /// No file fails any more.
    Recover,
    /// The cache's disk is full, or isn't any more.
    Fill { full: bool },
    /// All text that nobody reads is taken out of the cache.
    Evict,
    /// Live rows that have come to rest are moved into files.
    MoveQuiet,
    /// The program stops cleanly and starts again.
    Restart,
    /// The machine dies and the program starts again.
    Crash { unsynced: Loss },
}

/// An event of a put: its stamp relative to the moment of the put, in ms, and its text.
#[derive(Clone)]
pub(crate) struct Put {
    pub(crate) stamp: i64,
    pub(crate) message: String,
}

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.len() {
            ..100 => write!(f, "{:?} at {}", self.message, self.stamp),
            long => write!(f, "m×{long} at {}", self.stamp),
        }
    }
}

/// What reads don't show of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hidden {
    Nothing,
    /// The whole batch, for so many seconds.
    All(u16),
    /// One event of it, for so many seconds.
    One(u8, u16),
}

/// How calls fail.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    Throttled,
    Unavailable,
    Cut,
    Timeout,
    Denied,
}

/// How a name is given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Slug,
    SlugWithHash,
    Exact,
}

/// What a crash leaves of unsynced bytes. (As [`Unsynced`], which isn't a strategy's business.)
pub(crate) type Loss = Unsynced;

pub(crate) fn history(ops: RangeInclusive<usize>) -> impl Strategy<Value = History> {
    (weather(), proptest::collection::vec(op(), ops)).prop_map(|(weather, ops)| History { weather, ops })
}

fn weather() -> impl Strategy<Value = Weather> {
    let page = prop_oneof![Just(1usize), 2usize..6, Just(1_000)];
    let percent = |most: u8| prop_oneof![Just(0u8), 0..=most];
    let latency = prop_oneof![Just(0u64), Just(300)];
    let lag = prop_oneof![Just(0u64), Just(60), Just(3_600)];
    let desert = prop_oneof![8 => Just(0u64), 1 => 5u64..60, 1 => Just(400)];
    let ahead = prop_oneof![3 => Just(0), 1 => ahead()];
    let pages = (page, percent(40), percent(40), percent(30), desert);
    (any::<u64>(), pages, latency, lag, ahead).prop_map(
        |(seed, (page, empty, short, miss, desert), latency, lag, ahead)| Weather {
            seed,
            page,
            empty,
            short,
            miss,
            latency,
            lag,
            desert,
            ahead,
        },
    )
}

/// Calls that a policy may lack. Names are found through the first two, events by either of the others.
pub(crate) const GUARDED: [Call; 4] =
    [Call::DescribeLogGroups, Call::DescribeLogStreams, Call::GetLogEvents, Call::FilterLogEvents];

fn slot() -> impl Strategy<Value = usize> {
    // Most of it happens to two streams of one group.
    prop_oneof![6 => 0usize..2, 1 => 2usize..6]
}

/// An hour and three, twenty minutes and some seconds, both ways; no more than a day behind, from where no service is believed.
fn ahead() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0i64),
        -10_000i64..10_000,
        Just(1_200_000),
        Just(-1_200_000),
        Just(3_600_000),
        Just(-3 * 3_600_000),
        -24 * 3_600_000i64..30 * 3_600_000
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let hidden = prop_oneof![
        4 => Just(Hidden::Nothing),
        2 => HIDDEN.prop_map(Hidden::All),
        1 => (any::<u8>(), HIDDEN).prop_map(|(which, seconds)| Hidden::One(which, seconds)),
    ];
    let trouble = prop_oneof![
        Just(Trouble::Throttled),
        Just(Trouble::Unavailable),
        Just(Trouble::Cut),
        Just(Trouble::Timeout),
        Just(Trouble::Denied),
    ];
    let form = prop_oneof![Just(Form::Slug), Just(Form::SlugWithHash), Just(Form::Exact)];
    let wait = prop_oneof![4 => 0u32..3_000, 3 => 3_000u32..90_000, 1 => 90_000u32..1_500_000];
    let failing = prop_oneof![1 => Just(Failing::Open), 1 => Just(Failing::Read), 1 => Just(Failing::Write), 3 => Just(Failing::Sync)];
    let unsynced = prop_oneof![Just(Unsynced::Lost), Just(Unsynced::Kept), Just(Unsynced::Torn)];
    prop_oneof![
        12 => (slot(), proptest::collection::vec(put(), 1..6), hidden)
            .prop_map(|(slot, batch, hidden)| Op::Put { slot, batch, hidden }),
        2 => slot().prop_map(|slot| Op::PutAgain { slot }),
        1 => slot().prop_map(|slot| Op::Delete { slot }),
        1 => slot().prop_map(|slot| Op::Remake { slot }),
        1 => Just(Op::Release),
        1 => (trouble, 1u8..5).prop_map(|(kind, calls)| Op::Trouble { kind, calls }),
        1 => Just(Op::ExpireTokens),
        7 => slot().prop_map(|slot| Op::Open { slot }),
        1 => Just(Op::OpenAll),
        2 => slot().prop_map(|slot| Op::Begin { slot }),
        2 => (slot(), 0u8..4).prop_map(|(slot, commits)| Op::Leave { slot, commits }),
        2 => (slot(), any::<u8>(), any::<u16>()).prop_map(|(slot, part, size)| Op::Read { slot, part, size }),
        3 => slot().prop_map(|slot| Op::Watch { slot }),
        1 => Just(Op::Unwatch),
        2 => any::<bool>().prop_map(|searches| Op::List { searches }),
        2 => (slot(), form).prop_map(|(slot, form)| Op::Lookup { slot, form }),
        8 => wait.prop_map(|ms| Op::Wait { ms }),
        1 => ahead().prop_map(|ahead| Op::SetClock { ahead }),
        1 => prop_oneof![3 => 1u16..300, 1 => 300u16..20_000].prop_map(|seconds| Op::Suspend { seconds }),
        1 => (0usize..2, prop_oneof![Just(15u8), 0u8..16]).prop_map(|(group, allows)| Op::Policy { group, allows }),
        1 => (slot(), any::<bool>(), failing).prop_map(|(slot, text, failing)| Op::Fail { slot, text, failing }),
        1 => Just(Op::Recover),
        1 => any::<bool>().prop_map(|full| Op::Fill { full }),
        2 => Just(Op::Evict),
        2 => Just(Op::MoveQuiet),
        1 => Just(Op::Restart),
        2 => unsynced.prop_map(|unsynced| Op::Crash { unsynced }),
    ]
}

fn put() -> impl Strategy<Value = Put> {
    // Half seconds and few words: equal events are to be met.
    let stamp = prop_oneof![
        6 => (-6i64..=0).prop_map(|n| n * 500),
        2 => -LATEST..=0,
        1 => 1..=AHEAD,
    ];
    let message = prop_oneof![
        12 => "[ab]{0,2}\n?",
        2 => "[a-z\u{0}é\u{fffd}\n]{3,20}",
        1 => (10_000usize..40_000).prop_map(|n| "m".repeat(n)),
    ];
    (stamp, message).prop_map(|(stamp, message)| Put { stamp, message })
}
