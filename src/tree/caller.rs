//! Who asks. Looking a process up costs several reads under /proc, so it is done only where the answer depends on it.

use super::reader::{Behaviour, Process, behaviour, searches};
use super::tail_args::{CommandLine, TailRequest, tail_request};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

/// How a caller is looked up; the mount knows.
pub trait Lookup: Send + Sync {
    /// The process of thread `thread`.
    fn process(&self, thread: u32) -> Process;
    /// Its command line; `None` if it can't be read.
    fn command_line(&self, process: &Process) -> Option<CommandLine>;
    /// The threads of process `id`; none if they can't be seen.
    fn threads(&self, id: u32) -> Vec<u32>;
    /// The system call that thread `thread` is in: it waits for the answer to its request.
    fn system_call(&self, thread: u32) -> SystemCall;
}

/// What a program does when the kernel asks for attributes. The kernel asks by itself too, to check permissions: then no program hears of
/// the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemCall {
    /// The program asks for attributes, and is told them.
    Stat,
    /// It opens the file, or asks whether it may: the kernel alone wants the attributes.
    Open,
    /// Another one, or one that can't be seen.
    Unknown,
}

/// The caller of one request.
pub struct Caller<'a> {
    thread: u32,
    user: u32,
    lookup: &'a dyn Lookup,
    process: OnceLock<Process>,
}

impl<'a> Caller<'a> {
    /// The caller with this thread id (0: in another pid namespace), for this user.
    pub fn new(thread: u32, user: u32, lookup: &'a dyn Lookup) -> Caller<'a> {
        Caller { thread, user, lookup, process: OnceLock::new() }
    }

    /// The user's number.
    pub(crate) fn user(&self) -> u32 {
        self.user
    }

    /// The thread id.
    pub(crate) fn thread(&self) -> u32 {
        self.thread
    }

    /// The threads of its process.
    pub(crate) fn threads(&self) -> Vec<u32> {
        self.lookup.threads(self.process().id)
    }

    /// Whether the process that has this number and started then is still there.
    pub(crate) fn lives(&self, id: u32, started: u64) -> bool {
        self.lookup.process(id).started == started
    }

    /// The system call that the request comes from.
    pub(crate) fn system_call(&self) -> SystemCall {
        self.lookup.system_call(self.thread)
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.get_or_init(|| self.lookup.process(self.thread))
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        behaviour(self.process())
    }

    /// Whether it reads what is in the folders that it lists.
    pub(crate) fn searches(&self) -> bool {
        searches(self.process())
    }

    /// Whether its command line names a file so, by whatever path.
    pub(crate) fn names(&self, file: &OsStr) -> bool {
        let is_named = |argument: &String| Path::new(argument).file_name() == Some(file);
        let command_line = self.lookup.command_line(self.process());
        command_line.is_some_and(|line| line.arguments.iter().skip(1).any(is_named))
    }

    /// What its command line asks for, if it is a tail that wants the end of a file.
    pub(crate) fn tail(&self) -> Option<TailRequest> {
        let process = self.process();
        let program = process.executable.as_deref()?.file_name()?.to_str()?;
        tail_request(program, &self.lookup.command_line(process)?)
    }
}
