//! The first pages of a sweep, read while the group's first listing is under way: a search reads the whole folder before it opens a
//! file, and a listing takes a call for each fifty streams. The pages wait in memory, few enough, for the catalogue to know their
//! streams, and then are one page: each commit of a thousand streams takes its time.

use crate::fetch::listing::progress::Progress;
use crate::fetch::readahead::judge::{JUDGED, is_listed, is_lopsided, request};
use crate::fetch::service::fault::Fault;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::page::is_over;
use crate::fetch::stream::state::{Group, Streams};
use crate::model::Timestamp;
use crate::source::{FilterEvents, FilterPage};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Pages that are read before the listing's end, at most: a page is a megabyte of messages at most.
const MOST_PAGES: usize = 12;

/// Pages of a whole group from its head, in order, as one.
pub(crate) struct Foreseen {
    pub(crate) page: FilterPage,
    /// So many they were.
    pub(crate) pages: usize,
    /// The room that they take ahead of what is committed.
    rooms: Vec<OwnedSemaphorePermit>,
}

/// Reads ahead until the listing has ended, or there is nothing more that is worth it; then waits for the listing.
pub(crate) async fn foresee(
    streams: &Arc<Streams>,
    group: &Group,
    began: Timestamp,
    mut listing: watch::Receiver<Progress>,
) -> Result<Option<Foreseen>, Fault> {
    let mut foreseen: Option<Foreseen> = None;
    let mut sizes: HashMap<String, u64> = HashMap::new();
    let (mut token, mut limit, mut pages_ahead): (Option<String>, _, _) = (None, None, 0);
    while foreseen.as_ref().is_none_or(|all| all.pages < MOST_PAGES) && !is_listed(&listing.borrow()) {
        // Long reads hold pages, too: there is room for so many in all.
        let Ok(room) = streams.ahead.clone().try_acquire_owned() else { break };
        let mut request = FilterEvents { limit, ..request(group, &[], None, began, token.clone()) };
        let answer = streams.filter(Priority::Background, &mut request).await;
        limit = request.limit;
        let page = match answer {
            // What was read so far is good: the sweep goes on with a token of its own.
            Err(fault) if fault.is_invalid_token() && foreseen.is_some() => break,
            page => page?,
        };
        for (name, event) in &page.events {
            let bytes = event.message.len() as u64;
            match sizes.get_mut(name) {
                Some(size) => *size += bytes,
                None => drop(sizes.insert(name.clone(), bytes)),
            }
        }
        token = page.next.clone();
        let is_over = token.is_none() || is_over(page.events.iter().map(|(_, event)| event), began, &mut pages_ahead);
        let all = match &mut foreseen {
            None => foreseen.insert(Foreseen { page, pages: 1, rooms: vec![room] }),
            Some(all) => {
                all.page.events.extend(page.events);
                all.page.next = page.next;
                all.pages += 1;
                all.rooms.push(room);
                all
            }
        };
        if is_over || (all.pages >= JUDGED && is_lopsided(sizes.values().copied())) {
            break;
        }
    }
    tokio::select! {
        () = streams.shared.stopping.cancelled() => return Err(Fault::Stopping),
        // The sender lives as long as the listings.
        listed = listing.wait_for(is_listed) => drop(listed),
    }
    Ok(foreseen)
}
