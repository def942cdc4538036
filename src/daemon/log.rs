//! The log: lines of `tracing`, to standard error or to a file.
//!
//! A line can't be forged by a log group's name: control characters are escaped here, whoever wrote them. The default file in the
//! cache folder is bounded: at [`CAP`] bytes it becomes `log.1`, and the one before that goes. A file named by the user is theirs
//! to rotate: it is opened again on reload.

use super::Failure;
use crate::model::printable;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
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

/// The log's handle: where it goes and how much it says can change.
#[derive(Clone)]
pub(crate) struct Log {
    target: Arc<Mutex<Target>>,
    filter: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
}

impl Log {
    /// Starts logging to standard error.
    pub(crate) fn start(verbosity: i8) -> Log {
        let target = Arc::new(Mutex::new(Target::Stderr));
        let (filter, handle) = reload::Layer::new(filter(verbosity));
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Writer(target.clone()));
        // Fails only if somebody set a subscriber before; then theirs stays.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        std::panic::set_hook(Box::new(|info| tracing::error!("defect, please report it: {info}")));
        Log { target, filter: handle }
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
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Changes how much is said.
    pub(crate) fn set_verbosity(&self, verbosity: i8) {
        // Fails only if the subscriber is gone, and with it the log.
        let _ = self.filter.reload(filter(verbosity));
    }

    /// Opens the file again, which may have been moved away.
    pub(crate) fn reopen(&self) {
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        if let Target::File { path, file, written, .. } = &mut *target
            && let Ok(opened) = open(path)
        {
            (*file, *written) = opened;
        }
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
    fn write_line(&mut self, line: &str) -> io::Result<()> {
        match self {
            Target::Stderr => io::stderr().write_all(line.as_bytes()),
            Target::File { path, file, written, cap } => {
                if cap.is_some_and(|cap| *written > 0 && *written + line.len() as u64 > cap) {
                    fs::rename(&path, path.with_added_extension("1"))?;
                    (*file, *written) = open(path)?;
                }
                file.write_all(line.as_bytes())?;
                *written += line.len() as u64;
                Ok(())
            }
        }
    }
}

/// Hands each event, which the subscriber writes in one piece, to the target as one clean line.
#[derive(Clone)]
struct Writer(Arc<Mutex<Target>>);

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Writer;

    fn make_writer(&'a self) -> Writer {
        self.clone()
    }
}

impl Write for Writer {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = format!("{}\n", printable(text.trim_end_matches('\n')));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_line(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_target(path: &Path, cap: Option<u64>) -> Writer {
        let (file, written) = open(path).unwrap();
        Writer(Arc::new(Mutex::new(Target::File { path: path.to_owned(), file, written, cap })))
    }

    #[test]
    fn a_line_can_not_be_forged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        file_target(&path, None).write_all("group a\nINFO all is well\u{1b}[2J\u{9b}\n".as_bytes()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.trim_end().chars().all(|c| !c.is_control()));
    }

    #[test]
    fn the_default_file_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = file_target(&path, Some(100));
        for i in 0..50 {
            writer.write_all(format!("line {i:03} of some length\n").as_bytes()).unwrap();
        }
        let sizes: Vec<u64> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|&size| size <= 100));
        assert!(fs::read_to_string(&path).unwrap().contains("line 049"));
    }
}
