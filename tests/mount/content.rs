//! Every byte: whatever streams and groups are called and whatever the service does meanwhile, a file holds what was accepted.

use crate::support::fake_cloudwatch::{Fault, FaultKind, Synth};
use crate::world::{World, now, output, read};
use cwlogs_mount::store::names::{exact_encode, fits, slug_of, slug_with_hash};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// More than the fake is ever asked: a test's time is no quota's.
pub(crate) const RATES: &str =
    "get-log-events=5000,filter-log-events=5000,describe-log-streams=5000,describe-log-groups=5000";
const LATENCY: Duration = Duration::from_millis(300);

fn group_names() -> Vec<String> {
    let mut names = vec![
        "/aws/lambda/checkout".into(),
        "/aws/lambda/Checkout".into(),
        "aws-lambda-checkout".into(),
        "aws.lambda.checkout".into(),
        "/".into(),
        "..".into(),
        ".".into(),
        "...".into(),
        "#".into(),
        "-".into(),
        "_".into(),
        "//".into(),
        "/.cwlogs".into(),
        ".git".into(),
        "-rf".into(),
        "a".repeat(512),
        format!("{}b", "a".repeat(511)),
        "/x".repeat(256),
    ];
    names.extend((names.len()..50).map(|i| format!("/service/{i}")));
    names
}

/// Twenty names in each group, the hostile ones in all of them.
fn stream_names(group: usize) -> Vec<String> {
    let mut names: Vec<String> = [
        "2026/11/23/[$LATEST]3f2a",
        "2026/11/23/[$latest]3f2a",
        "2026-11-23-latest-3f2a",
        "/",
        "..",
        ".",
        "@all",
        "100%",
        "%2F",
        "a\nb\tc\u{1}\u{7f}",
        "$$$ !!!",
        "\u{65e5}\u{672c}/\u{1f980} e\u{301}",
        "-n",
        "x.log",
    ]
    .map(String::from)
    .into();
    names.push("y".repeat(512));
    names.push("\u{fc}".repeat(512));
    names.push(format!("{}/", "y".repeat(511)));
    names.push(format!("stream {group}"));
    names.push(format!("~{group}~0123abcd"));
    names.push(" ".into());
    names
}

/// Messages of every kind that the service takes; different ones for each stream.
fn messages(group: usize, stream: usize) -> Vec<String> {
    let seed = group * 20 + stream;
    let mut all: Vec<String> = (0..seed % 60).map(|i| format!("{seed} {i} {}", "lorem ipsum ".repeat(i % 9))).collect();
    all.push(format!("{seed} of\nthree\n\nlines"));
    all.push(format!("{seed} with its newline\n"));
    all.push(format!("{seed} \0 NUL and \u{1b}[31mescape\r\n"));
    all.push("\"quoted\" \\ {\"k\": \u{1f980}}".into());
    all.push("\n".into());
    all.extend(["twice".into(), "twice".into()]);
    // The service refuses events without a byte, but an account may hold some.
    all.push(String::new());
    if seed.is_multiple_of(251) {
        all.push("M".repeat(1_000_000));
        all.push(format!("{}\n", "\u{e9}\n".repeat(300_000)));
    }
    all
}

fn populate(world: &World) -> Vec<(String, Vec<String>)> {
    let first = now() - 3_600_000;
    let mut all = Vec::new();
    for (g, group) in group_names().into_iter().enumerate() {
        let streams = stream_names(g);
        assert_eq!(streams.len(), 20);
        for (s, stream) in streams.iter().enumerate() {
            let texts = messages(g, s);
            // Several events a millisecond, in two puts.
            let events: Vec<(i64, &str)> =
                texts.iter().enumerate().map(|(i, text)| (first + (i / 3) as i64, text.as_str())).collect();
            let (early, late) = events.split_at(events.len() / 2);
            world.fake.put(&group, stream, early);
            world.fake.put(&group, stream, late);
        }
        all.push((group, streams));
    }
    all
}

fn cat(files: &[PathBuf]) -> (Vec<u8>, String) {
    let done = Command::new("cat").arg("--").args(files).stdin(Stdio::null()).output().unwrap();
    (done.stdout, String::from_utf8_lossy(&done.stderr).into_owned())
}

fn attribute(path: &Path, name: &str) -> String {
    let done = Command::new("getfattr")
        .args(["--absolute-names", "--only-values", "-n", &format!("user.cwlogs.{name}"), "--"])
        .arg(path)
        .output()
        .unwrap();
    assert!(done.status.success(), "{name} of {path:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The entries of a folder, each once.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = entries.collect();
    let once: HashSet<&String> = names.iter().collect();
    assert_eq!(once.len(), names.len(), "a name is there twice in {folder:?}");
    names
}

/// The percent-encoded exact name. One that looks like a slug may be somebody else's in this cache; with a letter encoded it can't be.
fn encoded(name: &str) -> String {
    let plain = exact_encode(name);
    if plain != slug_of(name) {
        return plain;
    }
    let (first, rest) = plain.split_at(1);
    format!("%{:02x}{rest}", first.as_bytes()[0])
}

/// Reads every stream by every name; tells what differs.
fn read_all(world: &World, mnt: &Path, all: &[(String, Vec<String>)], from_listing: bool) -> Vec<String> {
    let wrong = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let folders = Mutex::new(names_in(mnt).into_iter().collect::<HashSet<_>>());
    assert_eq!(folders.lock().unwrap().len(), all.len());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some((group, streams)) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let fail = |why: String| wrong.lock().unwrap().push(format!("{group:.60}: {why}"));
                    let mut forms = vec![mnt.join(slug_with_hash(group))];
                    forms.extend(Some(encoded(group)).filter(|name| name.len() <= 255).map(|name| mnt.join(name)));
                    let oracle = |stream: &String| world.fake.oracle(group, stream);
                    let joined: Vec<u8> = streams.iter().flat_map(oracle).collect();
                    let exact: Vec<&String> = streams.iter().filter(|name| fits(&encoded(name))).collect();
                    let exact_joined: Vec<u8> = exact.iter().flat_map(|name| oracle(name)).collect();
                    for (at, folder) in forms.iter().enumerate() {
                        if attribute(folder, "log_group") != *group {
                            fail(format!("{folder:?} is another group"));
                        }
                        if at == 0 && from_listing {
                            by_listed_name(world, folder, group, streams, &fail);
                        }
                        let hashed = |name: &String| folder.join(format!("{}.log", slug_with_hash(name)));
                        let (bytes, errors) = cat(&streams.iter().map(hashed).collect::<Vec<_>>());
                        if bytes != joined {
                            fail(format!("by hash: {} bytes, not {}: {errors}", bytes.len(), joined.len()));
                        }
                        let by_exact = |name: &&String| folder.join(format!("{}.log", encoded(name)));
                        let (bytes, errors) = cat(&exact.iter().map(by_exact).collect::<Vec<_>>());
                        if bytes != exact_joined {
                            fail(format!("by exact name: {} bytes, not {}: {errors}", bytes.len(), exact_joined.len()));
                        }
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

fn by_listed_name(world: &World, folder: &Path, group: &str, streams: &[String], fail: &dyn Fn(String)) {
    let mut seen = BTreeMap::new();
    for name in names_in(folder) {
        let path = folder.join(&name);
        seen.insert(attribute(&path, "log_stream"), path);
    }
    if !seen.keys().eq(streams.iter().collect::<std::collections::BTreeSet<_>>()) {
        fail(format!("lists {:?}", seen.keys()));
    }
    for (stream, path) in &seen {
        let (bytes, errors) = cat(std::slice::from_ref(path));
        let expected = world.fake.oracle(group, stream);
        if bytes != expected || !errors.is_empty() {
            fail(format!("{path:?}: {} bytes, not {}: {errors}", bytes.len(), expected.len()));
        }
        let size = std::fs::metadata(path).unwrap().len();
        if size != expected.len() as u64 {
            fail(format!("{path:?}: {size} is its size, not {}", expected.len()));
        }
    }
}

#[test]
fn hostile_names_and_messages_are_exact_whatever_the_service_does() {
    let mut world = World::start();
    let all = populate(&world);
    let began = Instant::now();
    let mounted = world.mount(&["--rate", RATES]);
    let wrong = read_all(&world, mounted.path(), &all, true);
    println!("good day: {:?} {:?}", began.elapsed(), world.fake.calls().by_call);
    assert!(wrong.is_empty(), "on a good day:\n{}", wrong.join("\n"));
    mounted.unmount();

    std::fs::remove_dir_all(world.folder().join("cache")).unwrap();
    let fault = |kind, rate| Fault { rate, ..Fault::new(kind) };
    world.fake.change(|plan| {
        plan.page_events = 80;
        plan.page_bytes = 256 * 1024;
        plan.scan_events = 500;
        plan.empty_first = 0.2;
        plan.empty_page = 0.1;
        plan.partial_page = 0.15;
        plan.token_ttl_ms = 20_000;
        plan.faults = vec![
            fault(FaultKind::Throttle, 0.02),
            fault(FaultKind::InternalError, 0.01),
            fault(FaultKind::ServiceUnavailable, 0.01),
            fault(FaultKind::ExpiredToken, 0.02),
            fault(FaultKind::EmptyPage, 0.02),
            fault(FaultKind::ResetBeforeHead, 0.01),
            fault(FaultKind::ResetInBody, 0.01),
            fault(FaultKind::TruncatedBody, 0.01),
        ];
    });
    let mounted = world.mount(&["--rate", RATES]);
    let wrong = read_all(&world, mounted.path(), &all, false);
    let errors = world.fake.calls().errors;
    println!("bad day: {:?} {:?} {errors:?}", began.elapsed(), world.fake.calls().by_call);
    if !wrong.is_empty() {
        mounted.signal(libc::SIGTERM);
        let (_, log) = mounted.wait();
        panic!("on a bad day:\n{}\n{errors:?}\n{log}", wrong.join("\n"));
    }
    assert!(errors.len() >= 5, "the day was too good: {errors:?}");
}

#[test]
fn other_formats_attributes_and_times_tell_what_the_events_say() {
    let mut world = World::start();
    let (group, stream) = ("/aws/lambda/a", "2026/11/23/[$LATEST]1");
    let texts = ["one", "two\nlines\n", "", "\0\u{1f980}\"\\", "end\n\n"];
    let first = now() - 7_200_000;
    let events: Vec<(i64, &str)> = texts.iter().enumerate().map(|(i, t)| (first + i as i64 * 1_000, *t)).collect();
    world.fake.put(group, stream, &events);
    let oracle = world.fake.oracle_events(group, stream);
    let time = |ms: i64| {
        let text = output(&format!("date -u -d @{}.{:03} +%FT%T.%3NZ", ms / 1000, ms % 1000));
        text.trim_end().to_string()
    };
    let ended = |text: String| if text.ends_with('\n') { text } else { text + "\n" };
    let expected = |line: &dyn Fn(&str, &str, &str) -> String| -> String {
        oracle.iter().map(|e| ended(line(&time(e.timestamp), &time(e.ingestion_time), &e.message))).collect()
    };
    let file = "aws-lambda-a/2026-11-23-latest-1";

    let mounted = world.mount(&["--format", "timestamped"]);
    let text = String::from_utf8(read(&mounted.file(&format!("{file}.log"))).unwrap()).unwrap();
    assert_eq!(text, expected(&|at, _, message| format!("{at} {message}")));
    let lines = String::from_utf8(read(&mounted.file(&format!("{file}.jsonl"))).unwrap()).unwrap();
    assert_eq!(lines.lines().count(), texts.len());
    for (line, event) in lines.lines().zip(&oracle) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let wanted = serde_json::json!({
            "timestamp": time(event.timestamp), "ingestionTime": time(event.ingestion_time), "message": event.message,
        });
        assert_eq!(value, wanted);
    }
    let path = mounted.file(&format!("{file}.log"));
    assert_eq!(attribute(&path, "log_group"), group);
    assert_eq!(attribute(&path, "log_stream"), stream);
    assert!(attribute(&path, "arn").ends_with(&format!(":log-group:{group}:log-stream:{stream}")));
    assert_eq!(attribute(&path, "first_event"), time(first));
    assert_eq!(attribute(&path, "last_event"), time(first + 4_000));
    assert_eq!(attribute(&path, "cached_bytes"), world.fake.oracle(group, stream).len().to_string());
    assert_eq!(output(&format!("getfattr -d -m - {} | wc -c", path.display())).trim(), "0", "not enumerated");
    let stat = std::fs::metadata(&path).unwrap();
    assert_eq!(stat.mtime() * 1000 + stat.mtime_nsec() / 1_000_000, first + 4_000);
    assert!((stat.ctime() - now() / 1000).abs() < 60, "made when it was first put");
    mounted.unmount();

    let template = "{log_group}|{log_stream}|{ingestion_time}|{timestamp}|{x{message}";
    let mounted = world.mount(&["--format", template]);
    let text = String::from_utf8(read(&mounted.file(&format!("{file}.log"))).unwrap()).unwrap();
    assert_eq!(text, expected(&|at, taken, message| format!("{group}|{stream}|{taken}|{at}|{{x{message}")));
}

/// Runs a command on a cold file; when its first byte came, and whether all of them are the oracle's.
fn first_output(world: &World, script: &str, stream: &str) -> Duration {
    let started = Instant::now();
    let mut child =
        Command::new("bash").args(["-c", &format!("exec {script}")]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut byte = [0];
    stdout.read_exact(&mut byte).unwrap();
    let first = started.elapsed();
    let expected = world.fake.oracle_pieces("big", stream);
    let mut got = byte.to_vec();
    let (mut at, mut piece) = (0, Vec::new());
    for next in expected {
        piece.resize(next.len() - got.len(), 0);
        stdout.read_exact(&mut piece).unwrap_or_else(|error| panic!("{script}: {error} after {at} bytes"));
        got.extend_from_slice(&piece);
        assert!(got == next, "{script}: wrong within the MiB at {at}");
        at += next.len();
        got.clear();
    }
    assert_eq!(stdout.read(&mut byte).unwrap(), 0, "{script}: too much");
    assert!(child.wait().unwrap().success(), "{script}");
    println!("{script}: first output after {first:?}, {at} bytes in {:?}", started.elapsed());
    first
}

/// `CWLOGS_TEST_BIG=100` reads that many MB with each tool.
#[test]
fn a_cold_big_file_streams() {
    let mut world = World::start();
    let megabytes: u64 = std::env::var("CWLOGS_TEST_BIG").map_or(12, |text| text.parse().unwrap());
    let first = now() - 3_600_000;
    let tools = ["cat", "grep -a ''", "sed ''", "less"];
    for at in 0..tools.len() {
        let synth = Synth {
            count: megabytes * 10_000,
            line_bytes: 99,
            first,
            end: first + 1_800_000,
            ingestion: None,
            seed: at as u64,
            burst: None,
            batch: 0,
        };
        world.fake.synth("big", &format!("s{at}"), synth);
    }
    world.latency(LATENCY);
    let mounted = world.mount(&[]);
    output(&format!("ls {}/big", mounted.path().display()));
    for (at, tool) in tools.iter().enumerate() {
        let script = format!("{tool} {}/big/s{at}.log", mounted.path().display());
        let first = first_output(&world, &script, &format!("s{at}"));
        assert!(first < 3 * LATENCY, "{script}: first output after {first:?}");
    }
}
