//! moto's server as a child: the same calls by other hands.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running moto server; its process group is killed on drop, and it dies with the thread that started it.
pub(crate) struct Moto {
    child: Child,
    port: u16,
}

/// `$MOTO_SERVER`, or the `moto_server` of `target/venv`.
fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("MOTO_SERVER") {
        return Some(path.into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    Some(target.join("venv/bin/moto_server")).filter(|path| path.exists())
}

impl Moto {
    /// Starts one on a free port and waits until it answers. Panics where moto isn't installed: what isn't tested must not look so.
    pub(crate) fn start() -> Moto {
        let program = program().expect("moto isn't installed in target/venv: run scripts/test, which installs it");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("a bound address").port();
        drop(free);
        let mut command = Command::new(&program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent's.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut moto = Moto { child, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = moto.child.try_wait().expect("the child can be waited for");
            assert!(ended.is_none(), "moto ended: {ended:?}");
            assert!(Instant::now() < deadline, "moto doesn't answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        moto
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // SAFETY: the child leads a process group of its own and hasn't been waited for, so the number is still its.
        unsafe {
            libc::kill(-(self.child.id() as i32), libc::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
