//! What is told: lines of `mark  group/stream  text`, and a sum at the end.

use crate::model::printable;
use std::io::{self, Write};

/// How a stream came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing differed.
    Equal,
    /// What differed was fetched.
    Healed,
    /// Something differs still.
    Differs,
    /// Only a part of it is cached, so there is nothing to prove yet.
    Part,
    /// The service no longer has it.
    Gone,
    /// It couldn't be found out.
    Failed,
}

/// The first word of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Equal,
    Differs,
    Fetched,
    Stays,
    Removed,
    Gone,
    Part,
    Note,
    Failed,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Mark::Equal => "equal",
            Mark::Differs => "DIFFERS",
            Mark::Fetched => "fetched",
            Mark::Stays => "STAYS",
            Mark::Removed => "removed",
            Mark::Gone => "gone",
            Mark::Part => "part",
            Mark::Note => "note",
            Mark::Failed => "FAILED",
        }
    }
}

/// What was found out about one stream.
#[derive(Debug)]
pub(super) struct Proof {
    /// `group/stream`, exact names.
    pub(super) name: String,
    pub(super) verdict: Verdict,
    /// Events that the copy got.
    pub(super) fetched: u64,
    pub(super) lines: Vec<(Mark, String)>,
}

/// Writes proofs and counts them.
pub(super) struct Lines<'a, W: Write> {
    out: &'a mut W,
    quiet: bool,
    broken: Option<io::Error>,
    verdicts: Vec<(Verdict, u64)>,
    fetched: u64,
}

impl<'a, W: Write> Lines<'a, W> {
    pub(super) fn new(out: &'a mut W, quiet: bool) -> Lines<'a, W> {
        Lines { out, quiet, broken: None, verdicts: Vec::new(), fetched: 0 }
    }

    pub(super) fn tell(&mut self, proof: &Proof) {
        match self.verdicts.iter_mut().find(|(verdict, _)| *verdict == proof.verdict) {
            Some((_, count)) => *count += 1,
            None => self.verdicts.push((proof.verdict, 1)),
        }
        self.fetched += proof.fetched;
        let name = printable(&proof.name);
        for (mark, text) in &proof.lines {
            if !(self.quiet && *mark == Mark::Equal) {
                self.line(&format!("{:<7}  {name}  {}", mark.word(), printable(text)));
            }
        }
    }

    /// The sum. True if nothing differs and nothing failed; nothing at all is a failure where something was `named`.
    pub(super) fn end(mut self, named: bool) -> bool {
        let of = |wanted: Verdict| self.verdicts.iter().find(|(verdict, _)| *verdict == wanted).map_or(0, |(_, n)| *n);
        let all: u64 = self.verdicts.iter().map(|(_, count)| count).sum();
        let (differs, failed) = (of(Verdict::Differs), of(Verdict::Failed));
        let parts: Vec<String> = [
            (of(Verdict::Equal), "equal"),
            (of(Verdict::Healed), "equal now"),
            (differs, "still different"),
            (of(Verdict::Part), "cached in part"),
            (of(Verdict::Gone), "gone from the service"),
            (failed, "failed"),
        ]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        let events = match self.fetched {
            0 => String::new(),
            1 => "; 1 event was missing and fetched".into(),
            n => format!("; {n} events were missing and fetched"),
        };
        match (all, named) {
            (0, true) => self.line("nothing that is cached has such a name"),
            (0, false) => self.line("nothing is cached yet"),
            (1, _) => self.line(&format!("1 stream: {}{events}", parts.join(", "))),
            _ => self.line(&format!("{all} streams: {}{events}", parts.join(", "))),
        }
        differs == 0 && failed == 0 && !(all == 0 && named) && self.broken.is_none()
    }

    fn line(&mut self, text: &str) {
        if self.broken.is_none() {
            self.broken = writeln!(self.out, "{text}").and_then(|()| self.out.flush()).err();
        }
    }
}
