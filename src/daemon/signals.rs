//! SIGINT and SIGTERM stop, a second one forces; SIGHUP reloads, unless it says that the terminal is gone.

use super::process;
use std::io;
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

impl Signals {
    /// Must be called inside the runtime, before anything that a signal should end.
    pub(crate) fn listen() -> io::Result<Signals> {
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
