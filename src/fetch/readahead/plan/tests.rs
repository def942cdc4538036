//! The plan against a model of the service: two quotas, a latency, pages in the order of time, and ends that take calls of their own.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

const GET: f64 = 25.0;
const LATENCY: f64 = 0.04;
/// Events of the model are so large.
const EVENT: u64 = 4_000;
/// Events of a page.
const FULL: u64 = 250;
/// All streams live side by side for so long (ms).
const HOUR: i64 = 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walk {
    Listing,
    Names,
    /// The listing backwards.
    Back,
}

/// A program: its walk, and after how many streams it stops.
#[derive(Clone, Copy, Debug)]
struct Program {
    walk: Walk,
    start: usize,
    stops: usize,
}

impl Program {
    fn all(walk: Walk) -> Program {
        Program { walk, start: 0, stops: usize::MAX }
    }
}

/// What the model's service and programs did.
#[derive(Debug, Default)]
struct Outcome {
    /// Seconds until the last program had all that it wanted.
    took: f64,
    gets: usize,
    filters: usize,
    /// Bytes that were read of streams that no program opened.
    unopened: u64,
}

/// A stream of the model.
#[derive(Clone, Debug, Default)]
struct Model {
    /// It is this one of so many.
    number: usize,
    of: usize,
    size: u64,
    /// Events read so far, by any read that goes on from there.
    read: u64,
    complete: bool,
    /// By which job it is read now.
    busy: bool,
    opened: bool,
    /// Calls of its download that are left to prove its end.
    ends: u32,
}

impl Model {
    fn events(&self) -> u64 {
        self.size / EVENT
    }

    /// When its event of this number was: no two events of the model have one time.
    fn at(&self, event: u64) -> i64 {
        let part = HOUR as f64 * event as f64 / self.events().max(1) as f64;
        (HOUR + part as i64) * self.of as i64 + self.number as i64
    }

    fn span(&self) -> Option<(Timestamp, Timestamp)> {
        (self.size > 0).then(|| (Timestamp(self.at(0)), Timestamp(self.at(self.events() - 1))))
    }

    /// How many of its events lie before `reach`.
    fn before(&self, reach: Timestamp) -> u64 {
        let part = (reach.0 as f64 / self.of as f64 - HOUR as f64) / HOUR as f64;
        let mut before = ((part * self.events() as f64) as u64).min(self.events());
        while before > 0 && self.at(before - 1) >= reach.0 {
            before -= 1;
        }
        while before < self.events() && self.at(before) < reach.0 {
            before += 1;
        }
        before
    }
}

enum Kind {
    All,
    Names { streams: Vec<usize>, most: usize },
    Download(usize, Via),
}

/// A read under way: one request at a time.
struct Reading {
    kind: Kind,
    answer: f64,
    pages: usize,
    reach: Option<Timestamp>,
    /// Its end has been shown, and takes a call more.
    last: bool,
}

struct Service {
    next: [f64; 2],
    rates: [f64; 2],
    calls: [usize; 2],
}

impl Service {
    /// When a request made at `now` is answered.
    fn ask(&mut self, via: Via, now: f64) -> f64 {
        let call = usize::from(via == Via::Filter);
        let at = self.next[call].max(now);
        self.next[call] = at + 1.0 / self.rates[call];
        self.calls[call] += 1;
        at + LATENCY
    }
}

/// Runs programs over streams of these sizes; names are in another order than the listing's.
fn run(sizes: &[u64], programs: &[Program], filter_rate: f64) -> Outcome {
    let count = sizes.len();
    let name = |at: usize| format!("{:06}", (at * 7_919 + 13) % count.next_power_of_two().max(8_192));
    let mut streams: Vec<Model> = sizes
        .iter()
        .enumerate()
        .map(|(number, size)| Model { number, of: count, size: *size, ends: 2, ..Model::default() })
        .collect();
    let member = |at: usize| Member { id: StreamId(at as u64), name: name(at), span: streams[at].span(), stored: None };
    let mut plan = Plan::new((0..count).map(member).collect());
    let mut by_name: Vec<usize> = (0..count).collect();
    by_name.sort_by_key(|at| name(*at));
    let orders: Vec<Vec<usize>> = programs
        .iter()
        .map(|program| {
            let mut order: Vec<usize> = match program.walk {
                Walk::Listing => (0..count).collect(),
                Walk::Names => by_name.clone(),
                Walk::Back => (0..count).rev().collect(),
            };
            order.drain(..program.start.min(count));
            order.truncate(program.stops);
            order
        })
        .collect();
    let mut service = Service { next: [0.0; 2], rates: [GET, filter_rate], calls: [0; 2] };
    let mut readings: Vec<Reading> = Vec::new();
    let (mut now, mut took) = (0.0_f64, 0.0_f64);
    // Of each program: the next stream in its order.
    let mut at = vec![0; programs.len()];
    let (mut is_parts, mut swept): (bool, HashSet<usize>) = (false, HashSet::new());
    let stopped = |at: &[usize]| at.iter().zip(&orders).all(|(at, order)| *at >= order.len());
    if plan.is_worth_all(0) {
        readings.push(Reading {
            kind: Kind::All,
            answer: service.ask(Via::Filter, now),
            pages: 0,
            reach: None,
            last: false,
        });
    } else {
        is_parts = true;
    }
    for _ in 0..1_000_000 {
        // Programs open what is complete at once, and begin a download of what isn't.
        for (at, order) in at.iter_mut().zip(&orders) {
            while let Some(stream) = order.get(*at) {
                if !std::mem::replace(&mut streams[*stream].opened, true) {
                    plan.opened(StreamId(*stream as u64));
                }
                if streams[*stream].complete {
                    *at += 1;
                    took = now;
                    continue;
                }
                if !streams[*stream].busy {
                    streams[*stream].busy = true;
                    plan.leave(StreamId(*stream as u64));
                    let answer = service.ask(Via::Get, now);
                    let kind = Kind::Download(*stream, Via::Get);
                    readings.push(Reading { kind, answer, pages: 0, reach: None, last: false });
                }
                break;
            }
        }
        if stopped(&at) {
            break;
        }
        if is_parts {
            let of = |via| {
                readings
                    .iter()
                    .filter(|r| matches!(r.kind, Kind::Download(at, by) if by == via && !streams[at].opened))
                    .count()
            };
            let names = readings.iter().filter(|reading| matches!(reading.kind, Kind::Names { .. })).count();
            let room = Room {
                get: 1_usize.saturating_sub(of(Via::Get)),
                filter: if names == 0 { 1_usize.saturating_sub(of(Via::Filter)) } else { 0 },
                names: 1 - names.min(1),
                get_rate: GET,
                filter_rate,
            };
            if let Some(job) = plan.next(&room) {
                let (kind, via, reach) = match job {
                    Job::Download(id, via) => {
                        let at = id.0 as usize;
                        assert!(!streams[at].busy && !streams[at].complete, "{at} is read already");
                        streams[at].busy = true;
                        (Kind::Download(at, via), via, None)
                    }
                    Job::Names { names, from, pages } => {
                        let find = |wanted: &String| (0..count).find(|at| name(*at) == *wanted).unwrap();
                        let chosen: Vec<usize> = names.iter().map(find).collect();
                        assert!((1..=NAMES).contains(&chosen.len()));
                        assert!(chosen.iter().all(|at| swept.insert(*at)), "in two reads by names");
                        (Kind::Names { streams: chosen, most: pages }, Via::Filter, from)
                    }
                };
                readings.push(Reading { kind, answer: service.ask(via, now), pages: 0, reach, last: false });
                continue;
            }
        }
        let Some(next) = (0..readings.len()).min_by(|a, b| readings[*a].answer.total_cmp(&readings[*b].answer)) else {
            panic!("nothing is read, and programs wait: {at:?}");
        };
        let mut reading = readings.swap_remove(next);
        now = reading.answer;
        let goes_on = match &reading.kind {
            Kind::Download(at, via) => {
                let stream = &mut streams[*at];
                if stream.read < stream.events() {
                    stream.read = (stream.read + FULL).min(stream.events());
                } else {
                    stream.ends -= if *via == Via::Filter { 2 } else { 1 };
                }
                stream.complete = stream.ends == 0;
                stream.busy = !stream.complete;
                if stream.complete { None } else { Some(*via) }
            }
            Kind::All | Kind::Names { .. } => {
                let all: Vec<usize> = (0..count).collect();
                let (chosen, most) = match &reading.kind {
                    Kind::Names { streams, most } => (streams.clone(), *most),
                    _ => (all, 0),
                };
                let names: Vec<String> = chosen.iter().map(|at| name(*at)).collect();
                let names = matches!(reading.kind, Kind::Names { .. }).then_some(names.as_slice());
                let from = reading.reach.map_or(vec![0; chosen.len()], |reach| {
                    chosen.iter().map(|at| streams[*at].before(reach)).collect()
                });
                let ahead = chosen.iter().zip(&from);
                let mut events: Vec<(i64, usize)> = ahead
                    .flat_map(|(at, from)| {
                        (*from..streams[*at].events().min(from + FULL)).map(|n| (streams[*at].at(n), *at))
                    })
                    .collect();
                let ended = events.is_empty() && reading.last;
                reading.last = events.len() <= FULL as usize;
                if !reading.last {
                    events.select_nth_unstable(FULL as usize);
                    events.truncate(FULL as usize);
                }
                let mut bytes: HashMap<usize, u64> = HashMap::new();
                events.iter().for_each(|(_, at)| *bytes.entry(*at).or_default() += EVENT);
                for (at, bytes) in &bytes {
                    if plan.brings(&name(*at), *bytes).is_some() && !streams[*at].busy {
                        streams[*at].read += bytes / EVENT;
                    }
                }
                plan.page_holds(bytes.values().sum(), events.len());
                reading.pages += usize::from(!events.is_empty());
                reading.reach = events.iter().map(|(at, _)| Timestamp(*at + 1)).max().or(reading.reach);
                plan.reached(names, reading.reach);
                let is_all = names.is_none();
                if ended || (is_all && events.is_empty()) {
                    for (id, _) in plan.ended(names) {
                        let stream = &mut streams[id.0 as usize];
                        assert_eq!(stream.read, stream.events(), "{id:?} isn't whole");
                        stream.complete = true;
                    }
                    None
                } else if is_all && !plan.is_worth_all(reading.pages) {
                    is_parts = true;
                    None
                } else if !is_all && reading.pages >= most {
                    chosen.iter().for_each(|at| assert!(swept.remove(at)));
                    plan.stopped(names.unwrap());
                    None
                } else {
                    Some(Via::Filter)
                }
            }
        };
        if let Some(via) = goes_on {
            reading.answer = service.ask(via, now);
            readings.push(reading);
        }
    }
    assert!(stopped(&at), "it never ends: {at:?}");
    let unopened = streams.iter().filter(|stream| !stream.opened).map(|stream| stream.read * EVENT).sum();
    Outcome { took, gets: service.calls[0], filters: service.calls[1], unopened }
}

/// The least time for all of these: small ones in one read, large ones by both calls, each with what its end takes.
fn floor(sizes: &[u64], filter_rate: f64) -> f64 {
    let filtered: f64 = sizes.iter().map(|size| *size as f64 / 1e6).sum::<f64>() + 1.0;
    let by_stream = |size: &u64| (*size as f64 / 1e6).ceil() + 2.0;
    // Streams whose calls are worth it, the largest first, until both end together.
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    let (mut gets, mut rest) = (0.0, filtered);
    let mut best = rest / filter_rate;
    while let Some(size) = sorted.pop() {
        (gets, rest) = (gets + by_stream(&size), rest - size as f64 / 1e6);
        best = best.min((gets / GET).max(rest / filter_rate));
    }
    best
}

const KB: u64 = 10_000;
const MB: u64 = 1_000_000;

const WALKS: [Walk; 3] = [Walk::Listing, Walk::Names, Walk::Back];

/// Runs each walk through all of `sizes`: none takes more than `most` of the floor.
fn takes(sizes: &[u64], filter_rate: f64, most: f64) {
    for walk in WALKS {
        let outcome = run(sizes, &[Program::all(walk)], filter_rate);
        let ratio = outcome.took / floor(sizes, filter_rate);
        println!("{walk:?}, {filter_rate}: {ratio:.2} of the floor, {outcome:?}");
        assert!(ratio <= most, "{walk:?} takes {ratio:.2} of the floor: {outcome:?}");
        assert_eq!(outcome.unopened, 0);
    }
}

#[test]
fn streams_of_two_pages_come_by_both_calls() {
    for filter_rate in [10.0, 25.0] {
        takes(&[MB * 13 / 10; 150], filter_rate, 1.2);
    }
    takes(&[MB * 13 / 10; 400], 10.0, 1.2);
}

#[test]
fn small_streams_come_by_one_read() {
    takes(&[KB; 1000], 10.0, 1.1);
    takes(&[KB * 20; 300], 10.0, 1.6);
}

#[test]
fn long_streams_come_by_both_calls() {
    takes(&[MB * 20; 20], 10.0, 1.2);
    takes(&[MB * 4; 100], 25.0, 1.2);
}

#[test]
fn a_few_long_streams_do_not_keep_the_small_ones_away() {
    let sizes: Vec<u64> = (0..500).map(|at| if at % 100 == 50 { MB * 20 } else { KB }).collect();
    takes(&sizes, 10.0, 1.5);
    let mixed = |at: usize| [if at % 80 == 4 { MB * 20 } else { 0 }, KB, MB, KB][at % 4];
    takes(&(0..400).map(mixed).collect::<Vec<_>>(), 10.0, 1.9);
}

#[test]
fn streams_without_events_cost_a_call_or_two() {
    let outcome = run(&[0; 300], &[Program::all(Walk::Listing)], 10.0);
    assert!(outcome.gets + outcome.filters < 20, "{outcome:?}");
}

#[test]
fn of_a_walk_that_stops_little_was_read_in_vain() {
    let sizes = [MB * 2; 500];
    for walk in WALKS {
        let outcome = run(&sizes, &[Program { stops: 20, ..Program::all(walk) }], 10.0);
        assert!(outcome.unopened < 150 * MB, "{walk:?}: {outcome:?}");
    }
}

#[test]
fn two_walks_are_both_read_ahead_of() {
    let sizes = [MB * 2; 120];
    let second = Program { walk: Walk::Names, start: 0, stops: usize::MAX };
    let both = run(&sizes, &[Program::all(Walk::Listing), second], 10.0);
    let ratio = both.took / floor(&sizes, 10.0);
    assert!(ratio <= 1.4, "{ratio:.2}: {both:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever sizes there are and however programs walk: no stream is in two reads by names at once or begun twice, what counts as
    /// whole is whole, and every program ends.
    #[test]
    fn whatever_is_walked_through_comes_to_its_end(
        sizes in prop::collection::vec(prop_oneof![Just(0), Just(KB), Just(KB * 30), Just(MB), Just(MB * 9)], 4..60),
        walks in prop::collection::vec((0..3_usize, 0..20_usize, 1..60_usize), 1..4),
        filter_rate in prop_oneof![Just(5.0), Just(10.0), Just(25.0)],
    ) {
        let program = |(walk, start, stops): &(usize, usize, usize)| Program { walk: WALKS[*walk], start: *start, stops: *stops };
        run(&sizes, &walks.iter().map(program).collect::<Vec<_>>(), filter_rate);
    }
}
