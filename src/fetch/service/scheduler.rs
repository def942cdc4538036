//! The quota scheduler: every request to the service holds a [`Permit`] of its call.
//!
//! The decisions are [`TokenBucket`]'s; this is the queue before it. Where no call waits a permit is had at once. Else the caller
//! queues in its class, and one driver task a call, alive only while a call waits, hands permits out as the bucket grants them.
//! A caller that goes away leaves no trace: its place in the queue goes with it, and a permit that was never used gives its token
//! back. The lock is held for arithmetic only, never over an await, and never while a permit is dropped.

use crate::fetch::service::priority::Priority;
use crate::fetch::service::token_bucket::{CLASSES, Next, TokenBucket, class};
use crate::source::{Call, Quotas};
use crate::sync::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Most callers that wait for one call in one class; more are refused, since they would wait past every patience.
const MAX_WAITING: usize = 4096;

/// The queue of a call is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// Paces the calls of one account and region.
pub(crate) struct Scheduler {
    gates: [Arc<Gate>; Call::ALL.len()],
}

struct Gate {
    state: Mutex<State>,
    /// A request ended or the rate changed: the driver looks again.
    changed: Notify,
}

struct State {
    bucket: TokenBucket,
    /// By class, in order of arrival.
    queues: [BTreeMap<u64, oneshot::Sender<Permit>>; CLASSES],
    arrivals: u64,
    driven: bool,
}

/// The right to send one request. Dropped after [`sent`](Permit::sent) it ends the request; dropped before, it costs nothing.
pub(crate) struct Permit {
    gate: Arc<Gate>,
    class: usize,
    sent: Option<Instant>,
}

impl Scheduler {
    /// Full buckets at these rates.
    pub(crate) fn new(quotas: &Quotas) -> Scheduler {
        let now = Instant::now();
        let gates = Call::ALL.map(|call| {
            let state = State {
                bucket: TokenBucket::new(quotas.of(call), now),
                queues: Default::default(),
                arrivals: 0,
                driven: false,
            };
            Arc::new(Gate { state: Mutex::new(state), changed: Notify::new() })
        });
        Scheduler { gates }
    }

    /// Takes other rates at once.
    pub(crate) fn configure(&self, quotas: &Quotas) {
        let now = Instant::now();
        for call in Call::ALL {
            let gate = self.gate(call);
            gate.lock().bucket.configure(quotas.of(call), now);
            gate.changed.notify_one();
        }
    }

    /// Waits for the right to send one request. Dropping the future gives the place up.
    pub(crate) async fn acquire(&self, call: Call, priority: Priority) -> Result<Permit, QueueFull> {
        let class = class(priority);
        let gate = self.gate(call);
        let (granted, _place) = {
            let mut state = gate.lock();
            if state.queues.iter().all(BTreeMap::is_empty) {
                let mut waiting = [false; CLASSES];
                waiting[class] = true;
                state.bucket.begins_to_wait(class);
                if let Next::Grant(_) = state.bucket.next(waiting, Instant::now()) {
                    return Ok(Permit { gate: Arc::clone(gate), class, sent: None });
                }
            }
            if state.queues[class].len() >= MAX_WAITING {
                return Err(QueueFull);
            }
            if state.queues[class].is_empty() {
                state.bucket.begins_to_wait(class);
            }
            state.arrivals += 1;
            let number = state.arrivals;
            let (sender, receiver) = oneshot::channel();
            state.queues[class].insert(number, sender);
            if std::mem::replace(&mut state.driven, true) {
                // The driver may sleep for another class than this one, or for a request to end.
                gate.changed.notify_one();
            } else {
                tokio::spawn(drive(Arc::clone(gate)));
            }
            (receiver, Place { gate: Arc::clone(gate), class, number })
        };
        // The sender is only dropped unsent together with the whole gate, or by the place, which lives until after this.
        granted.await.map_err(|_| QueueFull)
    }

    /// Callers in the queue of a call.
    #[cfg(test)]
    pub(crate) fn waiting(&self, call: Call) -> usize {
        self.gate(call).lock().queues.iter().map(BTreeMap::len).sum()
    }

    /// Calls a second in force.
    pub(crate) fn rate(&self, call: Call) -> f64 {
        self.gate(call).lock().bucket.rate(Instant::now())
    }

    /// So many requests of a call at a time use its quota up; `None` as long as no answer has told how long one takes.
    pub(crate) fn parallelism(&self, call: Call) -> Option<usize> {
        self.gate(call).lock().bucket.parallelism(Instant::now())
    }

    fn gate(&self, call: Call) -> &Arc<Gate> {
        &self.gates[call.index()]
    }
}

impl Gate {
    /// The state is numbers and queues that every critical section leaves whole, so a panic elsewhere doesn't spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Permit {
    /// The request goes out now.
    pub(crate) fn sent(&mut self) {
        self.sent = Some(Instant::now());
    }

    /// The service admitted the request, or refused it as being over the quota: that teaches everybody's rate.
    pub(crate) fn learn(self, admitted: bool) {
        if let Some(sent) = self.sent {
            self.gate.lock().bucket.learn(sent, admitted, Instant::now());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.lock().bucket.ended(self.class, self.sent, Instant::now());
        self.gate.changed.notify_one();
    }
}

/// A caller's place in the queue; leaves it when dropped.
struct Place {
    gate: Arc<Gate>,
    class: usize,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let left = self.gate.lock().queues[self.class].remove(&self.number);
        drop(left);
    }
}

/// Hands out permits while any caller waits.
async fn drive(gate: Arc<Gate>) {
    loop {
        let mut granted = Vec::new();
        let wake = {
            let mut state = gate.lock();
            loop {
                let waiting = [0, 1, 2].map(|c: usize| !state.queues[c].is_empty());
                if waiting == [false; CLASSES] {
                    state.driven = false;
                    break None;
                }
                match state.bucket.next(waiting, Instant::now()) {
                    Next::Grant(class) => {
                        if let Some((_, sender)) = state.queues[class].pop_first() {
                            granted.push((class, sender));
                        }
                    }
                    Next::At(at) => break Some(Some(at)),
                    Next::Blocked => break Some(None),
                }
            }
        };
        for (class, sender) in granted {
            // A caller that left meanwhile gives the permit back, and its drop returns the token.
            drop(sender.send(Permit { gate: Arc::clone(&gate), class, sent: None }));
        }
        match wake {
            None => return,
            Some(None) => gate.changed.notified().await,
            Some(Some(at)) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = gate.changed.notified() => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn quotas(rate: f64) -> Quotas {
        Quotas::all(rate)
    }

    async fn one(scheduler: &Scheduler, priority: Priority) {
        let mut permit = scheduler.acquire(Call::GetLogEvents, priority).await.unwrap();
        permit.sent();
    }

    #[tokio::test(start_paused = true)]
    async fn paces_and_keeps_calls_apart() {
        let scheduler = Scheduler::new(&quotas(10.0));
        let start = Instant::now();
        for _ in 0..32 {
            one(&scheduler, Priority::Waiting).await;
        }
        let took = start.elapsed().as_secs_f64();
        assert!((2.9..3.2).contains(&took), "32 calls, 2 of them at once, at 10 a second took {took}");
        let other = Instant::now();
        scheduler.acquire(Call::FilterLogEvents, Priority::Background).await.unwrap();
        assert_eq!(other.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tail_is_served_beside_a_thousand_waiters() {
        let scheduler = Arc::new(Scheduler::new(&quotas(10.0)));
        for _ in 0..1000 {
            let scheduler = Arc::clone(&scheduler);
            tokio::spawn(async move { one(&scheduler, Priority::Waiting).await });
        }
        tokio::task::yield_now().await;
        for _ in 0..10 {
            let start = Instant::now();
            one(&scheduler, Priority::Following).await;
            // Two of three are others', and once a second all wait for the second to pass.
            assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        }
        assert!(scheduler.waiting(Call::GetLogEvents) > 900);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_waiter_costs_nothing() {
        let scheduler = Arc::new(Scheduler::new(&quotas(1.0)));
        one(&scheduler, Priority::Waiting).await;
        for _ in 0..50 {
            let waited = tokio::time::timeout(
                Duration::from_millis(1),
                scheduler.acquire(Call::GetLogEvents, Priority::Waiting),
            );
            assert!(waited.await.is_err());
        }
        assert_eq!(scheduler.waiting(Call::GetLogEvents), 0);
        let start = Instant::now();
        one(&scheduler, Priority::Waiting).await;
        assert!(start.elapsed() < Duration::from_millis(1000), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_permit_gives_its_token_back() {
        let scheduler = Scheduler::new(&quotas(0.5));
        for _ in 0..10 {
            let start = Instant::now();
            drop(scheduler.acquire(Call::GetLogEvents, Priority::Waiting).await.unwrap());
            assert_eq!(start.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_are_bounded() {
        let scheduler = Arc::new(Scheduler::new(&quotas(1.0)));
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut permit = scheduler.acquire(Call::GetLogEvents, Priority::Waiting).await.unwrap();
            permit.sent();
            held.push(permit);
        }
        let fifth = scheduler.acquire(Call::GetLogEvents, Priority::Waiting);
        tokio::pin!(fifth);
        assert!(tokio::time::timeout(Duration::from_secs(100), &mut fifth).await.is_err());
        held.pop();
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut fifth).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_slows_and_another_rate_wakes_whoever_waits() {
        let scheduler = Arc::new(Scheduler::new(&quotas(8.0)));
        let mut sent = Vec::new();
        for _ in 0..2 {
            let mut permit = scheduler.acquire(Call::GetLogEvents, Priority::Waiting).await.unwrap();
            permit.sent();
            sent.push(permit);
        }
        sent.into_iter().for_each(|permit| permit.learn(false));
        assert!(scheduler.rate(Call::GetLogEvents) < 4.1);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(scheduler.rate(Call::GetLogEvents), 8.0);
        scheduler.configure(&quotas(0.2));
        one(&scheduler, Priority::Waiting).await;
        let start = Instant::now();
        let waiter = tokio::spawn({
            let scheduler = Arc::clone(&scheduler);
            async move { one(&scheduler, Priority::Waiting).await }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        scheduler.configure(&quotas(100.0));
        waiter.await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
    }
}
