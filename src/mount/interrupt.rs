//! Whether a signal ends a caller's wait.
//!
//! The kernel itself tells nothing: fuser answers FUSE_INTERRUPT with ENOSYS, after which it never comes again. So each waiting thread is
//! looked at in `/proc`, its process before it: what is sent to a process shows there for all of its threads, and three thousand
//! of them may wait for one slow service.

use super::caller::{field, text};
use crate::sync::lock;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// How often a waiting thread is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// When looks become fewer.
const LONG_WAIT: Duration = Duration::from_secs(1);
/// How often a process is looked at then, or its only thread. A person's Ctrl-C needn't be answered faster than in 200 ms.
const SLOWER_LOOK: Duration = Duration::from_millis(150);
/// How often a thread asks how its process was found, and how old that may be: together less than 200 ms.
const ASK: Duration = Duration::from_millis(100);
const FRESH: Duration = Duration::from_millis(80);
/// How often a thread of a quiet process is looked at itself: a signal may be for it alone.
const OWN_LOOK: Duration = Duration::from_secs(1);
/// Processes that are remembered; past that old looks are let go of.
const REMEMBERED: usize = 256;

/// Ends when a signal that ends the wait of `thread` is pending. Never ends for a caller that can't be looked at (another pid namespace,
/// hidepid).
pub(super) async fn interrupted(thread: u32) {
    let path = format!("/proc/{thread}/status");
    let Some(process) = (thread != 0).then(|| text(&path).ok()).flatten().map(|status| process_of(&status, thread))
    else {
        return std::future::pending().await;
    };
    let began = tokio::time::Instant::now();
    let mut looked = Instant::now();
    loop {
        let is_long = began.elapsed() >= LONG_WAIT;
        let asks_first = is_long && process != thread;
        tokio::time::sleep(if asks_first {
            ASK
        } else if is_long {
            SLOWER_LOOK
        } else {
            LOOK
        })
        .await;
        if asks_first && looked.elapsed() < OWN_LOOK && QUIET.is_quiet(process) {
            continue;
        }
        looked = Instant::now();
        match text(&path) {
            Ok(status) if must_end(&status) => return,
            // The thread has ended, and its wait with it.
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => return,
            // That it can't be looked at, for lack of descriptors, say, tells nothing of the caller.
            Ok(_) | Err(_) => {}
        }
    }
}

fn process_of(status: &str, thread: u32) -> u32 {
    field(status, "Tgid:").and_then(|v| v.parse().ok()).unwrap_or(thread)
}

/// Processes that were found without a signal, a moment ago.
static QUIET: LazyLock<Looks> = LazyLock::new(Looks::default);

#[derive(Default)]
struct Looks(Mutex<HashMap<u32, (Instant, bool)>>);

impl Looks {
    /// Whether nothing waits for the process: then nothing does that was sent to all of it, or ends all of it.
    fn is_quiet(&self, process: u32) -> bool {
        let looks = || lock(&self.0);
        if let Some((at, is_quiet)) = looks().get(&process)
            && at.elapsed() < FRESH
        {
            return *is_quiet;
        }
        let at = Instant::now();
        let is_quiet = text(&format!("/proc/{process}/status")).is_ok_and(|status| nothing_waits(&status));
        let mut looks = looks();
        if looks.len() >= REMEMBERED {
            looks.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        looks.insert(process, (at, is_quiet));
        is_quiet
    }
}

/// No signal is pending for the leader, nor for the process. Of one whose leader has ended nothing is known.
fn nothing_waits(status: &str) -> bool {
    let is_none = |name: &str| field(status, name).is_some_and(|mask| mask.bytes().all(|digit| digit == b'0'));
    is_none("SigPnd:")
        && is_none("ShdPnd:")
        && field(status, "State:").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// Whether the signals that `/proc/PID/status` tells of end a wait. Others must not: FUSE's EINTR knows no restart, so a SIGCHLD
/// to a shell, a SIGWINCH to an editor or a stop would fail their call for good.
fn must_end(status: &str) -> bool {
    let mask = |name: &str| field(status, name).and_then(|v| u64::from_str_radix(v, 16).ok()).unwrap_or(0);
    let bit = |signal: i32| 1u64 << (signal - 1);
    let bits = |signals: &[i32]| signals.iter().fold(0, |all, s| all | bit(*s));
    let pending = mask("SigPnd:") | mask("ShdPnd:");
    if pending & bit(libc::SIGKILL) != 0 {
        return true;
    }
    let deliverable = pending & !mask("SigBlk:") & !mask("SigIgn:");
    let asked = bits(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGALRM]);
    let harmless = bits(&[
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ]);
    deliverable & (asked | (!harmless & !mask("SigCgt:"))) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::caller::PROC;
    use crate::tree::Lookup;
    use std::fs;

    fn status(pending: &[i32], blocked: &[i32], ignored: &[i32], caught: &[i32]) -> String {
        let mask = |signals: &[i32]| signals.iter().fold(0u64, |all, s| all | 1 << (s - 1));
        format!(
            "Name:\tx\nSigPnd:\t{:016x}\nShdPnd:\t0000000000000000\nSigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\n",
            mask(pending),
            mask(blocked),
            mask(ignored),
            mask(caught)
        )
    }

    #[test]
    fn ends_for_kill_and_for_what_a_person_sends() {
        assert!(must_end(&status(&[libc::SIGKILL], &[], &[], &[])));
        assert!(must_end(&status(&[libc::SIGINT], &[], &[], &[libc::SIGINT])), "a handler wants to run");
        assert!(must_end(&status(&[libc::SIGUSR1], &[], &[], &[])), "kills by default");
    }

    #[test]
    fn goes_on_for_everything_else() {
        assert!(!must_end(&status(&[], &[], &[], &[])));
        assert!(!must_end(&status(&[libc::SIGINT], &[libc::SIGINT], &[], &[])));
        assert!(!must_end(&status(&[libc::SIGINT], &[], &[libc::SIGINT], &[])));
        assert!(!must_end(&status(&[libc::SIGCHLD], &[], &[], &[libc::SIGCHLD])), "a shell's child ends");
        assert!(!must_end(&status(&[libc::SIGWINCH, libc::SIGTSTP], &[], &[], &[])));
        assert!(!must_end(&status(&[libc::SIGUSR1], &[], &[], &[libc::SIGUSR1])));
    }

    #[tokio::test]
    async fn a_name_cut_inside_a_character_is_no_interruption() {
        let dir = tempfile::tempdir().unwrap();
        // The kernel keeps 15 bytes of a command's name: 14 letters and half of one.
        let program = dir.path().join("aaaaaaaaaaaaaa\u{e9}");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        let name = || fs::read(format!("/proc/{}/comm", child.id())).unwrap();
        while !name().starts_with(b"a") {
            tokio::time::sleep(LOOK / 10).await;
        }
        let whole = PROC.process(child.id());
        let ended = tokio::time::timeout(4 * LOOK, interrupted(child.id())).await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ended.is_err(), "nobody sent it a signal");
        assert_eq!(whole.id, child.id());
        assert!(whole.started > 0 && whole.comm.starts_with("aaaaaaaaaaaaaa"));
    }

    #[test]
    fn a_process_is_quiet_while_nothing_waits_for_it() {
        let with = |state: &str, pending: &str| format!("State:\t{state}\nSigPnd:\t0000\nShdPnd:\t{pending}\n");
        assert!(nothing_waits(&with("S (sleeping)", "0000")));
        assert!(!nothing_waits(&with("S (sleeping)", "0002")));
        assert!(!nothing_waits(&with("Z (zombie)", "0000")), "its threads may be there yet");
        assert!(!nothing_waits(""));
        let looks = Looks::default();
        assert!(looks.is_quiet(std::process::id()));
        assert!(!looks.is_quiet(u32::MAX), "nobody");
    }
}
