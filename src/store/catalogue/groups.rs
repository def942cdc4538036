//! Groups in the catalogue.

use super::naming::{Called, Rows, by_name, named, slug_for};
use super::rows::GroupRecord;
use super::{COUNTERS, Catalogue, GROUPS, NAMES, NEXT_ID, NEXT_SEQ, ORDER, ROOT, SLUGS, take_number};
use crate::model::{GroupId, LogGroup, Timestamp};
use crate::store::names::{Names, hash64};
use crate::store::row::{GroupRow, Named, Vouch};
use crate::store::{StoreError, StoreErrorKind};
use redb::{ReadableTable, Table, WriteTransaction};

struct Groups<'a, T>(&'a T);

impl<T: ReadableTable<u64, &'static [u8]>> Rows for Groups<'_, T> {
    type Record = GroupRecord;

    fn record(&self, id: u64) -> Result<Option<GroupRecord>, StoreError> {
        get(self.0, id)
    }

    fn called(record: &GroupRecord) -> Called<'_> {
        Called { exact: &record.row.group.name, slug: &record.row.slug, gone: record.gone }
    }
}

pub(super) fn get(groups: &impl ReadableTable<u64, &'static [u8]>, id: u64) -> Result<Option<GroupRecord>, StoreError> {
    groups.get(id)?.map(|row| GroupRecord::decode(row.value())).transpose()
}

/// What a listing makes of a group's row; `None` if it says that this is another generation.
fn merged(old: &LogGroup, new: &LogGroup) -> Option<LogGroup> {
    match (old.created.0, new.created.0) {
        (0, _) => Some(new.clone()),
        (_, 0) => Some(LogGroup { created: old.created, ..new.clone() }),
        // Listings lag: an older creation time is the group that was deleted.
        (a, b) if b < a => Some(old.clone()),
        (a, b) if b > a => None,
        _ => Some(new.clone()),
    }
}

impl Catalogue {
    /// Writes what a listing brought; no commit if it brought nothing new.
    pub(crate) fn upsert_groups(&self, listed: &[LogGroup]) -> Result<Vec<GroupRow>, StoreError> {
        let known = self.read(|tx| {
            let (names, groups) = (tx.open_table(NAMES)?, tx.open_table(GROUPS)?);
            let groups = Groups(&groups);
            let mut rows = Vec::with_capacity(listed.len());
            for group in listed {
                let Some(id) = by_name(&names, &groups, ROOT, &group.name)? else { return Ok(None) };
                match groups.record(id)? {
                    Some(record) if merged(&record.row.group, group).as_ref() == Some(&record.row.group) => {
                        rows.push(record.row);
                    }
                    _ => return Ok(None),
                }
            }
            Ok(Some(rows))
        })?;
        let mut rows = match known {
            Some(rows) => rows,
            None => {
                let rows = self.write(|tx| listed.iter().map(|group| upsert(tx, group)).collect::<Result<_, _>>())?;
                self.listing_changed(ROOT);
                rows
            }
        };
        rows.iter_mut().for_each(|row| self.overlay(row));
        Ok(rows)
    }

    /// A group's row, gone ones too.
    pub(crate) fn group(&self, id: GroupId) -> Result<Option<GroupRow>, StoreError> {
        let record = self.read(|tx| get(&tx.open_table(GROUPS)?, id.0))?;
        Ok(record.map(|mut record| {
            self.overlay(&mut record.row);
            record.row
        }))
    }

    /// The group of an exact name.
    pub(crate) fn group_by_name(&self, name: &str) -> Result<Option<GroupRow>, StoreError> {
        let found = self.read(|tx| by_name(&tx.open_table(NAMES)?, &Groups(&tx.open_table(GROUPS)?), ROOT, name))?;
        match found {
            Some(id) => self.group(GroupId(id)),
            None => Ok(None),
        }
    }

    /// What a name means where listings name things so.
    pub(crate) fn group_named(&self, name: &str, listed: Names) -> Result<Named<GroupRow>, StoreError> {
        let found = self.read(|tx| {
            let groups = tx.open_table(GROUPS)?;
            named(&tx.open_table(NAMES)?, &tx.open_table(SLUGS)?, &Groups(&groups), ROOT, name, listed)
        })?;
        Ok(found.map(|mut record| {
            self.overlay(&mut record.row);
            record.row
        }))
    }

    /// Up to `max` groups after `seq`.
    pub(crate) fn groups_after(&self, seq: u64, max: usize) -> Result<Vec<GroupRow>, StoreError> {
        let mut rows = self.read(|tx| {
            let (order, groups) = (tx.open_table(ORDER)?, tx.open_table(GROUPS)?);
            let groups = Groups(&groups);
            let mut rows = Vec::new();
            for found in order.range((ROOT, seq.saturating_add(1))..=(ROOT, u64::MAX))?.take(max) {
                rows.extend(groups.record(found?.1.value())?.map(|r| r.row));
            }
            Ok(rows)
        })?;
        rows.iter_mut().for_each(|row| self.overlay(row));
        Ok(rows)
    }

    /// Marks a group as gone.
    pub(crate) fn forget_group(&self, id: GroupId) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut groups = tx.open_table(GROUPS)?;
            let Some(mut record) = get(&groups, id.0)? else { return Err(missing(id)) };
            if !record.gone {
                record.gone = true;
                groups.insert(id.0, record.encode().as_slice())?;
                tx.open_table(NAMES)?.remove((ROOT, hash64(&record.row.group.name), id.0))?;
                tx.open_table(ORDER)?.remove((ROOT, record.row.seq))?;
            }
            Ok(())
        })?;
        self.listing_changed(ROOT);
        Ok(())
    }

    /// Remembers that a group's streams were listed to the end.
    pub(crate) fn set_walked(&self, id: GroupId, at: Timestamp) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut groups = tx.open_table(GROUPS)?;
            let Some(mut record) = get(&groups, id.0)? else { return Err(missing(id)) };
            record.row.walked_at = Some(at);
            groups.insert(id.0, record.encode().as_slice())?;
            Ok(())
        })?;
        // The folder's time is that of its last walk.
        self.listing_changed(ROOT);
        Ok(())
    }

    /// Remembers a chain of checks, in memory until the next commit.
    pub(crate) fn set_vouch(&self, id: GroupId, vouch: Vouch) {
        self.lock_vouches().insert(id.0, vouch);
    }

    pub(super) fn pending_vouches(&self) -> Vec<(u64, Vouch)> {
        self.lock_vouches().iter().map(|(id, vouch)| (*id, *vouch)).collect()
    }

    /// Forgets what is in the rows now, but not what was set meanwhile.
    pub(super) fn vouches_written(&self, written: &[(u64, Vouch)]) {
        let mut pending = self.lock_vouches();
        for (id, vouch) in written {
            if pending.get(id) == Some(vouch) {
                pending.remove(id);
            }
        }
    }

    fn overlay(&self, row: &mut GroupRow) {
        if let Some(vouch) = self.lock_vouches().get(&row.id.0) {
            row.vouch = Some(*vouch);
        }
    }
}

pub(super) fn write_vouches(tx: &WriteTransaction, vouches: &[(u64, Vouch)]) -> Result<(), StoreError> {
    if vouches.is_empty() {
        return Ok(());
    }
    let mut groups = tx.open_table(GROUPS)?;
    for (id, vouch) in vouches {
        if let Some(mut record) = get(&groups, *id)? {
            record.row.vouch = Some(*vouch);
            groups.insert(*id, record.encode().as_slice())?;
        }
    }
    Ok(())
}

fn upsert(tx: &WriteTransaction, listed: &LogGroup) -> Result<GroupRow, StoreError> {
    let mut names = tx.open_table(NAMES)?;
    let mut order = tx.open_table(ORDER)?;
    let mut groups = tx.open_table(GROUPS)?;
    let mut slugs = tx.open_table(SLUGS)?;
    let mut counters = tx.open_table(COUNTERS)?;
    let hash = hash64(&listed.name);
    let present = by_name(&names, &Groups(&groups), ROOT, &listed.name)?;
    let (slug, last) = match present {
        Some(id) => (String::new(), Some(id)),
        None => slug_for(&slugs, &Groups(&groups), ROOT, &listed.name)?,
    };
    let old = match last {
        Some(id) => get(&groups, id)?,
        None => None,
    };
    let row = match old {
        Some(record) if !record.gone => {
            if let Some(group) = merged(&record.row.group, listed) {
                let row = GroupRow { group, ..record.row };
                return put(&mut groups, row);
            }
            let replaced = GroupRecord { gone: true, ..record };
            groups.insert(replaced.row.id.0, replaced.encode().as_slice())?;
            names.remove((ROOT, hash, replaced.row.id.0))?;
            let id = GroupId(take_number(&mut counters, NEXT_ID, super::FIRST_ID)?);
            GroupRow { id, group: listed.clone(), walked_at: None, vouch: None, ..replaced.row }
        }
        // It was only thought to be gone: the same creation time is the same group.
        Some(record) if listed.created.0 != 0 && record.row.group.created == listed.created => {
            GroupRow { group: listed.clone(), ..record.row }
        }
        _ => GroupRow {
            id: GroupId(take_number(&mut counters, NEXT_ID, super::FIRST_ID)?),
            group: listed.clone(),
            slug,
            seq: take_number(&mut counters, (NEXT_SEQ, ROOT), 1)?,
            walked_at: None,
            vouch: None,
        },
    };
    names.insert((ROOT, hash, row.id.0), ())?;
    slugs.insert((ROOT, row.slug.as_str()), row.id.0)?;
    order.insert((ROOT, row.seq), row.id.0)?;
    put(&mut groups, row)
}

fn put(groups: &mut Table<'_, u64, &'static [u8]>, row: GroupRow) -> Result<GroupRow, StoreError> {
    let record = GroupRecord { row, gone: false };
    groups.insert(record.row.id.0, record.encode().as_slice())?;
    Ok(record.row)
}

fn missing(id: GroupId) -> StoreError {
    StoreError::new(StoreErrorKind::Missing, format!("no log group has the number {}", id.0))
}
