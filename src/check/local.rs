//! This machine's part: FUSE and the cache folder.

use super::Lines;
use crate::error::Error;
use crate::store::MinFree;
use crate::store::claim::look;
use bytesize::ByteSize;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where FUSE's parts are.
pub(super) struct Host {
    pub(super) device: PathBuf,
    pub(super) path: OsString,
    pub(super) fuse_conf: PathBuf,
    pub(super) root: bool,
    /// Makes a mount and takes it away.
    pub(super) trial: fn() -> Result<(), Error>,
}

impl Host {
    pub(super) fn this_machine(trial: fn() -> Result<(), Error>) -> Host {
        Host {
            device: "/dev/fuse".into(),
            path: std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()),
            fuse_conf: "/etc/fuse.conf".into(),
            root: rustix::process::geteuid().is_root(),
            trial,
        }
    }
}

/// Whether a mount can be made: by root directly, by others through a setuid fusermount3.
pub(super) fn fuse<W: Write>(report: &mut Lines<'_, W>, host: &Host, allow_other: bool) {
    let step = "FUSE";
    let device = host.device.display();
    let opened = OpenOptions::new().read(true).write(true).open(&host.device);
    let is_device = fs::metadata(&host.device).is_ok_and(|meta| meta.file_type().is_char_device());
    match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => report.failed(
            step,
            &format!("{device} is missing"),
            Some("load the kernel module (`modprobe fuse`), or start the container with `--device /dev/fuse --cap-add SYS_ADMIN`"),
        ),
        Ok(_) if !is_device => report.failed(step, &format!("{device} is no device"), Some("load the kernel module (`modprobe fuse`)")),
        Err(error) if host.root => report.failed(
            step,
            &format!("{device} can't be opened: {error}"),
            Some("in a container, start it with `--device /dev/fuse --cap-add SYS_ADMIN`; else load the module (`modprobe fuse`)"),
        ),
        Ok(_) if host.root => tried(report, host, &format!("{device} opens, mounting as root")),
        // fusermount3 opens the device itself, so another user needs no access to it.
        _ => match fusermount(&host.path) {
            None => report.failed(step, "fusermount3 is not on the PATH", Some("install FUSE 3 (package fuse3)")),
            Some((path, false)) => report.failed(
                step,
                &format!("{} is not setuid root", path.display()),
                Some("install your system's fuse3 again, or `chmod u+s` it as root"),
            ),
            Some((path, true)) => {
                tried(report, host, &format!("{device} is there, mounting through {}", path.display()));
            }
        },
    }
    if allow_other {
        let allowed = fs::read_to_string(&host.fuse_conf).is_ok_and(|text| {
            text.lines().any(|line| line.split('#').next().unwrap_or_default().trim() == "user_allow_other")
        });
        if host.root {
            report.ok("--allow-other", "root may");
        } else if allowed {
            report.ok("--allow-other", &format!("{} has user_allow_other", host.fuse_conf.display()));
        } else {
            let cure = format!("add the line user_allow_other to {} as root", host.fuse_conf.display());
            report.failed("--allow-other", "only root may open a mount to others here", Some(&cure));
        }
    }
}

/// The last step of all: a mount. What `--allow-other` needs is told by a line of its own.
fn tried<W: Write>(report: &mut Lines<'_, W>, host: &Host, found: &str) {
    match (host.trial)() {
        Ok(()) => report.ok("FUSE", found),
        Err(error) => report.failed(
            "FUSE",
            &format!("{found}, but a mount fails: {error}"),
            Some(
                "in a container, start it with `--device /dev/fuse --cap-add SYS_ADMIN`, and where AppArmor or SELinux \
                 forbid mounts, allow them; the kernel's log (`dmesg`) may name who refused",
            ),
        ),
    }
}

/// The first fusermount3 on `path`, and whether it is setuid root.
fn fusermount(path: &OsString) -> Option<(PathBuf, bool)> {
    std::env::split_paths(path).find_map(|folder| {
        let file = folder.join("fusermount3");
        let meta = fs::metadata(&file).ok().filter(|meta| meta.is_file() && meta.mode() & 0o111 != 0)?;
        Some((file, meta.mode() & libc::S_ISUID != 0 && meta.uid() == 0))
    })
}

/// Whether the cache folder can be made and written to, and has room.
pub(super) fn cache<W: Write>(report: &mut Lines<'_, W>, folder: &Path, min_free: MinFree) {
    let step = "cache";
    let shown = folder.display();
    // Looked at, not taken: a mount does that.
    let usable = |()| look(folder).map_err(io::Error::other);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    if let Err(error) = made.and_then(usable).and_then(|()| probe(folder)) {
        let cure = "give --cache-dir (or CWLOGS_CACHE_DIR) a folder that you may write to, on a disk with room";
        return report.failed(step, &format!("{shown} can't be used: {error}"), Some(cure));
    }
    match space(folder) {
        Err(error) => report.failed(step, &format!("{shown}: its disk's free space can't be told: {error}"), None),
        Ok((free, total)) if free < min_free.of(total) => report.failed(
            step,
            &format!("{shown} has {} free, and --min-free keeps {}", ByteSize(free), ByteSize(min_free.of(total))),
            Some("make room on that disk, lower --min-free, or give --cache-dir another"),
        ),
        Ok((free, _)) => report.ok(step, &format!("{shown} is writable, {} free", ByteSize(free))),
    }
}

/// Writes a file and takes it away again.
fn probe(folder: &Path) -> io::Result<()> {
    let file = folder.join(format!(".check-{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut open: File| open.write_all(b"cwlogs-mount --check\n"));
    let removed = if written.is_ok() { fs::remove_file(&file) } else { Ok(()) };
    written.and(removed)
}

/// Bytes on the folder's disk that an unprivileged user may still take, and bytes in all.
fn space(folder: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}
