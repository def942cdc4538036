//! A disk on which chosen calls fail, steered while the daemon runs: `failing_disk.c`, put before the system's library.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As `failing_disk.c` has it.
const SIZE: usize = 8192;
const COUNT: u64 = 8;
const LINES: u64 = 64;

/// A call on files whose path holds a part (or ends in it, behind which a dollar sign stands), and the errno with which it fails.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) call: &'static str,
    pub(crate) errno: i32,
    pub(crate) part: String,
}

/// The faults of one daemon's disk.
pub(crate) struct FailingDisk {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl FailingDisk {
    /// In `folder`, which holds what is compiled for it; nothing fails yet.
    pub(crate) fn new(folder: &Path) -> FailingDisk {
        let library = folder.join("failing_disk.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/failing_disk.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").output();
        let compiled = compiled.expect("a C compiler, which the linker needs too");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let path = folder.join("faults");
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        file.set_len(SIZE as u64).unwrap();
        FailingDisk { library, path, file }
    }

    /// Puts the disk beneath a daemon that is about to start.
    pub(crate) fn beneath(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("CWLOGS_FAULTS", &self.path);
    }

    /// These calls fail from now on, and no others.
    pub(crate) fn fail(&self, faults: &[Fault]) {
        self.file.write_all_at(&[0], 0).unwrap();
        let lines: String =
            faults.iter().map(|fault| format!("{} {} {}\n", fault.call, fault.errno, fault.part)).collect();
        let mut bytes = lines.into_bytes();
        bytes.push(0);
        assert!(bytes.len() <= SIZE - LINES as usize);
        self.file.write_all_at(&bytes, LINES).unwrap();
        self.file.write_all_at(&[u8::from(!faults.is_empty())], 0).unwrap();
    }

    /// How many calls have failed.
    pub(crate) fn failed(&self) -> u64 {
        let mut count = [0; 8];
        self.file.read_exact_at(&mut count, COUNT).unwrap();
        u64::from_ne_bytes(count)
    }
}
