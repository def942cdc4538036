//! The runs behind the listings: the root's walk, a group's first walk, its refresh, and now and then its whole walk again.
//!
//! A page goes into the catalogue as it comes, in one commit on the blocking pool, and news are told by the job that committed, so a
//! caller that leaves loses neither. A listing newest first shifts while it is paged: a stream that is written meanwhile moves
//! from the unread end to the head. So after a walk of several pages the head is read again until a page brings nothing new. What
//! a whole walk didn't meet is asked for by its exact name, and only that takes a row away.

use crate::error::{Error, ErrorKind};
use crate::fetch::listing::listings::{Listings, ROOT};
use crate::fetch::listing::progress::{Met, Run};
use crate::fetch::listing::selection::{
    last_sign, oldest_shown, possible_stream, shows_group, shows_stream, walk_prefixes,
};
use crate::fetch::service::fault::{Fault, store_error};
use crate::fetch::service::priority::Priority;
use crate::fetch::shared::News;
use crate::fetch::stream::stale::{By, Copied};
use crate::model::{GroupId, LogGroup, LogStream};
use crate::source::{DescribeGroups, DescribeStreams};
use crate::store::row::{GroupRow, StreamRow};
use crate::store::{Store, StoreError, StoreErrorKind, Upserted};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A known group's streams are all listed again at most that often.
const WHOLE_WALK: Duration = Duration::from_hours(1);
/// Rows that a walk didn't meet and that it asks for by name, at most; the next walk goes on.
const MOST_CHECKS: usize = 500;
/// How far the service's clock, which stamps a new stream, may be behind ours.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10);
/// Pages that a walk for a lookup reads at most.
const LOOK_PAGES: u64 = 50;
/// A walk for a lookup that ends without a page for so long is in trouble, and no proof that a name isn't there.
const SILENT: Duration = Duration::from_secs(2);
/// Pages in a row that may bring nothing before a listing counts as endless.
const MOST_BARREN: u32 = 20;
/// Rows read from the catalogue at a time.
const CHUNK: usize = 256;

/// One page of a group's streams, stored.
struct Stored {
    upserted: Upserted,
    next: Option<String>,
    /// All of it is older than what the selection shows.
    too_old: bool,
}

/// Counts pages in a row that brought nothing. The service gives some now and then, but a listing of nothing else would go on for ever.
#[derive(Default)]
struct Barren(u32);

impl Barren {
    fn page(&mut self, subject: &str, brought_something: bool) -> Result<(), Error> {
        self.0 = if brought_something { 0 } else { self.0 + 1 };
        if self.0 < MOST_BARREN {
            return Ok(());
        }
        let why = "its listing goes on and on and brings nothing";
        Err(Error::new(ErrorKind::TimedOut, subject, why))
    }
}

/// How far a walk went.
enum Walked {
    /// To the end, or to where the selection shows nothing any more.
    Whole,
    /// A lookup's walk, past so many streams.
    Part(u64),
}

impl Listings {
    /// Ends a run of `group`'s listing (`None`: the groups'). Those that wait are given the error; where rows of before are shown, it is told
    /// that they may be old.
    fn finish(&self, run: Run, group: Option<GroupId>, result: Result<Walked, Error>) {
        let listing = Copied::Listing(group);
        match result {
            Ok(Walked::Whole) => {
                self.shared.stale.clear(listing, By::Read);
                run.done();
            }
            Ok(Walked::Part(streams)) => run.looked(streams),
            Err(error) => {
                tracing::debug!("a listing failed: {error}");
                if !run.is_first() && error.kind() != ErrorKind::Stopping {
                    self.shared.stale.note(listing, By::Read, self.now(), &error);
                }
                run.failed(error);
            }
        }
    }

    /// Lists the groups in the background.
    pub(crate) fn list_root(self: &Arc<Self>, run: Run) {
        let listings = Arc::clone(self);
        self.shared.tasks.spawn(async move {
            let result = tokio::select! {
                biased;
                () = listings.shared.stopping.cancelled() => Err(Fault::Stopping.about(ROOT)),
                result = listings.walk_root(&run) => result.map(|()| Walked::Whole),
            };
            listings.finish(run, None, result);
        });
    }

    /// Lists a group's streams in the background; `priority` is the calls' where no caller waits. Whole walks of known groups are for
    /// folders that are looked at (`Background`), not for those that are only watched.
    pub(crate) fn list_group(self: &Arc<Self>, run: Run, row: GroupRow, priority: Priority) {
        self.list_group_until(run, row, priority, None);
    }

    /// As `list_group`, for a lookup: ends after [`LOOK_PAGES`], or at `until`, unless a program lists the group by then.
    pub(crate) fn look_through(self: &Arc<Self>, run: Run, row: GroupRow, until: Instant) {
        self.list_group_until(run, row, Priority::Background, Some(until));
    }

    fn list_group_until(self: &Arc<Self>, run: Run, row: GroupRow, priority: Priority, until: Option<Instant>) {
        let listings = Arc::clone(self);
        self.shared.tasks.spawn(async move {
            let name = &row.group.name;
            let result = tokio::select! {
                biased;
                () = listings.shared.stopping.cancelled() => Err(Fault::Stopping.about(name)),
                result = listings.walk_group(&run, &row, priority, until) => result,
            };
            listings.finish(run, Some(row.id), result);
        });
    }

    async fn walk_root(&self, run: &Run) -> Result<(), Error> {
        let settings = self.settings();
        let announce = !run.is_first();
        let (mut met, mut pages) = (Met::default(), 0);
        for prefix in walk_prefixes(&settings.selection) {
            let (mut token, mut of_prefix, mut barren) = (None, Met::default(), Barren::default());
            loop {
                let request =
                    DescribeGroups { prefix: prefix.clone(), token: token.clone(), ..DescribeGroups::default() };
                let priority = run.folder().priority(Priority::Background);
                let answer = self.shared.service.describe_log_groups(priority, request).await;
                let page = answer.map_err(|fault| fault.about(ROOT))?;
                let mut brought = !page.items.is_empty();
                let mut groups = page.items;
                groups.retain(|group| shows_group(&settings.selection, &group.name));
                let rows = self.store_groups(groups, announce).await?;
                let mut new = 0;
                for row in &rows {
                    met.insert(row.seq);
                    new += usize::from(of_prefix.insert(row.seq));
                }
                brought &= rows.is_empty() || new > 0;
                run.stored();
                pages += 1;
                // The same token again would go round for ever.
                if page.next.is_none() || page.next == token {
                    break;
                }
                barren.page(ROOT, brought)?;
                token = page.next;
            }
        }
        run.listed(pages);
        let (mut cursor, mut checks) = (0, 0);
        loop {
            let rows = self.read(ROOT, |store| store.groups_after(cursor, CHUNK))?;
            let Some(last) = rows.last() else { return Ok(()) };
            cursor = last.seq;
            for row in rows {
                if met.contains(row.seq) || !shows_group(&settings.selection, &row.group.name) {
                    continue;
                }
                if checks == MOST_CHECKS {
                    return Ok(());
                }
                checks += 1;
                self.exact_group(Priority::Background, &row.group.name).await?;
            }
        }
    }

    async fn walk_group(
        &self,
        run: &Run,
        row: &GroupRow,
        priority: Priority,
        until: Option<Instant>,
    ) -> Result<Walked, Error> {
        let settings = self.settings();
        if !settings.selection.streams.is_empty() {
            for name in settings.selection.streams.iter().filter(|name| possible_stream(name)) {
                self.exact_stream(run.folder().priority(priority), row, name, !run.is_first()).await?;
                run.stored();
            }
            return Ok(Walked::Whole);
        }
        if run.is_first() {
            return self.walk_streams(run, row, priority, &mut Met::default(), until).await;
        }
        self.refresh_head(run, row, priority).await?;
        let stored_walk = row.walked_at.is_none_or(|at| at + WHOLE_WALK <= self.now());
        let walk = run.folder().progress().walked.is_none_or(|at| at.elapsed() >= WHOLE_WALK);
        if priority == Priority::Following || !stored_walk || !walk {
            return Ok(Walked::Whole);
        }
        run.refreshed();
        let mut met = Met::default();
        self.walk_streams(run, row, priority, &mut met, None).await?;
        self.check_unmet(row, &met).await?;
        Ok(Walked::Whole)
    }

    /// Lists a group's streams to the end, or to where the selection shows nothing any more; a walk for a lookup, which `until` says,
    /// perhaps not as far.
    async fn walk_streams(
        &self,
        run: &Run,
        row: &GroupRow,
        priority: Priority,
        met: &mut Met,
        until: Option<Instant>,
    ) -> Result<Walked, Error> {
        let (mut token, mut pages, mut streams) = (None, 0u64, 0u64);
        let (mut last_page, mut barren) = (Instant::now(), Barren::default());
        let whole = loop {
            let page = self.store_page(run, row, priority, token.clone());
            tokio::pin!(page);
            let stored = match until {
                Some(until) => match timeout_at(until, &mut page).await {
                    Ok(stored) => stored?,
                    Err(_) if !run.is_look() => page.await?,
                    Err(_) if pages > 0 && last_page.elapsed() < SILENT => return Ok(Walked::Part(streams)),
                    Err(_) => {
                        let why = "the service gave no further page of its streams in time";
                        return Err(Error::new(ErrorKind::TimedOut, &row.group.name, why));
                    }
                },
                None => page.await?,
            };
            last_page = Instant::now();
            pages += 1;
            streams += stored.upserted.rows.len() as u64;
            let new = stored.upserted.rows.iter().filter(|row| met.insert(row.seq)).count();
            if stored.next.is_none() || stored.next == token {
                break true;
            }
            if stored.too_old {
                break false;
            }
            if pages >= LOOK_PAGES && run.is_look() {
                return Ok(Walked::Part(streams));
            }
            barren.page(&row.group.name, new > 0)?;
            token = stored.next;
        };
        if pages > 1 {
            self.refresh_head(run, row, priority).await?;
        }
        if whole {
            let (id, at) = (row.id, self.now());
            self.write(&row.group.name, move |store| store.set_walked(id, at)).await?;
        }
        Ok(Walked::Whole)
    }

    /// Reads the newest pages until one brings nothing new.
    async fn refresh_head(&self, run: &Run, row: &GroupRow, priority: Priority) -> Result<(), Error> {
        let (mut token, mut barren) = (None, Barren::default());
        loop {
            let stored = self.store_page(run, row, priority, token.clone()).await?;
            // An empty page in the middle brings nothing new, and proves nothing either.
            let met = stored.upserted.new.is_empty() && !stored.upserted.rows.is_empty();
            if met || stored.too_old || stored.next.is_none() || stored.next == token {
                return Ok(());
            }
            barren.page(&row.group.name, !stored.upserted.rows.is_empty())?;
            token = stored.next;
        }
    }

    async fn store_page(
        &self,
        run: &Run,
        row: &GroupRow,
        priority: Priority,
        token: Option<String>,
    ) -> Result<Stored, Error> {
        let stored = self.read_page(row, run.folder().priority(priority), token, !run.is_first()).await?;
        run.stored();
        Ok(stored)
    }

    /// Reads the newest page of a group that was never listed, for a program that knows a name or watches for new ones; whether it is the
    /// only one.
    pub(crate) async fn peek(&self, row: &GroupRow, priority: Priority) -> Result<bool, Error> {
        self.read_page(row, priority, None, false).await.map(|stored| stored.next.is_none())
    }

    /// Reads the newest page; new streams are told if `announce` says so.
    pub(crate) async fn read_newest_page(
        &self,
        row: &GroupRow,
        priority: Priority,
        announce: bool,
    ) -> Result<(), Error> {
        self.read_page(row, priority, None, announce).await.map(drop)
    }

    async fn read_page(
        &self,
        row: &GroupRow,
        priority: Priority,
        token: Option<String>,
        announce: bool,
    ) -> Result<Stored, Error> {
        let (asked, is_newest) = (Instant::now(), token.is_none());
        let request = DescribeStreams { group: row.group.name.clone(), prefix: None, token, limit: None };
        let answer = self.shared.service.describe_log_streams(priority, request).await;
        let page = match answer {
            Ok(page) => page,
            Err(fault) => return Err(self.refused(row, fault).await),
        };
        let oldest = oldest_shown(&self.settings().selection, self.now());
        let too_old = oldest
            .is_some_and(|oldest| !page.items.is_empty() && page.items.iter().all(|stream| last_sign(stream) < oldest));
        let upserted = self.store_streams(row, page.items, announce).await?;
        if is_newest {
            self.note_newest_page(row.id, asked);
        }
        Ok(Stored { upserted, next: page.next, too_old })
    }

    async fn check_unmet(&self, row: &GroupRow, met: &Met) -> Result<(), Error> {
        let settings = self.settings();
        let (mut cursor, mut checks) = (0, 0);
        loop {
            let rows = self.read(&row.group.name, |store| store.streams_after(row.id, cursor, CHUNK))?;
            let Some(last) = rows.last() else { return Ok(()) };
            cursor = last.seq;
            for stream in rows {
                if met.contains(stream.seq) || !shows_stream(&settings.selection, &stream.stream, self.now()) {
                    continue;
                }
                if checks == MOST_CHECKS {
                    return Ok(());
                }
                checks += 1;
                self.exact_stream(Priority::Background, row, &stream.stream.name, true).await?;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Asks for a group by its exact name: one call. If the service doesn't list it, a row of it is forgotten.
    pub(crate) async fn exact_group(&self, priority: Priority, name: &str) -> Result<Option<GroupRow>, Error> {
        let (mut request, mut barren) = (DescribeGroups::default(), Barren::default());
        (request.prefix, request.limit) = (Some(name.to_owned()), Some(1));
        let found = loop {
            let answer = self.shared.service.describe_log_groups(priority, request.clone()).await;
            let page = answer.map_err(|fault| fault.about(name))?;
            // An empty page that isn't the last says nothing of a name.
            if !page.items.is_empty() || page.next.is_none() || page.next == request.token {
                break page.items;
            }
            barren.page(name, false)?;
            request.token = page.next;
        };
        let groups: Vec<_> = found.into_iter().filter(|group| group.name == name).collect();
        if !groups.is_empty() {
            let announce = self.root.progress().known;
            return Ok(self.store_groups(groups, announce).await?.pop());
        }
        if let Some(row) = self.read(name, |store| store.group_by_name(name))? {
            self.write(name, move |store| store.forget_group(row.id)).await?;
        }
        Ok(None)
    }

    /// Asks for groups in whose names `piece` stands, one page of them: one call.
    pub(crate) async fn groups_with(&self, piece: &str) -> Result<(), Error> {
        let request = DescribeGroups { pattern: Some(piece.to_owned()), ..DescribeGroups::default() };
        let answer = self.shared.service.describe_log_groups(Priority::Waiting, request).await;
        let mut groups = answer.map_err(|fault| fault.about(ROOT))?.items;
        let settings = self.settings();
        groups.retain(|group| shows_group(&settings.selection, &group.name));
        self.store_groups(groups, self.root.progress().known).await?;
        Ok(())
    }

    /// Asks for a stream by its exact name: one call. If the service doesn't list it, a row of it is forgotten and the news is
    /// told; a new one is told if `announce` says so.
    pub(crate) async fn exact_stream(
        &self,
        priority: Priority,
        group: &GroupRow,
        name: &str,
        announce: bool,
    ) -> Result<Option<StreamRow>, Error> {
        let mut request = DescribeStreams {
            group: group.group.name.clone(),
            prefix: Some(name.to_owned()),
            token: None,
            limit: Some(1),
        };
        let mut barren = Barren::default();
        let found = loop {
            let page = match self.shared.service.describe_log_streams(priority, request.clone()).await {
                Ok(page) => page,
                Err(fault) => return Err(self.refused(group, fault).await),
            };
            // An empty page that isn't the last says nothing of a name.
            if !page.items.is_empty() || page.next.is_none() || page.next == request.token {
                break page.items;
            }
            barren.page(name, false)?;
            request.token = page.next;
        };
        let streams: Vec<_> = found.into_iter().filter(|stream| stream.name == name).collect();
        if !streams.is_empty() {
            let row = self.store_streams(group, streams, announce).await?.rows.pop();
            if let Some(row) = &row {
                self.note_confirmed(row.id);
            }
            return Ok(row);
        }
        if let Some(row) = self.read(&group.group.name, |store| store.stream_by_name(group.id, name))? {
            let news = self.shared.news.clone();
            self.write(&group.group.name, move |store| {
                store.forget_stream(row.id)?;
                // There is no receiver once the tree is gone.
                news.blocking_send(News::Gone(row.group, row.id)).ok();
                Ok(())
            })
            .await?;
        }
        Ok(None)
    }

    /// What a refusal of a call about a group means: a group that isn't there is forgotten.
    async fn refused(&self, row: &GroupRow, fault: Fault) -> Error {
        let gone = fault.is_not_found();
        let error = fault.about(&row.group.name);
        if gone {
            let id = row.id;
            if let Err(error) = self.write(&row.group.name, move |store| store.forget_group(id)).await {
                return error;
            }
        }
        error
    }

    async fn store_groups(&self, groups: Vec<LogGroup>, announce: bool) -> Result<Vec<GroupRow>, Error> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        self.claim(&groups).await?;
        let news = self.shared.news.clone();
        self.write(ROOT, move |store| {
            let mut before = Vec::with_capacity(groups.len());
            for group in &groups {
                before.push(store.group_by_name(&group.name)?.map(|row| row.id));
            }
            let rows = store.upsert_groups(&groups)?;
            for (row, before) in rows.iter().zip(before) {
                if announce && before != Some(row.id) {
                    news.blocking_send(News::NewGroup(row.id)).ok();
                }
            }
            Ok(rows)
        })
        .await
    }

    /// The cache belongs to one account: another one's logs under the same names would be mixed with them. Once refused, nothing
    /// is shown at all.
    async fn claim(&self, groups: &[LogGroup]) -> Result<(), Error> {
        let Some(account) = groups.iter().find_map(account_of).map(str::to_owned) else { return Ok(()) };
        if self.account.get() == Some(&Ok(account.clone())) {
            return Ok(());
        }
        let store = Arc::clone(&self.shared.store);
        let name = account.clone();
        let claimed = match tokio::task::spawn_blocking(move || store.claim_account(&name)).await {
            Ok(Ok(())) => Ok(account),
            Ok(Err(error)) if error.kind == StoreErrorKind::Refused => Err(error.message),
            Ok(Err(error)) => return Err(store_error(ROOT, error)),
            Err(_) => return Err(Error::new(ErrorKind::Damaged, ROOT, "the catalogue's writer broke off")),
        };
        // Two walks may claim at once; they claim the same.
        let _ = self.account.set(claimed);
        self.refuse_strangers()
    }

    async fn store_streams(
        &self,
        group: &GroupRow,
        streams: Vec<LogStream>,
        announce: bool,
    ) -> Result<Upserted, Error> {
        if streams.is_empty() {
            return Ok(Upserted::default());
        }
        let (news, settings, now, id) = (self.shared.news.clone(), self.settings(), self.now(), group.id);
        let watched_since = self.watched_since(id);
        self.write(&group.group.name, move |store| {
            let upserted = store.upsert_streams(id, &streams)?;
            for (old, new) in &upserted.replaced {
                news.blocking_send(News::Replaced(id, *old, *new)).ok();
            }
            let replaces = |stream| upserted.replaced.iter().any(|(_, new)| *new == stream);
            // In a folder that was never listed a stream is new to a program that watches if it was made since.
            let made_since =
                |stream: &LogStream| watched_since.is_some_and(|since| stream.created + CLOCKS_DIFFER >= since);
            let is_new = |row: &&StreamRow| upserted.new.contains(&row.id) && (announce || made_since(&row.stream));
            for row in upserted.rows.iter().filter(is_new) {
                if !replaces(row.id) && shows_stream(&settings.selection, &row.stream, now) {
                    news.blocking_send(News::NewStream(id, row.id)).ok();
                }
            }
            Ok(upserted)
        })
        .await
    }

    /// Writes the catalogue, on the blocking pool. The job ends by itself if the caller leaves.
    async fn write<T: Send + 'static>(
        &self,
        subject: &str,
        write: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.shared.store);
        match tokio::task::spawn_blocking(move || write(&store)).await {
            Ok(result) => result.map_err(|error| store_error(subject, error)),
            Err(_) => Err(Error::new(ErrorKind::Damaged, subject, "the catalogue's writer broke off")),
        }
    }
}

/// The account in a group's resource name, `arn:aws:logs:REGION:ACCOUNT:log-group:NAME`.
fn account_of(group: &LogGroup) -> Option<&str> {
    group.arn.split(':').nth(4).filter(|account| !account.is_empty())
}
