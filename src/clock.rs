//! Time: the machine's clock, which may be wrong, and the service's, which is what events are stamped by.
//!
//! A machine's clock is an hour off more often than one thinks: a hardware clock in local time, a virtual machine that was paused, a wrong
//! time server. It may also jump while the mount stands. The service tells its own time with each answer, so [`ServiceClock`] learns
//! that, and goes on between two answers by the time since boot, which counts suspends and never jumps (`CLOCK_BOOTTIME`, see
//! clock_gettime(2)).

use crate::model::Timestamp;
use crate::sync::lock;
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// The machine's clocks. Deadlines use tokio's clock, which tests can pause by itself.
pub trait Clock: Send + Sync + 'static {
    /// The present moment as the machine has it. It may be wrong, and may jump either way.
    fn now(&self) -> Timestamp;
    /// Time since the machine was started, suspends included. It never jumps.
    fn since_boot(&self) -> Duration;
    /// For how much of that the machine was suspended: tokio's clock stood still then.
    fn suspended(&self) -> Duration;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system_time(SystemTime::now())
    }

    fn since_boot(&self) -> Duration {
        reading(ClockId::Boottime)
    }

    fn suspended(&self) -> Duration {
        // The one that is read first is the one that must be the lesser.
        let awake = reading(ClockId::Monotonic);
        reading(ClockId::Boottime).saturating_sub(awake)
    }
}

fn reading(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    // Neither of the two is ever negative.
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec as u32)
}

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicI64,
    boot: AtomicI64,
    suspended: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `at`.
    pub fn new(at: Timestamp) -> ManualClock {
        ManualClock { now: AtomicI64::new(at.0), ..ManualClock::default() }
    }

    /// Makes the clock show `at`; no time goes by.
    pub fn set(&self, at: Timestamp) {
        self.now.store(at.0, Ordering::SeqCst);
    }

    /// Lets time go by.
    pub fn pass(&self, time: Duration) {
        self.now.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
        self.boot.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }

    /// Lets time go by while the machine is suspended.
    pub fn suspend(&self, time: Duration) {
        self.pass(time);
        self.suspended.fetch_add(time.as_millis() as i64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn since_boot(&self) -> Duration {
        Duration::from_millis(self.boot.load(Ordering::SeqCst) as u64)
    }

    fn suspended(&self) -> Duration {
        Duration::from_millis(self.suspended.load(Ordering::SeqCst) as u64)
    }
}

/// How far the service's clock may be ahead of ours and still be believed: a `Date` may be nonsense.
const MOST_AHEAD: Duration = Duration::from_hours(24);
/// A difference that a person should hear of.
const WORTH_TELLING: Duration = Duration::from_secs(30);
/// `Date` counts whole seconds: it may be that much later already.
const DATE_GRAIN: i64 = 999;

/// One moment by two clocks that may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The earlier of the two: what is settled by it is so by either clock.
    pub earliest: Timestamp,
    /// The service's, as far as it is known.
    pub now: Timestamp,
    /// The later of the two: what a read up to it leaves out is stamped ahead by either clock.
    pub latest: Timestamp,
    /// In time since boot; `None` for a moment of an earlier run.
    at: Option<Duration>,
}

impl From<Timestamp> for Moment {
    /// What was recorded of a moment of an earlier run.
    fn from(at: Timestamp) -> Moment {
        Moment { earliest: at, now: at, latest: at, at: None }
    }
}

/// The service's clock as far as its answers tell, and the machine's where they don't.
///
/// An answer was dated somewhere between its request and its arrival, so it bounds what the service's clock shows; the estimate moves
/// only if it lies outside of these bounds, either way.
pub struct ServiceClock {
    machine: Arc<dyn Clock>,
    /// The machine's clock is the service's: there is no other.
    is_one: bool,
    /// The service's time less the time since boot, in ms. `None` before the first answer.
    offset: watch::Sender<Option<i64>>,
    /// Held while an answer is taken in.
    hearing: Mutex<()>,
    /// A difference was told and is still there.
    told: AtomicBool,
}

impl ServiceClock {
    /// Nothing of the service's clock is known yet.
    pub fn new(machine: Arc<dyn Clock>) -> Arc<ServiceClock> {
        ServiceClock::make(machine, false)
    }

    /// The service is this very process.
    pub fn of_this_machine(machine: Arc<dyn Clock>) -> Arc<ServiceClock> {
        ServiceClock::make(machine, true)
    }

    fn make(machine: Arc<dyn Clock>, is_one: bool) -> Arc<ServiceClock> {
        let (offset, hearing, told) = (watch::Sender::new(None), Mutex::default(), AtomicBool::new(false));
        Arc::new(ServiceClock { machine, is_one, offset, hearing, told })
    }

    /// The machine's own clocks.
    pub fn machine(&self) -> &Arc<dyn Clock> {
        &self.machine
    }

    /// An answer of the service, dated `date` in whole seconds, came at `received` to a request sent at `sent`; both in time since boot.
    pub fn heard(&self, date: Timestamp, sent: Duration, received: Duration) {
        if self.is_one {
            return;
        }
        {
            let _one_at_a_time = lock(&self.hearing);
            let before =
                self.offset.borrow().unwrap_or_else(|| self.machine.now().0 - millis(self.machine.since_boot()));
            let (least, greatest) = (date.0 - millis(received), date.0 + DATE_GRAIN - millis(sent));
            // A request that was answered before it was sent is nobody's.
            let offset = if least <= greatest { before.clamp(least, greatest) } else { before };
            self.offset.send_if_modified(|known| known.replace(offset) != Some(offset));
        }
        self.tell();
    }

    /// Says once that the clocks differ, and once that they do no more.
    fn tell(&self) {
        let Some(skew) = self.skew() else { return };
        let differs = skew.unsigned_abs() > WORTH_TELLING.as_millis() as u64;
        if self.told.swap(differs, Ordering::Relaxed) == differs {
            return;
        }
        if differs {
            tracing::warn!("{}; logs are read by the service's clock", describe(skew));
        } else {
            tracing::info!("this machine's clock and the service's agree again");
        }
    }

    /// Whether an answer has told the service's time.
    pub fn is_known(&self) -> bool {
        self.is_one || self.offset.borrow().is_some()
    }

    /// Ends once an answer has told the service's time.
    pub async fn known(&self) {
        if !self.is_one {
            // The sender lives in `self`.
            drop(self.offset.subscribe().wait_for(Option::is_some).await);
        }
    }

    /// The service's present moment as far as it is known, else the machine's. Never more than a day ahead of the machine's.
    pub fn now(&self) -> Timestamp {
        self.moment().now
    }

    /// The present moment by both clocks.
    pub fn moment(&self) -> Moment {
        let machine = self.machine.now();
        let now = self.service().map_or(machine, |service| service.min(machine + MOST_AHEAD));
        Moment { earliest: now.min(machine), now, latest: now.max(machine), at: Some(self.machine.since_boot()) }
    }

    /// An earlier `moment` by what is known now: it may have been before the first answer told the service's time.
    pub fn again(&self, moment: Moment) -> Moment {
        let (Some(at), Some(offset), false) = (moment.at, *self.offset.borrow(), self.is_one) else { return moment };
        let now = Timestamp(offset + millis(at)).min(moment.latest + MOST_AHEAD);
        Moment { earliest: moment.earliest.min(now), now, latest: moment.latest.max(now), ..moment }
    }

    /// By how many ms the machine's clock is ahead of the service's, or behind it; `None` if that isn't known.
    pub fn skew(&self) -> Option<i64> {
        let service = self.service()?;
        Some(self.machine.now().0 - service.0)
    }

    /// A sentence about [`skew`](ServiceClock::skew) where it is worth one.
    pub fn skew_told(&self) -> Option<String> {
        let skew = self.skew()?;
        (skew.unsigned_abs() > WORTH_TELLING.as_millis() as u64).then(|| describe(skew))
    }

    fn service(&self) -> Option<Timestamp> {
        if self.is_one {
            return Some(self.machine.now());
        }
        let offset = *self.offset.borrow();
        offset.map(|offset| Timestamp(offset + millis(self.machine.since_boot())))
    }
}

fn describe(skew: i64) -> String {
    let by = humantime::format_duration(Duration::from_secs(skew.unsigned_abs() / 1000));
    let way = if skew > 0 { "ahead of" } else { "behind" };
    format!("this machine's clock is {by} {way} the service's: set it right")
}

fn millis(time: Duration) -> i64 {
    time.as_millis() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The service's time when the tests begin; the machine's is off by `skew` seconds.
    const NOON: Timestamp = Timestamp(1_790_000_000_000);

    fn off_by(skew: i64) -> (Arc<ManualClock>, Arc<ServiceClock>) {
        let machine = Arc::new(ManualClock::new(Timestamp(NOON.0 + skew * 1000)));
        machine.pass(Duration::from_secs(1000));
        machine.set(Timestamp(NOON.0 + skew * 1000));
        (Arc::clone(&machine), ServiceClock::new(machine))
    }

    /// An answer dated `date` to a request that was sent a second ago.
    fn answer(clock: &ServiceClock, date: Timestamp) {
        let received = clock.machine().since_boot();
        clock.heard(Timestamp(date.0 - date.0.rem_euclid(1000)), received - Duration::from_secs(1), received);
    }

    fn seconds(clock: &ServiceClock) -> [i64; 3] {
        let Moment { earliest, now, latest, .. } = clock.moment();
        [earliest, now, latest].map(|at| (at.0 - NOON.0).div_euclid(1000))
    }

    #[test]
    fn before_the_first_answer_it_is_the_machines() {
        let (_, clock) = off_by(3600);
        assert!(!clock.is_known());
        assert_eq!((seconds(&clock), clock.skew()), ([3600; 3], None));
    }

    #[test]
    fn an_answer_tells_the_services_time() {
        for skew in [3600, -3 * 3600, 40, -40] {
            let (_, clock) = off_by(skew);
            answer(&clock, NOON);
            let near = |at: i64, to: i64| (at - to).abs() <= 2;
            let [earliest, now, latest] = seconds(&clock);
            assert!(
                near(earliest, skew.min(0)) && near(now, 0) && near(latest, skew.max(0)),
                "{skew}: {:?}",
                seconds(&clock)
            );
            assert!(near(clock.skew().unwrap() / 1000, skew));
            assert!(clock.skew_told().unwrap().contains(if skew > 0 { "ahead of" } else { "behind" }));
        }
    }

    #[test]
    fn a_clock_within_what_an_answer_allows_is_left_alone() {
        let (machine, clock) = off_by(0);
        machine.set(NOON + Duration::from_millis(300));
        answer(&clock, NOON);
        assert_eq!((clock.now(), clock.skew(), clock.skew_told()), (NOON + Duration::from_millis(300), Some(0), None));
    }

    #[test]
    fn the_machines_jumps_and_suspends_don_t_move_it() {
        let (machine, clock) = off_by(0);
        answer(&clock, NOON);
        let begun = clock.now();
        machine.set(NOON + Duration::from_hours(1));
        assert_eq!(clock.now(), begun, "no time has gone by");
        machine.set(NOON - Duration::from_hours(1));
        assert_eq!(clock.now(), begun);
        machine.suspend(Duration::from_hours(8));
        assert_eq!(clock.now(), begun + Duration::from_hours(8));
        assert_eq!(machine.suspended(), Duration::from_hours(8));
    }

    #[test]
    fn later_answers_correct_it_either_way() {
        let (machine, clock) = off_by(0);
        answer(&clock, NOON + Duration::from_hours(2));
        assert!(clock.now() > NOON + Duration::from_hours(1));
        machine.pass(Duration::from_secs(10));
        answer(&clock, NOON + Duration::from_secs(10));
        assert!(clock.now() <= NOON + Duration::from_secs(12), "{:?}", seconds(&clock));
    }

    #[test]
    fn nonsense_moves_it_by_a_day_at_most() {
        let (_, clock) = off_by(0);
        answer(&clock, NOON + Duration::from_hours(24 * 365));
        assert_eq!(seconds(&clock), [0, 86_400, 86_400]);
        let (_, clock) = off_by(0);
        let now = clock.machine().since_boot();
        clock.heard(NOON, now, now - Duration::from_secs(5));
        assert_eq!(clock.skew(), Some(0), "an answer before its request tells nothing");
    }

    #[test]
    fn where_there_is_one_clock_only_answers_tell_nothing() {
        let machine = Arc::new(ManualClock::new(NOON));
        let clock = ServiceClock::of_this_machine(Arc::<ManualClock>::clone(&machine));
        clock.heard(NOON + Duration::from_hours(1), Duration::ZERO, Duration::ZERO);
        machine.set(NOON + Duration::from_secs(7));
        assert_eq!((seconds(&clock), clock.skew(), clock.is_known()), ([7; 3], Some(0), true));
    }

    #[test]
    fn the_systems_clocks_can_be_read() {
        let clock = SystemClock;
        let before = clock.since_boot();
        assert!(before > Duration::ZERO && clock.since_boot() >= before);
        assert!(clock.suspended() <= clock.since_boot());
    }
}
