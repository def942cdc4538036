//! `.cwlogs/`: the mount about itself.

use super::attr::Attributes;
use super::inode::Node;
use super::{Handle, Tree};
use crate::model::Timestamp;
use crate::report::errors::Entry;
use crate::report::status::StatusFacts;
use crate::sync::lock;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// The folder's name at the root; not listed.
pub(crate) const FOLDER: &str = ".cwlogs";
/// Its files.
pub(crate) const FILES: &[&str] = &["README", "status", "status.json", "errors"];

const README: &str = "\
CloudWatch Logs, mounted. Each log group is a folder, each log stream a file that grows as events arrive.

  ls, tail -f, grep -r, less +F, rg, lnav    work as on local files; what is read is fetched once and cached
  GROUP/STREAM.log                           one event after the other; .jsonl beside it: one JSON object an event
  GROUP/%2F…-encoded-exact-name.log          the exact name, percent-encoded, is always found; so is SLUG~HASH
  ls -l shows size 1                         the size isn't known before the first read

  .cwlogs/status   what the mount is doing      .cwlogs/errors   the newest errors, and what to do
";

/// A text agreed upon for a moment, so that stat, open and read of one program see the same.
const AGREED: Duration = Duration::from_secs(1);

/// The newest text of each file.
#[derive(Default)]
pub(crate) struct Snapshots(Mutex<HashMap<u64, (Instant, Bytes)>>);

impl Tree {
    /// The text of a control file as it is now, the same for a second.
    pub(crate) fn control_text(&self, at: u64) -> Bytes {
        if let Some((made, text)) = lock(&self.control.0).get(&at)
            && made.elapsed() < AGREED
        {
            return text.clone();
        }
        let text = Bytes::from(match FILES.get(at as usize).copied() {
            Some("README") => README.to_string(),
            Some("status") => self.report.status_text(&self.status_facts()),
            Some("status.json") => self.report.status_json(&self.status_facts()),
            Some("errors") => errors_text(&self.report.errors()),
            _ => String::new(),
        });
        lock(&self.control.0).insert(at, (Instant::now(), text.clone()));
        text
    }

    fn status_facts(&self) -> StatusFacts {
        let mut facts = self.fetch.activity();
        facts.now = Timestamp::from_system_time(SystemTime::now());
        facts.cache_bytes = self.store.last_used_bytes();
        facts.cache_limit = self.store.limits().size;
        facts.evicted = self.store.evicted();
        facts
    }

    pub(crate) fn control_attributes(&self, at: u64) -> Attributes {
        Attributes {
            ino: Node::ControlFile(at).ino(),
            size: self.control_text(at).len() as u64,
            directory: false,
            mode: self.settings.file_mode,
            modified: Timestamp::from_system_time(SystemTime::now()),
            created: self.started,
            ttl: Duration::ZERO,
        }
    }

    /// As the handle's text was fixed at open.
    pub(crate) fn control_handle_attributes(&self, at: u64, handle: Option<u64>) -> Attributes {
        let mut attributes = self.control_attributes(at);
        if let Some(Handle::Control(text)) = handle.and_then(|h| self.handles.get(h)).as_deref() {
            attributes.size = text.len() as u64;
        }
        attributes
    }
}

/// One error a line, newest first: when, what happened to what, and what to do.
fn errors_text(errors: &[Entry]) -> String {
    errors.iter().map(|entry| format!("{entry}\n")).collect()
}
