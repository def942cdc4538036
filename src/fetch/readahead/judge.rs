//! What both reads ahead of a walk go by: whether a group is listed, where its bytes are, and what a page is asked for with. Pure.

use crate::fetch::listing::progress::{Phase, Progress};
use crate::fetch::stream::state::Group;
use crate::fetch::stream::watermark::AHEAD;
use crate::model::Timestamp;
use crate::source::FilterEvents;

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

/// A page of `names` (all, if empty) from `from` on, for a read that began at `began`.
pub(crate) fn request(
    group: &Group,
    names: &[String],
    from: Option<Timestamp>,
    began: Timestamp,
    token: Option<String>,
) -> FilterEvents {
    let (group, streams) = (group.name.clone(), names.to_vec());
    FilterEvents { group, streams, start: from, end: Some(began + AHEAD), token, limit: None }
}
