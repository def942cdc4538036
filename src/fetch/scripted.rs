//! A small service in memory for this room's tests: groups and streams in order, failures and silence on demand, calls counted.

use crate::fetch::settings::{FetchSettings, Selection};
use crate::model::{Hours, LogClass, LogEvent, LogGroup, LogStream, Timestamp};
use crate::source::{
    Call, CountEvents, Counted, DescribeGroups, DescribeStreams, EventPage, FilterEvents, FilterPage, GetEvents,
    LogSource, Page, Quotas, SourceError, SourceErrorKind,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

/// Settings under which no quota is felt.
pub(crate) fn settings() -> FetchSettings {
    FetchSettings {
        selection: Selection::default(),
        poll_interval: Duration::from_secs(1),
        late_window: Duration::from_mins(5),
        settle_after: Duration::from_mins(15),
        listing_ttl: Duration::from_secs(10),
        quotas: Quotas::all(1e6),
        patience: Duration::from_secs(30),
    }
}

#[derive(Default)]
struct State {
    groups: BTreeMap<String, (LogGroup, BTreeMap<String, LogStream>)>,
    calls: HashMap<Call, usize>,
    /// What the next calls meet.
    failures: VecDeque<Option<SourceErrorKind>>,
    failing: Option<SourceErrorKind>,
    hanging: bool,
    latency: Duration,
    /// Empty pages before the first one of each listing.
    empties: u64,
    events: HashMap<(String, String), Vec<LogEvent>>,
}

#[derive(Default)]
pub(crate) struct ScriptedSource(Mutex<State>);

impl ScriptedSource {
    pub(crate) fn put_group(&self, name: &str, created: i64) {
        let group = LogGroup {
            name: name.to_owned(),
            arn: String::new(),
            created: Timestamp(created),
            class: LogClass::Standard,
            retention_days: None,
            stored_bytes: 0,
        };
        self.0.lock().unwrap().groups.insert(name.to_owned(), (group, BTreeMap::new()));
    }

    /// A stream made and last written at `at`; makes its group if need be.
    pub(crate) fn put_stream(&self, group: &str, name: &str, at: i64) {
        if !self.0.lock().unwrap().groups.contains_key(group) {
            self.put_group(group, 1);
        }
        let stream = LogStream {
            name: name.to_owned(),
            arn: String::new(),
            created: Timestamp(at),
            first_event: Some(Timestamp(at)),
            last_event: Some(Timestamp(at)),
            last_ingestion: Some(Timestamp(at)),
        };
        let mut state = self.0.lock().unwrap();
        state.groups.get_mut(group).unwrap().1.insert(name.to_owned(), stream);
    }

    pub(crate) fn delete_group(&self, name: &str) {
        self.0.lock().unwrap().groups.remove(name);
    }

    pub(crate) fn delete_stream(&self, group: &str, name: &str) {
        self.0.lock().unwrap().groups.get_mut(group).unwrap().1.remove(name);
    }

    pub(crate) fn fail_next(&self, kind: SourceErrorKind) {
        self.0.lock().unwrap().failures.push_back(Some(kind));
    }

    /// So many calls are answered, and the one after them fails.
    pub(crate) fn fail_after(&self, answered: usize, kind: SourceErrorKind) {
        let failures = &mut self.0.lock().unwrap().failures;
        failures.extend(std::iter::repeat_n(None, answered));
        failures.push_back(Some(kind));
    }

    pub(crate) fn fail_always(&self, kind: Option<SourceErrorKind>) {
        self.0.lock().unwrap().failing = kind;
    }

    pub(crate) fn hang(&self, hanging: bool) {
        self.0.lock().unwrap().hanging = hanging;
    }

    pub(crate) fn latency(&self, latency: Duration) {
        self.0.lock().unwrap().latency = latency;
    }

    /// Each listing begins with so many empty pages.
    pub(crate) fn empty_pages(&self, empties: u64) {
        self.0.lock().unwrap().empties = empties;
    }

    pub(crate) fn calls(&self, call: Call) -> usize {
        self.0.lock().unwrap().calls.get(&call).copied().unwrap_or(0)
    }

    async fn enter(&self, call: Call) -> Result<(), SourceError> {
        let (failure, hanging, latency) = {
            let mut state = self.0.lock().unwrap();
            *state.calls.entry(call).or_default() += 1;
            (state.failures.pop_front().flatten().or(state.failing), state.hanging, state.latency)
        };
        if hanging {
            std::future::pending::<()>().await;
        }
        if latency > Duration::ZERO {
            tokio::time::sleep(latency).await;
        }
        failure.map_or(Ok(()), |kind| Err(SourceError { kind, call, message: "scripted".into() }))
    }
}

fn page<T>(items: Vec<T>, token: Option<String>, limit: Option<u32>, empties: u64) -> Page<T> {
    let met = token.as_ref().and_then(|token| token.strip_prefix('e')).map_or(0, |met| met.parse().unwrap());
    if met < empties && token.as_ref().is_none_or(|token| token.starts_with('e')) {
        return Page { items: Vec::new(), next: Some(format!("e{}", met + 1)) };
    }
    let start: usize = token.filter(|token| !token.starts_with('e')).map_or(0, |t| t.parse().unwrap());
    let limit = limit.unwrap_or(50) as usize;
    let next = (start + limit < items.len()).then(|| (start + limit).to_string());
    Page { items: items.into_iter().skip(start).take(limit).collect(), next }
}

#[async_trait]
impl LogSource for ScriptedSource {
    async fn describe_log_groups(&self, request: DescribeGroups) -> Result<Page<LogGroup>, SourceError> {
        self.enter(Call::DescribeLogGroups).await?;
        assert!(request.prefix.is_none() || request.pattern.is_none(), "the service refuses both");
        let (prefix, pattern) = (request.prefix.unwrap_or_default(), request.pattern.unwrap_or_default());
        let is_asked_for = |g: &&LogGroup| g.name.starts_with(&prefix) && g.name.contains(&pattern);
        let state = self.0.lock().unwrap();
        let groups = state.groups.values().map(|(g, _)| g).filter(is_asked_for).cloned().collect();
        Ok(page(groups, request.token, request.limit, state.empties))
    }

    async fn describe_log_streams(&self, request: DescribeStreams) -> Result<Page<LogStream>, SourceError> {
        self.enter(Call::DescribeLogStreams).await?;
        let state = self.0.lock().unwrap();
        let empties = state.empties;
        let Some((_, streams)) = state.groups.get(&request.group) else {
            return Err(SourceError {
                kind: SourceErrorKind::NotFound,
                call: Call::DescribeLogStreams,
                message: "The specified log group does not exist.".into(),
            });
        };
        let mut streams: Vec<LogStream> = streams.values().cloned().collect();
        match &request.prefix {
            Some(prefix) => streams.retain(|s| s.name.starts_with(prefix.as_str())),
            None => streams.sort_by_key(|s| std::cmp::Reverse(s.last_event)),
        }
        Ok(page(streams, request.token, request.limit, empties))
    }

    async fn get_log_events(&self, request: GetEvents) -> Result<EventPage, SourceError> {
        self.enter(Call::GetLogEvents).await?;
        let state = self.0.lock().unwrap();
        let events = state.events.get(&(request.group, request.stream)).cloned().unwrap_or_default();
        Ok(EventPage { events, forward: "f".into(), backward: "b".into() })
    }

    async fn filter_log_events(&self, _: FilterEvents) -> Result<FilterPage, SourceError> {
        self.enter(Call::FilterLogEvents).await?;
        Ok(FilterPage::default())
    }

    async fn start_count(&self, request: CountEvents) -> Result<String, SourceError> {
        self.enter(Call::StartQuery).await?;
        Ok(format!("{}\n{}", request.group, request.stream))
    }

    async fn count_results(&self, query: String) -> Result<Counted, SourceError> {
        self.enter(Call::GetQueryResults).await?;
        let (group, stream) = query.split_once('\n').unwrap();
        let state = self.0.lock().unwrap();
        let mut hours = Hours::new();
        for event in state.events.get(&(group.to_owned(), stream.to_owned())).into_iter().flatten() {
            *hours.entry(event.timestamp.hour()).or_default() += 1;
        }
        Ok(Counted::Done(hours))
    }

    fn quotas(&self) -> Quotas {
        Quotas::of_region("us-east-1")
    }

    fn region(&self) -> String {
        "us-east-1".into()
    }
}
