//! Who reads, and so who may wait where.
//!
//! No single answer is right for every program on a file whose length isn't known yet: some stream it happily, some trust the
//! size they were told and copy just that, with status 0. The rules were measured tool by tool, and go by the *executable*: a
//! name in `argv` or `comm` proves nothing (busybox links called `cat` read differently from GNU's).

use std::path::{Path, PathBuf};

/// A process as far as its behaviour towards files matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Thread group: what a person calls the process. 0 if unknown (another pid namespace).
    pub id: u32,
    /// When it started, in clock ticks since boot: with `id` an identity that isn't used again.
    pub started: u64,
    /// The executable; `None` if it can't be read (as root's by another user's daemon).
    pub executable: Option<PathBuf>,
    /// The command name, at most 15 bytes: a hint, never proof.
    pub comm: String,
    /// A thread of this daemon.
    pub ourselves: bool,
}

/// How a program behaves towards a file of unknown length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Reads until end of file, whatever the size says.
    Streams,
    /// `less`: streams, but only from a handle that can't seek.
    StreamsUnseekable,
    /// May be `tail`: its command line decides.
    MayBeTail,
    /// Shows sizes and never reads by them.
    Lists,
    /// Looks at the size again after opening.
    LooksAgain,
    /// Anything else may trust the first size that it sees.
    Trusts,
}

const STREAMS: &[&str] = &[
    "cat",
    "head",
    "grep",
    "sed",
    "gawk",
    "mawk",
    "cut",
    "uniq",
    "nl",
    "more",
    "jq",
    "rev",
    "fold",
    "strings",
    "od",
    "pr",
    "join",
    "comm",
    "base64",
    "md5sum",
    "sha1sum",
    "sha224sum",
    "sha256sum",
    "sha384sum",
    "sha512sum",
    "b2sum",
];
const LISTS: &[&str] = &[
    "ls",
    "dir",
    "vdir",
    "find",
    "du",
    "stat",
    "sh",
    "bash",
    "dash",
    "zsh",
    "fish",
    "ksh",
    "test",
    "[",
    "tree",
    "eza",
    "exa",
    "lsd",
    "fd",
    "fdfind",
    "mc",
    "ranger",
    "nnn",
    "lf",
    "vifm",
    "nautilus",
    "dolphin",
    "thunar",
    "nemo",
    "pcmanfm",
    "updatedb",
    "updatedb.mlocat",
    "updatedb.plocat",
    "locate",
    "plocate",
];
const LOOKS_AGAIN: &[&str] = &[
    "rsync",
    "cp",
    "mv",
    "tar",
    "install",
    "vi",
    "vim",
    "view",
    "vim.basic",
    "vim.tiny",
    "vim.nox",
    "vim.gtk3",
    "nvim",
];
/// Of those that list, the ones that look at what they are told to look at: in a loop they wait for growth.
const LOOKS: &[&str] = &["stat", "sh", "bash", "dash", "zsh", "fish", "ksh", "test", "["];
/// Programs that, where they list a folder, read what is in it.
const SEARCHES: &[&str] = &["grep", "rg", "ag", "ug", "ugrep", "ack"];
const MULTI_CALL: &[&str] = &["busybox", "coreutils", "toybox"];

/// How `process` behaves.
pub(crate) fn behaviour(process: &Process) -> Behaviour {
    if process.ourselves {
        return Behaviour::Lists;
    }
    let executable = process.executable.as_deref();
    let name = executable.and_then(Path::file_name).and_then(|n| n.to_str()).unwrap_or("");
    if is_system(executable) {
        // Binutils' programs carry their target: x86_64-linux-gnu-strings.
        let plain = if name.ends_with("-linux-gnu-strings") { "strings" } else { name };
        match plain {
            "less" => return Behaviour::StreamsUnseekable,
            n if STREAMS.contains(&n) => return Behaviour::Streams,
            _ => {}
        }
    }
    if name == "tail" || name == "busybox" || name == "coreutils" {
        if process.comm != "tail" && name != "tail" && !MULTI_CALL.contains(&process.comm.as_str()) {
            return shown(&process.comm);
        }
        return Behaviour::MayBeTail;
    }
    // A wrong guess among these only shows a marker for a size.
    if name.is_empty() || MULTI_CALL.contains(&name) { shown(&process.comm) } else { shown(name) }
}

/// Whether `process` reads what is in the folders that it lists. A wrong guess costs some pages that no program asked for.
pub(crate) fn searches(process: &Process) -> bool {
    let name = process.executable.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    name.is_some_and(|name| SEARCHES.contains(&if MULTI_CALL.contains(&name) { &*process.comm } else { name }))
}

/// Whether `process` lists folders, and wants no growth of what is in them.
pub(crate) fn lists_folders(process: &Process) -> bool {
    let name = process.executable.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("");
    let name = if name.is_empty() || MULTI_CALL.contains(&name) { &*process.comm } else { name };
    shown(name) == Behaviour::Lists && !LOOKS.contains(&name)
}

fn is_system(executable: Option<&Path>) -> bool {
    matches!(executable.and_then(Path::parent).and_then(Path::to_str), Some("/usr/bin" | "/bin"))
}

fn shown(name: &str) -> Behaviour {
    if LISTS.contains(&name) {
        Behaviour::Lists
    } else if LOOKS_AGAIN.contains(&name) {
        Behaviour::LooksAgain
    } else {
        Behaviour::Trusts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(executable: &str, comm: &str) -> Process {
        Process { id: 1, executable: Some(executable.into()), comm: comm.into(), ..Process::default() }
    }

    #[test]
    fn known_by_the_path_of_the_executable() {
        assert_eq!(behaviour(&process("/usr/bin/cat", "cat")), Behaviour::Streams);
        assert_eq!(behaviour(&process("/bin/less", "less")), Behaviour::StreamsUnseekable);
        assert_eq!(behaviour(&process("/usr/bin/x86_64-linux-gnu-strings", "strings")), Behaviour::Streams);
        assert_eq!(behaviour(&process("/home/me/bin/cat", "cat")), Behaviour::Trusts);
        assert_eq!(behaviour(&process("/usr/bin/python3.11", "cat")), Behaviour::Trusts);
    }

    #[test]
    fn a_multi_call_binary_called_cat_does_not_stream() {
        assert_eq!(behaviour(&process("/usr/bin/busybox", "cat")), Behaviour::Trusts);
        assert_eq!(behaviour(&process("/usr/bin/busybox", "ls")), Behaviour::Lists);
        assert_eq!(behaviour(&process("/usr/bin/busybox", "cp")), Behaviour::LooksAgain);
        assert_eq!(behaviour(&process("/usr/bin/busybox", "tail")), Behaviour::MayBeTail);
        assert_eq!(behaviour(&process("/usr/bin/busybox", "busybox")), Behaviour::MayBeTail);
    }

    #[test]
    fn a_shell_in_a_loop_looks_and_ls_lists() {
        for (executable, comm) in
            [("/usr/bin/ls", "ls"), ("/usr/bin/find", "find"), ("/usr/bin/busybox", "ls"), ("", "du")]
        {
            assert!(lists_folders(&process(executable, comm)), "{executable} {comm}");
        }
        for (executable, comm) in [("/usr/bin/bash", "bash"), ("/usr/bin/stat", "stat"), ("/opt/filebeat", "filebeat")]
        {
            assert!(!lists_folders(&process(executable, comm)), "{executable} {comm}");
        }
    }

    #[test]
    fn unreadable_executables_only_list_by_name() {
        let unknown = |comm: &str| Process { comm: comm.into(), ..Process::default() };
        assert_eq!(behaviour(&unknown("cat")), Behaviour::Trusts);
        assert_eq!(behaviour(&unknown("ls")), Behaviour::Lists);
        assert_eq!(behaviour(&unknown("less")), Behaviour::Trusts);
    }
}
