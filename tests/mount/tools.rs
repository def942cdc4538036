//! Every command of `tools.tsv` gives on the mount what it gives on plain files: exit status, output, files written. In three
//! states of the mount's files: never fetched, arriving slowly, whole.

use crate::world::{Mounted, World};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TABLE: &str = include_str!("tools.tsv");
const TIMEOUT: Duration = Duration::from_secs(60);
const JOBS: usize = 6;
/// Commands whose lines come in the order of a folder's listing (no two file systems share it) or of several threads.
const UNORDERED: &[&str] = &["tar-dir", "rg-z", "ug-r"];

struct Row {
    name: &'static str,
    /// Right only for a complete file: it shows sizes.
    whole_only: bool,
    command: String,
}

fn table() -> Vec<Row> {
    let rows = TABLE.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    rows.map(|line| {
        let mut fields = line.splitn(3, '\t');
        let mut next = || fields.next().expect("three fields a row");
        let (name, state, command) = (next(), next(), next());
        Row { name, whole_only: state == "whole", command: command.replace("\\n", "\n") }
    })
    .collect()
}

fn folder(number: usize) -> String {
    format!("t{number:03}")
}

/// The four files that each command gets a copy of, in the fake and as plain files.
fn contents() -> BTreeMap<&'static str, Vec<String>> {
    let line = |i: usize| {
        let level = if i.is_multiple_of(97) { "ERROR" } else { "info" };
        let mut line = format!(
            "{i:09} gen0 {level} the quick brown fox {:011x}",
            (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
        );
        while line.len() < 63 {
            line.push('.');
        }
        line
    };
    BTreeMap::from([
        ("f", (0..16_384).map(line).collect()),
        (
            "j",
            (0..2_000)
                .map(|i| format!("{{\"i\":{i},\"level\":\"info\",\"message\":\"order {i} accepted\"}}"))
                .collect(),
        ),
        ("k", (0..160).map(line).collect()),
        ("z", Vec::new()),
    ])
}

/// What a command did.
#[derive(PartialEq)]
struct Outcome {
    status: i32,
    output: Vec<u8>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    errors: String,
}

fn run(row: &Row, number: usize, tree: &Path, reference: &Path) -> Outcome {
    let scratch = tempfile::tempdir().unwrap();
    let (own, plain) = (folder(number), reference.join(folder(number)));
    let mut command = row.command.clone();
    for file in ["f", "j", "k", "z"] {
        command = command.replace(&format!("{{{file}}}"), &format!("{own}/{file}.log"));
    }
    command = command
        .replace("{D}", &own)
        .replace("{T}", scratch.path().to_str().unwrap())
        .replace("{OD}", plain.to_str().unwrap())
        .replace("{O}", plain.join("f.log").to_str().unwrap());
    let mut child = Command::new("bash")
        .args(["-c", &command])
        .current_dir(tree)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let group = child.id() as i32;
    let mut stderr = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut stdout = child.stdout.take().unwrap();
    let output = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stdout.read_to_end(&mut bytes);
        bytes
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > TIMEOUT {
            // SAFETY: kill has no memory preconditions; the group is our child's own.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let output = replaced(&output.join().unwrap(), &[(scratch.path(), "%"), (tree, "@")]);
    let mut files = BTreeMap::new();
    collect(scratch.path(), scratch.path(), &mut files);
    let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Outcome { status, output, files, errors: errors.join().unwrap() }
}

fn replaced(bytes: &[u8], places: &[(&Path, &str)]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for (path, short) in places {
        let needle = path.as_os_str().as_encoded_bytes();
        if out.len() < 1 << 16 {
            while let Some(at) = out.windows(needle.len()).position(|w| w == needle) {
                out.splice(at..at + needle.len(), short.bytes());
            }
        }
    }
    out
}

fn collect(root: &Path, at: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(at).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            collect(root, &path, files);
        } else if kind.is_file() {
            files.insert(path.strip_prefix(root).unwrap().into(), std::fs::read(&path).unwrap());
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Cold,
    Arriving,
    Whole,
}

fn check(state: State) {
    let rows = table();
    assert_eq!(rows.len(), 286, "the table is whole");
    let contents = contents();
    let mut world = World::start();
    let reference = tempfile::tempdir().unwrap();
    for number in 0..rows.len() {
        let plain = reference.path().join(folder(number));
        std::fs::create_dir(&plain).unwrap();
        for (name, lines) in &contents {
            let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            std::fs::write(plain.join(format!("{name}.log")), text).unwrap();
            world.put_history(&folder(number), name, lines);
        }
    }
    if state == State::Arriving {
        world.small_pages(128 * 1024, Duration::from_millis(40));
    } else {
        world.latency(Duration::from_millis(5));
    }
    let mounted = world.mount(&["--settle-after", "1s"]);
    if state == State::Whole {
        let cat = format!("cat {}/*/*.log | wc -c", mounted.path().display());
        assert!(Command::new("bash").args(["-c", &cat]).stdout(Stdio::null()).status().unwrap().success());
    }
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let missing = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some(row) = rows.get(number) else { return };
                    if row.whole_only && state != State::Whole {
                        continue;
                    }
                    let expected = run(row, number, reference.path(), reference.path());
                    if expected.status == 127 || expected.errors.contains("not found") {
                        missing.lock().unwrap().push(row.name);
                        continue;
                    }
                    let slow = (state == State::Arriving).then(|| SlowReaders::start(row, number, &mounted));
                    let got = run(row, number, mounted.path(), reference.path());
                    drop(slow);
                    if let Some(why) = difference(row.name, &expected, &got) {
                        wrong.lock().unwrap().push(format!("{}: {why}", row.name));
                    }
                }
            });
        }
    });
    let (wrong, missing) = (wrong.into_inner().unwrap(), missing.into_inner().unwrap());
    assert!(missing.is_empty(), "not installed, so not tested: {missing:?} (scripts/test installs them)");
    assert!(wrong.is_empty(), "{} of {} differ from plain files:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn difference(name: &str, expected: &Outcome, got: &Outcome) -> Option<String> {
    let mut why = Vec::new();
    if expected.status != got.status {
        why.push(format!("exit {} became {}", expected.status, got.status));
    }
    // Lists and searches in several threads have no order that two runs share.
    let same = if UNORDERED.contains(&name) {
        sorted(&expected.output) == sorted(&got.output)
    } else {
        expected.output == got.output
    };
    if !same {
        let shown = String::from_utf8_lossy(&got.output[..got.output.len().min(60)]).into_owned();
        why.push(format!("output of {} bytes became {} bytes, {shown:?}…", expected.output.len(), got.output.len()));
    }
    if expected.files != got.files {
        let sizes = |files: &BTreeMap<PathBuf, Vec<u8>>| -> HashMap<PathBuf, usize> {
            files.iter().map(|(path, bytes)| (path.clone(), bytes.len())).collect()
        };
        why.push(format!("files {:?} became {:?}", sizes(&expected.files), sizes(&got.files)));
    }
    if why.is_empty() {
        return None;
    }
    why.push(got.errors.chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect());
    Some(why.join(" · "))
}

fn sorted(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    lines.sort_unstable();
    lines
}

/// Readers that begin a file just before the command and stall.
struct SlowReaders(Vec<std::process::Child>);

impl SlowReaders {
    fn start(row: &Row, number: usize, mounted: &Mounted) -> SlowReaders {
        let files = ["f", "j"].into_iter().filter(|file| row.command.contains(&format!("{{{file}}}")));
        let start = |file: &str| {
            let path = mounted.path().join(folder(number)).join(format!("{file}.log"));
            let script = format!("exec cat '{}' | (sleep 3; cat >/dev/null)", path.display());
            Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).process_group(0).spawn().unwrap()
        };
        let readers = files.map(start).collect();
        std::thread::sleep(Duration::from_millis(100));
        SlowReaders(readers)
    }
}

impl Drop for SlowReaders {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // SAFETY: kill has no memory preconditions; the group is our child's own.
            unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
            let _ = child.wait();
        }
    }
}

#[test]
fn on_files_never_fetched() {
    check(State::Cold);
}

#[test]
fn on_files_that_arrive_slowly() {
    check(State::Arriving);
}

#[test]
fn on_whole_files() {
    check(State::Whole);
}
