//! The first pages of a read ahead, read while the group's first listing is under way: a search reads the whole folder before it opens a
//! file, and a listing takes a call for each fifty streams. The pages wait in memory, few enough, for the catalogue to know their
//! streams, and then are one page: each commit of a thousand streams takes its time.

use crate::fetch::listing::progress::{Phase, Progress};
use crate::fetch::readahead::plan::{JUDGED, is_lopsided};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::group_cursor::{GroupCursor, GroupPage};
use crate::fetch::stream::merge::Counted;
use crate::fetch::stream::state::{Group, Streams};
use crate::fetch::stream::watermark::AHEAD;
use crate::model::Timestamp;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Pages that are read before the listing's end, at most: a page is a megabyte of messages at most.
const MOST_PAGES: usize = 12;

/// The beginning of a read of a whole group: its first pages as one, and where it goes on.
pub(crate) struct FirstPages {
    pub(crate) cursor: GroupCursor,
    pub(crate) page: GroupPage,
    /// So many they were.
    pub(crate) pages: usize,
    /// The room that they take ahead of what is committed.
    pub(crate) rooms: Vec<OwnedSemaphorePermit>,
}

/// Reads ahead until the listing has ended, or there is nothing more that is worth it; then waits for the listing.
pub(crate) async fn read(
    streams: &Arc<Streams>,
    group: &Group,
    began: Timestamp,
    mut listing: watch::Receiver<Progress>,
) -> Result<Option<FirstPages>, Fault> {
    let cursor = cursor(group, Vec::new(), None, began);
    let mut first = FirstPages { cursor, page: GroupPage::default(), pages: 0, rooms: Vec::new() };
    while first.pages < MOST_PAGES && !is_listed(&listing.borrow()) {
        // Long reads hold pages, too: there is room for so many in all.
        let Ok(room) = streams.ahead.clone().try_acquire_owned() else { break };
        let page = match first.cursor.next(streams, Priority::Background).await {
            // What was read so far is good: the read meets the failure again where it goes on.
            Err(_) if first.pages > 0 => break,
            page => page?,
        };
        first.page.append(page);
        first.pages += 1;
        first.rooms.push(room);
        let sizes = || first.page.by_stream.values().map(|events| bytes(events));
        if first.page.is_over || first.page.is_barren || (first.pages >= JUDGED && is_lopsided(sizes())) {
            break;
        }
    }
    tokio::select! {
        () = streams.shared.stopping.cancelled() => return Err(Fault::Stopping),
        // The sender lives as long as the listings.
        listed = listing.wait_for(is_listed) => drop(listed),
    }
    Ok((first.pages > 0).then_some(first))
}

/// The catalogue has the group's streams, or won't get them now.
pub(crate) fn is_listed(listing: &Progress) -> bool {
    listing.phase != Phase::First
}

/// Bytes of messages.
pub(crate) fn bytes(events: &[Counted]) -> u64 {
    events.iter().map(|counted| counted.event.message.len() as u64).sum()
}

/// A read of `names` (all, if empty) from `from` on, which begins at `began`.
pub(crate) fn cursor(group: &Group, names: Vec<String>, from: Option<Timestamp>, began: Timestamp) -> GroupCursor {
    GroupCursor::new(group, names, from, Some(began + AHEAD), began)
}
