//! One fake's whole state, shared by its connections and by the test that runs it.

use super::account::Account;
use super::chance::{Chance, FaultCounts, Limits, TokenBook};
use super::locks::{Locked, RwLocked};
use super::plan::Plan;
use super::query::Query;
use super::stats::Stats;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// The account id in every ARN.
pub(crate) const ACCOUNT: &str = "123456789012";

/// Shared state. Its locks are short, never held over an await and never two at once, but for [`Account`]'s own nesting.
pub(crate) struct State {
    /// Groups, streams, events.
    pub(crate) account: Account,
    /// Random decisions.
    pub(crate) chance: Mutex<Chance>,
    /// What fault rules have done.
    pub(crate) faults: Mutex<FaultCounts>,
    /// What is left of quotas.
    pub(crate) limits: Mutex<Limits>,
    /// Queries started.
    pub(crate) queries: Mutex<HashMap<String, Query>>,
    /// Tokens given.
    pub(crate) tokens: Mutex<TokenBook>,
    /// Counters.
    pub(crate) stats: Mutex<Stats>,
    /// Until when the network is gone; `None` is up.
    pub(crate) down: watch::Sender<Option<Instant>>,
    /// Until when credentials are refused as expired.
    pub(crate) expired_until: Mutex<Option<Instant>>,
    plan: RwLock<Arc<Plan>>,
}

impl State {
    /// An empty account under a plan.
    pub(crate) fn new(plan: Plan) -> State {
        State {
            account: Account::default(),
            chance: Mutex::new(Chance::new(plan.seed)),
            faults: Mutex::default(),
            limits: Mutex::default(),
            queries: Mutex::default(),
            tokens: Mutex::default(),
            stats: Mutex::default(),
            down: watch::Sender::new(None),
            expired_until: Mutex::new(None),
            plan: RwLock::new(Arc::new(plan)),
        }
    }

    /// The plan in force.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.reading().clone()
    }

    /// Sets the plan in force; random decisions and fault counts start anew.
    pub(crate) fn set_plan(&self, plan: Plan) {
        *self.chance.locked() = Chance::new(plan.seed);
        *self.faults.locked() = FaultCounts::default();
        *self.limits.locked() = Limits::default();
        *self.plan.writing() = Arc::new(plan);
    }

    /// The service's present moment, in ms since the epoch: what it dates answers by, ingests by and judges timestamps by.
    pub(crate) fn now(&self) -> i64 {
        machine_now() + self.plan.reading().clock_offset_ms
    }

    /// True `rate` of the times.
    pub(crate) fn hit(&self, rate: f64) -> bool {
        rate > 0.0 && self.chance.locked().hit(rate)
    }

    /// A random number from `low` to `high`, both included.
    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        self.chance.locked().between(low, high)
    }
}

/// The machine's present moment, in ms since the epoch: only for what the service doesn't tell of.
pub(crate) fn machine_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
