//! Taking mounts away, and getting a folder ready to be mounted on.
//!
//! The kernel's mount table is the only witness: a dead daemon's mount answers every system call but reading that table with
//! ENOTCONN. Only mounts that carry our name there are ever touched. Detaching is always lazy, so it never says "busy".

use crate::model::printable;
use rustix::mount::UnmountFlags;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

/// How long a mounted daemon may take to answer whether it is alive.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a detached mount may stay in the table.
const GONE: Duration = Duration::from_secs(10);
/// Dead mounts one above the other that are cleared away at most.
const STACKED: usize = 16;

/// Why a folder can't be mounted on or unmounted: one line, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MountPointError(String);

fn failed<T>(path: &Path, what: impl std::fmt::Display) -> Result<T, MountPointError> {
    Err(MountPointError(format!("{}: {what}", shown(path))))
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// A line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    id: u64,
    device: String,
    mount_point: PathBuf,
    fs_type: String,
    source: String,
}

impl Entry {
    fn is_ours(&self) -> bool {
        // By its source only where the subtype got lost: an sshfs of a host called cwlogs shows `cwlogs:…` too.
        self.fs_type == "fuse.cwlogs" || (self.fs_type == "fuse" && self.source.starts_with("cwlogs:"))
    }
}

/// The mounts of this process's namespace, later ones above earlier ones.
fn mount_table() -> io::Result<Vec<Entry>> {
    Ok(fs::read("/proc/self/mountinfo")?.split(|&b| b == b'\n').filter_map(parse_entry).collect())
}

/// `36 35 98:0 /root /mount/point options optional… - type source options` (proc_pid_mountinfo(5)).
fn parse_entry(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|&b| b == b' ');
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = text(fields.nth(1)?);
    let mount_point = PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.nth(1)?)));
    let mut after = fields.skip_while(|field| *field != b"-").skip(1);
    Some(Entry { id, device, mount_point, fs_type: text(after.next()?), source: text(after.next()?) })
}

/// Undoes the table's `\040` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                out.push(digits.iter().fold(0u8, |value, d| value.wrapping_mul(8).wrapping_add(d - b'0')));
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

/// The uppermost mount on exactly this folder.
fn mounted_at(path: &Path) -> io::Result<Option<Entry>> {
    Ok(mount_table()?.into_iter().rev().find(|entry| entry.mount_point == path))
}

/// Whether one of our mounts is at `path`, dead or alive.
pub fn is_mounted(path: &Path) -> bool {
    mounted_at(path).is_ok_and(|entry| entry.is_some_and(|entry| entry.is_ours()))
}

/// Whether a mount of ours at `path` answers, and is what fstab's first column asks for: `cwlogs`, or `cwlogs:REGION`.
pub fn is_served(path: &Path, source: &str) -> bool {
    let Ok(path) = resolve(path) else { return false };
    let Ok(Some(entry)) = mounted_at(&path) else { return false };
    let is_meant = source == "cwlogs" || source == entry.source;
    entry.is_ours() && is_meant && matches!(look_bounded(&path), Some(Ok(_)))
}

/// One mount of ours. One that was moved isn't found any more: its numbers alone may be those of another one by now.
#[derive(Debug)]
pub(super) struct Mounted {
    /// The kernel's number of it; mount points may change hands.
    id: u64,
    /// Of its file system, which nobody else gets while we serve it: numbers of mounts are used again.
    device: String,
    /// Where it was mounted.
    mount_point: PathBuf,
}

impl Mounted {
    /// The one that was just mounted at `path`.
    pub(super) fn at(path: &Path) -> io::Result<Mounted> {
        match mounted_at(path)? {
            Some(entry) if entry.is_ours() => {
                Ok(Mounted { id: entry.id, device: entry.device, mount_point: entry.mount_point })
            }
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "it isn't there")),
        }
    }

    /// Whether it stands though its session has ended: every call on it fails. Its numbers may be another mount's by now, which answers.
    pub(super) fn is_dead(&self) -> bool {
        let is_listed = mount_table().is_ok_and(|table| table.iter().any(|entry| self.is(entry)));
        is_listed && matches!(look_bounded(&self.mount_point), Some(Err(error)) if is_dead(&error))
    }

    /// Whether its daemon answers a question that no cache does.
    pub(super) fn answers(&self) -> bool {
        match mounted_at(&self.mount_point) {
            Ok(Some(entry)) if self.is(&entry) => matches!(look_bounded(&self.mount_point), Some(Ok(_))),
            Ok(_) | Err(_) => true,
        }
    }

    fn is(&self, entry: &Entry) -> bool {
        entry.id == self.id && entry.device == self.device && entry.mount_point == self.mount_point && entry.is_ours()
    }

    /// Takes it away, if it is there still; nothing else that is mounted at its place.
    pub(super) fn detach(&self) -> io::Result<()> {
        let table = mount_table()?;
        let Some(entry) = table.iter().find(|entry| self.is(entry)) else { return Ok(()) };
        let uppermost = table.iter().rev().find(|other| other.mount_point == entry.mount_point);
        if uppermost.is_some_and(|uppermost| uppermost.id != self.id) {
            let why = format!("something else is mounted over it at {}; unmount both", shown(&entry.mount_point));
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
        }
        detach(&entry.mount_point)
    }
}

/// Takes the uppermost mount off `path`: at once for newcomers, for those who have files open when they close them.
pub fn detach(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let chosen = env::var_os("FUSERMOUNT_PATH").filter(|path| !path.is_empty());
    let programs = chosen.map_or_else(|| vec!["fusermount3".into(), "fusermount".into()], |path| vec![path]);
    for program in programs {
        let output = Command::new(&program).args(["-u", "-z", "--"]).arg(path).stdin(Stdio::null()).output();
        match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(io::Error::other(printable(&why)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "fusermount3 isn't installed (package fuse3)"))
}

/// `--unmount`: refuses what isn't ours, and returns once it has left the mount table.
pub fn unmount(path: &Path) -> Result<(), MountPointError> {
    let path = resolve(path)?;
    let entry = table_entry(&path)?;
    let Some(entry) = entry else {
        return failed(&path, "nothing is mounted there; `findmnt -t fuse.cwlogs` lists mounts");
    };
    if !entry.is_ours() {
        return failed(&path, format!("not a cwlogs mount but `{}`; use umount", printable(&entry.fs_type)));
    }
    if let Err(error) = detach(&path) {
        return failed(&path, format!("can't be unmounted: {error}"));
    }
    let deadline = Instant::now() + GONE;
    while mount_table().is_ok_and(|table| table.iter().any(|other| other.id == entry.id && other.is_ours())) {
        if Instant::now() > deadline {
            return failed(&path, "still mounted after 10 s; try `umount -l` as root");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A folder that can be mounted on.
#[derive(Debug)]
pub struct MountPoint {
    path: PathBuf,
    made: bool,
}

impl MountPoint {
    /// Clears away what a killed daemon left at `path`, and makes the folder if only its last part is missing.
    pub fn prepare(path: &Path) -> Result<MountPoint, MountPointError> {
        let path = resolve(path)?;
        for _ in 0..STACKED {
            let ours = table_entry(&path)?.filter(Entry::is_ours);
            match look_bounded(&path) {
                None => return failed(&path, "is mounted, but whoever serves it doesn't answer; unmount it first"),
                Some(Ok(_)) if ours.is_some() => {
                    let advice = format!("already mounted; `cwlogs-mount --unmount {}` unmounts it", shown(&path));
                    return failed(&path, advice);
                }
                Some(Ok(found)) if found.is_dir() => return Ok(MountPoint { path, made: false }),
                Some(Ok(_)) => return failed(&path, "not a folder; give another mount point"),
                Some(Err(error)) if is_dead(&error) && ours.is_some() => {
                    tracing::info!(path = %shown(&path), "detaching the mount that a killed daemon left behind");
                    if let Err(error) = detach(&path) {
                        return failed(&path, format!("the mount left by a killed daemon can't be detached: {error}"));
                    }
                }
                Some(Err(error)) if is_dead(&error) => {
                    return failed(&path, "a dead mount of another program is there; unmount it (`fusermount3 -u -z`)");
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                    return match fs::create_dir(&path) {
                        Ok(()) => Ok(MountPoint { path, made: true }),
                        Err(error) => failed(&path, format!("can't be made: {error}; give another mount point")),
                    };
                }
                Some(Err(error)) => return failed(&path, format!("{error}; give another mount point")),
            }
        }
        failed(&path, "too many dead mounts one above the other; unmount them (`fusermount3 -u -z`)")
    }

    /// Absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder if `prepare` made it and nothing is mounted on it.
    pub fn clean_up(&self) {
        if self.made && mounted_at(&self.path).is_ok_and(|entry| entry.is_none()) {
            // Somebody may have put something into it, or removed it: then it isn't ours to remove.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// The daemon behind a mount is gone.
fn is_dead(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED))
}

fn table_entry(path: &Path) -> Result<Option<Entry>, MountPointError> {
    mounted_at(path).or_else(|error| failed(path, format!("the mount table can't be read: {error}")))
}

/// The path as the mount table writes it. The last part is not touched where it may be a dead mount.
pub fn resolve(path: &Path) -> Result<PathBuf, MountPointError> {
    let absolute = std::path::absolute(path).or_else(|error| failed(path, error))?;
    let is_link = absolute.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let (Some(parent), Some(name), false) = (absolute.parent(), absolute.file_name(), is_link) else {
        return absolute.canonicalize().or_else(|error| failed(path, error));
    };
    match parent.canonicalize() {
        Ok(parent) => Ok(parent.join(name)),
        Err(error) => failed(path, format!("the folder it is in can't be entered: {error}; make it first")),
    }
}

/// `statfs` and `stat`, from a thread that may be left behind: a stopped daemon never answers. `stat` alone proves no life: the
/// kernel answers it from its cache for a daemon that is long dead.
fn look_bounded(path: &Path) -> Option<io::Result<fs::Metadata>> {
    let (answer, answered) = mpsc::channel();
    let path = path.to_owned();
    thread::spawn(move || {
        // The receiver is gone if this took too long.
        let _ = answer.send(statfs(&path).and_then(|()| fs::metadata(&path)));
    });
    answered.recv_timeout(ANSWER).ok()
}

/// Asks whoever serves `path`, past every cache.
fn statfs(path: &Path) -> io::Result<()> {
    rustix::fs::statfs(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_read_as_it_is_written() {
        let line =
            br"36 35 0:40 / /home/ada/aws\040logs\134 rw,nosuid shared:1 master:2 - fuse.cwlogs cwlogs:eu-west-1 rw";
        let entry = parse_entry(line).unwrap();
        assert_eq!((entry.id, entry.device.as_str()), (36, "0:40"));
        assert_eq!(entry.mount_point, Path::new("/home/ada/aws logs\\"));
        assert!(entry.is_ours());
        let other = parse_entry(b"1 0 8:1 / / rw - ext4 /dev/sda1 rw").unwrap();
        assert!(!other.is_ours());
        let sshfs = parse_entry(b"1 0 0:40 / /m rw - fuse.sshfs cwlogs:/ rw").unwrap();
        assert!(!sshfs.is_ours());
        let file = parse_entry(b"1 0 0:40 / /m rw - tmpfs cwlogs:x rw").unwrap();
        assert!(!file.is_ours());
        assert_eq!(parse_entry(b""), None);
        assert!(mount_table().unwrap().iter().any(|entry| entry.mount_point == Path::new("/")));
    }

    #[test]
    fn an_absent_last_part_is_made_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("logs");
        let point = MountPoint::prepare(&path).unwrap();
        assert!(path.is_dir());
        assert_eq!(point.path(), path);
        point.clean_up();
        assert!(!path.exists());
        let kept = MountPoint::prepare(dir.path()).unwrap();
        kept.clean_up();
        assert!(dir.path().exists());
    }

    #[test]
    fn what_can_not_be_mounted_on_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(MountPoint::prepare(&file).unwrap_err().to_string().contains("not a folder"));
        assert!(MountPoint::prepare(&dir.path().join("a/b")).unwrap_err().to_string().contains("make it first"));
        assert!(unmount(dir.path()).unwrap_err().to_string().contains("nothing is mounted"));
        assert!(unmount(Path::new("/proc")).unwrap_err().to_string().contains("not a cwlogs mount"));
    }

    #[test]
    fn a_symbolic_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("real"), &link).unwrap();
        assert!(MountPoint::prepare(&link).unwrap().path().ends_with("real"));
    }
}
