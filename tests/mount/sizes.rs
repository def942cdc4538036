//! What programs get that go by the size that they were told: the whole, or a refusal.

use crate::world::{World, shell};
use std::path::Path;
use std::process::{Command, Stdio};

/// Reads sizes first and content by them.
const COPIER: &str = include_str!("sizes/copier.py");

/// Copiers of one folder, all at once; each of its copies is whole, or was refused. Tells how many files showed the marker, and how
/// many opens were refused.
fn copy(files: usize, copiers: usize, how: &str) -> (usize, usize) {
    let mut world = World::start();
    for file in 0..files {
        let lines: Vec<String> = (0..300).map(|i| format!("{file:03} {i:05} {}", "x".repeat(90))).collect();
        world.put_history("g", &format!("s{file:03}"), &lines);
    }
    // Files become known one after another while the program walks.
    world.fake.change(|plan| plan.page_bytes = 128 << 10);
    let mounted = world.mount(&["--rate", "get-log-events=8,filter-log-events=8"]);
    let script = world.folder().join("copier.py");
    std::fs::write(&script, COPIER).unwrap();
    let targets: Vec<_> = (0..copiers).map(|copier| world.folder().join(format!("copies{copier}"))).collect();
    let running: Vec<_> = targets
        .iter()
        .map(|target| {
            std::fs::create_dir(target).unwrap();
            let mut command = Command::new("python3");
            command.arg(&script).arg(how).arg(mounted.file("g")).arg(target).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let (mut shown, mut refused) = (0, 0);
    for (copier, target) in running.into_iter().zip(&targets) {
        let output = copier.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        shown += String::from_utf8_lossy(&output.stdout).trim().parse::<usize>().unwrap();
        refused += check(&world, target, files, how);
    }
    (shown, refused)
}

/// Compares what a copier wrote with what the service has; how many opens were refused.
fn check(world: &World, target: &Path, files: usize, how: &str) -> usize {
    let mut refused = 0;
    let threads = if how == "threads" { 2 } else { 1 };
    for (file, thread) in (0..files).flat_map(|file| (0..threads).map(move |thread| (file, thread))) {
        let path = |what: &str| target.join(format!("s{file:03}.log.{thread}{what}"));
        let copy = if path(".refused").exists() {
            refused += 1;
            if how == "threads" {
                continue;
            }
            path(".again")
        } else {
            path("")
        };
        let copied = std::fs::read(&copy).unwrap_or_else(|error| panic!("{}: {error}", copy.display()));
        let whole = world.fake.oracle("g", &format!("s{file:03}"));
        assert!(copied == whole, "{how}: {}: {} bytes of {}", copy.display(), copied.len(), whole.len());
    }
    refused
}

#[test]
fn a_copy_by_sizes_is_whole_or_refused() {
    for (files, copiers, how) in [(1, 1, "open"), (9, 8, "open"), (60, 1, "open"), (200, 8, "open")] {
        let (shown, refused) = copy(files, copiers, how);
        println!("{files} files, {copiers} at once: {shown} markers, {refused} refused");
        assert!(refused <= shown, "{refused} refused of {shown} that were shown the marker");
        assert!(files < 60 || shown > 0, "no program walked");
    }
}

/// A program that looks at all the files it was given before it reads the first, and counts by the sizes it was told.
#[test]
fn a_program_that_is_given_files_by_name_gets_all_of_them() {
    let mut world = World::start();
    let mut bytes = 0;
    for file in 0..60 {
        let lines: Vec<String> = (0..300).map(|i| format!("{file:03} {i:05} {}", "x".repeat(90))).collect();
        bytes += lines.iter().map(|line| line.len() + 1).sum::<usize>();
        world.put_history("g", &format!("s{file:03}"), &lines);
    }
    // Files become known one after another while the program looks.
    world.fake.change(|plan| plan.page_bytes = 128 << 10);
    let mounted = world.mount(&["--rate", "get-log-events=8,filter-log-events=8"]);
    let counted = shell(&format!("cd {} && wc -c g/*.log", mounted.path().display()));
    let said = String::from_utf8_lossy(&counted.stdout);
    assert_eq!(said.lines().last().map(str::trim), Some(format!("{bytes} total").as_str()), "{counted:?}");
    assert!(counted.status.success() && counted.stderr.is_empty(), "{counted:?}");
}

#[test]
fn no_other_call_of_a_program_counts_as_a_look_at_the_size() {
    for how in ["access", "threads"] {
        let (shown, refused) = copy(60, 1, how);
        println!("{how}: {shown} markers, {refused} refused");
        assert!(shown > 0, "no program walked");
    }
}
