//! The folder of the cache: one that holds something else stays as it is, and an older cache is known.

use crate::world::{Mounted, World, output, read, shell};
use std::fs;
use std::path::Path;

/// Everything beneath a folder, with contents.
fn all(folder: &Path) -> String {
    let listed = shell(&format!(
        "cd {} && ls -lAR --time-style=full-iso && find . -type f -exec md5sum {{}} +",
        folder.display()
    ));
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn a_folder_that_holds_something_else_is_refused_and_stays_as_it_is() {
    let world = World::start();
    let folder = world.folder().join("cache");
    for file in ["renditions/a", "streams/00/1.index", "log", "lock", "catalogue.lost"] {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mine").unwrap();
    }
    let before = all(&folder);
    let mount = format!("--foreground {}", world.folder().join("mnt").display());
    for action in ["--check", "--verify", &mount] {
        let mut command = world.command();
        command.args(action.split(' '));
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(1), "{action}: {said}");
        assert!(said.contains("is no cache of cwlogs-mount") && said.contains("--cache-dir"), "{action}: {said}");
        assert_eq!(all(&folder), before, "{action}");
    }
}

/// Versions before the mark left none.
#[test]
fn a_cache_without_a_mark_is_used_with_and_without_its_catalogue() {
    let mut world = World::start();
    world.put_history("g", "s", &["line".into()]);
    let real = world.folder().join("real");
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, world.folder().join("cache")).unwrap();
    for lost in [&["CACHEDIR.TAG"][..], &["CACHEDIR.TAG", "catalogue.redb"][..], &[][..]] {
        let mounted = world.mount(&[]);
        assert_eq!(read(&mounted.file("g/s.log")).unwrap(), b"line\n");
        mounted.unmount();
        assert!(real.join("CACHEDIR.TAG").exists() && real.join("streams").is_dir());
        lost.iter().for_each(|name| fs::remove_file(real.join(name)).unwrap());
    }
}

/// A process that may open few files, and a walk over more of them than that: all are read, over and over, and while they are held open.
#[test]
fn more_cached_files_than_descriptors_are_read() {
    const STREAMS: usize = 1_500;
    let world = World::start();
    for i in 0..STREAMS {
        world.put_history("g", &format!("s{i:04}"), &[format!("line {i}")]);
    }
    let path = world.folder().join("mnt");
    fs::create_dir(&path).unwrap();
    let limited = || {
        let daemon = world.command();
        let mut limited = std::process::Command::new("prlimit");
        limited.arg("--nofile=1024:1024").arg(daemon.get_program()).args(daemon.get_args()).env_clear();
        limited.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
        limited
    };
    // At an unmount live rows are moved to files: then each stream has one to be opened.
    let first = Mounted::start(limited(), &path);
    output(&format!("cat {}/*.log", first.file("g").display()));
    first.unmount();
    let mounted = Mounted::start(limited(), &path);
    let folder = mounted.file("g");
    for round in 0..3 {
        let read = output(&format!("cat {}/*.log | sort -u | wc -l", folder.display()));
        assert_eq!(read.trim(), STREAMS.to_string(), "round {round}");
    }
    // Held open by three processes, and then read.
    let held = |first: usize| {
        format!(
            "for i in $(seq {first} {}); do printf -v name s%04d $i; exec {{f[i]}}<{}/$name.log || exit 1; done; sleep 2; \
             for i in ${{!f[@]}}; do cat <&${{f[i]}} || exit 1; done",
            first + 499,
            folder.display()
        )
    };
    let (a, b, c) = (held(0), held(500), held(1_000));
    let read = output(&format!("{{ ({a}) & ({b}) & ({c}) & wait; }} | sort -u | wc -l"));
    assert_eq!(read.trim(), STREAMS.to_string(), "while all are open");
}
