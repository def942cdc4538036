//! SIGINT and SIGTERM stop, a second one forces; SIGHUP reloads, unless it says that the terminal is gone.
//!
//! What is counted are signals, not reasons to stop: one signal after an unmount is the first. The second one ends the process inside the
//! signal's handler, for it may come because the runtime, the log or the disk stands still.

use super::process;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
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
    hang_up: Signal,
    had_terminal: bool,
}

/// Signals to stop that came.
static STOPS: AtomicU32 = AtomicU32::new(0);

/// What the second one says where that holds nothing up.
const FORCED: &[u8] = b"cwlogs-mount: forced to end; the next start recovers the cache\n";

/// Has the second signal to stop end the process there and then.
fn force_by_the_second() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler counts, and from the second time on makes three calls that are allowed in handlers (signal-safety(7)).
        unsafe { signal_hook_registry::register(signal, count) }?;
    }
    Ok(())
}

fn count() {
    if STOPS.fetch_add(1, Ordering::Relaxed) == 0 {
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
            hang_up: signal(SignalKind::hangup())?,
            had_terminal: process::has_terminal(),
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Ask {
        tokio::select! {
            _ = self.interrupt.recv() => Ask::Stop,
            _ = self.terminate.recv() => Ask::Stop,
            // In the foreground, a closed terminal hangs up on everybody: nobody asked for a reload then.
            _ = self.hang_up.recv() => if self.had_terminal && !process::has_terminal() { Ask::Stop } else { Ask::Reload },
        }
    }
}
