//! What an open of a file asks of its stream: a copy that holds all that the service shows.

use crate::error::Error;
use crate::fetch::download::first_copy::{self, Interest};
use crate::fetch::freshness::refresh;
use crate::fetch::readahead::prefetch;
use crate::fetch::shared::Wanted;
use crate::fetch::stream::state::Stream;
use std::sync::Arc;

impl Stream {
    /// Serves an open now, if that needs no call: the stream is complete and was vouched for a moment ago.
    pub fn serves_now(&self, wanted: Wanted) -> bool {
        let is_shown = || self.check_health().is_ok() && !self.streams.shared.store.is_unshown(self.id);
        self.progress.borrow().complete && is_shown() && refresh::serves_now(self, wanted)
    }

    /// Everything that the service showed when this was called is committed when it returns Ok; also makes a complete copy of an
    /// unknown stream. Dropping the future withdraws the interest. Fails as soon as the service's refusal or the retry budget says so.
    /// If the stream is complete and the refresh fails (or failed a moment ago), that is Ok: the cached copy is shown, and told to be one
    /// (see [`Stale`](crate::fetch::Stale)). Only where the cache's disk fails on the stream's own files it is an error.
    pub async fn bring_up_to_date(self: &Arc<Self>, wanted: Wanted) -> Result<(), Error> {
        let called = self.streams.begin();
        self.check_class()?;
        let row = self.row()?;
        if row.gone {
            // Its name may mean another generation by now: what is cached is all that there is.
            return if row.extent.complete { Ok(()) } else { Err(self.not_found()) };
        }
        if row.extent.complete {
            self.group.access_pattern.opened(self.id);
        } else {
            first_copy::wait(self, || self.download()).await?;
        }
        refresh::bring_up_to_date(self, called, wanted).await?;
        self.check_generation()
    }

    /// Starts (or goes on with) the download of an unknown stream, in the background, for as long as the guard lives. After a failure
    /// (see [`Progress::failure`](crate::fetch::Progress::failure)) the next call starts it again. Others of its group may be read ahead then.
    pub fn download(self: &Arc<Self>) -> Interest {
        let (interest, is_news) = first_copy::start(self);
        if is_news {
            prefetch::opened_cold(self);
        }
        interest
    }
}
