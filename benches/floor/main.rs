//! The floor of warm reads: a mount of one folder's files, served by pread under the settings of the real one, by a program that does
//! nothing else. What is slower than a plain file here is FUSE's own.

use clap::Parser;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyXattr, Request, Session,
};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// How long the kernel may believe attributes and names.
const TTL: Duration = Duration::from_secs(60);
const ROOT: u64 = 1;

/// Serves the files of a folder, read-only, until it is unmounted
#[derive(Parser)]
struct Cli {
    /// Folder of plain files
    files: PathBuf,
    /// Where to mount
    mountpoint: PathBuf,
    /// Threads that take requests
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

struct Floor {
    /// Names in order; a file's inode is its place and 2.
    names: Vec<OsString>,
    attrs: Vec<FileAttr>,
    by_name: HashMap<OsString, usize>,
    folder: PathBuf,
    open: Mutex<HashMap<u64, std::sync::Arc<File>>>,
    next: AtomicU64,
}

impl Floor {
    fn new(folder: PathBuf) -> io::Result<Floor> {
        let mut names: Vec<OsString> =
            fs::read_dir(&folder)?.map(|e| e.map(|e| e.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        let attrs = names.iter().zip(2..).map(|(name, ino)| {
            let meta = fs::metadata(folder.join(name))?;
            let at = UNIX_EPOCH + Duration::from_secs(meta.mtime().max(0) as u64);
            Ok(attr(ino, FileType::RegularFile, meta.len(), at))
        });
        let attrs = attrs.collect::<io::Result<_>>()?;
        let by_name = names.iter().cloned().zip(0..).collect();
        Ok(Floor { names, attrs, by_name, folder, open: Mutex::default(), next: AtomicU64::new(1) })
    }

    fn attr(&self, ino: INodeNo) -> Option<FileAttr> {
        match ino.0 {
            ROOT => Some(attr(ROOT, FileType::Directory, 0, UNIX_EPOCH)),
            file => self.attrs.get(usize::try_from(file).ok()?.checked_sub(2)?).copied(),
        }
    }
}

fn attr(ino: u64, kind: FileType, size: u64, at: std::time::SystemTime) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: at,
        mtime: at,
        ctime: at,
        crtime: at,
        kind,
        perm: if kind == FileType::Directory { 0o555 } else { 0o444 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Floor {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in [InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_DO_READDIRPLUS] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.by_name.get(name) {
            Some(at) => reply.entry(&TTL, &self.attrs[*at], Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let file = self.names.get(ino.0 as usize - 2).map(|name| File::open(self.folder.join(name)));
        match file {
            Some(Ok(file)) => {
                let handle = self.next.fetch_add(1, Ordering::Relaxed);
                self.open.lock().expect("nothing panics while it is held").insert(handle, file.into());
                reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH);
            }
            _ => reply.error(Errno::EIO),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let file = self.open.lock().expect("nothing panics while it is held").get(&handle.0).cloned();
        let mut bytes = vec![0; size as usize];
        match file.map(|file| file.read_at(&mut bytes, offset)) {
            Some(Ok(read)) => reply.data(&bytes[..read]),
            _ => reply.error(Errno::EIO),
        }
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.open.lock().expect("nothing panics while it is held").remove(&handle.0);
        reply.ok();
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn readdir(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        for (at, name) in self.names.iter().enumerate().skip(offset as usize) {
            if reply.add(self.attrs[at].ino, at as u64 + 1, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        for (at, name) in self.names.iter().enumerate().skip(offset as usize) {
            let attr = &self.attrs[at];
            if reply.add(attr.ino, at as u64 + 1, name, &TTL, attr, Generation(0)) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn getxattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::EOPNOTSUPP);
    }

    fn listxattr(&self, _request: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::EOPNOTSUPP);
    }
}

fn main() -> io::Result<()> {
    let cli = Cli::parse();
    let floor = Floor::new(cli.files)?;
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::FSName("floor".to_owned()), MountOption::DefaultPermissions, MountOption::NoDev];
    config.n_threads = Some(cli.threads);
    config.clone_fd = true;
    let session = Session::new(floor, &cli.mountpoint, &config)?;
    session.run()
}
