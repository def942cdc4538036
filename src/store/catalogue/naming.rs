//! From names to ids: exact names by hash, slugs, and the giving of slugs.
//!
//! A slug belongs to an exact name for ever: the table keeps it when the row is gone, so that a stream made again gets the name it had and
//! no other ever does. The same goes for a slug with the name's hash, though the table has that only where the row is listed by it.
//! Everything is found in O(log n).

use crate::store::StoreError;
use crate::store::names::{Form, Names, candidates, form, hash_asked, hash64, slug_of, slug_with_hash};
use crate::store::row::Named;
use redb::{ReadableTable, Table};

/// What a row is called.
pub(super) struct Called<'a> {
    pub(super) exact: &'a str,
    pub(super) slug: &'a str,
    pub(super) gone: bool,
}

/// Rows of either kind, by id.
pub(super) trait Rows {
    type Record;
    /// A row, gone ones too.
    fn record(&self, id: u64) -> Result<Option<Self::Record>, StoreError>;
    /// What it is called.
    fn called(record: &Self::Record) -> Called<'_>;
}

/// The present row of an exact name.
pub(super) fn by_name<R: Rows>(
    names: &impl ReadableTable<(u64, u64, u64), ()>,
    rows: &R,
    parent: u64,
    name: &str,
) -> Result<Option<u64>, StoreError> {
    let hash = hash64(name);
    for found in names.range((parent, hash, 0)..=(parent, hash, u64::MAX))? {
        let id = found?.0.value().2;
        if rows.record(id)?.is_some_and(|record| R::called(&record).exact == name) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// What a name means where listings name things so.
pub(super) fn named<R: Rows>(
    names: &impl ReadableTable<(u64, u64, u64), ()>,
    slugs: &impl ReadableTable<(u64, &'static str), u64>,
    rows: &R,
    parent: u64,
    name: &str,
    listed: Names,
) -> Result<Named<R::Record>, StoreError> {
    let Some(form) = form(name, listed) else { return Ok(Named::Nothing) };
    if let Form::Exact(exact) = form {
        let record = match by_name(names, rows, parent, &exact)? {
            Some(id) => rows.record(id)?,
            None => None,
        };
        return Ok(record.map_or(Named::Exact(exact), Named::Row));
    }
    if let Some(id) = slugs.get((parent, name))?.map(|v| v.value())
        && let Some(record) = rows.record(id)?
    {
        let Called { exact, gone, .. } = R::called(&record);
        return Ok(if gone { Named::Exact(exact.to_owned()) } else { Named::Row(record) });
    }
    let Some(hash) = hash_asked(name) else {
        return Ok(if form == Form::Slug { Named::Slug } else { Named::Hashed });
    };
    let first = u64::from(hash) << 32;
    for found in names.range((parent, first, 0)..=(parent, first | u64::from(u32::MAX), u64::MAX))? {
        let Some(record) = rows.record(found?.0.value().2)? else { continue };
        let Called { exact, slug, .. } = R::called(&record);
        // One that was given more digits came after the one whose name this is.
        if slug_with_hash(exact) == name && slug == slug_of(exact) {
            return Ok(Named::Row(record));
        }
    }
    Ok(Named::Hashed)
}

/// The slug of a name that isn't among the present ones, and the newest generation that had it before, if any.
pub(super) fn slug_for<R: Rows>(
    slugs: &Table<'_, (u64, &'static str), u64>,
    rows: &R,
    parent: u64,
    name: &str,
) -> Result<(String, Option<u64>), StoreError> {
    let hashed = slug_with_hash(name);
    let mut hash_is_taken = false;
    for slug in candidates(name) {
        match slugs.get((parent, slug.as_str()))?.map(|v| v.value()) {
            None if slug == hashed && hash_is_taken => {}
            None => return Ok((slug, None)),
            Some(id) => {
                if let Some(record) = rows.record(id)? {
                    let holder = R::called(&record).exact;
                    if holder == name {
                        return Ok((slug, Some(id)));
                    }
                    // The table has it by its bare slug, and it is found by the slug with the hash all the same.
                    hash_is_taken |= slug_with_hash(holder) == hashed;
                }
            }
        }
    }
    unreachable!("candidates never end")
}
