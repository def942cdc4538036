//! The log: lines of `tracing`, to standard error or to a file.
//!
//! A line can't be forged by a log group's name: control characters are escaped here, whoever wrote them. The default file in the
//! cache folder is bounded: at [`CAP`] bytes it becomes `log.1`, and the one before that goes. A file named by the user is theirs
//! to rotate: it is opened again on reload. A thread of its own writes: see [`queue`].

mod queue;

use super::Failure;
use crate::model::printable;
use crate::sync::lock;
use queue::Queue;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// Bytes of the default log file before it is put aside.
const CAP: u64 = 8 << 20;

/// Where lines go.
#[derive(Debug)]
enum Target {
    Stderr,
    File { path: PathBuf, file: File, written: u64, cap: Option<u64> },
}

/// How long the end of the process waits for lines that are not written yet.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How much is written to a full file before putting it aside is tried again.
const TRY_AGAIN: u64 = 1 << 20;

/// What the thread that writes is told to do before its next line.
#[derive(Debug, Default)]
struct Orders {
    target: Mutex<Option<Target>>,
    reopen: AtomicBool,
}

/// The log's handle: where it goes and how much it says can change. Nothing here waits for what is written.
#[derive(Clone)]
pub(crate) struct Log {
    orders: Arc<Orders>,
    queue: Queue,
    filter: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
}

/// Lets the process end once the last lines are written, or a second later.
pub(crate) struct LastLines(Queue);

impl Drop for LastLines {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

impl Log {
    /// Starts logging to standard error.
    pub(crate) fn start(verbosity: i8) -> Result<Log, Failure> {
        let orders = Arc::<Orders>::default();
        let (mut target, given) = (Target::Stderr, orders.clone());
        let queue = Queue::start(move |line| {
            target = given.carry_out(std::mem::replace(&mut target, Target::Stderr));
            // There is nowhere to tell that the log can't be written.
            let _ = target.write_line(line);
        });
        let queue = queue.map_err(|error| Failure::new(format!("can't start threads: {error}")))?;
        let (filter, handle) = reload::Layer::new(filter(verbosity));
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Writer(queue.clone()));
        // Fails only if somebody set a subscriber before; then theirs stays.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        std::panic::set_hook(Box::new(|info| tracing::error!("defect, please report it: {info}")));
        Ok(Log { orders, queue, filter: handle })
    }

    /// Has the last lines written when it is dropped.
    pub(crate) fn last_lines(&self) -> LastLines {
        LastLines(self.queue.clone())
    }

    /// From now on to a file that grows without bound: the user asked for it.
    pub(crate) fn to_file(&self, path: &Path) -> Result<(), Failure> {
        self.redirect(path, None)
    }

    /// From now on to `log` in the cache folder.
    pub(crate) fn to_cache(&self, dir: &Path) -> Result<(), Failure> {
        self.redirect(&dir.join("log"), Some(CAP))
    }

    fn redirect(&self, path: &Path, cap: Option<u64>) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            let shown = printable(&path.to_string_lossy());
            Failure::new(format!("log file {shown}: {error}; give --log-file another one"))
        };
        let (file, written) = open(path).map_err(failed)?;
        let new = Target::File { path: path.to_owned(), file, written, cap };
        *lock(&self.orders.target) = Some(new);
        Ok(())
    }

    /// Changes how much is said.
    pub(crate) fn set_verbosity(&self, verbosity: i8) {
        // Fails only if the subscriber is gone, and with it the log.
        let _ = self.filter.reload(filter(verbosity));
    }

    /// Opens the file again before the next line: it may have been moved away.
    pub(crate) fn reopen(&self) {
        self.orders.reopen.store(true, Ordering::Relaxed);
    }
}

impl Orders {
    fn carry_out(&self, target: Target) -> Target {
        let mut target = lock(&self.target).take().unwrap_or(target);
        if self.reopen.swap(false, Ordering::Relaxed) {
            target.reopen();
        }
        target
    }
}

fn filter(verbosity: i8) -> EnvFilter {
    EnvFilter::new(match verbosity {
        ..=-1 => "error",
        0 => "warn,cwlogs_mount=info",
        1 => "info,cwlogs_mount=debug",
        _ => "debug,cwlogs_mount=trace",
    })
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let written = file.metadata()?.len();
    Ok((file, written))
}

impl Target {
    /// As it is on failure.
    fn reopen(&mut self) {
        if let Target::File { path, file, written, .. } = self
            && let Ok(opened) = open(path)
        {
            (*file, *written) = opened;
        }
    }

    fn write_line(&mut self, line: &str) -> io::Result<()> {
        if self.is_removed() {
            self.reopen();
        }
        match self {
            Target::Stderr => io::stderr().write_all(line.as_bytes()),
            Target::File { path, file, written, cap } => {
                if let Some(cap) = *cap
                    && *written > 0
                    && *written + line.len() as u64 > cap
                {
                    let aside = fs::rename(&path, path.with_added_extension("1"));
                    match aside.and_then(|()| open(path)) {
                        Ok(opened) => (*file, *written) = opened,
                        Err(_) => *written = cap.saturating_sub(TRY_AGAIN),
                    }
                }
                file.write_all(line.as_bytes())?;
                *written += line.len() as u64;
                Ok(())
            }
        }
    }

    /// Whether its file has no name any more, so that what is written to it is lost.
    fn is_removed(&self) -> bool {
        match self {
            Target::Stderr => false,
            Target::File { file, .. } => file.metadata().is_ok_and(|found| found.nlink() == 0),
        }
    }
}

/// Hands each event, which the subscriber writes in one piece, to the queue as one clean line.
#[derive(Clone)]
struct Writer(Queue);

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Writer;

    fn make_writer(&'a self) -> Writer {
        self.clone()
    }
}

impl Write for Writer {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.push(clean(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One line, whatever names it holds.
fn clean(event: &[u8]) -> String {
    format!("{}\n", printable(String::from_utf8_lossy(event).trim_end_matches('\n')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_target(path: &Path, cap: Option<u64>) -> Target {
        let (file, written) = open(path).unwrap();
        Target::File { path: path.to_owned(), file, written, cap }
    }

    #[test]
    fn a_line_can_not_be_forged() {
        let line = clean("group a\nINFO all is well\u{1b}[2J\u{9b}\n".as_bytes());
        assert_eq!(line.lines().count(), 1);
        assert!(line.trim_end().chars().all(|c| !c.is_control()));
    }

    #[test]
    fn the_default_file_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut target = file_target(&path, Some(100));
        for i in 0..50 {
            target.write_line(&format!("line {i:03} of some length\n")).unwrap();
        }
        let sizes: Vec<u64> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|&size| size <= 100));
        assert!(fs::read_to_string(&path).unwrap().contains("line 049"));
    }

    #[test]
    fn a_file_that_was_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for length in [10, 100] {
            let mut target = file_target(&path, Some(100));
            target.write_line(&format!("{}\n", "x".repeat(length))).unwrap();
            fs::remove_file(&path).unwrap();
            target.write_line("after\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "after\n", "it held {length} bytes");
        }
    }

    #[test]
    fn a_full_file_that_can_not_be_put_aside_is_written_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::create_dir_all(path.with_added_extension("1").join("in the way")).unwrap();
        let mut target = file_target(&path, Some(100));
        for i in 0..50 {
            target.write_line(&format!("line {i:03}\n")).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 50);
    }
}
