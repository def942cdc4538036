//! SIGINT and SIGTERM stop, a second one forces; SIGHUP reloads, unless it says that the terminal is gone.
//!
//! What is counted are signals, not reasons to stop: one signal after an unmount is the first. The second one ends the process inside the
//! signal's handler, for it may come because the runtime, the log or the disk stands still.
//!
//! A background process stays in its starter's process group until the mount is taken, so what the terminal sends reaches both. What
//! comes while the starter is asked concerns the starter alone: its answer, or that there is none, decides.

use super::process;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Stop,
    Reload,
}

/// The signals that are listened to, from the moment of [`Signals::listen`] on.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hang_up: Signal,
}

/// How the process stands to a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Terminal {
    /// It has none.
    None,
    /// Its own, in the foreground.
    Own,
    /// Its starter's, who waits for the mount: a terminal that hangs up ends both.
    Starters,
    /// Its starter's, who is asked whether it takes the mount: what the terminal sends is for it to answer.
    Asked,
}

static TERMINAL: AtomicU8 = AtomicU8::new(Terminal::None as u8);

impl Terminal {
    /// Says so from here on.
    pub(crate) fn is(self) {
        TERMINAL.store(self as u8, Ordering::SeqCst);
    }

    fn was(self) -> bool {
        TERMINAL.load(Ordering::SeqCst) == self as u8
    }
}

/// Signals to stop that came.
static STOPS: AtomicU32 = AtomicU32::new(0);

/// SIGHUP came, and not while the starter was asked.
static HUNG_UP: AtomicBool = AtomicBool::new(false);

/// What the second one says where that holds nothing up.
const FORCED: &[u8] = b"cwlogs-mount: forced to end; the next start recovers the cache\n";

/// Has the second signal to stop end the process there and then.
fn force_by_the_second() -> io::Result<()> {
    let from_terminal = || {
        if !Terminal::Asked.was() {
            count();
        }
    };
    // SAFETY: the handlers set numbers, and from the second time on make three calls that are allowed in handlers (signal-safety(7)).
    unsafe {
        signal_hook_registry::register(libc::SIGTERM, count)?;
        signal_hook_registry::register(libc::SIGINT, from_terminal)?;
        signal_hook_registry::register(libc::SIGQUIT, from_terminal)?;
        signal_hook_registry::register(libc::SIGHUP, || HUNG_UP.store(!Terminal::Asked.was(), Ordering::SeqCst))?;
    }
    Ok(())
}

fn count() {
    if STOPS.fetch_add(1, Ordering::SeqCst) == 0 {
        return;
    }
    let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one valid pollfd, a constant text of its own length, and an end without destructors.
    unsafe {
        if libc::poll(&raw mut stderr, 1, 0) == 1 && stderr.revents == libc::POLLOUT {
            libc::write(libc::STDERR_FILENO, FORCED.as_ptr().cast(), FORCED.len());
        }
        libc::_exit(1);
    }
}

impl Signals {
    /// Must be called inside the runtime, before anything that a signal should end.
    pub(crate) fn listen() -> io::Result<Signals> {
        force_by_the_second()?;
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Ask {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Ask::Stop,
                // What came while the starter was asked wasn't counted.
                _ = self.interrupt.recv() => if STOPS.load(Ordering::SeqCst) > 0 { return Ask::Stop },
                _ = self.quit.recv() => if STOPS.load(Ordering::SeqCst) > 0 { return Ask::Stop },
                _ = self.hang_up.recv() => if HUNG_UP.swap(false, Ordering::SeqCst) {
                    // In the foreground, a terminal that closes sends the signal to all its processes: no reload is meant.
                    let closed = Terminal::Own.was() && !process::has_terminal();
                    return if closed || Terminal::Starters.was() { Ask::Stop } else { Ask::Reload };
                },
            }
        }
    }
}
