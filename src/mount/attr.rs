//! The tree's attributes in the kernel's form.

use crate::tree::{Attributes, TreeSettings};
use fuser::{FileAttr, FileType, INodeNo};

/// `attributes`, owned as the settings say. Folders have one link: a count of subfolders would cost a listing.
pub(super) fn file_attr(attributes: &Attributes, settings: &TreeSettings) -> FileAttr {
    let modified = attributes.modified.to_system_time();
    let created = attributes.created.to_system_time();
    FileAttr {
        ino: INodeNo(attributes.ino.0),
        size: attributes.size,
        blocks: attributes.size.div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: created,
        crtime: created,
        kind: kind(attributes),
        perm: attributes.mode,
        nlink: 1,
        uid: settings.uid,
        gid: settings.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Folder or file.
pub(super) fn kind(attributes: &Attributes) -> FileType {
    if attributes.directory { FileType::Directory } else { FileType::RegularFile }
}
