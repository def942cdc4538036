//! `fuser::Filesystem`: decode, ask the tree, answer. No policy.

use super::answer::{Answerer, Asked};
use super::attr::{file_attr, kind};
use super::caller::{PROC, may_pass_through};
use super::disk::Disk;
use crate::report::requests::Request as Kind;
use crate::tree::{Caller, Entry, Ino, Tree};
use fuser::*;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

/// The adapter.
pub(super) struct Adapter {
    pub(super) tree: Arc<Tree>,
    pub(super) answerer: Answerer,
    pub(super) disk: Arc<Disk>,
    /// Told once the session's loops have ended.
    pub(super) ended: SyncSender<()>,
}

/// The kernel distinguishes uses of one number by this; our numbers are never used twice.
const GENERATION: Generation = Generation(0);

impl Adapter {
    fn asked(operation: &'static str, request: &Request, ino: INodeNo) -> Asked {
        Asked { operation, ino: Ino(ino.0), thread: request.pid() }
    }

    fn count(&self, kind: Kind) {
        self.tree.report().requests().count(kind);
    }

    fn caller(request: &Request) -> Caller<'static> {
        Caller::new(request.pid(), request.uid(), &PROC)
    }

    fn entry(tree: &Tree, entry: &Entry, reply: ReplyEntry) {
        let attr = file_attr(&entry.attributes, tree.settings());
        reply.entry_with_ttls(&entry.attributes.ttl, &entry.ttl, &attr, GENERATION);
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without PARALLEL_DIROPS a lookup waits behind a slow one in the same folder. Each is an improvement only: an old
        // kernel works without.
        for wanted in [InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_DO_READDIRPLUS] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_background(64);
        if may_pass_through()
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(1).is_ok()
        {
            self.tree.pass_texts_through();
        }
        Ok(())
    }

    fn destroy(&mut self) {
        let _ = self.ended.send(());
        // fuser would now unmount again, by path, whatever is mounted there by then. The process ends soon.
        loop {
            std::thread::park();
        }
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.count(Kind::Lookup);
        let (tree, caller, name) = (self.tree.clone(), Self::caller(request), name.to_os_string());
        let told = self.tree.clone();
        let work = async move { tree.lookup(Ino(parent.0), &name, &caller).await };
        self.answerer.answer(Self::asked("lookup", request, parent), work, move |result| match result {
            Ok(entry) => Self::entry(&told, &entry, reply),
            Err(errno) => reply.error(errno),
        });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, _lookups: u64) {
        self.count(Kind::Forget);
        self.tree.forget(Ino(ino.0));
    }

    fn getattr(&self, request: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        self.count(Kind::Getattr);
        let (tree, caller) = (self.tree.clone(), Self::caller(request));
        let told = self.tree.clone();
        let work = async move { tree.getattr(Ino(ino.0), handle.map(|h| h.0), &caller).await };
        self.answerer.answer(Self::asked("getattr", request, ino), work, move |result| match result {
            Ok(attributes) => reply.attr(&attributes.ttl, &file_attr(&attributes, told.settings())),
            Err(errno) => reply.error(errno),
        });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.count(Kind::Other);
        if size.is_some() {
            return reply.error(Errno::EROFS);
        }
        let caller = Self::caller(request);
        let work = || self.tree.touch(Ino(ino.0), &caller);
        self.answerer.now(Self::asked("setattr", request, ino), work, |result| match result {
            // Not to be believed: a growth may overtake it.
            Ok(attributes) => reply.attr(&Duration::ZERO, &file_attr(&attributes, self.tree.settings())),
            Err(errno) => reply.error(errno),
        });
    }

    fn readlink(&self, _request: &Request, _ino: INodeNo, reply: ReplyData) {
        reply.error(Errno::EINVAL);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        self.count(Kind::Other);
        let caller = Self::caller(request);
        let work = || self.tree.make_known(Ino(parent.0), name, &caller);
        self.answerer.now(Self::asked("mknod", request, parent), work, |result| match result {
            Ok(Some(entry)) => Self::entry(&self.tree, &entry, reply),
            Ok(None) => reply.error(Errno::EROFS),
            Err(errno) => reply.error(errno),
        });
    }

    fn mkdir(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, _target: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _request: &Request, _ino: INodeNo, _new_parent: INodeNo, _new_name: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.count(Kind::Open);
        let (tree, caller) = (self.tree.clone(), Self::caller(request));
        let writing = flags.0 & libc::O_ACCMODE != libc::O_RDONLY;
        let told = self.tree.clone();
        let work = async move { tree.open(Ino(ino.0), writing, &caller).await };
        self.answerer.answer(Self::asked("open", request, ino), work, move |result| match result {
            Ok(opened) => {
                let handle = FileHandle(opened.handle);
                if let Some(text) = &opened.text
                    && let Some(backing) = text.known_to_the_kernel(|text| reply.open_backing(text))
                {
                    told.report().requests().count(Kind::Passthrough);
                    // The kernel refuses others beside it.
                    return reply.opened_passthrough(handle, FopenFlags::FOPEN_NOFLUSH, &backing);
                }
                let mut flags = FopenFlags::FOPEN_NOFLUSH;
                flags |= if opened.direct { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::FOPEN_KEEP_CACHE };
                if opened.unseekable {
                    flags |= FopenFlags::FOPEN_NONSEEKABLE;
                }
                reply.opened(handle, flags);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.count(Kind::Read);
        let tree = self.tree.clone();
        let work = async move { tree.read(handle.0, offset, size).await };
        self.answerer.answer(Self::asked("read", request, ino), work, move |result| match result {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn flush(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        self.count(Kind::Flush);
        // For good: the kernel asks no more.
        reply.error(Errno::ENOSYS);
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
        self.count(Kind::Release);
        self.tree.release(handle.0);
        reply.ok();
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.count(Kind::Opendir);
        let (tree, caller) = (self.tree.clone(), Self::caller(request));
        let work = async move { tree.open_dir(Ino(ino.0), &caller).await };
        self.answerer.answer(Self::asked("opendir", request, ino), work, move |result| match result {
            Ok(opened) => {
                let mut flags = FopenFlags::empty();
                flags.set(FopenFlags::FOPEN_CACHE_DIR, opened.keeps);
                flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.kept);
                reply.opened(FileHandle(opened.handle), flags);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(&self, request: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.count(Kind::Readdir);
        let (tree, told) = (self.tree.clone(), self.tree.clone());
        let work = async move { tree.read_dir(handle.0, offset).await };
        self.answerer.answer(Self::asked("readdir", request, ino), work, move |result| match result {
            Ok(entries) => {
                let mut taken = 0;
                for entry in &entries {
                    let ino = INodeNo(entry.attributes.ino.0);
                    if reply.add(ino, entry.cookie, kind(&entry.attributes), &entry.name) {
                        break;
                    }
                    taken += 1;
                }
                told.took(handle.0, taken, entries.len());
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.count(Kind::Readdir);
        let (tree, told, folder) = (self.tree.clone(), self.tree.clone(), Ino(ino.0));
        let work = async move { tree.read_dir(handle.0, offset).await };
        self.answerer.answer(Self::asked("readdirplus", request, ino), work, move |result| match result {
            Ok(entries) => {
                let mut taken = 0;
                for entry in &entries {
                    let attributes = &entry.attributes;
                    let attr = file_attr(attributes, told.settings());
                    let ino = INodeNo(attributes.ino.0);
                    // One time to live for the name and the attributes is all that fuser 0.18 takes here. The marker of a file of
                    // unknown size must not be believed, so its name isn't either: `ls -l` asks for both (docs/performance.md).
                    if reply.add(ino, entry.cookie, &entry.name, &attributes.ttl, &attr, GENERATION) {
                        break;
                    }
                    taken += 1;
                    told.listed(folder, entry);
                }
                told.took(handle.0, taken, entries.len());
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn releasedir(&self, _request: &Request, _ino: INodeNo, handle: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.count(Kind::Other);
        self.tree.release(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn statfs(&self, request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.count(Kind::Other);
        let disk = self.disk.clone();
        let work = async move { Ok(disk.space().await) };
        self.answerer.answer(Self::asked("statfs", request, ino), work, move |result| match result {
            Ok(disk) => {
                reply.statfs(disk.blocks, disk.free, disk.available, 0, 0, disk.block_size, 255, disk.block_size)
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn setxattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn getxattr(&self, request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.count(Kind::Xattr);
        let work = || self.tree.xattr(Ino(ino.0), name);
        self.answerer.now(Self::asked("getxattr", request, ino), work, |result| match result {
            Ok(value) if size == 0 => reply.size(value.len() as u32),
            Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
            Ok(value) => reply.data(&value),
            Err(errno) => reply.error(errno),
        });
    }

    fn listxattr(&self, _request: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        self.count(Kind::Xattr);
        // ENOSYS would turn all extended attributes off, an empty list costs every `ls -l` a call a file.
        reply.error(Errno::EOPNOTSUPP);
    }

    fn removexattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn access(&self, _request: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn create(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EROFS);
    }

    fn getlk(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn setlk(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _request: &Request, _ino: INodeNo, _block_size: u32, _index: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::from_i32(libc::ENOTTY));
    }

    fn poll(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        // The kernel then says "always ready", as it does for every regular file.
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        // SEEK_DATA and SEEK_HOLE: the kernel then takes the file for one without holes.
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _ino_in: INodeNo,
        _handle_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _handle_out: FileHandle,
        _offset_out: u64,
        _length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The kernel then copies by splicing.
        reply.error(Errno::ENOSYS);
    }
}
