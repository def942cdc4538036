//! The model's service behind the trait: pages, tokens and ends as the live service was recorded to give them.

use super::machine::Machine;
use super::ops::Weather;
use super::reference::{Accepted, Key, Memory, SLOTS};
use crate::clock::{Clock as _, ServiceClock};
use crate::model::{LogClass, LogEvent, LogGroup, LogStream, Timestamp};
use crate::source::{
    Call, DescribeGroups, DescribeStreams, EventPage, FilterEvents, FilterPage, GetEvents, LogSource, Page, Quotas,
    SourceError, SourceErrorKind,
};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

/// Empty pages in a row, at most, so that every read ends.
const EMPTY_RUN: u64 = 3;

/// Whether steps and calls are told on standard error, to find out why a history fails.
pub(crate) static TRACED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("CWLOGS_MODEL_TRACE").is_some());

/// The service in memory.
pub(crate) struct Reference {
    memory: Mutex<Memory>,
    machine: Arc<Machine>,
    /// Whom answers tell the service's time.
    told: Mutex<Option<Arc<ServiceClock>>>,
}

/// A place between events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    /// Directly behind this event (before it, if it points backwards).
    key: Key,
    /// Empty pages since.
    run: u64,
    /// It was given with the end.
    ended: bool,
}

impl Token {
    /// Before everything stamped `at` or later.
    fn before(at: i64) -> Token {
        Token { key: (at, i64::MIN, 0, 0), run: 0, ended: false }
    }

    fn text(&self, epoch: u64) -> String {
        let (stamp, ingestion, put, place) = self.key;
        format!("{epoch}/{stamp}/{ingestion}/{put}/{place}/{}/{}", self.run, u8::from(self.ended))
    }

    fn parse(text: &str, epoch: u64, call: Call) -> Result<Token, SourceError> {
        let parts: Vec<i128> = text.split('/').map(|part| part.parse().unwrap()).collect();
        let [of, stamp, ingestion, put, place, run, ended] = parts[..] else { panic!("a token of nobody: {text}") };
        if of as u64 != epoch {
            return Err(refused(SourceErrorKind::InvalidToken, call));
        }
        let key = (stamp as i64, ingestion as i64, put as u64, place as usize);
        Ok(Token { key, run: run as u64, ended: ended == 1 })
    }
}

fn refused(kind: SourceErrorKind, call: Call) -> SourceError {
    SourceError { kind, call, message: "by the model".into() }
}

impl Reference {
    pub(crate) fn new(weather: Weather, machine: Arc<Machine>) -> Reference {
        Reference { memory: Mutex::new(Memory::new(weather)), machine, told: Mutex::default() }
    }

    /// From now on answers tell this clock the time.
    pub(crate) fn tells(&self, clock: Arc<ServiceClock>) {
        *self.told.lock().unwrap() = Some(clock);
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.machine.service_time()
    }

    /// Half of a call's latency: the answer is of its middle.
    async fn travel(&self) {
        let latency = {
            let mut memory = self.memory();
            let most = memory.weather.latency;
            memory.chance.u64(0..=most)
        };
        if latency > 0 {
            tokio::time::sleep(Duration::from_millis(latency / 2)).await;
        }
    }

    async fn ask<T: Debug>(
        &self,
        call: Call,
        group: Option<&str>,
        request: &impl Debug,
        answer: impl FnOnce(&mut Memory, Timestamp) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let told = self.told.lock().unwrap().clone();
        let sent = self.machine.since_boot();
        self.travel().await;
        let now = self.now();
        let result = {
            let mut memory = self.memory();
            match memory.next_trouble(call, group, now) {
                Some(kind) => Err(refused(kind, call)),
                None => answer(&mut memory, now),
            }
        };
        if *TRACED {
            eprintln!("{}    {request:?} → {result:?}", now.0);
        }
        self.travel().await;
        let is_lost = |e: &SourceError| matches!(e.kind, SourceErrorKind::Network | SourceErrorKind::Timeout);
        if let Some(clock) = told
            && !result.as_ref().is_err_and(is_lost)
        {
            // Dates count whole seconds.
            clock.heard(Timestamp(now.0 - now.0.rem_euclid(1000)), sent, self.machine.since_boot());
        }
        result
    }
}

/// How many events a page has, and whether it is empty though there are more.
fn size(memory: &mut Memory, limit: Option<u32>, run: u64, pending: usize, is_desert: bool) -> usize {
    if is_desert && run < memory.weather.desert {
        return 0;
    }
    if pending > 0 && run < EMPTY_RUN && memory.hit(memory.weather.empty) {
        return 0;
    }
    let most = memory.weather.page.min(limit.unwrap_or(10_000) as usize);
    if memory.hit(memory.weather.short) { memory.chance.usize(1..=most.min(pending).max(1)) } else { most }
}

fn get(memory: &mut Memory, now: Timestamp, request: &GetEvents) -> Result<EventPage, SourceError> {
    let call = Call::GetLogEvents;
    let epoch = memory.epoch;
    let token = request.token.as_deref().map(|text| Token::parse(text, epoch, call)).transpose()?;
    let (start, end) = (request.start.map_or(i64::MIN, |t| t.0), request.end.map_or(i64::MAX, |t| t.0));
    assert!(request.from_head, "the model reads from the head");
    let behind = token.map(|token| token.key);
    let wanted = |key: &Key| start <= key.0 && key.0 < end && behind.is_none_or(|behind| *key > behind);
    let mut shown = match memory.answer(&request.group, &request.stream, now, wanted) {
        Some(shown) => shown,
        None if memory.lingers(&request.group, &request.stream, now) => Vec::new(),
        None => return Err(refused(SourceErrorKind::NotFound, call)),
    };
    let from = token.unwrap_or_else(|| Token::before(start));
    let pending = shown.len();
    let names = [request.stream.clone()];
    let is_desert = from.key.0.max(start) < memory.desert_ends(&request.group, &names);
    shown.truncate(size(memory, request.limit, from.run, pending, is_desert));
    let forward = match shown.last() {
        Some(last) => Token { key: last.key, run: 0, ended: false },
        None if pending > 0 => Token { run: from.run + 1, ended: false, ..from },
        None if from.ended => from,
        None => Token { run: from.run + 1, ended: true, ..from },
    };
    let backward = Token { run: from.run, ..Token::before(start) };
    Ok(EventPage {
        events: shown.iter().map(Accepted::event).collect(),
        forward: forward.text(epoch),
        backward: backward.text(epoch),
    })
}

fn filter(memory: &mut Memory, now: Timestamp, request: &FilterEvents) -> Result<FilterPage, SourceError> {
    let call = Call::FilterLogEvents;
    let epoch = memory.epoch;
    let token = request.token.as_deref().map(|text| Token::parse(text, epoch, call)).transpose()?;
    if SLOTS.iter().all(|(group, _)| *group != request.group) {
        return Err(refused(SourceErrorKind::NotFound, call));
    }
    let (start, end) = (request.start.map_or(i64::MIN, |t| t.0), request.end.map_or(i64::MAX, |t| t.0));
    let behind = token.map(|token| token.key);
    let wanted = |key: &Key| start <= key.0 && key.0 <= end && behind.is_none_or(|behind| *key > behind);
    let mut shown: Vec<(String, Accepted)> = Vec::new();
    let names: Vec<String> = if request.streams.is_empty() {
        memory.all_living().filter(|(group, ..)| *group == request.group).map(|(_, name, _)| name.into()).collect()
    } else {
        request.streams.clone()
    };
    for name in &names {
        match memory.answer(&request.group, name, now, wanted) {
            Some(events) => shown.extend(events.into_iter().map(|event| (name.clone(), event))),
            None if memory.lingers(&request.group, name, now) => {}
            None => return Err(refused(SourceErrorKind::NotFound, call)),
        }
    }
    shown.sort_by_key(|(_, event)| event.key);
    let from = token.unwrap_or_else(|| Token::before(start));
    let pending = shown.len();
    let is_desert = from.key.0.max(start) < memory.desert_ends(&request.group, &names);
    shown.truncate(size(memory, request.limit, from.run, pending, is_desert));
    let next = match shown.last() {
        // Even the last page comes with a token, whose page is empty.
        Some((_, last)) => Some(Token { key: last.key, run: 0, ended: false }),
        None if pending > 0 => Some(Token { run: from.run + 1, ..from }),
        None => None,
    };
    let events: Vec<(String, LogEvent)> = shown.into_iter().map(|(name, event)| (name, event.event())).collect();
    Ok(FilterPage { events, next: next.map(|token| token.text(epoch)) })
}

#[async_trait]
impl LogSource for Reference {
    async fn describe_log_groups(&self, request: DescribeGroups) -> Result<Page<LogGroup>, SourceError> {
        let names: BTreeSet<&str> = SLOTS.iter().map(|(group, _)| *group).collect();
        let (prefix, pattern) = (request.prefix.unwrap_or_default(), request.pattern.unwrap_or_default());
        let is_asked_for = |name: &&str| name.starts_with(&prefix) && name.contains(&pattern);
        let group = |name: &str| LogGroup {
            name: name.into(),
            arn: String::new(),
            created: Timestamp(1),
            class: LogClass::Standard,
            retention_days: None,
            stored_bytes: 0,
        };
        let items = names.into_iter().filter(is_asked_for).map(group).collect();
        self.ask(Call::DescribeLogGroups, None, &prefix, |_, _| Ok(Page { items, next: None })).await
    }

    async fn describe_log_streams(&self, request: DescribeStreams) -> Result<Page<LogStream>, SourceError> {
        self.ask(Call::DescribeLogStreams, Some(&request.group), &request, |memory, now| {
            let prefix = request.prefix.as_deref().unwrap_or_default();
            let mine =
                memory.all_living().filter(|(group, name, _)| *group == request.group && name.starts_with(prefix));
            let mut streams: Vec<LogStream> = mine
                .map(|(_, name, generation)| {
                    let told = generation.told(now);
                    LogStream {
                        name: name.into(),
                        arn: String::new(),
                        created: generation.created,
                        first_event: told.map(|told| told.0),
                        last_event: told.map(|told| told.1),
                        last_ingestion: told.map(|told| told.2),
                    }
                })
                .collect();
            streams.sort_by(|a, b| a.name.cmp(&b.name));
            if request.prefix.is_none() {
                streams.sort_by_key(|stream| std::cmp::Reverse(stream.last_event));
            }
            streams.truncate(request.limit.unwrap_or(50) as usize);
            Ok(Page { items: streams, next: None })
        })
        .await
    }

    async fn get_log_events(&self, request: GetEvents) -> Result<EventPage, SourceError> {
        self.ask(Call::GetLogEvents, Some(&request.group), &request, |memory, now| get(memory, now, &request)).await
    }

    async fn filter_log_events(&self, request: FilterEvents) -> Result<FilterPage, SourceError> {
        self.ask(Call::FilterLogEvents, Some(&request.group), &request, |memory, now| filter(memory, now, &request))
            .await
    }

    fn quotas(&self) -> Quotas {
        Quotas::of_region("us-east-1")
    }

    fn region(&self) -> String {
        "us-east-1".into()
    }
}
