//! From names to ids: exact names by hash, slugs, and the giving of slugs.
//!
//! A slug belongs to an exact name for ever: the table keeps it when the row is gone, so that a stream made again gets the name it had and
//! nobody else ever does. Everything is found in O(log n).

use crate::store::StoreError;
use crate::store::names::{candidates, hash_asked, hash64, slug_with_hash};
use redb::{ReadableTable, Table};

/// Rows of either kind, by id.
pub(super) trait Named {
    /// The exact name of a row and whether it is gone.
    fn name_of(&self, id: u64) -> Result<Option<(String, bool)>, StoreError>;
}

/// The present row of an exact name.
pub(super) fn by_name(
    names: &impl ReadableTable<(u64, u64, u64), ()>,
    rows: &impl Named,
    parent: u64,
    name: &str,
) -> Result<Option<u64>, StoreError> {
    let hash = hash64(name);
    for found in names.range((parent, hash, 0)..=(parent, hash, u64::MAX))? {
        let id = found?.0.value().2;
        if rows.name_of(id)?.is_some_and(|(exact, _)| exact == name) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The present row with this slug, as given or with a hash.
pub(super) fn by_slug(
    names: &impl ReadableTable<(u64, u64, u64), ()>,
    slugs: &impl ReadableTable<(u64, &'static str), u64>,
    rows: &impl Named,
    parent: u64,
    slug: &str,
) -> Result<Option<u64>, StoreError> {
    if let Some(id) = slugs.get((parent, slug))?.map(|v| v.value())
        && rows.name_of(id)?.is_some_and(|(_, gone)| !gone)
    {
        return Ok(Some(id));
    }
    let Some(hash) = hash_asked(slug) else { return Ok(None) };
    let first = u64::from(hash) << 32;
    for found in names.range((parent, first, 0)..=(parent, first | u64::from(u32::MAX), u64::MAX))? {
        let id = found?.0.value().2;
        if rows.name_of(id)?.is_some_and(|(exact, _)| slug_with_hash(&exact) == slug) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The slug of a name that isn't among the present ones, and the newest generation that had it before, if any.
pub(super) fn slug_for(
    slugs: &Table<'_, (u64, &'static str), u64>,
    rows: &impl Named,
    parent: u64,
    name: &str,
) -> Result<(String, Option<u64>), StoreError> {
    for slug in candidates(name) {
        match slugs.get((parent, slug.as_str()))?.map(|v| v.value()) {
            None => return Ok((slug, None)),
            Some(id) => {
                if rows.name_of(id)?.is_some_and(|(exact, _)| exact == name) {
                    return Ok((slug, Some(id)));
                }
            }
        }
    }
    unreachable!("candidates never end")
}
