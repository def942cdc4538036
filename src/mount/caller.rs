//! Callers by their thread id: who they are.

use crate::tree::{CommandLine, Lookup, Process, SystemCall};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Looks callers up under `/proc`.
pub(super) struct Proc;

/// A caller's processes, as the tree asks for them.
pub(super) static PROC: Proc = Proc;

impl Lookup for Proc {
    fn process(&self, thread: u32) -> Process {
        if thread == 0 {
            return Process::default();
        }
        let status = text(&format!("/proc/{thread}/status")).unwrap_or_default();
        let id = field(&status, "Tgid:").and_then(|v| v.parse().ok()).unwrap_or(thread);
        Process {
            id,
            started: started(id).unwrap_or(0),
            executable: fs::read_link(format!("/proc/{id}/exe")).ok(),
            comm: text(&format!("/proc/{id}/comm")).unwrap_or_default().trim_end().to_string(),
            ourselves: id == std::process::id(),
        }
    }

    fn command_line(&self, process: &Process) -> Option<CommandLine> {
        let id = process.id;
        MEMORY.within(READ_PATIENCE, move || command_line(id)).flatten()
    }

    fn threads(&self, id: u32) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(format!("/proc/{id}/task")) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    fn system_call(&self, thread: u32) -> SystemCall {
        // Needs the right to trace the thread; without it nothing is known.
        let path = format!("/proc/{thread}/syscall");
        for _ in 0..SYSTEM_CALL_LOOKS {
            match text(&path) {
                // It has sent its request and is about to wait for the answer.
                Ok(line) if line.starts_with("running") => std::thread::yield_now(),
                Ok(line) => return system_call(&line),
                Err(_) => return SystemCall::Unknown,
            }
        }
        SystemCall::Unknown
    }
}

/// Reads of other processes' memory.
static MEMORY: Bounded = Bounded::new();
/// How long such a read may take. It waits for the lock of that process's address space, which a thread of it may hold that waits for
/// us: <https://man7.org/linux/man-pages/man5/proc_pid_cmdline.5.html> reads the arguments from there.
const READ_PATIENCE: Duration = Duration::from_millis(100);
/// Reads under way at a time; while so many don't end, no more are begun.
const MOST_READS: usize = 4;

/// Work that may never end, on threads of its own: few of them, and the caller waits only for so long.
struct Bounded(AtomicUsize);

impl Bounded {
    const fn new() -> Bounded {
        Bounded(AtomicUsize::new(0))
    }

    /// What `work` gives, if it does so in time.
    fn within<T: Send + 'static>(
        &'static self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.0.fetch_add(1, Ordering::AcqRel) >= MOST_READS {
            self.0.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("proc".into()).spawn(move || {
            // The caller may have gone on without it.
            let _ = answer.send(work());
            self.0.fetch_sub(1, Ordering::AcqRel);
        });
        if thread.is_err() {
            self.0.fetch_sub(1, Ordering::AcqRel);
        }
        answered.recv_timeout(patience).ok()
    }
}

fn command_line(id: u32) -> Option<CommandLine> {
    let raw = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let raw = raw.strip_suffix(b"\0")?;
    let arguments = raw.split(|b| *b == 0).map(|a| String::from_utf8(a.to_vec()).ok()).collect::<Option<_>>()?;
    let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
    let posixly_correct = environment
        .split(|b| *b == 0)
        .any(|v| v.starts_with(b"POSIXLY_CORRECT=") || v.starts_with(b"_POSIX2_VERSION="));
    Some(CommandLine { arguments, posixly_correct })
}

/// How often a thread is looked at that isn't waiting yet.
const SYSTEM_CALL_LOOKS: u32 = 20;

/// The call that a line of `/proc/TID/syscall` tells of: its number, six arguments, stack pointer and instruction pointer
/// (proc_pid_syscall(5)).
fn system_call(line: &str) -> SystemCall {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [number, .., stack, _] = fields[..] else { return SystemCall::Unknown };
    let stack = stack.strip_prefix("0x").and_then(|stack| u64::from_str_radix(stack, 16).ok());
    // A 32-bit program's calls have other numbers.
    let same_numbers = stack.is_some_and(|stack| cfg!(target_pointer_width = "32") || stack > u64::from(u32::MAX));
    match number.parse::<libc::c_long>() {
        Ok(number) if same_numbers && STATS.contains(&number) => SystemCall::Stat,
        Ok(number) if same_numbers && OPENS.contains(&number) => SystemCall::Open,
        _ => SystemCall::Unknown,
    }
}

/// Calls that tell a program a file's size.
#[cfg(target_arch = "x86_64")]
const STATS: &[libc::c_long] =
    &[libc::SYS_stat, libc::SYS_lstat, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx];
#[cfg(target_arch = "aarch64")]
const STATS: &[libc::c_long] = &[libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const STATS: &[libc::c_long] = &[libc::SYS_statx];

/// Calls for which the kernel checks permissions, and that tell a program no size.
#[cfg(target_arch = "x86_64")]
const OPENS: &[libc::c_long] =
    &[libc::SYS_open, libc::SYS_openat, libc::SYS_openat2, libc::SYS_access, libc::SYS_faccessat, libc::SYS_faccessat2];
#[cfg(not(target_arch = "x86_64"))]
const OPENS: &[libc::c_long] = &[libc::SYS_openat, libc::SYS_openat2, libc::SYS_faccessat, libc::SYS_faccessat2];

/// A file of `/proc` that tells a command's name: any bytes, cut after the 15th, perhaps inside a character.
pub(super) fn text(path: &str) -> std::io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Field 22 of `/proc/PID/stat`, counted after the command name, which may hold anything.
fn started(id: u32) -> Option<u64> {
    let stat = text(&format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Whether the kernel would read files for us (CAP_SYS_ADMIN).
pub(super) fn may_pass_through() -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    field(&status, "CapEff:").and_then(|v| u64::from_str_radix(v, 16).ok()).is_some_and(|all| all & SYS_ADMIN != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_that_never_end_hold_nobody_up() {
        static STUCK: Bounded = Bounded::new();
        let short = Duration::from_millis(10);
        let (let_go, held) = mpsc::channel::<()>();
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        for _ in 0..MOST_READS {
            let held = held.clone();
            assert_eq!(STUCK.within(short, move || held.lock().unwrap().recv().is_ok()), None);
        }
        assert_eq!(STUCK.within(short, || panic!("never begun")), None::<()>);
        drop(let_go);
        while STUCK.within(Duration::from_secs(10), || 7) != Some(7) {
            std::thread::sleep(short);
        }
    }

    #[test]
    fn knows_itself() {
        let me = PROC.process(std::process::id());
        assert!(me.ourselves && me.started > 0 && me.executable.is_some());
        assert_eq!(PROC.process(0), Process::default());
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn tells_a_stat_from_an_open() {
        let line = |number: i64, stack: u64| format!("{number} 0x3 0x7f 0x0 0x0 0x0 0x0 {stack:#x} 0x7f00deadbeef\n");
        let far = 0x7ffc_0000_1000;
        assert_eq!(system_call(&line(libc::SYS_newfstatat, far)), SystemCall::Stat);
        assert_eq!(system_call(&line(libc::SYS_statx, far)), SystemCall::Stat);
        assert_eq!(system_call(&line(libc::SYS_openat, far)), SystemCall::Open);
        assert_eq!(system_call(&line(libc::SYS_faccessat2, far)), SystemCall::Open);
        assert_eq!(system_call(&line(libc::SYS_getxattr, far)), SystemCall::Unknown);
        // Number 5 is open there, and fstat here.
        assert_eq!(system_call(&line(libc::SYS_fstat, 0xffff_d000)), SystemCall::Unknown, "a 32-bit program");
        for line in ["running\n", "-1 0x7ffc00001000 0x7f00deadbeef\n", ""] {
            assert_eq!(system_call(line), SystemCall::Unknown, "{line}");
        }
    }
}
