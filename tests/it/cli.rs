//! The command itself: help, usage errors (2), failures (1), before anything is mounted.

use std::path::Path;
use std::process::{Command, Output};

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Dir {
        Dir(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs the command without the caller's settings.
    fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cwlogs-mount"))
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(env.iter().copied())
            .output()
            .expect("the command runs")
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are UTF-8")
}

/// Status 1, and one line that holds each of `parts`.
#[track_caller]
fn failed(output: &Output, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("cwlogs-mount: "), "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
}

#[track_caller]
fn misused(output: &Output, part: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(part), "`{part}` is missing: {text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn help_comes_in_groups_and_version_is_ours() {
    let dir = Dir::new();
    let help = dir.run(&["--help"], &[]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for group in ["What to do:", "AWS:", "Selection:", "Files:", "Cache:", "Quotas:", "Mount:", "Other:"] {
        assert!(text.contains(group), "{group}");
    }
    for name in [
        "AWS_PROFILE",
        "AWS_REGION",
        "LOG_GROUP_NAME_PREFIX",
        "LOG_STREAMS_FILTER",
        "CWLOGS_CACHE_DIR",
        "AWS_LOGS_DIRECTORY",
    ] {
        assert!(text.contains(name), "{name}");
    }
    assert!(!text.contains("background-child"));
    let version = dir.run(&["--version"], &[]);
    assert_eq!(String::from_utf8(version.stdout).unwrap(), concat!("cwlogs-mount ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn usage_errors_exit_with_two() {
    let dir = Dir::new();
    misused(&dir.run(&[], &[]), "AWS_LOGS_DIRECTORY");
    misused(&dir.run(&["--nonsense", "m"], &[]), "--nonsense");
    misused(&dir.run(&["--demo", "-o", "allow_other,nonsense", "m"], &[]), "nonsense");
    misused(&dir.run(&["--demo", "--format", "{nope}", "m"], &[]), "nope");
    misused(&dir.run(&["--demo", "--since", "whenever", "m"], &[]), "2026-11-23");
    misused(&dir.run(&["--allow-other", "--allow-root", "m"], &[]), "--allow-root");
}

#[test]
fn a_wrong_file_is_named() {
    let dir = Dir::new();
    failed(&dir.run(&["--demo", "--config", "absent.toml", "m"], &[]), &["absent.toml", "--config"]);
    std::fs::write(dir.path().join("c.toml"), "[aws]\n").unwrap();
    failed(&dir.run(&["--demo", "--config", "c.toml", "m"], &[]), &["c.toml", "unknown key `aws`"]);
    std::fs::create_dir_all(dir.path().join(".config/cwlogs-mount")).unwrap();
    std::fs::write(dir.path().join(".config/cwlogs-mount/config.toml"), "poll_interval = 'often'\n").unwrap();
    failed(&dir.run(&["--demo", "m"], &[]), &["config.toml", "poll-interval"]);
}

#[test]
fn a_mount_point_that_can_not_be_used_is_refused() {
    let dir = Dir::new();
    std::fs::write(dir.path().join("file"), "").unwrap();
    for foreground in [false, true] {
        let run = |args: &[&str]| {
            let mut all = vec!["--demo"];
            all.extend(foreground.then_some("--foreground"));
            all.extend(args);
            dir.run(&all, &[])
        };
        failed(&run(&["a/b/c"]), &["make it first"]);
        failed(&run(&["file"]), &["not a folder"]);
        failed(&run(&["--cache-dir", "m/cache", "m"]), &["--cache-dir", "one in the other"]);
    }
    assert!(!dir.path().join("m").exists(), "a folder made for a mount that failed is removed");
    failed(&dir.run(&["--demo"], &[("AWS_LOGS_DIRECTORY", "a/b/c")]), &["make it first"]);
}

#[test]
fn only_our_own_mounts_are_unmounted() {
    let dir = Dir::new();
    failed(&dir.run(&["--unmount", "."], &[]), &["nothing is mounted there"]);
    failed(&dir.run(&["--unmount", "/proc"], &[]), &["not a cwlogs mount"]);
    failed(&dir.run(&["--unmount", "a/b"], &[]), &["a/b"]);
}

#[test]
fn without_a_region_the_cure_is_told() {
    let dir = Dir::new();
    std::fs::create_dir(dir.path().join("m")).unwrap();
    failed(&dir.run(&["m"], &[]), &["region", "--region"]);
}
