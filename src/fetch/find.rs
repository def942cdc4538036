//! What a name means, without listing for it: the catalogue, then one exact lookup, then the newest listing page once a time to live.
//! Only a slug with a hash, which no program asks for by itself, is worth a listing.
//!
//! Slugs can't be inverted, so a name that isn't in the catalogue is either an exact one (one call by prefix tells) or the slug of
//! something that a listing has yet to bring. Only a name with a dash, or with a hash, is taken for such a slug: what a slug replaces
//! leaves dashes, and all else that programs and typing errors ask for costs its one call. Lookups of one name share one question, a
//! no is remembered for a second, and no question takes longer than [`LOOKUP`]. Trouble is an error, never a no.

use crate::error::{Error, ErrorKind};
use crate::fetch::folder::{Folder, Phase};
use crate::fetch::listing::{Found, Listings, ROOT, lock};
use crate::fetch::select::{decode, possible_group, possible_slug, possible_stream, shows_group, shows_stream};
use crate::fetch::service::Weight;
use crate::model::GroupId;
use crate::store::names::hash_asked;
use crate::store::row::{GroupRow, StreamRow};
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
    /// The group that `name` means: a slug, `slug~hash`, or a percent-encoded exact name.
    pub(crate) async fn find_group(self: &Arc<Self>, name: &str) -> Found<GroupRow> {
        if name.is_empty() || name.starts_with(['.', '@']) {
            return Ok(None);
        }
        if let Some(row) = self.group_known(name)? {
            return Ok(Some(row).filter(|row| shows_group(&self.settings().selection, &row.group.name)));
        }
        if self.nobody.contains(&(None, name.to_owned())) {
            return Ok(None);
        }
        let flight = self.group_flights.join(name.to_owned(), || {
            let (listings, name) = (Arc::clone(self), name.to_owned());
            Box::pin(async move { listings.ask_group(&name).await })
        });
        bounded(name, flight).await
    }

    /// The stream that `name` (without `.log`) means.
    pub(crate) async fn find_stream(self: &Arc<Self>, group: GroupId, name: &str) -> Found<StreamRow> {
        if name.is_empty() || name.starts_with(['.', '@']) {
            return Ok(None);
        }
        if let Some(row) = self.stream_known(group, name)? {
            return Ok(Some(row).filter(|row| shows_stream(&self.settings().selection, &row.stream, self.now())));
        }
        if self.nobody.contains(&(Some(group), name.to_owned())) {
            return Ok(None);
        }
        let flight = self.stream_flights.join((group, name.to_owned()), || {
            let (listings, name) = (Arc::clone(self), name.to_owned());
            Box::pin(async move { listings.ask_stream(group, &name).await })
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

    fn group_known(&self, name: &str) -> Found<GroupRow> {
        if let Some(row) = self.read(name, |store| store.group_by_slug(name))? {
            return Ok(Some(row));
        }
        decode(name).map_or(Ok(None), |exact| self.read(name, |store| store.group_by_name(&exact)))
    }

    fn stream_known(&self, group: GroupId, name: &str) -> Found<StreamRow> {
        if let Some(row) = self.read(name, |store| store.stream_by_slug(group, name))? {
            return Ok(Some(row));
        }
        decode(name).map_or(Ok(None), |exact| self.read(name, |store| store.stream_by_name(group, &exact)))
    }

    async fn ask_group(self: &Arc<Self>, name: &str) -> Found<GroupRow> {
        let settings = self.settings();
        if let Some(exact) = decode(name)
            && possible_group(&exact)
            && shows_group(&settings.selection, &exact)
            && let Some(row) = self.exact_group(Weight::Waiting, &exact).await?
        {
            return Ok(Some(row));
        }
        if possible_slug(name) {
            let mut progress = self.root.subscribe();
            if progress.borrow().fresh.is_none() {
                self.touch_root();
            }
            let _waiting = self.root.wait();
            loop {
                let seen = progress.borrow_and_update().clone();
                if let Some(row) = self.group_known(name)? {
                    return Ok(Some(row).filter(|row| shows_group(&settings.selection, &row.group.name)));
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

    async fn ask_stream(self: &Arc<Self>, group: GroupId, name: &str) -> Found<StreamRow> {
        let settings = self.settings();
        let selection = &settings.selection;
        let (row, folder) = self.folder(group)?;
        let shown = |row: StreamRow| Some(row).filter(|row| shows_stream(selection, &row.stream, self.now()));
        let is_slug = possible_slug(name) && name.contains(['-', '~']);
        let mut is_whole = false;
        if is_slug && self.is_unlisted(&folder, name) {
            is_whole = self.newest_page(row.clone()).await?;
            if let Some(row) = self.stream_known(group, name)? {
                return Ok(shown(row));
            }
        }
        if !is_whole
            && let Some(exact) = decode(name)
            && possible_stream(&exact)
            && (selection.streams.is_empty() || selection.streams.contains(&exact))
        {
            let announce = folder.progress().known;
            if let Some(row) = self.exact_stream(Weight::Waiting, &row, &exact, announce).await? {
                return Ok(shown(row));
            }
        }
        if is_slug && let Some(row) = self.ask_slug(row, &folder, name).await? {
            return Ok(shown(row));
        }
        self.nobody.insert((Some(group), name.to_owned()), Instant::now() + NO);
        Ok(None)
    }

    /// Whether a slug may be in a group of which no listing says anything, nor will soon.
    fn is_unlisted(&self, folder: &Folder, name: &str) -> bool {
        let progress = folder.progress();
        let is_idle = !progress.known && progress.phase == Phase::Idle;
        is_idle && hash_asked(name).is_none() && self.settings().selection.streams.is_empty()
    }

    /// A slug that the catalogue doesn't know, where a listing may yet bring it. Editors, prompts and typing errors ask for such names
    /// everywhere, so a group that was never listed is asked for its newest page only (see `newest_page`). A slug with a hash is nobody's
    /// guess and is found for every stream, so it is worth a listing.
    async fn ask_slug(self: &Arc<Self>, row: GroupRow, folder: &Arc<Folder>, name: &str) -> Found<StreamRow> {
        let settings = self.settings();
        let (group, hashed) = (row.id, hash_asked(name).is_some());
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
            return self.stream_known(group, name);
        }
        let grace = Instant::now() + if hashed { LOOKUP } else { WALK_GRACE };
        let _waiting = folder.wait();
        loop {
            let seen = progress.borrow_and_update().clone();
            if let Some(row) = self.stream_known(group, name)? {
                return Ok(Some(row));
            }
            if seen.is_believed(settings.listing_ttl, Instant::now()) {
                return Ok(None);
            }
            match (seen.phase, seen.failure) {
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

async fn bounded<T>(name: &str, question: impl Future<Output = Found<T>>) -> Found<T> {
    let subject = if name.is_empty() { ROOT } else { name };
    timeout(LOOKUP, question)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut, subject, "the lookup got no answer within 5 s")))
}
