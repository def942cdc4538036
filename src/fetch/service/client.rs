//! The source behind the quota scheduler and the retry budget: the only way in which this room calls the service.
//!
//! A request waits for its permit, is sent with a time limit of its own, and is tried again when throttled, unavailable, cut off
//! or unanswered, after a jittered back-off and within the call kind's retry budget, until `patience` has gone by since it was
//! asked for. Throttling slows the whole call kind through the scheduler, so its retries need no budget. Refusals come back at
//! once. Who has a cached copy to show ([`Priority::Refreshing`]) waits neither for a network that is gone, nor for one that swallows
//! every request, nor for a second time-out.
//! Dropping the future ends everything, the request in flight included; so does the stop token, with an error whose message
//! is [`Fault::Stopping`]. Each try is reported once.

use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::service::retry_budget::{RetryBudget, backoff};
use crate::fetch::service::scheduler::Scheduler;
use crate::model::{LogGroup, LogStream};
use crate::patience::{Deadline, before};
use crate::report::Report;
use crate::source::{
    Call, CountEvents, Counted, DescribeGroups, DescribeStreams, EventPage, FilterEvents, FilterPage, GetEvents,
    LogSource, Page, Quotas, SourceError, SourceErrorKind,
};
use crate::sync::lock;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Longest wait for one answer. The source has shorter ones for connecting and for a silent peer; a page may be slow and whole.
const TRY_TIMEOUT: Duration = Duration::from_secs(25);
/// How often an answer that can't be read is asked for again: the next one is most likely the same.
const UNREADABLE_TRIES: u32 = 2;
/// Longest wait between looks at a dry retry budget.
const DRY_STEP: Duration = Duration::from_secs(1);

/// For how long a network that is gone is tried again where a cached copy can be shown.
const OUTAGE_PATIENCE: Duration = Duration::from_secs(2);
/// So long after a failure of such an outage nothing is asked for those who can be shown a cached copy.
const OUTAGE_PAUSE: Duration = Duration::from_secs(5);
/// For how long nothing at all may be answered before who has a cached copy is shown it: a network that swallows requests refuses
/// none of them. One slow answer among others is waited for.
const SILENCE: Duration = Duration::from_secs(5);
/// The same while the network is known to be gone.
const SILENCE_AGAIN: Duration = Duration::from_secs(1);
/// Failures further apart than this belong to two outages.
const OUTAGE_GAP: Duration = Duration::from_secs(60);

/// The service, paced and retried: throttling, 5xx, resets and time-outs are tried again with jittered back-off until
/// `patience` has gone by since the call was asked for; other refusals come back at once.
pub(crate) struct Service {
    source: Arc<dyn LogSource>,
    report: Arc<Report>,
    scheduler: Scheduler,
    budgets: Mutex<[RetryBudget; Call::ALL.len()]>,
    patience: watch::Sender<Duration>,
    outage: Mutex<Option<Outage>>,
    /// When the newest answer of any kind came.
    answered: watch::Sender<Instant>,
    stopping: CancellationToken,
}

/// Requests that don't get through, since the last answer of any kind.
#[derive(Clone, Copy, Debug)]
struct Outage {
    /// When the first of them was sent.
    since: Instant,
    /// When the newest of them failed.
    last: Instant,
}

impl Service {
    /// Calls `source` at most at `quotas`, and gives a request up after `patience`. `stopping` ends all that is under way.
    pub(crate) fn new(
        source: Arc<dyn LogSource>,
        report: Arc<Report>,
        quotas: &Quotas,
        patience: Duration,
        stopping: CancellationToken,
    ) -> Service {
        let now = Instant::now();
        Service {
            source,
            report,
            scheduler: Scheduler::new(quotas),
            budgets: Mutex::new(Call::ALL.map(|_| RetryBudget::new(now))),
            patience: watch::Sender::new(patience),
            outage: Mutex::default(),
            answered: watch::Sender::new(now),
            stopping,
        }
    }

    /// Takes other rates at once, and another patience for requests to come.
    pub(crate) fn configure(&self, quotas: &Quotas, patience: Duration) {
        self.scheduler.configure(quotas);
        self.patience.send_replace(patience);
    }

    /// So many requests of a call at a time use its quota up; `None` as long as no answer has told how long one takes.
    pub(crate) fn parallelism(&self, call: Call) -> Option<usize> {
        self.scheduler.parallelism(call)
    }

    /// Calls a second in force.
    pub(crate) fn rate(&self, call: Call) -> f64 {
        self.scheduler.rate(call)
    }

    /// One page of log groups.
    pub(crate) async fn describe_log_groups(
        &self,
        priority: Priority,
        request: DescribeGroups,
    ) -> Result<Page<LogGroup>, Fault> {
        let count = |page: &Page<LogGroup>| page.items.len() as u64;
        let send = || self.source.describe_log_groups(request.clone());
        self.call(Call::DescribeLogGroups, priority, None, count, send).await
    }

    /// One page of a group's streams.
    pub(crate) async fn describe_log_streams(
        &self,
        priority: Priority,
        request: DescribeStreams,
    ) -> Result<Page<LogStream>, Fault> {
        let count = |page: &Page<LogStream>| page.items.len() as u64;
        let send = || self.source.describe_log_streams(request.clone());
        self.call(Call::DescribeLogStreams, priority, Some(&request.group), count, send).await
    }

    /// One page of one stream's events.
    pub(crate) async fn get_log_events(&self, priority: Priority, request: GetEvents) -> Result<EventPage, Fault> {
        let count = |page: &EventPage| page.events.len() as u64;
        let send = || self.source.get_log_events(request.clone());
        self.call(Call::GetLogEvents, priority, Some(&request.group), count, send).await
    }

    /// One page of a group's events.
    pub(crate) async fn filter_log_events(
        &self,
        priority: Priority,
        request: FilterEvents,
    ) -> Result<FilterPage, Fault> {
        let count = |page: &FilterPage| page.events.len() as u64;
        let send = || self.source.filter_log_events(request.clone());
        self.call(Call::FilterLogEvents, priority, Some(&request.group), count, send).await
    }

    /// Starts a count of a stream's events; its id.
    pub(crate) async fn start_count(&self, priority: Priority, request: CountEvents) -> Result<String, Fault> {
        let send = || self.source.start_count(request.clone());
        self.call(Call::StartQuery, priority, Some(&request.group), |_| 0, send).await
    }

    /// How far a count is.
    pub(crate) async fn count_results(&self, priority: Priority, query: &str) -> Result<Counted, Fault> {
        let send = || self.source.count_results(query.to_owned());
        self.call(Call::GetQueryResults, priority, None, |_| 0, send).await
    }

    async fn call<T, F>(
        &self,
        call: Call,
        priority: Priority,
        group: Option<&str>,
        count: impl Fn(&T) -> u64,
        send: impl Fn() -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        let mut deadline = Deadline::after(*self.patience.borrow());
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(Fault::Stopping),
            result = self.tries(call, priority, group, count, send, &mut deadline) => Ok(result?),
        }
    }

    async fn tries<T, F>(
        &self,
        call: Call,
        priority: Priority,
        group: Option<&str>,
        count: impl Fn(&T) -> u64,
        send: impl Fn() -> F,
        deadline: &mut Deadline,
    ) -> Result<T, SourceError>
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        let mut last: Option<SourceError> = None;
        let mut retry = 0;
        if priority == Priority::Refreshing && self.is_outage() {
            return Err(failed(call, SourceErrorKind::Network, "the network is gone (tried a moment ago)"));
        }
        loop {
            let asked = Instant::now();
            let mut permit = match before(deadline, self.scheduler.acquire(call, priority)).await {
                Some(Ok(permit)) => permit,
                Some(Err(_)) => return Err(failed(call, SourceErrorKind::Throttled, "too many requests wait for it")),
                None => {
                    let unserved = || failed(call, SourceErrorKind::Throttled, "other requests used up its quota");
                    return Err(last.unwrap_or_else(unserved));
                }
            };
            let waited = asked.elapsed();
            permit.sent();
            let sent = Instant::now();
            let mut one_try = Deadline::after(TRY_TIMEOUT.min(deadline.left()));
            let answer = async {
                tokio::select! {
                    answer = send() => answer,
                    () = self.silence(priority, sent) => {
                        Err(failed(call, SourceErrorKind::Timeout, "nothing is answered: the network seems to be gone"))
                    }
                }
            };
            // Both are watched: only one that is watched can tell a stop from a time in which it wasn't watched.
            let result = before(deadline, before(&mut one_try, answer))
                .await
                .flatten()
                .unwrap_or_else(|| Err(failed(call, SourceErrorKind::Timeout, "it was given up")));
            // The process was stopped meanwhile: that nothing came says nothing about the network.
            let was_stopped = one_try.was_stopped();
            self.report.call(call, group, result.as_ref().map(&count).map_err(|error| error.kind), waited);
            let failure = result.as_ref().err().map(|error| error.kind).filter(|_| !was_stopped);
            let since = self.note(sent, failure);
            let error = match result {
                Ok(answer) => {
                    permit.learn(true);
                    self.budget(call, RetryBudget::answered);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let time = match (priority, error.kind) {
                _ if was_stopped => deadline.left(),
                (Priority::Refreshing, SourceErrorKind::Timeout) => return Err(error),
                (Priority::Refreshing, SourceErrorKind::Network) => {
                    deadline.left().min((since + OUTAGE_PATIENCE).saturating_duration_since(Instant::now()))
                }
                _ => deadline.left(),
            };
            let until = Instant::now() + time;
            match error.kind {
                SourceErrorKind::Throttled => permit.learn(false),
                SourceErrorKind::Undecodable if retry >= UNREADABLE_TRIES => return Err(error),
                SourceErrorKind::Unavailable
                | SourceErrorKind::Network
                | SourceErrorKind::Timeout
                | SourceErrorKind::Undecodable => drop(permit),
                SourceErrorKind::NotFound
                | SourceErrorKind::Denied
                | SourceErrorKind::Credentials
                | SourceErrorKind::InvalidToken
                | SourceErrorKind::Invalid
                | SourceErrorKind::Unsupported
                // The same request would be answered at the same length: the caller asks for less.
                | SourceErrorKind::TooLarge => return Err(error),
            }
            let free = error.kind == SourceErrorKind::Throttled;
            let mut wait = backoff(retry, fastrand::f64());
            retry += 1;
            loop {
                if Instant::now() + wait >= until {
                    return Err(error);
                }
                before(deadline, sleep(wait)).await;
                if free || self.budget(call, |budget| budget.take(Instant::now())) {
                    break;
                }
                wait = DRY_STEP.mul_f64(0.1 + 0.9 * fastrand::f64());
            }
            last = Some(error);
        }
    }

    /// Notes how a request that was sent at `sent` ended; since when none has got through.
    fn note(&self, sent: Instant, failure: Option<SourceErrorKind>) -> Instant {
        let now = Instant::now();
        let mut outage = lock(&self.outage);
        if !matches!(failure, Some(SourceErrorKind::Network | SourceErrorKind::Timeout)) {
            *outage = None;
            self.answered.send_replace(now);
            return now;
        }
        let since = outage.filter(|outage| now < outage.last + OUTAGE_GAP).map_or(sent, |outage| outage.since);
        *outage = Some(Outage { since, last: now });
        since
    }

    /// Ends once nothing has been answered for a while since `sent`; never for those who have nothing else to show.
    async fn silence(&self, priority: Priority, sent: Instant) {
        if priority != Priority::Refreshing {
            return std::future::pending().await;
        }
        let known = *lock(&self.outage);
        let known = known.is_some_and(|outage| outage.since + OUTAGE_PATIENCE <= outage.last);
        let bound = if known { SILENCE_AGAIN } else { SILENCE };
        loop {
            let until = sent.max(*self.answered.borrow()) + bound;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Whether the network has been gone for a while, and was so a moment ago.
    fn is_outage(&self) -> bool {
        let outage = *lock(&self.outage);
        outage.is_some_and(|outage| {
            outage.since + OUTAGE_PATIENCE <= outage.last && Instant::now() < outage.last + OUTAGE_PAUSE
        })
    }

    fn budget<R>(&self, call: Call, with: impl FnOnce(&mut RetryBudget) -> R) -> R {
        // Numbers only: a panic elsewhere can't leave them half written.
        let mut budgets = lock(&self.budgets);
        with(&mut budgets[call.index()])
    }
}

fn failed(call: Call, kind: SourceErrorKind, message: &str) -> SourceError {
    SourceError { kind, call, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::scripted::ScriptedSource;

    fn service(source: &Arc<ScriptedSource>, stopping: &CancellationToken) -> Arc<Service> {
        let quotas = source.quotas();
        let source: Arc<dyn LogSource> = Arc::<ScriptedSource>::clone(source);
        Arc::new(Service::new(source, Arc::default(), &quotas, Duration::from_secs(30), stopping.clone()))
    }

    fn streams() -> DescribeStreams {
        DescribeStreams { group: "/g".into(), ..Default::default() }
    }

    fn kind_of(fault: Fault) -> SourceErrorKind {
        match fault {
            Fault::Source(error) => error.kind,
            other => panic!("not the service's: {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn passing_trouble_is_tried_again() {
        let source = Arc::new(ScriptedSource::default());
        source.put_stream("/g", "s", 1);
        for kind in [
            SourceErrorKind::Throttled,
            SourceErrorKind::Unavailable,
            SourceErrorKind::Network,
            SourceErrorKind::Timeout,
        ] {
            source.fail_next(kind);
        }
        let service = service(&source, &CancellationToken::new());
        let page = service.describe_log_streams(Priority::Waiting, streams()).await.unwrap();
        assert_eq!(page.items.len(), 1);
        assert_eq!(source.calls(Call::DescribeLogStreams), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn counts_are_paced_and_retried_as_every_call_is() {
        let source = Arc::new(ScriptedSource::default());
        source.put_stream("/g", "s", 1);
        let service = service(&source, &CancellationToken::new());
        source.fail_next(SourceErrorKind::Throttled);
        let request = CountEvents { group: "/g".into(), stream: "s".into(), ..CountEvents::default() };
        let query = service.start_count(Priority::Waiting, request.clone()).await.unwrap();
        assert_eq!(source.calls(Call::StartQuery), 2);
        assert_eq!(service.count_results(Priority::Waiting, &query).await.unwrap(), Counted::Done(Default::default()));
        source.fail_next(SourceErrorKind::Denied);
        assert!(service.start_count(Priority::Waiting, request).await.is_err());
        assert_eq!(source.calls(Call::StartQuery), 3, "a refusal is not tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_come_back_at_once() {
        let source = Arc::new(ScriptedSource::default());
        let service = service(&source, &CancellationToken::new());
        for kind in [
            SourceErrorKind::NotFound,
            SourceErrorKind::Denied,
            SourceErrorKind::Credentials,
            SourceErrorKind::InvalidToken,
            SourceErrorKind::Invalid,
            SourceErrorKind::Unsupported,
        ] {
            let before = source.calls(Call::DescribeLogStreams);
            source.fail_next(kind);
            let start = Instant::now();
            let error = service.describe_log_streams(Priority::Waiting, streams()).await.unwrap_err();
            assert_eq!(kind_of(error), kind);
            assert!(start.elapsed() < Duration::from_millis(100));
            assert_eq!(source.calls(Call::DescribeLogStreams), before + 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_a_dead_service_and_callers_do_not_multiply_it() {
        let source = Arc::new(ScriptedSource::default());
        source.fail_always(Some(SourceErrorKind::Network));
        let service = service(&source, &CancellationToken::new());
        let start = Instant::now();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let service = Arc::clone(&service);
            callers.spawn(async move { service.describe_log_streams(Priority::Waiting, streams()).await });
        }
        while let Some(result) = callers.join_next().await {
            assert_eq!(kind_of(result.unwrap().unwrap_err()), SourceErrorKind::Network);
        }
        assert!(start.elapsed() <= Duration::from_secs(31), "{:?}", start.elapsed());
        let calls = source.calls(Call::DescribeLogStreams);
        assert!((100..=220).contains(&calls), "100 first tries and the budget's retries, not {calls}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cached_copy_waits_two_seconds_for_a_network_that_is_gone() {
        let source = Arc::new(ScriptedSource::default());
        source.put_stream("/g", "s", 1);
        source.fail_always(Some(SourceErrorKind::Network));
        let service = service(&source, &CancellationToken::new());
        let start = Instant::now();
        assert!(service.describe_log_streams(Priority::Refreshing, streams()).await.is_err());
        assert!(start.elapsed() <= OUTAGE_PATIENCE, "{:?}", start.elapsed());
        tokio::time::advance(OUTAGE_PAUSE).await;
        let again = Instant::now();
        assert!(service.describe_log_streams(Priority::Refreshing, streams()).await.is_err());
        let calls = source.calls(Call::DescribeLogStreams);
        assert!(service.describe_log_streams(Priority::Refreshing, streams()).await.is_err());
        assert_eq!(again.elapsed(), Duration::ZERO, "the outage is known");
        assert_eq!(source.calls(Call::DescribeLogStreams), calls, "and was looked at a moment ago");
        source.fail_always(None);
        service.describe_log_streams(Priority::Waiting, streams()).await.unwrap();
        service.describe_log_streams(Priority::Refreshing, streams()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_cached_copy_waits_for_a_slow_answer_and_for_a_short_cut() {
        let source = Arc::new(ScriptedSource::default());
        source.put_stream("/g", "s", 1);
        let service = service(&source, &CancellationToken::new());
        source.fail_next(SourceErrorKind::Network);
        service.describe_log_streams(Priority::Refreshing, streams()).await.unwrap();
        source.hang(true);
        let start = Instant::now();
        let error = service.describe_log_streams(Priority::Refreshing, streams()).await.unwrap_err();
        assert_eq!((kind_of(error), start.elapsed()), (SourceErrorKind::Timeout, SILENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_among_others_is_waited_for() {
        let source = Arc::new(ScriptedSource::default());
        source.hang(true);
        let service = service(&source, &CancellationToken::new());
        let others = Arc::clone(&service);
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(2)).await;
                others.note(Instant::now(), None);
            }
        });
        let start = Instant::now();
        let error = service.describe_log_streams(Priority::Refreshing, streams()).await.unwrap_err();
        assert_eq!((kind_of(error), start.elapsed()), (SourceErrorKind::Timeout, TRY_TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_swallows_everything_is_remembered() {
        let source = Arc::new(ScriptedSource::default());
        source.put_stream("/g", "s", 1);
        source.hang(true);
        let service = service(&source, &CancellationToken::new());
        assert!(service.describe_log_streams(Priority::Refreshing, streams()).await.is_err());
        let start = Instant::now();
        assert!(service.describe_log_streams(Priority::Refreshing, streams()).await.is_err());
        assert_eq!(start.elapsed(), Duration::ZERO, "it was looked at a moment ago");
        tokio::time::advance(OUTAGE_PAUSE).await;
        let start = Instant::now();
        assert!(service.describe_log_streams(Priority::Refreshing, streams()).await.is_err());
        assert_eq!(start.elapsed(), SILENCE_AGAIN);
        source.hang(false);
        tokio::time::advance(OUTAGE_PAUSE).await;
        service.describe_log_streams(Priority::Refreshing, streams()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_healed_service_answers_everybody() {
        let source = Arc::new(ScriptedSource::default());
        source.put_stream("/g", "s", 1);
        source.fail_always(Some(SourceErrorKind::Unavailable));
        let service = service(&source, &CancellationToken::new());
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let service = Arc::clone(&service);
            callers.spawn(async move { service.describe_log_streams(Priority::Waiting, streams()).await });
        }
        tokio::time::sleep(Duration::from_secs(8)).await;
        source.fail_always(None);
        while let Some(result) = callers.join_next().await {
            assert!(result.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_given_up_in_time() {
        let source = Arc::new(ScriptedSource::default());
        source.hang(true);
        let service = service(&source, &CancellationToken::new());
        let start = Instant::now();
        let error = service.describe_log_streams(Priority::Waiting, streams()).await.unwrap_err();
        assert_eq!(kind_of(error), SourceErrorKind::Timeout);
        assert!(start.elapsed() <= Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_ends_a_request_in_flight() {
        let source = Arc::new(ScriptedSource::default());
        source.hang(true);
        let stopping = CancellationToken::new();
        let service = service(&source, &stopping);
        let start = Instant::now();
        let request = tokio::spawn(async move { service.describe_log_streams(Priority::Waiting, streams()).await });
        tokio::time::sleep(Duration::from_millis(5)).await;
        stopping.cancel();
        let error = request.await.unwrap().unwrap_err();
        assert!(matches!(error, Fault::Stopping));
        assert!(start.elapsed() < Duration::from_millis(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_request_leaves_its_place_in_flight() {
        let source = Arc::new(ScriptedSource::default());
        source.put_stream("/g", "s", 1);
        source.hang(true);
        let service = service(&source, &CancellationToken::new());
        for _ in 0..200 {
            let request = service.describe_log_streams(Priority::Background, streams());
            assert!(tokio::time::timeout(Duration::from_secs(1), request).await.is_err());
        }
        source.hang(false);
        assert!(service.describe_log_streams(Priority::Background, streams()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_slows_the_call_kind_and_gives_up_at_the_end_of_patience() {
        let source = Arc::new(ScriptedSource::default());
        source.fail_always(Some(SourceErrorKind::Throttled));
        let service = service(&source, &CancellationToken::new());
        let error = service.describe_log_streams(Priority::Background, streams()).await.unwrap_err();
        assert_eq!(kind_of(error), SourceErrorKind::Throttled);
        assert!(service.scheduler.rate(Call::DescribeLogStreams) < 25.0);
        assert!(source.calls(Call::DescribeLogStreams) < 40);
    }
}
