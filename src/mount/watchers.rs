//! Which of our inodes inotify watches look at. Nothing tells a file system that it is watched, but each process's descriptors
//! do (`/proc/PID/fdinfo`, lines `inotify wd:1 ino:9e7e sdev:800013 …`).

use crate::tree::Ino;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// The inodes of `device` that any process we may look at watches.
pub(super) fn watched(device: libc::dev_t) -> HashSet<Ino> {
    let device = u64::from(libc::major(device)) << 20 | u64::from(libc::minor(device));
    let mut found = HashSet::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        if process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            of_process(&process.path(), device, &mut found);
        }
    }
    found
}

fn of_process(process: &Path, device: u64, found: &mut HashSet<Ino>) {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return };
    for descriptor in descriptors.flatten() {
        let is_inotify =
            fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:inotify");
        if is_inotify && let Ok(text) = fs::read_to_string(process.join("fdinfo").join(descriptor.file_name())) {
            found.extend(text.lines().filter_map(|line| watch(line, device)));
        }
    }
}

fn watch(line: &str, device: u64) -> Option<Ino> {
    let rest = line.strip_prefix("inotify ")?;
    let field = |name: &str| {
        let value = rest.split(' ').find_map(|field| field.strip_prefix(name))?;
        u64::from_str_radix(value, 16).ok()
    };
    (field("sdev:")? == device).then_some(())?;
    field("ino:").map(Ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_watch() {
        let line =
            "inotify wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:7e";
        assert_eq!(watch(line, 0x80_0013), Some(Ino(0x9e7e)));
        assert_eq!(watch(line, 0x80_0014), None);
        assert_eq!(watch("pos:\t0", 0x80_0013), None);
    }
}
