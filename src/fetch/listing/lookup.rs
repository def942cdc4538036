//! What a name means: the catalogue, then one exact lookup, then as much of a listing as a lookup may ask for.
//!
//! A name means one thing. What that is tells the catalogue alone ([`Store::stream_named`](crate::store::Store::stream_named)), before
//! and after each question, so that a name opens what a listing shows under it.
//!
//! Slugs can't be inverted, so a name that isn't in the catalogue is either an exact one (one call by prefix tells) or the slug of
//! something that a listing has yet to bring. Editors, prompts and typing errors ask for such names everywhere. So a group that was
//! never listed is looked through for them once in ten minutes, for as long as a lookup waits and 50 pages at most; in between its
//! newest page is read once a time to live, as that of a listed one is. Only a slug with a hash, which no program asks for by itself,
//! is worth a whole listing. The root is listed again, or asked for a piece of the slug (see `ask_root`).
//!
//! Lookups of one name share one question, a no is remembered for a second, and no question takes longer than [`LOOKUP`]. Trouble is
//! an error, never a no.

use crate::error::{Error, ErrorKind};
use crate::fetch::listing::listings::{Found, Listings, ROOT};
use crate::fetch::listing::progress::{Folder, Phase, Progress};
use crate::fetch::listing::selection::{possible_group, possible_stream, shows_group, shows_stream};
use crate::fetch::service::priority::Priority;
use crate::model::GroupId;
use crate::patience::{Deadline, before};
use crate::store::names::{Names, longest_piece};
use crate::store::row::{GroupRow, Named, StreamRow};
use crate::sync::lock;
use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest wait of a lookup: another one of the same name may wait behind it in the kernel.
const LOOKUP: Duration = Duration::from_secs(5);
/// What of that is kept for the answer itself: a walk that a lookup begins ends before the lookup does.
const ANSWER: Duration = Duration::from_millis(250);
/// How long a lookup waits for a first walk to bring its name before "under way" means no.
const WALK_GRACE: Duration = Duration::from_secs(2);
/// How long a name that doesn't exist is remembered.
const NO: Duration = Duration::from_secs(1);
/// How long it isn't said again of a slug how far its group was looked through.
const TELL_AGAIN: Duration = Duration::from_mins(10);
/// A root of so many pages is listed again for a lookup; of a larger one a piece of the name is asked for.
const SMALL_ROOT: usize = 4;
/// Log groups on one page.
const PAGE: usize = 50;
/// A larger root is listed for lookups at most that often.
const LARGE_ROOT_TTL: Duration = Duration::from_mins(5);
/// Unknown names of one group that wait to be looked up, at most; what is dropped is seen again in a later answer.
const MOST_UNKNOWN: usize = 1000;
/// From that many unknown names on, the newest page is read before single names are asked for.
const MANY: usize = 3;

/// For how long a listing is waited for.
struct Patience {
    asked: Instant,
    /// A listing of less than that ago is believed.
    ttl: Duration,
    /// Where the folder was listed before, it isn't waited for longer.
    grace: Option<Instant>,
}

/// The row that a name means, if the catalogue has it.
fn row_of<Row>(named: Named<Row>) -> Option<Row> {
    match named {
        Named::Row(row) => Some(row),
        Named::Nothing | Named::Exact(_) | Named::Slug | Named::Hashed => None,
    }
}

impl Listings {
    /// The group that `name` means where listings name things so: one kind of names for as long as this lives.
    pub(crate) async fn find_group(self: &Arc<Self>, name: &str, listed: Names) -> Found<GroupRow> {
        if let Some(known) = self.known_group(name, listed)? {
            return Ok(known);
        }
        let flight = self.group_flights.join(name.to_owned(), || {
            let (listings, name) = (Arc::clone(self), name.to_owned());
            Box::pin(async move { listings.ask_group(&name, listed).await })
        });
        bounded(name, flight).await
    }

    /// As `find_group`, as far as that costs no call; `None` if it does.
    pub(crate) fn known_group(&self, name: &str, listed: Names) -> Result<Option<Option<GroupRow>>, Error> {
        self.note_suspended();
        Ok(match self.group_named(name, listed)? {
            Named::Row(row) => Some(self.shown_group(row)),
            Named::Nothing => Some(None),
            Named::Exact(_) | Named::Slug | Named::Hashed => {
                self.absent.contains(&(None, name.to_owned())).then_some(None)
            }
        })
    }

    /// As `find_group`, as a listing would tell it: no question for this name alone.
    pub(crate) async fn listed_group(self: &Arc<Self>, name: &str, listed: Names) -> Found<GroupRow> {
        bounded(name, async {
            self.touch_root();
            let found = || self.group_named(name, listed).map(row_of);
            let row = self.when_listed(&self.root, self.patience(), found, Some(&|| self.touch_root())).await?;
            Ok(row.and_then(|row| self.shown_group(row)))
        })
        .await
    }

    /// The stream that `name` (without `.log`) means, as `find_group`.
    pub(crate) async fn find_stream(self: &Arc<Self>, group: GroupId, name: &str, listed: Names) -> Found<StreamRow> {
        if let Some(known) = self.known_stream(group, name, listed)? {
            return Ok(known);
        }
        let flight = self.stream_flights.join((group, name.to_owned()), || {
            let (listings, name) = (Arc::clone(self), name.to_owned());
            Box::pin(async move { listings.ask_stream(group, &name, listed).await })
        });
        bounded(name, flight).await
    }

    /// As `find_stream`, as far as that costs no call; `None` if it does.
    pub(crate) fn known_stream(
        &self,
        group: GroupId,
        name: &str,
        listed: Names,
    ) -> Result<Option<Option<StreamRow>>, Error> {
        self.note_suspended();
        Ok(match self.stream_named(group, name, listed)? {
            Named::Row(row) => Some(self.shown_stream(row)),
            Named::Nothing => Some(None),
            Named::Exact(_) | Named::Slug | Named::Hashed => {
                self.absent.contains(&(Some(group), name.to_owned())).then_some(None)
            }
        })
    }

    /// As `find_stream`, as a listing would tell it: no question for this name alone.
    pub(crate) async fn listed_stream(self: &Arc<Self>, group: GroupId, name: &str, listed: Names) -> Found<StreamRow> {
        bounded(name, async {
            let (row, folder) = self.folder(group)?;
            self.touch_group(row.clone(), &folder);
            let found = || self.stream_named(group, name, listed).map(row_of);
            let start = || self.touch_group(row.clone(), &folder);
            let row = self.when_listed(&folder, self.patience(), found, Some(&start)).await?;
            Ok(row.and_then(|row| self.shown_stream(row)))
        })
        .await
    }

    /// What `found` gives as soon as it gives something; `None` only where the folder was listed lately enough, where it isn't
    /// being listed and `start` is `None`, or where `patience` is over.
    async fn when_listed<Row>(
        &self,
        folder: &Folder,
        patience: Patience,
        found: impl Fn() -> Found<Row>,
        start: Option<&(dyn Fn() + Sync)>,
    ) -> Found<Row> {
        let mut progress = folder.subscribe();
        let _waiting = folder.wait();
        loop {
            let seen = progress.borrow_and_update().clone();
            if let Some(row) = found()? {
                return Ok(Some(row));
            }
            let is_listed_since = seen.known && seen.fresh.is_some_and(|at| at >= patience.asked);
            if is_listed_since || seen.is_believed(patience.ttl, Instant::now()) {
                return Ok(None);
            }
            // The sender lives in the folder, which the caller holds: `changed` can't fail.
            match (seen.phase, seen.failure, start) {
                (Phase::Idle, Some((_, error)), _) => return Err(error),
                (Phase::Idle, None, None) => return Ok(None),
                (Phase::Idle, None, Some(start)) => {
                    start();
                    drop(progress.changed().await);
                }
                (Phase::First, ..) => drop(progress.changed().await),
                (Phase::Refresh | Phase::Rewalk, ..) => match patience.grace {
                    Some(grace) if Instant::now() >= grace => return Ok(None),
                    Some(grace) => drop(timeout_at(grace, progress.changed()).await),
                    None => drop(progress.changed().await),
                },
            }
        }
    }

    /// Streams seen in a group's answers by exact name: those that the catalogue doesn't know are looked up in the background,
    /// coalesced. Must be called within the runtime.
    pub(crate) fn learn_streams(self: &Arc<Self>, group: GroupId, names: impl IntoIterator<Item = String>) {
        let settings = self.settings();
        let streams = &settings.selection.streams;
        let unknown: Vec<String> = names
            .into_iter()
            .filter(|name| streams.is_empty() || streams.contains(name))
            .filter(|name| matches!(self.shared.store.stream_by_name(group, name), Ok(None)))
            .filter(|name| !self.unlisted.contains(&(group, name.clone())))
            .collect();
        if unknown.is_empty() {
            return;
        }
        let mut learning = lock(&self.learning);
        let idle = !learning.contains_key(&group);
        let waiting = learning.entry(group).or_default();
        for name in unknown {
            if waiting.len() < MOST_UNKNOWN {
                waiting.insert(name);
            }
        }
        drop(learning);
        if idle {
            let listings = Arc::clone(self);
            self.shared.tasks.spawn(async move {
                tokio::select! {
                    () = listings.shared.stopping.cancelled() => {}
                    () = listings.learn(group) => {}
                }
            });
        }
    }

    async fn learn(self: &Arc<Self>, group: GroupId) {
        loop {
            let names = {
                let mut learning = lock(&self.learning);
                match learning.get_mut(&group).map(std::mem::take) {
                    Some(names) if !names.is_empty() => names,
                    _ => {
                        learning.remove(&group);
                        return;
                    }
                }
            };
            let until = Instant::now() + self.settings().listing_ttl.max(NO);
            if self.learn_names(group, &names).await.is_err() {
                // The names come again with the next answers; until then no caller waits for them.
                for name in names {
                    self.unlisted.insert((group, name), until);
                }
            }
        }
    }

    async fn learn_names(self: &Arc<Self>, group: GroupId, names: &HashSet<String>) -> Result<(), Error> {
        let (row, folder) = self.folder(group)?;
        if names.len() >= MANY && self.settings().selection.streams.is_empty() {
            if let Some(run) = folder.begin(|progress| progress.known) {
                self.list_group(run, row.clone(), Priority::Following);
            }
            let mut progress = folder.subscribe();
            // A first walk of a big group takes longer than a few names by themselves.
            let read = progress.wait_for(|progress| progress.phase != Phase::Refresh);
            drop(read.await);
        }
        for name in names {
            if self.read(&row.group.name, |store| store.stream_by_name(group, name))?.is_some() {
                continue;
            }
            let announce = folder.progress().known;
            if self.exact_stream(Priority::Background, &row, name, announce).await?.is_none() {
                let until = Instant::now() + self.settings().listing_ttl.max(NO);
                self.unlisted.insert((group, name.clone()), until);
            }
        }
        Ok(())
    }

    /// Until the folder was listed within its time to live; who asks bounds it.
    fn patience(&self) -> Patience {
        Patience { asked: Instant::now(), ttl: self.settings().listing_ttl, grace: None }
    }

    fn group_named(&self, name: &str, listed: Names) -> Result<Named<GroupRow>, Error> {
        self.read(name, |store| store.group_named(name, listed))
    }

    fn stream_named(&self, group: GroupId, name: &str, listed: Names) -> Result<Named<StreamRow>, Error> {
        self.read(name, |store| store.stream_named(group, name, listed))
    }

    /// A group that the selection hides isn't there.
    fn shown_group(&self, row: GroupRow) -> Option<GroupRow> {
        shows_group(&self.settings().selection, &row.group.name).then_some(row)
    }

    /// A stream that the selection hides isn't there.
    fn shown_stream(&self, row: StreamRow) -> Option<StreamRow> {
        shows_stream(&self.settings().selection, &row.stream, self.now()).then_some(row)
    }

    async fn ask_group(self: &Arc<Self>, name: &str, listed: Names) -> Found<GroupRow> {
        let settings = self.settings();
        let meant = self.group_named(name, listed)?;
        if let Some(exact) = exact_in(&meant, name)
            && possible_group(exact)
            && shows_group(&settings.selection, exact)
        {
            self.exact_group(Priority::Waiting, exact).await?;
            // Not what was found by it: a listing may have given the slug to another one meanwhile.
            if let Named::Row(row) = self.group_named(name, listed)? {
                return Ok(self.shown_group(row));
            }
        }
        if matches!(meant, Named::Slug | Named::Hashed)
            && let Some(row) = self.ask_root(name, listed).await?
        {
            return Ok(self.shown_group(row));
        }
        self.absent.insert((None, name.to_owned()), Instant::now() + NO);
        Ok(None)
    }

    /// A slug that the catalogue doesn't know, where a listing may yet bring its group. A root of few pages is listed again once a
    /// time to live. The groups of a larger one are asked for by a piece of the slug, once a time to live for each slug, and it is listed
    /// again at most each five minutes.
    async fn ask_root(self: &Arc<Self>, name: &str, listed: Names) -> Found<GroupRow> {
        let (asked, mut ttl) = (Instant::now(), self.settings().listing_ttl);
        let is_large = self.root_is_large(&self.root.progress())?;
        if is_large {
            let piece = longest_piece(name);
            if !self.pieces.contains(&name.to_owned()) {
                self.groups_with(piece).await?;
                self.pieces.insert(name.to_owned(), Instant::now() + ttl.max(NO));
            }
            if let Named::Row(row) = self.group_named(name, listed)? {
                return Ok(Some(row));
            }
            ttl = ttl.max(LARGE_ROOT_TTL);
        }
        if let Some(run) = self.root.begin(|progress| progress.is_due(ttl, Instant::now())) {
            self.list_root(run);
        }
        let grace = is_large.then(|| Instant::now() + WALK_GRACE);
        let found = || self.group_named(name, listed).map(row_of);
        self.when_listed(&self.root, Patience { asked, ttl, grace }, found, None).await
    }

    /// Whether to list the root takes many calls: as many as it took, or as the catalogue lets expect.
    fn root_is_large(&self, progress: &Progress) -> Result<bool, Error> {
        match progress.length {
            Some(pages) => Ok(pages > SMALL_ROOT as u64),
            None => {
                let most = SMALL_ROOT * PAGE;
                let rows = self.read(ROOT, |store| store.groups_after(0, most + 1))?;
                Ok(progress.known && rows.len() > most)
            }
        }
    }

    async fn ask_stream(self: &Arc<Self>, group: GroupId, name: &str, listed: Names) -> Found<StreamRow> {
        let until = Instant::now() + LOOKUP - ANSWER;
        let settings = self.settings();
        let selection = &settings.selection;
        let (row, folder) = self.folder(group)?;
        let meant = self.stream_named(group, name, listed)?;
        // What a slug replaces leaves dashes, and a name with none of them is likely an exact one.
        let mut is_whole = false;
        if meant == Named::Slug && name.contains('-') && self.is_unlisted(&folder) {
            is_whole = self.newest_page(row.clone()).await?;
            if let Named::Row(row) = self.stream_named(group, name, listed)? {
                return Ok(self.shown_stream(row));
            }
        }
        if !is_whole
            && let Some(exact) = exact_in(&meant, name)
            && possible_stream(exact)
            && (selection.streams.is_empty() || selection.streams.iter().any(|stream| stream == exact))
        {
            let announce = folder.progress().known;
            self.exact_stream(Priority::Waiting, &row, exact, announce).await?;
            // Not what was found by it: a listing may have given the slug to another one meanwhile.
            if let Named::Row(row) = self.stream_named(group, name, listed)? {
                return Ok(self.shown_stream(row));
            }
        }
        let hashed = meant == Named::Hashed;
        if hashed || meant == Named::Slug && !is_whole {
            self.begin_listing(row.clone(), &folder, hashed, until).await?;
            if let Some(row) = self.in_listing(row, &folder, name, listed, hashed).await? {
                return Ok(self.shown_stream(row));
            }
        }
        self.absent.insert((Some(group), name.to_owned()), Instant::now() + NO);
        Ok(None)
    }

    /// Whether no listing says anything of a group, nor will soon.
    fn is_unlisted(&self, folder: &Folder) -> bool {
        let progress = folder.progress();
        !progress.known && progress.phase == Phase::Idle && self.settings().selection.streams.is_empty()
    }

    /// Has a listing brought on for a slug that the catalogue doesn't know, as far as a lookup may: a known one is brought up to date,
    /// a group that was never listed is looked through (see `look_through`), and if that was done lately, its newest page is read.
    /// A slug with a hash is no program's guess and is found for every stream, so it is worth a whole listing.
    async fn begin_listing(
        self: &Arc<Self>,
        row: GroupRow,
        folder: &Arc<Folder>,
        hashed: bool,
        until: Instant,
    ) -> Result<(), Error> {
        let settings = self.settings();
        let known = folder.progress().known;
        if hashed && !known || !settings.selection.streams.is_empty() {
            self.touch_group(row, folder);
        } else if known {
            // Not a whole walk: that is for who looks at the folder.
            if let Some(run) = folder.begin(|progress| progress.is_due(settings.listing_ttl, Instant::now())) {
                self.list_group(run, row, Priority::Following);
            }
        } else if let Some(run) = folder.begin_look() {
            self.look_through(run, row, until);
        } else if self.is_unlisted(folder) {
            self.newest_page(row).await?;
        }
        Ok(())
    }

    /// The stream of a slug that a listing under way may yet bring.
    async fn in_listing(
        &self,
        row: GroupRow,
        folder: &Arc<Folder>,
        name: &str,
        listed: Names,
        hashed: bool,
    ) -> Found<StreamRow> {
        let ttl = self.settings().listing_ttl;
        let mut progress = folder.subscribe();
        let grace = Instant::now() + WALK_GRACE;
        let _waiting = folder.wait();
        loop {
            let seen = progress.borrow_and_update().clone();
            if let Named::Row(row) = self.stream_named(row.id, name, listed)? {
                return Ok(Some(row));
            }
            if seen.is_believed(ttl, Instant::now()) {
                return Ok(None);
            }
            match (seen.phase, seen.failure, seen.looked) {
                // It ends in time, or the whole lookup does.
                (Phase::First, ..) if seen.is_look || hashed => drop(progress.changed().await),
                (Phase::First, ..) if Instant::now() < grace => drop(timeout_at(grace, progress.changed()).await),
                (Phase::Refresh, ..) => drop(progress.changed().await),
                (Phase::Idle, Some((_, error)), _) => return Err(error),
                (Phase::Idle, None, Some((_, streams))) if !seen.known => {
                    self.tell_how_far(&row, name, streams);
                    return Ok(None);
                }
                (Phase::Idle | Phase::First | Phase::Rewalk, ..) => return Ok(None),
            }
        }
    }

    /// A slug wasn't found in the part of a group's listing that lookups go through: it may be there.
    fn tell_how_far(&self, row: &GroupRow, name: &str, streams: u64) {
        let key = (row.id, name.to_owned());
        if self.told.contains(&key) {
            return;
        }
        self.told.insert(key, Instant::now() + TELL_AGAIN);
        let why = format!("looked through {streams} of its newest streams; `ls` lists all");
        self.report.error(&Error::new(ErrorKind::NotFound, format!("{}/{name}", row.group.name), why));
    }

    /// Has the newest page of a group read into the catalogue, at most once in a time to live; whether it was read now and is the only
    /// one.
    async fn newest_page(self: &Arc<Self>, row: GroupRow) -> Result<bool, Error> {
        if self.peeked.contains(&row.id) {
            return Ok(false);
        }
        let flight = self.peek_flights.join(row.id, || {
            let listings = Arc::clone(self);
            Box::pin(async move {
                let is_whole = listings.peek(&row, Priority::Waiting).await?;
                listings.peeked.insert(row.id, Instant::now() + listings.settings().listing_ttl);
                Ok(is_whole)
            })
        });
        flight.await
    }
}

/// The exact name that `name` may be, if it can be one.
fn exact_in<'a, Row>(meant: &'a Named<Row>, name: &'a str) -> Option<&'a str> {
    match meant {
        Named::Exact(exact) => Some(exact),
        Named::Slug => Some(name),
        Named::Row(_) | Named::Hashed | Named::Nothing => None,
    }
}

async fn bounded<T>(name: &str, question: impl Future<Output = Found<T>>) -> Found<T> {
    let subject = if name.is_empty() { ROOT } else { name };
    before(&mut Deadline::after(LOOKUP), question)
        .await
        .unwrap_or_else(|| Err(Error::new(ErrorKind::TimedOut, subject, "the lookup got no answer within 5 s")))
}
