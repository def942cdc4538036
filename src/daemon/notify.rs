//! Tells systemd how the service is doing (sd_notify(3)): a datagram to the socket in NOTIFY_SOCKET, if there is one.

use rustix::time::{ClockId, clock_gettime};
use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The mount is ready, or ready again after a reload; `status` says of what.
pub(crate) fn ready(status: &str) {
    send(&format!("READY=1\nSTATUS={status}"));
}

/// Settings are read anew; [`ready`] follows. systemd asks for the time of this (`Type=notify-reload`).
pub(crate) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// The mount is going away.
pub(crate) fn stopping() {
    send("STOPPING=1\nSTATUS=writing out what is known");
}

/// Requests are served.
pub(crate) fn alive() {
    send("WATCHDOG=1");
}

/// Within what time [`alive`] is expected again and again; `None` where the manager expects none of this process.
pub(crate) fn watchdog() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
    let is_meant = env::var_os("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(std::process::id().into());
    number("WATCHDOG_USEC").filter(|micros| is_meant && *micros > 0).map(Duration::from_micros)
}

/// Nobody depends on the answer: without a manager, or with one that is gone, there is nobody to tell.
fn send(state: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}
