//! The service as the model has it: what was accepted of every stream ever, and what reads show of that now.

use super::ops::{GUARDED, Hidden, Put, Trouble, Weather};
use crate::model::{LogEvent, Timestamp};
use crate::source::{Call, SourceErrorKind};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// The streams that there may be, as (group, name). Two names of one group have one slug.
pub(crate) const SLOTS: [(&str, &str); 6] =
    [("/app", "a/b"), ("/app", "a-b"), ("/app", "web"), ("/other", "a/b"), ("/other", "[$LATEST]1"), ("/app", "zed")];

/// How long after it was put an answer may lack an event.
pub(crate) const YOUNG: Duration = Duration::from_secs(60);
/// How old a check may be that serves an open: the poll interval of the settings.
pub(crate) const POLL: Duration = Duration::from_secs(1);
/// What is shown so soon after its stamp isn't late: polls and checks overlap by more.
const PROMPT: Duration = Duration::from_secs(4);
/// How long what is late may take to be looked for where checks are frequent.
const LATE: Duration = Duration::from_secs(60);
/// How many answers may lack one event.
const MISSES: u8 = 2;
/// For how long a stream that was made again may be taken for the old one: the time to live of listings, and some latencies.
const UNTOLD: Duration = Duration::from_secs(15);
/// How long before the oldest event that is left the empty pages end, in ms: what expires is days old, whatever the machine's clock says.
const EXPIRED: i64 = 30 * 3_600_000;
/// How long a deleted stream still reads as empty.
const LINGERS: Duration = Duration::from_secs(3);

/// An event's place in the service's order: stamp, ingestion time, number of the put, place in it.
pub(crate) type Key = (i64, i64, u64, usize);

/// Events of a kind, and how many.
pub(crate) type Tally = HashMap<(Timestamp, String), usize>;

#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) key: Key,
    message: String,
    visible_from: Timestamp,
    misses: u8,
}

impl Accepted {
    pub(crate) fn event(&self) -> LogEvent {
        let (timestamp, ingestion_time) = (Timestamp(self.key.0), Timestamp(self.key.1));
        LogEvent { timestamp, ingestion_time, message: self.message.clone() }
    }
}

/// One generation of a stream.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) created: Timestamp,
    /// When it was deleted.
    pub(crate) deleted: Option<Timestamp>,
    /// In the service's order.
    events: Vec<Accepted>,
    /// What the listing will tell, and when: (due, least and greatest stamp, ingestion time).
    told: Vec<(Timestamp, i64, i64, i64)>,
    last: Vec<(i64, String)>,
}

/// What a listing tells of a stream's events: oldest, newest, newest ingestion.
pub(crate) type Told = (Timestamp, Timestamp, Timestamp);

/// The service's memory.
pub(crate) struct Memory {
    pub(crate) weather: Weather,
    pub(crate) chance: fastrand::Rng,
    /// Tokens of an earlier one are refused.
    pub(crate) epoch: u64,
    generations: BTreeMap<(&'static str, &'static str), Vec<Generation>>,
    trouble: Vec<SourceErrorKind>,
    /// When a listing of streams last failed that was due an answer.
    unlisted: Timestamp,
    /// Calls that a group's policy lacks.
    denied: HashSet<(&'static str, Call)>,
    puts: u64,
}

impl Memory {
    pub(crate) fn new(weather: Weather) -> Memory {
        let chance = fastrand::Rng::with_seed(weather.seed);
        Memory {
            weather,
            chance,
            epoch: 0,
            generations: BTreeMap::new(),
            trouble: Vec::new(),
            unlisted: Timestamp::EPOCH,
            denied: HashSet::new(),
            puts: 0,
        }
    }

    pub(crate) fn put(&mut self, slot: usize, now: Timestamp, batch: &[Put], hidden: Hidden) {
        let batch: Vec<(i64, String)> = batch.iter().map(|put| (now.0 + put.stamp, put.message.clone())).collect();
        self.accept(slot, now, batch, hidden);
    }

    pub(crate) fn put_again(&mut self, slot: usize, now: Timestamp) {
        let batch = self.living(slot).map(|generation| generation.last.clone()).unwrap_or_default();
        // What was put long ago may be settled by now.
        let recent = |stamp: &i64| now.0 - stamp < 300_000;
        let batch: Vec<_> = batch.into_iter().filter(|(stamp, _)| recent(stamp)).collect();
        if !batch.is_empty() {
            self.accept(slot, now, batch, Hidden::Nothing);
        }
    }

    fn accept(&mut self, slot: usize, now: Timestamp, batch: Vec<(i64, String)>, hidden: Hidden) {
        if self.living(slot).is_none() {
            self.make(slot, now);
        }
        self.puts += 1;
        let number = self.puts;
        let due = now + Duration::from_secs(self.chance.u64(0..=self.weather.lag));
        let Some(generation) = self.living(slot) else { return };
        for (place, (stamp, message)) in batch.iter().enumerate() {
            let seconds = match hidden {
                Hidden::All(seconds) => seconds,
                Hidden::One(which, seconds) if usize::from(which) % batch.len() == place => seconds,
                _ => 0,
            };
            let visible_from = now + Duration::from_secs(seconds.into());
            let key = (*stamp, now.0, number, place);
            let at = generation.events.partition_point(|other| other.key < key);
            let accepted = Accepted { key, message: message.clone(), visible_from, misses: MISSES };
            generation.events.insert(at, accepted);
        }
        let stamps = || batch.iter().map(|(stamp, _)| *stamp);
        generation.told.push((due, stamps().min().unwrap_or(0), stamps().max().unwrap_or(0), now.0));
        generation.last = batch;
    }

    /// Makes a stream; of two of one name the later one has the later creation time.
    fn make(&mut self, slot: usize, now: Timestamp) {
        let all = self.generations.entry(SLOTS[slot]).or_default();
        let after = all.last().map_or(now, |last| last.created + Duration::from_millis(1));
        let created = now.max(after);
        all.push(Generation { created, deleted: None, events: Vec::new(), told: Vec::new(), last: Vec::new() });
    }

    pub(crate) fn delete(&mut self, slot: usize, now: Timestamp) {
        if let Some(generation) = self.living(slot) {
            generation.deleted = Some(now);
        }
    }

    pub(crate) fn remake(&mut self, slot: usize, now: Timestamp) {
        if self.living(slot).is_some() {
            self.delete(slot, now);
            self.make(slot, now);
        }
    }

    pub(crate) fn release(&mut self, now: Timestamp) {
        for generation in self.generations.values_mut().flatten() {
            generation.events.iter_mut().for_each(|event| event.visible_from = event.visible_from.min(now));
        }
    }

    pub(crate) fn fail(&mut self, kind: Trouble, calls: u8) {
        let kind = match kind {
            Trouble::Throttled => SourceErrorKind::Throttled,
            Trouble::Unavailable => SourceErrorKind::Unavailable,
            Trouble::Cut => SourceErrorKind::Network,
            Trouble::Timeout => SourceErrorKind::Timeout,
            Trouble::Denied => SourceErrorKind::Denied,
        };
        self.trouble.extend(std::iter::repeat_n(kind, calls.into()));
    }

    /// How this call about a group (none: all groups) fails, if it does.
    pub(crate) fn next_trouble(&mut self, call: Call, group: Option<&str>, now: Timestamp) -> Option<SourceErrorKind> {
        let group = group.unwrap_or(SLOTS[0].0);
        let is_denied = self.denied.iter().any(|(of, denied)| *of == group && *denied == call);
        let kind = if is_denied { Some(SourceErrorKind::Denied) } else { self.trouble.pop() };
        if kind.is_some() && call == Call::DescribeLogStreams {
            self.unlisted = now;
        }
        kind
    }

    /// From now on a group's policy allows these of [`GUARDED`] alone.
    pub(crate) fn police(&mut self, group: usize, allows: u8) {
        let group = [SLOTS[0].0, SLOTS[3].0][group];
        self.denied.retain(|(of, _)| *of != group);
        let lacking = GUARDED.iter().enumerate().filter(|(bit, _)| allows & 1 << bit == 0);
        self.denied.extend(lacking.map(|(_, call)| (group, *call)));
    }

    /// From now on the service shows all that it has.
    pub(crate) fn calm(&mut self, now: Timestamp) {
        self.release(now);
        self.trouble.clear();
        self.denied.clear();
        let weather = &mut self.weather;
        (weather.empty, weather.short, weather.miss, weather.lag) = (0, 0, 0, 0);
    }

    pub(crate) fn hit(&mut self, percent: u8) -> bool {
        percent > 0 && self.chance.u8(0..100) < percent
    }

    fn living(&mut self, slot: usize) -> Option<&mut Generation> {
        self.generations.get_mut(&SLOTS[slot])?.last_mut().filter(|generation| generation.deleted.is_none())
    }

    /// The living streams of a group, or of all: (group, name, generation).
    pub(crate) fn all_living(&self) -> impl Iterator<Item = (&'static str, &'static str, &Generation)> {
        self.generations.iter().filter_map(|((group, name), all)| {
            let generation = all.last().filter(|generation| generation.deleted.is_none())?;
            Some((*group, *name, generation))
        })
    }

    /// Whether a stream was deleted so lately that it still reads as empty.
    pub(crate) fn lingers(&self, group: &str, name: &str, now: Timestamp) -> bool {
        let of = |slot: &&(&'static str, &'static str)| slot.0 == group && slot.1 == name;
        let last = SLOTS.iter().find(of).and_then(|slot| self.generations.get(slot)?.last());
        last.and_then(|generation| generation.deleted).is_some_and(|at| now < at + LINGERS)
    }

    /// A read of these streams that begins before this moment finds only empty pages first.
    pub(crate) fn desert_ends(&self, group: &str, names: &[String]) -> i64 {
        let mine = self.all_living().filter(|(of, name, _)| *of == group && names.iter().any(|one| one == name));
        let oldest = mine.filter_map(|(.., generation)| generation.events.first()).map(|event| event.key.0).min();
        oldest.map_or(i64::MIN, |oldest| oldest - EXPIRED)
    }

    /// The events that an answer of this moment holds, in the service's order. `None` if there is no such stream.
    pub(crate) fn answer(
        &mut self,
        group: &str,
        name: &str,
        now: Timestamp,
        wanted: impl Fn(&Key) -> bool,
    ) -> Option<Vec<Accepted>> {
        let slot = SLOTS.iter().position(|slot| *slot == (group, name))?;
        let (mut chance, miss) = (self.chance.fork(), self.weather.miss);
        let generation = self.living(slot)?;
        let mut shown = Vec::new();
        for event in generation.events.iter_mut().filter(|e| e.visible_from <= now && wanted(&e.key)) {
            let young = now < Timestamp(event.key.1) + YOUNG;
            if young && event.misses > 0 && miss > 0 && chance.u8(0..100) < miss {
                event.misses -= 1;
            } else {
                shown.push(event.clone());
            }
        }
        Some(shown)
    }

    /// What an open at `called` must bring of a living generation: what reads showed for sure when the newest check may have begun that
    /// serves it, and what came late some time before. What an answer lacked comes late: as soon as no answer lacks it. What is stamped
    /// ahead may be more than it looks at.
    pub(crate) fn owed(&self, group: &str, name: &str, created: Timestamp, called: Timestamp) -> Tally {
        let began = called - POLL;
        let sure = |event: &&Accepted| {
            let was_lacking = event.misses < MISSES;
            let shown_from = if was_lacking { Timestamp(event.key.1) + YOUNG } else { event.visible_from };
            let late = shown_from.max(event.visible_from) > Timestamp(event.key.0) + PROMPT;
            shown_from.max(event.visible_from) <= if late { began - LATE } else { began } && event.key.0 <= began.0
        };
        let of =
            |living: &(&str, &str, &Generation)| (living.0, living.1) == (group, name) && living.2.created == created;
        let mut tally = Tally::new();
        for event in self.all_living().filter(of).flat_map(|living| &living.2.events).filter(sure) {
            *tally.entry((Timestamp(event.key.0), event.message.clone())).or_default() += 1;
        }
        tally
    }

    /// What was accepted under a name by the generation made at `created` and, if `later`, what may pass for it of those after it: the calls
    /// give names, not generations, and a listing tells of a new one once in its time to live, if it can.
    pub(crate) fn accepted(&self, group: &str, name: &str, created: Timestamp, later: bool) -> Tally {
        let mut tally = Tally::new();
        let all = SLOTS.iter().find(|slot| **slot == (group, name)).and_then(|slot| self.generations.get(slot));
        let those = |generation: &&Generation| generation.created == created || later && generation.created > created;
        let passes = |generation: &Generation, event: &Accepted| {
            let unlisted = self.unlisted >= generation.created;
            generation.created == created || unlisted || Timestamp(event.key.1) < generation.created + UNTOLD
        };
        let events = all.into_iter().flatten().filter(those);
        let events = events.flat_map(|of| of.events.iter().filter(move |event| passes(of, event)));
        for event in events {
            *tally.entry((Timestamp(event.key.0), event.message.clone())).or_default() += 1;
        }
        tally
    }
}

impl Memory {
    /// What each generation made after `created` accepted.
    pub(crate) fn later(&self, group: &str, name: &str, created: Timestamp) -> impl Iterator<Item = Tally> {
        let all = SLOTS.iter().find(|slot| **slot == (group, name)).and_then(|slot| self.generations.get(slot));
        all.into_iter().flatten().filter(move |generation| generation.created > created).map(|generation| {
            let mut tally = Tally::new();
            for event in &generation.events {
                *tally.entry((Timestamp(event.key.0), event.message.clone())).or_default() += 1;
            }
            tally
        })
    }
}

impl Generation {
    /// What the listing tells at `now`; it lags.
    pub(crate) fn told(&self, now: Timestamp) -> Option<Told> {
        let due = || self.told.iter().filter(|told| told.0 <= now);
        let first = due().map(|told| told.1).min()?;
        let (last, ingestion) = (due().map(|told| told.2).max()?, due().map(|told| told.3).max()?);
        Some((Timestamp(first), Timestamp(last), Timestamp(ingestion)))
    }
}
