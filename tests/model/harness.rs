//! Runs a history against the real store and fetch, and holds what is shown against what the service accepted.
//!
//! All of it is one thread and paused time, so hours cost nothing. What must hold after every step stands in `oracle`.

use super::machine::Machine;
use super::ops::{Form, History, Op};
use super::oracle::Shown;
use super::reference::{POLL, SLOTS};
use super::source::{Reference, TRACED};
use crate::clock::ServiceClock;
use crate::error::{Error, ErrorKind};
use crate::fetch::{Fetch, FetchSettings, Follow, News, Selection, Stream, Wanted};
use crate::model::{GroupId, StreamId, Timestamp};
use crate::render::Format;
use crate::report::Report;
use crate::source::LogSource;
use crate::store::in_memory::{CrashDisk, Failing, Unsynced};
use crate::store::names::Names;
use crate::store::row::StreamRow;
use crate::store::{Limits, Reader, Store, StoreError, StoreErrorKind, names};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// No request may take longer, whatever the trouble.
const LONGEST: Duration = Duration::from_secs(600);
/// Longest wait while streams are followed: each second of it is a poll.
const WATCHED_WAIT: Duration = Duration::from_secs(180);
/// By then what was passed over was looked at again, behind all other work.
const LOOKED_AT: Duration = Duration::from_secs(900);
/// What a look takes that an open began.
const LOOKS: Duration = Duration::from_secs(60);
/// From then on a followed stream was read again from its settled edge.
const FOLLOWED: Duration = Duration::from_secs(120);
/// How far polls may be behind, whatever pages they get.
const BEHIND: Duration = Duration::from_secs(20);
/// How long a reader that leaves early waits for its commits.
const LEAVES_AFTER: Duration = Duration::from_secs(20);
/// By then everything is in the past that was stamped ahead, and settled.
const AFTERWARDS: Duration = Duration::from_secs(2 * 3600 + 20 * 60);

/// What doesn't hold, in words.
pub(crate) type Verdict<T = ()> = Result<T, String>;

/// The power is cut at a sync, counted from the start of the history over all restarts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) at: u64,
    pub(crate) unsynced: Unsynced,
}

/// A disk with an empty store: making one is no part of a history.
static EMPTY: LazyLock<CrashDisk> = LazyLock::new(|| {
    let disk = CrashDisk::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { drop(Store::open_in_memory(&disk).unwrap()) });
    drop(runtime);
    disk
});

/// The program while it runs.
pub(crate) struct House {
    pub(crate) store: Arc<Store>,
    pub(crate) fetch: Arc<Fetch>,
    news: Receiver<News>,
    /// What is followed, and since when.
    follows: Vec<(StreamId, Timestamp, Follow)>,
    report: Arc<Report>,
    /// Opens under way.
    begun: Vec<JoinHandle<Result<(), Error>>>,
    /// Held so that it is known what was shown when the disk fails.
    pub(crate) readers: BTreeMap<StreamId, Reader>,
}

/// Service, disk and program.
pub(crate) struct World {
    pub(crate) service: Arc<Reference>,
    machine: Arc<Machine>,
    /// When it last woke from sleep.
    woke: Timestamp,
    pub(crate) disk: CrashDisk,
    house: Option<House>,
    cut: Option<Cut>,
    /// Syncs of disks before this one.
    syncs: u64,
    pub(crate) shown: BTreeMap<StreamId, Shown>,
    /// When the disk was last full; far ahead while it is.
    pub(crate) filled: Timestamp,
    /// Some text was taken out of the cache, or could not be read.
    evicts: bool,
    /// Streams of which a file fails, or did, and what errors call them.
    pub(crate) failing: HashMap<StreamId, String>,
    /// Files fail now.
    fails: bool,
}

/// Runs a history to its end; tells how many syncs it made.
pub(crate) fn run(history: &History, cut: Option<Cut>) -> Verdict<u64> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).max_blocking_threads(1).build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    fastrand::seed(history.weather.seed);
    // It takes a runtime of its own, which can't be had inside this one.
    LazyLock::force(&EMPTY);
    runtime.block_on(async {
        let mut world = World::new(history, cut);
        world.start()?;
        for (number, op) in history.ops.iter().enumerate() {
            world.step(op).await.map_err(|what| format!("after step {number}, {op:?}: {what}"))?;
        }
        world.end().await.map_err(|what| format!("at the end: {what}"))?;
        Ok(world.syncs + world.disk.syncs())
    })
}

impl World {
    fn new(history: &History, cut: Option<Cut>) -> World {
        let machine = Arc::new(Machine::new(history.weather.ahead));
        let service = Arc::new(Reference::new(history.weather.clone(), machine.clone()));
        let disk = EMPTY.after_power_cut(Unsynced::Kept);
        if let Some(cut) = cut {
            disk.freeze_at(cut.at);
        }
        World {
            service,
            machine,
            woke: Timestamp::EPOCH,
            disk,
            house: None,
            cut,
            syncs: 0,
            shown: BTreeMap::new(),
            filled: Timestamp::EPOCH,
            evicts: false,
            failing: HashMap::new(),
            fails: false,
        }
    }

    /// Starts the program; if the power goes meanwhile, again.
    fn start(&mut self) -> Verdict {
        let store = match Store::open_in_memory(&self.disk) {
            Err(_) if self.disk.is_frozen() => {
                self.next_disk(self.cut.map_or(Unsynced::Lost, |cut| cut.unsynced));
                return self.start();
            }
            opened => opened.map_err(|e| format!("the store doesn't open: {e}"))?,
        };
        let settings = FetchSettings {
            selection: Selection::default(),
            poll_interval: POLL,
            late_window: Duration::from_secs(300),
            settle_after: Duration::from_secs(900),
            listing_ttl: Duration::from_secs(10),
            quotas: self.service.quotas(),
            patience: Duration::from_secs(30),
        };
        let report = Arc::<Report>::default();
        let clock = ServiceClock::new(self.machine.clone());
        self.service.tells(clock.clone());
        let (fetch, news) = Fetch::start(self.service.clone(), store.clone(), clock, settings, report.clone());
        let (follows, begun, readers) = Default::default();
        self.house = Some(House { store, fetch, news, follows, report, begun, readers });
        Ok(())
    }

    /// The disk as a power cut leaves it.
    fn next_disk(&mut self, unsynced: Unsynced) {
        self.syncs += self.disk.syncs();
        self.disk = self.disk.after_power_cut(unsynced);
        // The next one has room, and is sound.
        self.fails = false;
        self.filled = self.filled.min(self.service.now());
        if let Some(cut) = self.cut.filter(|cut| cut.at > self.syncs) {
            self.disk.freeze_at(cut.at - self.syncs);
        }
    }

    pub(crate) fn house(&self) -> &House {
        self.house.as_ref().unwrap()
    }

    fn house_mut(&mut self) -> &mut House {
        self.house.as_mut().unwrap()
    }

    /// Held until the program ends.
    pub(crate) fn keep_reader(&mut self, id: StreamId, reader: Reader) {
        self.house_mut().readers.insert(id, reader);
    }

    /// Disks of a history lose what wasn't synced and damage nothing.
    fn check_reported(&self) -> Verdict {
        let lost = |kind| matches!(kind, ErrorKind::TextLost | ErrorKind::IndexLost);
        if !self.failing.is_empty() {
            return Ok(());
        }
        let damage = self.house().report.errors().into_iter().find(|entry| lost(entry.error.kind()));
        damage.map_or(Ok(()), |entry| Err(format!("damage where there is none: {entry}")))
    }

    async fn step(&mut self, op: &Op) -> Verdict {
        if *TRACED {
            eprintln!("{}  {op:?}", self.service.now().0);
        }
        self.act(op).await?;
        // What was begun gets its turn.
        tokio::task::yield_now().await;
        if self.disk.is_frozen() {
            self.crash(self.cut.map_or(Unsynced::Lost, |cut| cut.unsynced)).await?;
        }
        while self.house_mut().news.try_recv().is_ok() {}
        self.check_reported()?;
        match self.check() {
            // The power went while it looked: nothing can be read until the next start.
            Err(_) if self.disk.is_frozen() => {
                self.crash(self.cut.map_or(Unsynced::Lost, |cut| cut.unsynced)).await?;
                self.check()
            }
            checked => checked,
        }
    }

    async fn act(&mut self, op: &Op) -> Verdict {
        let now = self.service.now();
        match op {
            Op::Put { slot, batch, hidden } => self.service.memory().put(*slot, now, batch, *hidden),
            Op::PutAgain { slot } => self.service.memory().put_again(*slot, now),
            Op::Delete { slot } => self.service.memory().delete(*slot, now),
            Op::Remake { slot } => self.service.memory().remake(*slot, now),
            Op::Release => self.service.memory().release(now),
            Op::Trouble { kind, calls } => self.service.memory().fail(*kind, *calls),
            Op::ExpireTokens => self.service.memory().epoch += 1,
            Op::Open { slot } => {
                if let Some(stream) = self.stream(*slot).await? {
                    let opened = in_time("an open", stream.bring_up_to_date(Wanted::Content)).await?;
                    let opened = self.tolerate(opened)?.is_some();
                    if opened && !self.disk.is_frozen() {
                        self.repair(&stream).await?;
                    }
                    if opened && !self.disk.is_frozen() {
                        self.check_open(stream.id(), now)?;
                    }
                }
            }
            Op::OpenAll => return self.open_all().await,
            Op::Begin { slot } => {
                if let Some(stream) = self.stream(*slot).await? {
                    let task = tokio::spawn(async move { stream.bring_up_to_date(Wanted::Content).await });
                    self.house_mut().begun.push(task);
                }
            }
            Op::Leave { slot, commits } => {
                if let Some(stream) = self.stream(*slot).await? {
                    leave(&stream, (*commits).into()).await;
                }
            }
            Op::Read { slot, part, size } => {
                if let Some(stream) = self.stream(*slot).await? {
                    self.repair(&stream).await?;
                    self.read(stream.id(), *part, *size)?;
                }
            }
            Op::Watch { slot } => {
                if let Some(stream) = self.stream(*slot).await? {
                    let follow = (stream.id(), now, stream.follow());
                    self.house_mut().follows.push(follow);
                }
            }
            Op::Unwatch => self.house_mut().follows.clear(),
            Op::List { searches } => {
                let listed = self.list(*searches).await?;
                self.tolerate(listed)?;
            }
            Op::Lookup { slot, form } => self.look_up(*slot, *form).await?,
            Op::Wait { ms } => {
                let time = Duration::from_millis((*ms).into());
                sleep(if self.house().follows.is_empty() { time } else { time.min(WATCHED_WAIT) }).await;
                self.check_followed()?;
            }
            Op::SetClock { ahead } => self.machine.set_ahead(*ahead),
            Op::Suspend { seconds } => {
                self.machine.sleep(Duration::from_secs((*seconds).into()));
                self.woke = self.service.now();
            }
            Op::Policy { group, allows } => self.service.memory().police(*group, *allows),
            Op::Fail { slot, text, failing } => self.fail(*slot, *text, *failing)?,
            Op::Recover => {
                self.disk.fail_nowhere();
                self.fails = false;
            }
            Op::Fill { full } => {
                self.disk.fill(*full);
                self.filled = if *full { Timestamp(i64::MAX) } else { now };
            }
            Op::Evict => self.evict().await?,
            Op::MoveQuiet => self.move_quiet().await?,
            Op::Restart => return self.restart().await,
            Op::Crash { unsynced } => return self.crash(*unsynced).await,
        }
        Ok(())
    }

    /// Whether text is only away until it is read through fetching.
    pub(crate) fn is_away(&self, error: &StoreError) -> bool {
        self.evicts && matches!(error.kind, StoreErrorKind::TextLost(_))
    }

    /// Whether a failure may be: the service's trouble, a full disk, a stream that was deleted.
    fn tolerate<T>(&self, result: Result<T, Error>) -> Verdict<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(_) if self.disk.is_frozen() => Ok(None),
            Err(error) => match error.kind() {
                ErrorKind::NotFound
                | ErrorKind::Replaced
                | ErrorKind::Denied
                | ErrorKind::Unavailable
                | ErrorKind::TimedOut
                | ErrorKind::NoSpace
                | ErrorKind::Stopping => Ok(None),
                ErrorKind::Sick if self.failing.values().any(|subject| subject == error.subject()) => Ok(None),
                _ => Err(format!("an unexpected failure: {error}")),
            },
        }
    }

    /// The live side of a slot's stream, asking the service if the catalogue doesn't know it.
    async fn stream(&self, slot: usize) -> Verdict<Option<Arc<Stream>>> {
        let (group, name) = SLOTS[slot];
        let Some(id) = self.group(group).await? else { return Ok(None) };
        let known = |row: Result<Option<StreamRow>, _>| match row {
            Err(_) if self.disk.is_frozen() => Ok(None),
            row => row.map_err(|e| format!("the catalogue can't be read: {e}")),
        };
        let mut row = known(self.house().store.stream_by_name(id, name))?;
        if row.is_none() {
            let found =
                in_time("a lookup", self.house().fetch.find_stream(id, &names::exact_encode(name), Names::Slug))
                    .await?;
            self.tolerate(found)?;
            row = known(self.house().store.stream_by_name(id, name))?;
        }
        let Some(row) = row else { return Ok(None) };
        self.tolerate(self.house().fetch.stream(row.id))
    }

    async fn group(&self, name: &str) -> Verdict<Option<GroupId>> {
        let found = in_time("a lookup", self.house().fetch.find_group(&names::exact_encode(name), Names::Slug)).await?;
        Ok(self.tolerate(found)?.flatten().map(|row| row.id))
    }

    async fn open_all(&mut self) -> Verdict {
        let mut opens = Vec::new();
        for slot in 0..SLOTS.len() {
            if let Some(stream) = self.stream(slot).await? {
                let (id, called) = (stream.id(), self.service.now());
                opens.push((id, called, tokio::spawn(async move { stream.bring_up_to_date(Wanted::Content).await })));
            }
        }
        for (id, called, open) in opens {
            let opened = in_time("an open", open).await?.map_err(|e| e.to_string())?;
            if self.tolerate(opened)?.is_some() && !self.disk.is_frozen() {
                self.check_open(id, called)?;
            }
        }
        Ok(())
    }

    /// What was followed for a while shows what an open some time ago would have brought.
    fn check_followed(&self) -> Verdict {
        let now = self.service.now();
        for (id, since, _) in &self.house().follows {
            let complete =
                || self.house().store.stream(*id).is_ok_and(|row| row.is_some_and(|row| row.extent.complete));
            let since = (*since).max(self.woke);
            if now >= since + FOLLOWED && !self.disk.is_frozen() && complete() {
                self.check_open(*id, now - BEHIND).map_err(|what| format!("followed row {}: {what}", id.0))?;
            }
        }
        Ok(())
    }

    /// Has calls on one of a stream's files fail, if the program knows it.
    fn fail(&mut self, slot: usize, text: bool, failing: Failing) -> Verdict {
        let (group, name) = SLOTS[slot];
        let store = self.house().store.clone();
        let read = |e: StoreError| format!("the catalogue can't be read: {e}");
        let Some(group) = store.group_by_name(group).map_err(read)? else { return Ok(()) };
        let Some(row) = store.stream_by_name(group.id, name).map_err(read)? else { return Ok(()) };
        self.note_shown();
        self.disk.fail(&store.file_of(row.id, text), Some(failing));
        self.failing.insert(row.id, format!("{}/{name}", group.group.name));
        (self.fails, self.evicts) = (true, true);
        Ok(())
    }

    /// Takes text out of the cache, and with it who might read it.
    async fn evict(&mut self) -> Verdict {
        self.note_shown();
        self.house_mut().readers.clear();
        // Even if the power goes in the middle of it.
        self.evicts = true;
        let store = self.house().store.clone();
        store.set_limits(Limits { size: 1, ..Limits::default() });
        let made = store.make_room().await;
        store.set_limits(Limits::default());
        match made {
            Err(error) if !self.disk.is_frozen() && !self.fails && self.filled < self.service.now() => {
                Err(error.to_string())
            }
            _ => Ok(()),
        }
    }

    async fn move_quiet(&self) -> Verdict {
        let store = self.house().store.clone();
        for _ in 0..2 {
            match store.move_quiet_rows().await {
                Err(error) if !self.disk.is_frozen() && !self.fails && self.filled < self.service.now() => {
                    return Err(error.to_string());
                }
                _ => {}
            }
        }
        self.house().fetch.heal_sick();
        Ok(())
    }

    /// Has what was evicted fetched again, as a reader does.
    async fn repair(&self, stream: &Arc<Stream>) -> Verdict {
        let repaired = in_time("fetching text again", stream.repair(0, u64::MAX)).await?;
        match repaired {
            // Text of what the service deleted, or hides for a moment, stays away.
            Err(error) if error.kind() == ErrorKind::Damaged && self.evicts => Ok(()),
            repaired => self.tolerate(repaired).map(drop),
        }
    }

    fn read(&self, id: StreamId, part: u8, size: u16) -> Verdict {
        let Ok(reader) = self.house().store.reader(id, &Format::Message) else { return Ok(()) };
        let known = self.shown.get(&id).map_or(&[][..], |shown| &shown.text);
        let from = known.len() * usize::from(part) / 255;
        let to = (from + usize::from(size)).min(known.len());
        match reader.read_at(from as u64, to - from) {
            Err(_) if self.disk.is_frozen() => Ok(()),
            Err(e) if self.is_away(&e) || self.failing.contains_key(&id) => Ok(()),
            Err(e) => Err(format!("stream {} can't be read: {e}", id.0)),
            Ok(bytes) if bytes == known[from..to] => Ok(()),
            Ok(_) => Err(format!("stream {} reads differently at {from}..{to}", id.0)),
        }
    }

    /// Lists everything, as `ls` of each folder does, or as `grep -r`.
    async fn list(&self, searches: bool) -> Verdict<Result<(), Error>> {
        let fetch = &self.house().fetch;
        fetch.touch_listing(None);
        let groups = match in_time("a listing", fetch.groups_after(0, 100)).await? {
            Ok(groups) => groups,
            Err(error) => return Ok(Err(error)),
        };
        for group in groups {
            if searches {
                fetch.touch_listing(Some(group.id));
                fetch.searched(group.id);
            }
            let mut after = 0;
            loop {
                match in_time("a listing", fetch.streams_after(group.id, after, 100)).await? {
                    Ok(rows) if rows.is_empty() => break,
                    Ok(rows) => after = rows.last().map_or(after, |row| row.seq),
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
        Ok(Ok(()))
    }

    async fn look_up(&self, slot: usize, form: Form) -> Verdict {
        let (group, name) = SLOTS[slot];
        let Some(id) = self.group(group).await? else { return Ok(()) };
        let asked = match form {
            Form::Slug => names::slug_of(name),
            Form::SlugWithHash => names::slug_with_hash(name),
            Form::Exact => names::exact_encode(name),
        };
        let found = in_time("a lookup", self.house().fetch.find_stream(id, &asked, Names::Slug)).await?;
        match self.tolerate(found)?.flatten() {
            Some(row) if names::slug_of(&row.stream.name) != names::slug_of(name) => {
                Err(format!("{asked} is taken for {}", row.stream.name))
            }
            _ => Ok(()),
        }
    }

    async fn restart(&mut self) -> Verdict {
        let Some(house) = self.house.take() else { return Ok(()) };
        let store = house.store.clone();
        house.stop().await;
        let closed = store.close().await;
        drop(store);
        if let Err(error) = closed
            && !self.disk.is_frozen()
            && !self.fails
            && error.kind != StoreErrorKind::NoSpace
        {
            return Err(format!("the store doesn't close: {error}"));
        }
        // A process that ends lets go of the disk at once, tasks don't: what they still do must not reach the next one's.
        let frozen = self.cut.filter(|_| self.disk.is_frozen());
        self.next_disk(frozen.map_or(Unsynced::Kept, |cut| cut.unsynced));
        self.start()
    }

    /// The program dies here and now; what it does until it is gone happens to a disk that nobody sees again.
    async fn crash(&mut self, unsynced: Unsynced) -> Verdict {
        self.note_shown();
        self.next_disk(unsynced);
        if let Some(house) = self.house.take() {
            house.stop().await;
        }
        self.start()
    }

    /// The service shows everything, time goes by, and each living stream is opened once more.
    async fn end(&mut self) -> Verdict {
        // The cut would be one of what comes after the history.
        self.service.memory().calm(self.service.now());
        self.disk.fill(false);
        self.disk.fail_nowhere();
        self.fails = false;
        self.house_mut().follows.clear();
        for open in std::mem::take(&mut self.house_mut().begun) {
            in_time("an open", open).await?.ok();
        }
        // What was passed over is looked at again some minutes later.
        let has_deserts = self.service.memory().weather.desert > 0;
        if has_deserts {
            self.step(&Op::OpenAll).await?;
        }
        self.step(&Op::Wait { ms: AFTERWARDS.as_millis() as u32 }).await?;
        if has_deserts {
            // A stream that shares its name may have been found by the listing alone, and opened a moment ago for the first time.
            for wait in [LOOKED_AT, LOOKS] {
                self.step(&Op::OpenAll).await?;
                self.step(&Op::Wait { ms: wait.as_millis() as u32 }).await?;
            }
        }
        for _ in 0..2 {
            let listed = self.list(false).await?;
            self.tolerate(listed)?;
            self.step(&Op::Wait { ms: 20_000 }).await?;
        }
        let living: Vec<_> = {
            let memory = self.service.memory();
            memory.all_living().map(|(group, name, generation)| (group, name, generation.created)).collect()
        };
        for (group, name, created) in living {
            let slot = SLOTS.iter().position(|slot| *slot == (group, name)).unwrap();
            // Once more if the power went.
            for last in [false, true] {
                let Some(stream) = self.stream(slot).await? else {
                    if last || !self.disk.is_frozen() {
                        return Err(format!("{group} {name} isn't found"));
                    }
                    self.step(&Op::Wait { ms: 0 }).await?;
                    continue;
                };
                let opened = in_time("an open", stream.bring_up_to_date(Wanted::Content)).await?;
                let frozen = self.disk.is_frozen();
                self.step(&Op::Wait { ms: 0 }).await?;
                match opened {
                    Ok(()) => {}
                    Err(_) if frozen => continue,
                    Err(error) => return Err(format!("{group} {name} can't be opened: {error}")),
                }
                if !frozen {
                    self.repair(&stream).await?;
                    if self.disk.is_frozen() {
                        self.step(&Op::Wait { ms: 0 }).await?;
                        continue;
                    }
                    self.check()?;
                    self.check_whole(stream.id(), created)?;
                    break;
                }
            }
        }
        self.step(&Op::Restart).await
    }
}

impl House {
    async fn stop(self) {
        for open in self.begun {
            open.abort();
        }
        self.fetch.stop().await;
    }
}

/// Reads the head of a stream until so many commits were made, and leaves.
async fn leave(stream: &Arc<Stream>, commits: u64) {
    let mut progress = stream.progress();
    let before = progress.borrow_and_update().clone();
    let interest = stream.download();
    let enough = progress.wait_for(|now| {
        let failed = |p: &crate::fetch::Progress| p.failure.as_ref().map_or(0, |f| f.0);
        now.complete || now.commits >= before.commits + commits || failed(now) > failed(&before)
    });
    let _ = timeout(LEAVES_AFTER, enough).await;
    drop(interest);
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> Verdict<T> {
    timeout(LONGEST, future).await.map_err(|_| format!("{what} takes longer than {} s", LONGEST.as_secs()))
}
