//! Going to the background when the mount is ready.
//!
//! The process starts itself anew instead of forking: nothing may be forked once threads run, and the child begins clean. The child's
//! standard output is a pipe: one line on it, `ready` or an error, ends the parent with 0 or 1; a pipe that closes without one
//! means that the child died. A parent that is gone (Ctrl-C while waiting) means that nobody wants the mount any more.

use super::{Failure, process};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::{env, fs::File};

const READY: &str = "ready";
/// More than any message; bounds what a child gone wild can make the parent keep.
const LONGEST_LINE: u64 = 64 * 1024;

/// Starts the background process and waits until its mount is ready.
pub(crate) fn launch() -> Result<(), Failure> {
    let program =
        env::current_exe().map_err(|error| Failure::new(format!("can't find this program's file: {error}")))?;
    let (mut from_child, to_parent) =
        io::pipe().map_err(|error| Failure::new(format!("can't make a pipe: {error}")))?;
    let mut command = Command::new(&program);
    command.arg("--background-child").args(env::args_os().skip(1)).stdin(Stdio::null()).stdout(to_parent);
    let child = command.spawn();
    // The command holds the pipe's writing end, which would keep the pipe open here.
    drop(command);
    let mut child = child.map_err(|error| Failure::new(format!("{}: can't be started: {error}", program.display())))?;
    let mut line = String::new();
    let read = from_child.by_ref().take(LONGEST_LINE).read_to_string(&mut line);
    match line.trim_end() {
        READY => Ok(()),
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

/// The child's end of the pipe.
#[derive(Debug)]
pub(crate) struct Parent(File);

impl Parent {
    /// Leaves the terminal's session and takes over the pipe; standard error stays until the mount is ready.
    pub(crate) fn adopt() -> Result<Parent, Failure> {
        let failed = |error: io::Error| Failure::new(format!("can't go to the background: {error}"));
        process::close_inherited();
        let pipe = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
        process::to_dev_null(&[libc::STDOUT_FILENO]).map_err(failed)?;
        // SAFETY: setsid takes no arguments; it fails only for a group leader, who has a session of its own already.
        unsafe { libc::setsid() };
        env::set_current_dir("/").map_err(failed)?;
        Ok(Parent(File::from(pipe)))
    }

    /// The mount is ready: lets the parent go, and the terminal.
    pub(crate) fn ready(mut self) -> Result<(), Failure> {
        let gone = |error: io::Error| Failure::new(format!("whoever started this mount is gone: {error}"));
        writeln!(self.0, "{READY}").map_err(gone)?;
        process::to_dev_null(&[libc::STDIN_FILENO, libc::STDERR_FILENO]).map_err(gone)
    }

    /// The mount failed: the parent prints why, so this process says nothing itself.
    pub(crate) fn fail(mut self, failure: &Failure) -> ! {
        // If the parent is gone, nobody wants to know.
        let _ = writeln!(self.0, "{failure}");
        std::process::exit(1)
    }
}
