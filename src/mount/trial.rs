//! A mount of nothing, for a moment: whether one can be made at all. What `/dev/fuse`, `fusermount3` and a container's rules say of
//! themselves isn't the whole truth.

use super::options::MountOptions;
use crate::error::{Error, ErrorKind};
use fuser::{Filesystem, Session};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// How long it may take: `fusermount3` is another program.
const PATIENCE: Duration = Duration::from_secs(10);

struct Nothing;

impl Filesystem for Nothing {}

/// Mounts as `options` say, in a new folder among the temporary ones, and unmounts.
pub fn try_mount(options: &MountOptions) -> Result<(), Error> {
    let folder = std::env::temp_dir().join(format!(".cwlogs-mount-check-{}", std::process::id()));
    let failed = |error: io::Error| Error::new(ErrorKind::Damaged, folder.to_string_lossy(), error.to_string());
    let config = options.to_fuser()?;
    DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
    let (done, over) = mpsc::channel();
    let at = folder.clone();
    let thread = std::thread::Builder::new().name("trial".into());
    let mounted = thread
        .spawn(move || drop(done.send(mount_once(&at, &config))))
        .and_then(|_| over.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(io::Error::other("no answer within 10 s"))));
    let removed = std::fs::remove_dir(&folder);
    mounted.and(removed).map_err(failed)
}

/// Dropping the session unmounts.
fn mount_once(folder: &Path, config: &fuser::Config) -> io::Result<()> {
    Session::new(Nothing, folder, config).map(drop)
}
