//! Tells systemd how the service is doing (sd_notify(3)): a datagram to the socket in NOTIFY_SOCKET, if there is one.

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The mount is ready.
pub(crate) fn ready() {
    send("READY=1");
}

/// The mount is going away.
pub(crate) fn stopping() {
    send("STOPPING=1");
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
