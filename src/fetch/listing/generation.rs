//! Whether a stream is still the one that its row means: the event calls give names, not generations.
//!
//! A stream that was deleted and made again answers under the old name, and its events must not be put behind the old one's. Only a listing
//! tells the two apart, by the time at which the stream was made. So before new events are put behind old ones, the newest page of the
//! group's listing is read, unless that was done within the listing's time to live: a stream that has just got events stands there, as
//! far as the listing doesn't lag. One that doesn't is found out by the next whole listing.

use crate::error::ErrorKind;
use crate::fetch::listing::listings::Listings;
use crate::fetch::service::priority::Priority;
use crate::fetch::stream::state::Lister;
use crate::model::{GroupId, StreamId};
use crate::store::{StoreError, StoreErrorKind};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How soon a page that found no room in the cache is asked for again; until then nothing is put behind old events.
const NO_ROOM: Duration = Duration::from_secs(1);

#[async_trait]
impl Lister for Arc<Listings> {
    fn learn(&self, group: GroupId, names: Vec<String>) {
        self.learn_streams(group, names);
    }

    fn is_current(&self, group: GroupId, stream: StreamId) -> bool {
        self.note_suspended();
        self.newest_pages.contains(&group) || self.confirmed.contains(&stream)
    }

    async fn renew(&self, group: GroupId) -> Result<(), StoreError> {
        let flight = self.renewals.join(group, || {
            let listings = Arc::clone(self);
            Box::pin(async move { listings.read_generations(group).await })
        });
        flight.await
    }
}

impl Listings {
    async fn read_generations(self: &Arc<Self>, group: GroupId) -> Result<(), StoreError> {
        let no_room =
            || StoreError::new(StoreErrorKind::NoSpace, "what tells whether its streams were made again finds no room");
        let Ok((row, folder)) = self.folder(group) else { return Ok(()) };
        if self.unkept.contains(&group) {
            return Err(no_room());
        }
        let asked = Instant::now();
        match self.read_newest_page(&row, Priority::Following, folder.progress().is_known()).await {
            // There may be room soon.
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                self.unkept.insert(group, asked + NO_ROOM);
                Err(no_room())
            }
            Err(error) => {
                tracing::debug!(%error, "whether streams were made again isn't known");
                // Until it is asked for again rows are taken for what they were.
                self.newest_pages.insert(group, asked + self.settings().listing_ttl);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// The newest page of a group's listing, asked for at `asked`, is stored.
    pub(crate) fn note_newest_page(&self, group: GroupId, asked: Instant) {
        self.newest_pages.insert(group, asked + self.settings().listing_ttl);
    }

    /// The service has just told of the stream.
    pub(crate) fn note_confirmed(&self, stream: StreamId) {
        self.confirmed.insert(stream, Instant::now() + self.settings().listing_ttl);
    }
}
