//! What is read ahead of programs that walk through a group, and by which call. Pure.
//!
//! The two event calls have quotas of their own. FilterLogEvents reads up to a hundred streams at once: a call more proves the ends of
//! all of them, but they grow side by side, and none is whole before the last page. GetLogEvents reads one stream, and its end takes two
//! calls more. So the small streams come by FilterLogEvents, those that a walk comes to next by GetLogEvents if they are larger, and those
//! behind them, of whatever size, by FilterLogEvents: as many as are whole before the walk is there.
//!
//! The service tells no sizes. They are judged by what was seen: how much of the time between a stream's first and last event it took.

use crate::fetch::readahead::walkers::{Ranks, Walkers};
use crate::fetch::stream::page::NAMES;
use crate::fetch::stream::via::Via;
use crate::model::{StreamId, Timestamp};
use std::collections::HashMap;

/// A stream with more bytes of messages isn't small: reading it ahead by itself is worth its calls.
const LARGE: f64 = (256 << 10) as f64;
/// One with more bytes left is read by itself, by whatever call: the end is a small part of it.
const HUGE: f64 = (8 << 20) as f64;
/// Pages after which is looked at where the bytes are.
pub(crate) const JUDGED: usize = 4;
/// Pages of the whole group that are read at most, beside those that reading by names would cost.
const WHOLE: usize = 8;
/// Fewest and most pages that a read by names is made for.
const READ: (f64, f64) = (3.0, 12.0);
/// What is left is shared out in reads of one in so many, so that both calls end together.
const SHARES: f64 = 4.0;
/// A read by names goes on for so many times the pages that it was made for.
const TOO_LONG: f64 = 2.0;
/// Events by which what was seen of a stream may be too many or too few.
const DOUBT: f64 = 4.0;
/// Bytes of a page, until one was seen: messages, without what the service counts beside them.
const PAGE: f64 = 1e6;
/// Downloads ahead of the walks, at most …
const DOWNLOADS: usize = 16;
/// … and streams …
const STREAMS: usize = 1_000;
/// … and bytes that were read by names.
const BYTES: f64 = (64 << 20) as f64;

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is still to be read.
    Unread,
    /// A read by names has it, or had it to its end.
    Swept,
    /// A download ahead of the walk has it, or had it.
    Download,
    /// Other reads have it: what a read by names brings may stand behind a hole.
    Others,
}

/// One stream, as the catalogue tells of it when the read ahead begins.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: StreamId,
    /// Exact name.
    pub(crate) name: String,
    /// First and last event, as far as the listing tells.
    pub(crate) span: Option<(Timestamp, Timestamp)>,
    /// Bytes of messages that are stored, up to this moment.
    pub(crate) stored: Option<(u64, Timestamp)>,
}

#[derive(Debug)]
struct Stream {
    member: Member,
    ranks: Ranks,
    fate: Fate,
    /// Nothing of it was stored, by this read or before it.
    new: bool,
    /// Bytes of messages that this read has brought …
    bytes: u64,
    /// … and the moment up to which it has read the stream; `None`: nothing yet.
    reach: Option<Timestamp>,
    /// It was read past its last known event, and had more.
    overran: bool,
}

impl Stream {
    /// Bytes that were seen of it behind its first event, and which part of its life they are of; `None` if nothing of that was read.
    fn seen(&self, event: f64) -> Option<(f64, f64)> {
        let seen = self.reach.map(|reach| (self.bytes, reach));
        let stored = self.member.stored.filter(|(bytes, _)| *bytes > self.bytes);
        let ((bytes, to), (first, last)) = stored.or(seen).zip(self.member.span)?;
        let part = (to.0.min(last.0) - first.0 + 1) as f64 / (last.0 - first.0 + 1) as f64;
        // A life begins with an event: that one says nothing of how many follow.
        (part > 0.0).then_some(((bytes as f64 - event).max(0.0), part))
    }

    /// Bytes expected in all, by what is known of the group.
    fn size(&self, known: &Known) -> f64 {
        let doubt = DOUBT * known.event;
        match self.seen(known.event) {
            // A few events more or less say little: the less was seen of it, the more it counts as one like the others.
            Some((bytes, part)) => known.event + (bytes + doubt) / (part + doubt / known.mean.max(1.0)),
            None if self.member.span.is_none() => self.bytes as f64,
            // It isn't taken for large before anything tells so.
            None => (known.event + known.mean).min(LARGE),
        }
    }

    /// Bytes expected that this read hasn't brought yet.
    fn rest(&self, known: &Known) -> f64 {
        let rest = self.size(known) - self.bytes as f64;
        if self.overran { rest.max(self.bytes as f64 / 2.0) } else { rest.max(0.0) }
    }
}

/// What is known of a group's streams in common.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Bytes of a stream behind its first event, in the mean.
    mean: f64,
    /// Bytes of an event.
    event: f64,
    /// Bytes of a page.
    page: f64,
}

/// What may begin now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Downloads by GetLogEvents.
    pub(crate) get: usize,
    /// Downloads by FilterLogEvents.
    pub(crate) filter: usize,
    /// Reads by names.
    pub(crate) names: usize,
    /// Calls a second; zero where the group refuses the call.
    pub(crate) get_rate: f64,
    pub(crate) filter_rate: f64,
}

/// What is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// These streams from this moment on, in one read of so many pages at most.
    Names { names: Vec<String>, from: Option<Timestamp>, pages: usize },
    /// One stream.
    Download(StreamId, Via),
}

/// The streams of a group, and what becomes of each.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In the listing's order.
    streams: Vec<Stream>,
    by_name: HashMap<String, usize>,
    by_id: HashMap<StreamId, usize>,
    walkers: Walkers,
    /// Bytes of the largest page seen.
    page: f64,
    /// Of all pages seen.
    bytes: u64,
    events: u64,
}

impl Plan {
    /// Of streams in the listing's order.
    pub(crate) fn new(members: Vec<Member>) -> Plan {
        let mut by_names: Vec<usize> = (0..members.len()).collect();
        by_names.sort_by(|a, b| members[*a].name.cmp(&members[*b].name));
        let mut names = vec![0; members.len()];
        by_names.iter().enumerate().for_each(|(rank, at)| names[*at] = rank as i64);
        let stream = |(at, member): (usize, Member)| Stream {
            ranks: Ranks { listing: at as i64, names: names[at] },
            fate: Fate::Unread,
            new: member.stored.is_none(),
            bytes: 0,
            reach: None,
            overran: false,
            member,
        };
        let streams: Vec<Stream> = members.into_iter().enumerate().map(stream).collect();
        let by_name = streams.iter().enumerate().map(|(at, stream)| (stream.member.name.clone(), at)).collect();
        let by_id = streams.iter().enumerate().map(|(at, stream)| (stream.member.id, at)).collect();
        Plan { streams, by_name, by_id, walkers: Walkers::default(), page: 0.0, bytes: 0, events: 0 }
    }

    /// How many streams there are.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// A program searches what it lists.
    pub(crate) fn search(&mut self) {
        self.walkers.search();
    }

    /// A program opens a stream.
    pub(crate) fn opened(&mut self, id: StreamId) {
        if let Some(at) = self.by_id.get(&id) {
            self.walkers.opened(self.streams[*at].ranks);
        }
    }

    /// A page of several streams holds so many bytes of so many events.
    pub(crate) fn page_holds(&mut self, bytes: u64, events: usize) {
        self.page = self.page.max(bytes as f64);
        self.bytes += bytes;
        self.events += events as u64;
    }

    /// A read brings `bytes` of a stream; gives it, and whether nothing of it was stored before, unless other reads have it.
    pub(crate) fn brings(&mut self, name: &str, bytes: u64) -> Option<(StreamId, bool)> {
        let stream = &mut self.streams[*self.by_name.get(name)?];
        stream.bytes += bytes;
        let is_taken = stream.fate == Fate::Others;
        (!is_taken).then(|| (stream.member.id, std::mem::take(&mut stream.new)))
    }

    /// What a read by names would bring next of this stream might stand behind a hole: others have it.
    pub(crate) fn leave(&mut self, id: StreamId) {
        if let Some(at) = self.by_id.get(&id) {
            self.streams[*at].fate = Fate::Others;
        }
    }

    /// A read of these streams, or of all, has come up to `reach`.
    pub(crate) fn reached(&mut self, names: Option<&[String]>, reach: Option<Timestamp>) {
        match names {
            None => self.streams.iter_mut().for_each(|stream| stream.reach = reach),
            Some(names) => self.each(names, |stream| stream.reach = reach),
        }
    }

    /// A read by names has stopped before its end: they are still to be read.
    pub(crate) fn stopped(&mut self, names: &[String]) {
        self.each(names, |stream| {
            if stream.fate == Fate::Swept {
                stream.fate = Fate::Unread;
                stream.overran = stream.member.span.zip(stream.reach).is_none_or(|((_, last), reach)| reach >= last);
            }
        });
    }

    /// As [`leave`](Plan::leave).
    pub(crate) fn leave_all(&mut self, names: &[String]) {
        self.each(names, |stream| stream.fate = Fate::Others);
    }

    fn each(&mut self, names: &[String], mut act: impl FnMut(&mut Stream)) {
        for name in names {
            if let Some(at) = self.by_name.get(name) {
                act(&mut self.streams[*at]);
            }
        }
    }

    /// Those of a read that has come to its end (all, or these) which it has read from their beginning to there, and whether the
    /// listing tells of events.
    pub(crate) fn ended(&self, names: Option<&[String]>) -> Vec<(StreamId, bool)> {
        let all: Box<dyn Iterator<Item = &Stream>> = match names {
            None => Box::new(self.streams.iter()),
            Some(names) => Box::new(names.iter().filter_map(|name| Some(&self.streams[*self.by_name.get(name)?]))),
        };
        let whole = all.filter(|stream| stream.fate != Fate::Others);
        whole.map(|stream| (stream.member.id, stream.member.span.is_some())).collect()
    }

    /// Whether reading the whole group, of which so many pages came, is worth going on with: the rest of it isn't much, and doesn't
    /// belong to a few large streams.
    pub(crate) fn is_worth_all(&self, pages: usize) -> bool {
        let by_names = 3 * self.len().div_ceil(NAMES);
        let most = (WHOLE + by_names) as f64;
        if pages == 0 {
            return !self.streams.iter().any(|stream| stream.member.stored.is_some_and(|(b, _)| b as f64 > LARGE));
        }
        let known = self.known();
        let rest: f64 = self.streams.iter().map(|stream| stream.rest(&known)).sum();
        let is_much = pages >= JUDGED && pages as f64 + rest / known.page > most;
        (pages as f64) < most && !is_much && !(pages >= JUDGED && self.is_lopsided())
    }

    /// Most of what was read belongs to large streams.
    fn is_lopsided(&self) -> bool {
        is_lopsided(self.streams.iter().map(|stream| stream.bytes))
    }

    /// What begins next, if anything may.
    pub(crate) fn next(&mut self, room: &Room) -> Option<Job> {
        let known = self.known();
        let may_download = (room.get > 0 || room.filter > 0) && self.is_near(Fate::Download, &known);
        let may_sweep = room.names > 0 && self.is_near(Fate::Swept, &known);
        if !may_download && !may_sweep {
            return None;
        }
        let queue = self.queue();
        let first = |is_wanted: &dyn Fn(&Stream) -> bool| {
            queue.iter().find(|(at, ahead)| *ahead && is_wanted(&self.streams[*at])).map(|(at, _)| *at)
        };
        if may_download
            && room.get > 0
            && let Some(at) = first(&|stream| stream.size(&known) > LARGE)
        {
            return Some(self.download(at, Via::Get));
        }
        if may_sweep {
            let names = self.chunk(&queue, room, &known);
            if !names.is_empty() {
                return Some(self.sweep(&names, &known));
            }
        }
        let huge = first(&|stream| stream.rest(&known) > HUGE).filter(|_| may_download && room.filter > 0)?;
        Some(self.download(huge, Via::Filter))
    }

    /// Nothing is left to begin, wherever the walks go.
    pub(crate) fn is_over(&self) -> bool {
        self.streams.iter().all(|stream| stream.fate != Fate::Unread)
    }

    /// What is to be read, and whether a walk comes to it: the nearest first, and what lies behind the walks last.
    fn queue(&self) -> Vec<(usize, bool)> {
        let unread = (0..self.streams.len()).filter(|at| self.streams[*at].fate == Fate::Unread);
        let mut queue: Vec<(usize, i64)> =
            unread.map(|at| (at, self.walkers.distance(self.streams[at].ranks).unwrap_or(i64::MAX))).collect();
        // A stable sort: what no walk comes to stays in the listing's order.
        queue.sort_by_key(|(_, distance)| *distance);
        queue.into_iter().map(|(at, distance)| (at, distance != i64::MAX)).collect()
    }

    /// Streams for one read by names: small ones as they come, and larger ones that the walk comes to only after the read has ended.
    fn chunk(&self, queue: &[(usize, bool)], room: &Room, known: &Known) -> Vec<usize> {
        let rests = || queue.iter().map(|(at, _)| self.streams[*at].rest(known)).filter(|rest| *rest <= HUGE);
        let pages = (rests().sum::<f64>() / known.page / SHARES).clamp(READ.0, READ.1);
        let takes = (pages + 1.0) / room.filter_rate;
        let mut downloads = 0.0;
        let (mut names, mut bytes, mut from) = (Vec::new(), 0.0, None);
        for (at, ahead) in queue {
            let stream = &self.streams[*at];
            let (size, rest) = (stream.size(known), stream.rest(known));
            if rest > HUGE || (size > LARGE && !ahead) {
                continue;
            }
            if size > LARGE && downloads < takes && room.get_rate > 0.0 {
                // Its two calls for the end counted in.
                downloads += ((rest / known.page).ceil() + 2.0) / room.get_rate;
                continue;
            }
            // Those are read together that stand at the same moment, or some would come twice.
            if *from.get_or_insert(stream.reach) != stream.reach {
                continue;
            }
            bytes += rest;
            names.push(*at);
            if names.len() == NAMES || bytes >= pages * known.page {
                break;
            }
        }
        names
    }

    fn sweep(&mut self, chosen: &[usize], known: &Known) -> Job {
        let bytes: f64 = chosen.iter().map(|at| self.streams[*at].rest(known)).sum();
        let pages = (bytes / known.page).max(READ.0) * TOO_LONG;
        let from = self.streams[chosen[0]].reach;
        let mut names = Vec::with_capacity(chosen.len());
        for at in chosen {
            self.streams[*at].fate = Fate::Swept;
            names.push(self.streams[*at].member.name.clone());
        }
        Job::Names { names, from, pages: pages as usize }
    }

    fn download(&mut self, at: usize, via: Via) -> Job {
        self.streams[at].fate = Fate::Download;
        Job::Download(self.streams[at].member.id, via)
    }

    /// Whether so much isn't read ahead of the walks yet that no more may be.
    fn is_near(&self, fate: Fate, known: &Known) -> bool {
        let ahead = self.streams.iter().filter(|stream| stream.fate == fate);
        let ahead = ahead.filter(|stream| self.walkers.distance(stream.ranks).is_some());
        let (count, bytes) = ahead.fold((0, 0.0), |(count, bytes), stream| (count + 1, bytes + stream.size(known)));
        match fate {
            Fate::Download => count < DOWNLOADS,
            _ => count < STREAMS && bytes < BYTES,
        }
    }

    fn known(&self) -> Known {
        let event = self.bytes as f64 / self.events.max(1) as f64;
        let page = if self.page > 0.0 { self.page } else { PAGE };
        let seen = self.streams.iter().filter_map(|stream| stream.seen(event));
        let (bytes, parts) = seen.fold((0.0, 0.0), |(bytes, parts), (more, part)| (bytes + more, parts + part));
        Known { mean: if parts > 0.0 { bytes / parts } else { 0.0 }, event, page }
    }
}

/// Most of so many bytes, by stream, belong to large ones.
pub(crate) fn is_lopsided(sizes: impl Iterator<Item = u64>) -> bool {
    let part = |bytes: u64| if bytes as f64 > LARGE { bytes } else { 0 };
    let (all, large) = sizes.fold((0, 0), |(all, large), bytes| (all + bytes, large + part(bytes)));
    large * 2 > all
}

#[cfg(test)]
mod tests;
