//! What a name means, without listing for it: the catalogue, then one exact lookup, then the newest listing page once a time to live.
//! Only a slug with a hash, which no program asks for by itself, is worth a listing.
//!
//! A name means one thing: what that is tells the catalogue alone ([`Store::stream_named`](crate::store::Store::stream_named)), before
//! and after each question, so that a name opens what a listing shows under it. Slugs can't be inverted, so a name that isn't in the
//! catalogue is either an exact one (one call by prefix tells) or the slug of something that a listing has yet to bring. Only a name with a dash, or with a hash, is taken for such a slug: what a slug replaces
//! leaves dashes, and all else that programs and typing errors ask for costs its one call. Lookups of one name share one question, a
//! no is remembered for a second, and no question takes longer than [`LOOKUP`]. Trouble is an error, never a no.

use crate::error::{Error, ErrorKind};
use crate::fetch::folder::{Folder, Phase};
use crate::fetch::listing::{Found, Listings, ROOT, lock};
use crate::fetch::select::{possible_group, possible_stream, shows_group, shows_stream};
use crate::fetch::service::Weight;
use crate::model::GroupId;
use crate::store::names::Names;
use crate::store::row::{GroupRow, Named, StreamRow};
use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Longest wait of a lookup: another one of the same name may wait behind it in the kernel.
const LOOKUP: Duration = Duration::from_secs(5);
/// How long a lookup waits for a first walk to bring its name before "under way" means no.
const WALK_GRACE: Duration = Duration::from_secs(2);
/// How long a name that nobody has is remembered.
const NO: Duration = Duration::from_secs(1);
/// Unknown names of one group that wait to be looked up, at most; what is dropped is seen again in a later answer.
const MOST_UNKNOWN: usize = 1000;
/// From that many unknown names on, the newest page is read before single names are asked for.
const MANY: usize = 3;

impl Listings {
    /// The group that `name` means where listings name things so: one kind of names for as long as this lives.
    pub(crate) async fn find_group(self: &Arc<Self>, name: &str, listed: Names) -> Found<GroupRow> {
        match self.group_named(name, listed)? {
            Named::Row(row) => return Ok(self.shown_group(row)),
            Named::Nothing => return Ok(None),
            Named::Exact(_) | Named::Slug | Named::Hashed => {}
        }
        if self.nobody.contains(&(None, name.to_owned())) {
            return Ok(None);
        }
        let flight = self.group_flights.join(name.to_owned(), || {
            let (listings, name) = (Arc::clone(self), name.to_owned());
            Box::pin(async move { listings.ask_group(&name, listed).await })
        });
        bounded(name, flight).await
    }

    /// The stream that `name` (without `.log`) means, as `find_group`.
    pub(crate) async fn find_stream(self: &Arc<Self>, group: GroupId, name: &str, listed: Names) -> Found<StreamRow> {
        match self.stream_named(group, name, listed)? {
            Named::Row(row) => return Ok(self.shown_stream(row)),
            Named::Nothing => return Ok(None),
            Named::Exact(_) | Named::Slug | Named::Hashed => {}
        }
        if self.nobody.contains(&(Some(group), name.to_owned())) {
            return Ok(None);
        }
        let flight = self.stream_flights.join((group, name.to_owned()), || {
            let (listings, name) = (Arc::clone(self), name.to_owned());
            Box::pin(async move { listings.ask_stream(group, &name, listed).await })
        });
        bounded(name, flight).await
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
                // The names come again with the next answers; until then nobody waits for them.
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
                self.list_group(run, row.clone(), Weight::Following);
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
            if self.exact_stream(Weight::Background, &row, name, announce).await?.is_none() {
                let until = Instant::now() + self.settings().listing_ttl.max(NO);
                self.unlisted.insert((group, name.clone()), until);
            }
        }
        Ok(())
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
            self.exact_group(Weight::Waiting, exact).await?;
            // Not what was found by it: a listing may have given the slug to another one meanwhile.
            if let Named::Row(row) = self.group_named(name, listed)? {
                return Ok(self.shown_group(row));
            }
        }
        if matches!(meant, Named::Slug | Named::Hashed) {
            let mut progress = self.root.subscribe();
            if progress.borrow().fresh.is_none() {
                self.touch_root();
            }
            let _waiting = self.root.wait();
            loop {
                let seen = progress.borrow_and_update().clone();
                if let Named::Row(row) = self.group_named(name, listed)? {
                    return Ok(self.shown_group(row));
                }
                if seen.fresh.is_some() {
                    break;
                }
                if seen.phase == Phase::Idle {
                    // Never listed, and not under way: it failed.
                    return seen.failure.map_or(Ok(None), |(_, error)| Err(error));
                }
                // The sender lives in `self`.
                drop(progress.changed().await);
            }
        }
        self.nobody.insert((None, name.to_owned()), Instant::now() + NO);
        Ok(None)
    }

    async fn ask_stream(self: &Arc<Self>, group: GroupId, name: &str, listed: Names) -> Found<StreamRow> {
        let settings = self.settings();
        let selection = &settings.selection;
        let (row, folder) = self.folder(group)?;
        let meant = self.stream_named(group, name, listed)?;
        // What a slug replaces leaves dashes, and a name with none of them is likely an exact one.
        let is_slug = meant == Named::Hashed || meant == Named::Slug && name.contains('-');
        let mut is_whole = false;
        if is_slug && self.is_unlisted(&folder, &meant) {
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
            self.exact_stream(Weight::Waiting, &row, exact, announce).await?;
            // Not what was found by it: a listing may have given the slug to another one meanwhile.
            if let Named::Row(row) = self.stream_named(group, name, listed)? {
                return Ok(self.shown_stream(row));
            }
        }
        if is_slug && let Some(row) = self.ask_slug(row, &folder, name, listed, meant == Named::Hashed).await? {
            return Ok(self.shown_stream(row));
        }
        self.nobody.insert((Some(group), name.to_owned()), Instant::now() + NO);
        Ok(None)
    }

    /// Whether a slug may be in a group of which no listing says anything, nor will soon.
    fn is_unlisted(&self, folder: &Folder, meant: &Named<StreamRow>) -> bool {
        let progress = folder.progress();
        let is_idle = !progress.known && progress.phase == Phase::Idle;
        is_idle && *meant == Named::Slug && self.settings().selection.streams.is_empty()
    }

    /// A slug that the catalogue doesn't know, where a listing may yet bring it. Editors, prompts and typing errors ask for such names
    /// everywhere, so a group that was never listed is asked for its newest page only (see `newest_page`). A slug with a hash is nobody's
    /// guess and is found for every stream, so it is worth a listing.
    async fn ask_slug(
        self: &Arc<Self>,
        row: GroupRow,
        folder: &Arc<Folder>,
        name: &str,
        listed: Names,
        hashed: bool,
    ) -> Found<StreamRow> {
        let settings = self.settings();
        let group = row.id;
        let mut progress = folder.subscribe();
        let seen = progress.borrow().clone();
        if hashed && !seen.known || !settings.selection.streams.is_empty() {
            self.touch_group(row, folder);
        } else if seen.known {
            // Not a whole walk: that is for who looks at the folder.
            if let Some(run) = folder.begin(|progress| progress.is_due(settings.listing_ttl, Instant::now())) {
                self.list_group(run, row, Weight::Following);
            }
        } else if seen.phase == Phase::Idle {
            // No call if that page was read a moment ago; but a walk may have failed since then.
            self.newest_page(row).await?;
            return Ok(self.stream_named(group, name, listed)?.row());
        }
        let grace = Instant::now() + WALK_GRACE;
        let _waiting = folder.wait();
        loop {
            let seen = progress.borrow_and_update().clone();
            if let Named::Row(row) = self.stream_named(group, name, listed)? {
                return Ok(Some(row));
            }
            if seen.is_believed(settings.listing_ttl, Instant::now()) {
                return Ok(None);
            }
            match (seen.phase, seen.failure) {
                // Nobody's guess: there is no no before the end, and the whole lookup has its time.
                (Phase::First, _) if hashed => drop(progress.changed().await),
                (Phase::First, _) if Instant::now() < grace => drop(timeout_at(grace, progress.changed()).await),
                (Phase::Refresh, _) => drop(progress.changed().await),
                (Phase::Idle, Some((_, error))) => return Err(error),
                (Phase::Idle | Phase::First | Phase::Rewalk, _) => return Ok(None),
            }
        }
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
                let is_whole = listings.peek(&row, Weight::Waiting).await?;
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
    timeout(LOOKUP, question)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, subject, "the lookup got no answer within 5 s")))
}
