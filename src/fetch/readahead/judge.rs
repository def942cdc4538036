//! What both reads ahead of a walk go by: whether a group is listed, where its bytes are, and what a page is asked for with. Pure.

use crate::fetch::listing::progress::{Phase, Progress};
use crate::fetch::stream::group_cursor::GroupCursor;
use crate::fetch::stream::merge::Counted;
use crate::fetch::stream::state::Group;
use crate::fetch::stream::watermark::AHEAD;
use crate::model::Timestamp;

/// A stream with more bytes of messages is large.
pub(crate) const LARGE: u64 = 256 << 10;
/// Pages after which is looked at where the bytes are.
pub(crate) const JUDGED: usize = 4;

/// The catalogue has the group's streams, or won't get them now.
pub(crate) fn is_listed(listing: &Progress) -> bool {
    listing.phase != Phase::First
}

/// Most of so many bytes, by stream, belong to large ones.
pub(crate) fn is_lopsided(sizes: impl Iterator<Item = u64>) -> bool {
    let (all, large) =
        sizes.fold((0, 0), |(all, large), bytes| (all + bytes, large + if bytes > LARGE { bytes } else { 0 }));
    large * 2 > all
}

/// Bytes of messages.
pub(crate) fn bytes(events: &[Counted]) -> u64 {
    events.iter().map(|counted| counted.event.message.len() as u64).sum()
}

/// A read of `names` (all, if empty) from `from` on, which begins at `began`.
pub(crate) fn cursor(group: &Group, names: Vec<String>, from: Option<Timestamp>, began: Timestamp) -> GroupCursor {
    GroupCursor::new(group, names, from, Some(began + AHEAD), began)
}
