//! Going to the background when the mount is ready.
//!
//! The process starts itself anew instead of forking: nothing may be forked once threads run, and the child begins clean. The child's
//! standard output is one end of a socket pair. One line from the child, `ready` or an error, decides; a socket that closes without one
//! means that the child died. The parent answers `ready` with `taken` once no signal can end it any more, so that its exit status
//! and the mount agree at whatever moment a Ctrl-C comes: a child that gets no answer knows that nobody wants the mount, and ends.

use super::signals::Terminal;
use super::{Failure, process};
use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

const READY: &str = "ready";
const TAKEN: &str = "taken";
/// More than any message; bounds what a child gone wild can make the parent keep.
const LONGEST_LINE: u64 = 64 * 1024;
/// How long a parent that lives may take to answer; one that was stopped meanwhile counts as gone.
const ANSWER: Duration = Duration::from_secs(10);

/// Starts the background process and waits until its mount is ready.
pub(crate) fn launch() -> Result<(), Failure> {
    let program =
        env::current_exe().map_err(|error| Failure::new(format!("can't find this program's file: {error}")))?;
    let (ours, childs) =
        UnixStream::pair().map_err(|error| Failure::new(format!("can't make a socket pair: {error}")))?;
    let mut command = Command::new(&program);
    command.arg("--background-child").args(env::args_os().skip(1)).stdin(Stdio::null()).stdout(OwnedFd::from(childs));
    let child = command.spawn();
    // The command holds the child's end, which would keep the socket open here.
    drop(command);
    let mut child = child.map_err(|error| Failure::new(format!("{}: can't be started: {error}", program.display())))?;
    let mut line = String::new();
    let read = BufReader::new((&ours).take(LONGEST_LINE)).read_line(&mut line);
    match line.trim_end() {
        READY => {
            process::outlive_signals();
            writeln!(&ours, "{TAKEN}")
                .map_err(|error| Failure::new(format!("the background process ended as the mount was ready ({error})")))
        }
        "" => {
            let end = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            let why = read.err().map_or(end, |error| error.to_string());
            Err(Failure::new(format!(
                "the background process ended before the mount was ready ({why}); try --foreground"
            )))
        }
        error => Err(Failure::new(error)),
    }
}

/// The child's end of the socket.
#[derive(Debug)]
pub(crate) struct Parent(UnixStream);

impl Parent {
    /// Takes over the socket; standard error stays until the mount is ready.
    ///
    /// So does the process group: what is mounted at an automount point may only be looked at by the group that the kernel lets through
    /// (<https://docs.kernel.org/filesystems/autofs.html>), which is the starter's.
    pub(crate) fn adopt() -> Result<Parent, Failure> {
        let failed = |error: io::Error| Failure::new(format!("can't go to the background: {error}"));
        process::close_inherited();
        let socket = UnixStream::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
        process::to_dev_null(&[libc::STDOUT_FILENO]).map_err(failed)?;
        env::set_current_dir("/").map_err(failed)?;
        Terminal::Starters.is();
        Ok(Parent(socket))
    }

    /// The mount is ready: lets the parent go, and the terminal's session. Fails if the parent doesn't take it.
    pub(crate) fn ready(self) -> Result<(), Failure> {
        let gone = |error: io::Error| Failure::new(format!("whoever started this mount is gone: {error}"));
        self.0.set_read_timeout(Some(ANSWER)).map_err(gone)?;
        Terminal::Asked.is();
        writeln!(&self.0, "{READY}").map_err(gone)?;
        let mut answer = String::new();
        BufReader::new((&self.0).take(LONGEST_LINE)).read_line(&mut answer).map_err(gone)?;
        if answer.trim_end() != TAKEN {
            return Err(gone(io::ErrorKind::UnexpectedEof.into()));
        }
        // Fails only for a group leader, which has a session of its own already.
        let _ = rustix::process::setsid();
        Terminal::None.is();
        process::to_dev_null(&[libc::STDIN_FILENO, libc::STDERR_FILENO]).map_err(gone)
    }

    /// The mount failed: the parent prints why, so this process says nothing itself.
    pub(crate) fn fail(mut self, failure: &Failure) -> ! {
        // If the parent is gone, nobody wants to know.
        let _ = writeln!(self.0, "{failure}");
        std::process::exit(1)
    }
}
