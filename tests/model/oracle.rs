//! What must hold of everything that is shown, at every moment.

use super::harness::{Verdict, World};
use super::reference::Tally;
use crate::model::{LogEvent, StreamId, Timestamp};
use crate::render::{Format, render};
use crate::store::row::StreamRow;
use std::collections::BTreeSet;

/// What is said of a row on whose files the disk fails, and of none else.
const UNREADABLE: &str = "it can't be read";

/// What was ever shown of a row.
pub(crate) struct Shown {
    pub(crate) text: Vec<u8>,
    /// Bytes that could be read, more of them perhaps than were.
    len: u64,
    group: String,
    name: String,
}

fn tally(events: &[LogEvent]) -> Tally {
    let mut tally = Tally::new();
    for event in events {
        *tally.entry((event.timestamp, event.message.clone())).or_default() += 1;
    }
    tally
}

/// The first difference, told shortly.
fn more_than(left: &Tally, right: &Tally) -> Option<String> {
    let over = left.iter().find(|(event, count)| right.get(event).copied().unwrap_or(0) < **count);
    over.map(|((stamp, message), count)| {
        let message: String = message.chars().take(20).collect();
        let other = right.iter().find(|(event, _)| event.0 == *stamp && event.1.starts_with(&message));
        format!("{message:?} stamped {} {count} times instead of {}", stamp.0, other.map_or(0, |(_, count)| *count))
    })
}

impl World {
    /// Notes up to where streams could be read, without the disk.
    pub(crate) fn note_shown(&mut self) {
        let lens: Vec<_> = self.house().readers.iter().map(|(id, reader)| (*id, reader.len())).collect();
        for (id, len) in lens {
            if let Some(shown) = self.shown.get_mut(&id) {
                shown.len = shown.len.max(len);
            }
        }
    }

    /// Every row ever met keeps what was shown of it, and shows nothing that wasn't accepted.
    pub(crate) fn check(&mut self) -> Verdict {
        let mut ids: BTreeSet<StreamId> = self.shown.keys().copied().collect();
        let read = |e| format!("the catalogue can't be read: {e}");
        let store = self.house().store.clone();
        for group in store.groups_after(0, 100).map_err(read)? {
            ids.extend(store.streams_after(group.id, 0, 100).map_err(read)?.iter().map(|row| row.id));
        }
        for id in ids {
            let row = store.stream(id).map_err(read)?.ok_or_else(|| format!("row {} is lost", id.0))?;
            match self.check_row(&row) {
                Err(what) if what.starts_with(UNREADABLE) && self.failing.contains_key(&id) => {}
                checked => checked.map_err(|what| format!("row {} ({}): {what}", id.0, row.stream.name))?,
            }
        }
        Ok(())
    }

    fn check_row(&mut self, row: &StreamRow) -> Verdict {
        let house = self.house();
        // A row whose index was lost was ended, and what it had is under another one.
        if row.gone && self.failing.contains_key(&row.id) {
            return Ok(());
        }
        let read = |e| format!("{UNREADABLE}: {e}");
        let group = house.store.group(row.group).map_err(read)?.ok_or("its group is lost")?.group.name;
        let reader = house.store.reader(row.id, &Format::Message).map_err(read)?;
        let text = match reader.read_at(0, usize::MAX) {
            Err(error) if self.is_away(&error) || self.failing.contains_key(&row.id) => {
                let shown = self.shown.get(&row.id).map_or(0, |shown| shown.len);
                return if reader.len() >= shown { Ok(()) } else { Err("it has become shorter".into()) };
            }
            text => text.map_err(read)?,
        };
        if text.len() as u64 != row.extent.text_len || reader.len() != row.extent.text_len {
            return Err(format!("{} bytes are shown, {} are in its row", text.len(), row.extent.text_len));
        }
        let grown = match self.shown.get(&row.id) {
            Some(shown) if !text.starts_with(&shown.text) || (text.len() as u64) < shown.len => {
                return Err(format!("shown were {} bytes, of which not all are there now", shown.len));
            }
            Some(shown) if (&shown.group, &shown.name) != (&group, &row.stream.name) => {
                return Err(format!("it was {}", shown.name));
            }
            Some(shown) => text.len() > shown.text.len(),
            None => true,
        };
        let fresh = !house.readers.contains_key(&row.id);
        if grown || fresh {
            let events = house.store.events(row.id).map_err(read)?;
            if events.len() as u64 != row.extent.events {
                return Err(format!("{} events in its index, {} in its row", events.len(), row.extent.events));
            }
            let mut rendered = Vec::with_capacity(text.len());
            events.iter().for_each(|event| render(&Format::Message, "", "", event, &mut rendered));
            if rendered != text {
                return Err("the text isn't what its index tells".into());
            }
            let (memory, shown) = (self.service.memory(), tally(&events));
            let accepted = memory.accepted(&group, &row.stream.name, row.stream.created, true);
            // A row that held nothing may get a later generation's events alone: they are mixed with none.
            let is_of_one = || {
                memory.later(&group, &row.stream.name, row.stream.created).any(|one| more_than(&shown, &one).is_none())
            };
            if let Some(what) = more_than(&shown, &accepted)
                && !is_of_one()
            {
                return Err(format!("there is {what}"));
            }
        }
        let len = text.len() as u64;
        self.shown.insert(row.id, Shown { text, len, group, name: row.stream.name.clone() });
        self.keep_reader(row.id, reader);
        Ok(())
    }

    /// An open that began at `called` brought what the service showed then, or says that it shows the copy as it is.
    pub(crate) fn check_open(&self, id: StreamId, called: Timestamp) -> Verdict {
        if self.house().fetch.stale(id).is_some() {
            return Ok(());
        }
        let store = &self.house().store;
        let read = |e| format!("row {} can't be read: {e}", id.0);
        let row = store.stream(id).map_err(read)?.ok_or("its row is lost")?;
        if row.gone {
            return Ok(());
        }
        if !row.extent.complete {
            return Err("it isn't complete".into());
        }
        let group = store.group(row.group).map_err(read)?.ok_or("its group is lost")?.group.name;
        let owed = self.service.memory().owed(&group, &row.stream.name, row.stream.created, called);
        let events = match store.events(id) {
            Err(error) if self.is_away(&error) || self.failing.contains_key(&id) => return Ok(()),
            events => events.map_err(read)?,
        };
        more_than(&owed, &tally(&events)).map_or(Ok(()), |what| Err(format!("the open didn't bring {what}")))
    }

    /// A living stream that was just opened is whole.
    pub(crate) fn check_whole(&self, id: StreamId, created: Timestamp) -> Verdict {
        let store = &self.house().store;
        let read = |e| format!("row {} can't be read: {e}", id.0);
        let row = store.stream(id).map_err(read)?.ok_or("its row is lost")?;
        let group = store.group(row.group).map_err(read)?.ok_or("its group is lost")?.group.name;
        let name = &row.stream.name;
        if row.stream.created != created {
            return Err(format!("{name} is taken for its generation of {}", row.stream.created.0));
        }
        if !row.extent.complete {
            return Err(format!("{name} was opened and isn't complete"));
        }
        let events = store.events(id).map_err(read)?;
        let mut json = Vec::new();
        events.iter().for_each(|event| render(&Format::JsonLines, &group, name, event, &mut json));
        let reader = store.reader(id, &Format::JsonLines).map_err(read)?;
        while !reader.make().map_err(read)? {}
        if reader.read_at(0, usize::MAX).map_err(read)? != json {
            return Err(format!("{name} as JSON isn't what its index tells"));
        }
        let accepted = self.service.memory().accepted(&group, name, created, false);
        match more_than(&accepted, &tally(&events)) {
            Some(what) => Err(format!("accepted was in {group} {name}: {what}")),
            None => {
                more_than(&tally(&events), &accepted).map_or(Ok(()), |what| Err(format!("{name}: there is {what}")))
            }
        }
    }
}
