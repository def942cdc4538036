//! Every subset of the permissions that reading uses: what is shown is right, or it is refused with a sentence, or it is old and said to be;
//! and no tail leaves out a line.

use crate::support::fake_cloudwatch::{Fault, FaultKind, Synth};
use crate::world::{Listener, Mounted, World, now, output, shell};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

const CALLS: [&str; 4] = ["DescribeLogGroups", "DescribeLogStreams", "GetLogEvents", "FilterLogEvents"];
const ALL: u8 = 15;
/// A poll interval, a window and a time to live that let each case meet many polls, several late windows and new listings.
const QUICK: [&str; 6] = ["--listing-ttl", "1s", "--late-window", "5s", "--settle-after", "2s"];
/// For how long a policy is in force while tails are open, in lines that come a second apart: longer than the late window.
const LINES: usize = 20;
/// A refusal is remembered for a minute, and after failures polls are half a minute apart.
const GIVEN_BACK: Duration = Duration::from_secs(100);

/// The policy of a group (all, if none is named) that allows these of [`CALLS`], bit by bit.
fn lacking(group: Option<&str>, allows: u8) -> Vec<Fault> {
    let denied = CALLS.iter().enumerate().filter(|(bit, _)| allows & 1 << bit == 0);
    let fault = |call: &str| {
        let mut fault = Fault::new(FaultKind::AccessDenied).of(call);
        fault.which.group = group.map(str::to_owned);
        fault
    };
    denied.map(|(_, call)| fault(call)).collect()
}

fn named(allows: u8) -> String {
    let names: Vec<_> = CALLS.iter().enumerate().filter(|(bit, _)| allows & 1 << bit != 0).map(|(_, c)| *c).collect();
    format!("{names:?}")
}

fn allows_events(allows: u8) -> bool {
    allows & 0b1100 != 0
}

/// What went wrong, collected so that one run shows all of it.
#[derive(Default)]
struct Findings(Vec<String>);

/// One policy's world and what is found in it.
struct Case<'a> {
    world: &'a World,
    mounted: &'a Mounted,
    /// How the case is called in findings.
    name: String,
    findings: Findings,
}

fn read_control(mounted: &Mounted, name: &str) -> String {
    std::fs::read_to_string(mounted.file(".cwlogs").join(name)).unwrap()
}

/// What a file says of its being old; nothing if it says that it isn't.
fn stale(file: &Path) -> std::io::Result<String> {
    let path = CString::new(file.as_os_str().as_bytes()).unwrap();
    let mut value = vec![0u8; 4096];
    // SAFETY: NUL-terminated strings and a buffer of the length given, all of which live over the call.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), c"user.cwlogs.stale".as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match usize::try_from(length) {
        Ok(length) => value.truncate(length),
        Err(_) => match std::io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOTSUP) => value.clear(),
            error => return Err(error),
        },
    }
    Ok(String::from_utf8(value).unwrap())
}

impl Case<'_> {
    fn found(&mut self, what: impl AsRef<str>) {
        self.findings.0.push(format!("{}: {}", self.name, what.as_ref()));
    }

    /// Whether that a file is old is said in both places that a running mount has. A file that was never read whole has no copy to be
    /// old: of a tail alone the status tells.
    fn is_said(&self, group: &str, stream: &str) -> bool {
        let is_told = match stale(&self.mounted.file(&format!("{group}/{stream}.log"))) {
            Ok(told) => told.contains("is not allowed"),
            Err(error) => error.raw_os_error() == Some(libc::EACCES),
        };
        is_told && read_control(self.mounted, "status").contains("shown from the copy")
    }

    fn check_said(&mut self, what: &str, group: &str, stream: &str) {
        if !self.is_said(group, stream) {
            let told = stale(&self.mounted.file(&format!("{group}/{stream}.log")));
            self.found(format!("{what}: old, and it isn't said: {told:?}"));
        }
    }

    /// A tail lags, and says so or is whole in a moment.
    fn check_lag(&mut self, what: &str, (group, stream): (&str, &str), tail: &Listener, lines: usize) {
        let until = Instant::now() + Duration::from_secs(3);
        while !self.is_said(group, stream) {
            if lines_of(tail).len() >= lines {
                return;
            }
            if Instant::now() > until {
                return self.found(format!("{what} lags, and it isn't said"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A command's output must be `right`; or it fails and `errors` says why; or, where `may_be_old`, it is a beginning of what is right and
    /// is said to be old.
    fn check(
        &mut self,
        what: &str,
        script: &str,
        (group, stream): (&str, &str),
        right: &[u8],
        may_be_old: bool,
        must: bool,
    ) {
        let started = Instant::now();
        let result = shell(script);
        let took = started.elapsed();
        if took > Duration::from_secs(12) {
            self.found(format!("{what} took {took:?}"));
        }
        if result.status.success() && result.stdout == right {
            return;
        }
        if must {
            let said = String::from_utf8_lossy(&result.stderr).into_owned();
            let (has, wants) = (result.stdout.len(), right.len());
            self.found(format!("{what} could be right, and isn't: {} {said}, {has} of {wants} bytes", result.status));
        }
        if !result.status.success() {
            let errors = read_control(self.mounted, "errors");
            if !errors.contains("is not allowed") {
                let said = String::from_utf8_lossy(&result.stderr).into_owned();
                self.found(format!("{what} failed ({said}), and errors doesn't say why: {errors}"));
            }
            if !String::from_utf8_lossy(&result.stderr).contains("Permission denied") {
                self.found(format!("{what} failed by {}", String::from_utf8_lossy(&result.stderr)));
            }
            return;
        }
        if may_be_old && right.starts_with(&result.stdout) {
            self.check_said(what, group, stream);
        } else {
            let (has, wants) = (result.stdout.len(), right.len());
            self.found(format!("{what}: status 0 and {has} of {wants} bytes"));
        }
    }

    fn cat(&mut self, what: &str, group: &str, stream: &str, may_be_old: bool, must: bool) {
        let right = self.world.fake.oracle(group, stream);
        let file = self.mounted.file(&format!("{group}/{stream}.log"));
        self.check(what, &format!("cat {}", file.display()), (group, stream), &right, may_be_old, must);
    }

    fn tail(&mut self, what: &str, group: &str, stream: &str, must: bool) {
        let right = self.world.fake.oracle_tail(group, stream, 5);
        let file = self.mounted.file(&format!("{group}/{stream}.log"));
        self.check(what, &format!("tail -n 5 {}", file.display()), (group, stream), &right, false, must);
    }

    /// `grep -r` over a group of three streams.
    fn grep(&mut self, what: &str, group: &str, may_be_old: bool, must: bool) {
        let result = shell(&format!("cd {} && grep -r . {group} | sort", self.mounted.path().display()));
        let said = String::from_utf8_lossy(&result.stderr).into_owned();
        let shown = String::from_utf8_lossy(&result.stdout).into_owned();
        let mut missing = 0;
        for stream in WALKED {
            let prefix = format!("{group}/{stream}.log:");
            let of = |text: &str| text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>();
            let shown: BTreeSet<String> =
                shown.lines().filter_map(|l| l.strip_prefix(&prefix)).map(str::to_owned).collect();
            let right = of(&String::from_utf8(self.world.fake.oracle(group, stream)).unwrap());
            if shown == right {
                continue;
            }
            missing += 1;
            if said.contains("Permission denied") {
                let errors = read_control(self.mounted, "errors");
                if !errors.contains("is not allowed") {
                    self.found(format!("{what} of {stream} failed, and errors doesn't say why: {errors}"));
                }
            } else if may_be_old && shown.is_subset(&right) {
                self.check_said(&format!("{what} of {stream}"), group, stream);
            } else {
                self.found(format!("{what} of {stream}: {} of {} lines, {said}", shown.len(), right.len()));
            }
        }
        if must && missing > 0 {
            self.found(format!("{what} could be right, and {missing} files are not: {said}"));
        }
    }

    /// A folder is listed whole, or refused with a sentence, or what is cached of it, said to be old.
    fn ls(&mut self, what: &str, folder: &str, right: &[&str], is_cached: bool, must: bool) {
        let result = shell(&format!("ls {}", self.mounted.file(folder).display()));
        let shown: BTreeSet<String> = String::from_utf8_lossy(&result.stdout).lines().map(str::to_owned).collect();
        let right: BTreeSet<String> = right.iter().map(|name| (*name).to_owned()).collect();
        let is_right = result.status.success() && shown == right;
        let said = String::from_utf8_lossy(&result.stderr).into_owned();
        if must && !is_right {
            self.found(format!("{what}: {shown:?}, {said}"));
        }
        if result.status.success() && !is_right && !(is_cached && shown.is_subset(&right)) {
            self.found(format!("{what}: status 0 and {shown:?} instead of {right:?}"));
        }
        if !must && !result.status.success() && !read_control(self.mounted, "errors").contains("is not allowed") {
            self.found(format!("{what} failed ({said}), and errors doesn't say why"));
        }
        if !must && result.status.success() && !read_control(self.mounted, "status").contains("shown from the copy") {
            self.found(format!("{what}: the copy's, and the status doesn't say so"));
        }
    }
}

const WALKED: [&str; 3] = ["s0", "s1", "s2"];

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

fn populate(world: &World) {
    for stream in WALKED {
        world.put_history("walk", stream, &numbered(0..40));
    }
    world.put_history("cold", "s", &numbered(0..300));
    world.put_history("late", "s", &numbered(0..10));
    world.put_history("warm", "s", &numbered(0..10));
    for (group, stream) in FOLLOWED.into_iter().chain([("two", "c")]) {
        world.put_history(group, stream, &numbered(0..10));
    }
    // 200,000 lines of a day, which nobody reads whole for five of them.
    let end = now() - 3_600_000;
    let (count, line_bytes, first) = (200_000, 60, end - 86_400_000);
    let synth = Synth { count, line_bytes, first, end, ingestion: None, seed: 7, burst: None, batch: 0 };
    world.fake.synth("huge", "s", synth);
}

/// Group and stream of each tail.
const FOLLOWED: [(&str, &str); 4] = [("one", "s"), ("end", "s"), ("two", "a"), ("two", "b")];

/// A tail, and a line where it ends.
fn follow(mounted: &Mounted, group: &str, stream: &str, arguments: &str) -> Listener {
    let file = mounted.file(&format!("{group}/{stream}.log"));
    Listener::start(&format!("bash -c 'tail {arguments} -f {} 2>&1; echo tail ended $?'", file.display()))
}

fn lines_of(tail: &Listener) -> Vec<String> {
    tail.lines().into_iter().map(|(_, line)| line).collect()
}

/// What a tail has shown is whole and in order; how many lines it lacks of `until`. None if it says that it failed.
fn shown_by(case: &mut Case<'_>, what: &str, tail: &Listener, from: usize, until: usize) -> Option<usize> {
    let lines = lines_of(tail);
    let is_numbered = |line: &&String| line.starts_with("line ");
    let shown: Vec<&String> = lines.iter().filter(is_numbered).collect();
    let wanted = numbered(from..until);
    let same = shown.iter().zip(&wanted).take_while(|(shown, wanted)| **shown == *wanted).count();
    if same < shown.len() {
        let around = &shown[same.saturating_sub(2)..shown.len().min(same + 4)];
        case.found(format!("{what} has a gap or a repeat after {same} lines: {around:?} of {} shown", shown.len()));
    }
    if lines.last().is_some_and(|line| line.starts_with("tail ended")) {
        return None;
    }
    Some(wanted.len().saturating_sub(shown.len()))
}

/// A mount whose policy is this from its start.
fn cold(allows: u8) -> Findings {
    let mut world = World::start();
    populate(&world);
    world.fake.change(|plan| plan.faults = lacking(None, allows));
    let mounted = world.mount(&QUICK);
    let name = format!("cold with {}", named(allows));
    let mut case = Case { world: &world, mounted: &mounted, name, findings: Findings::default() };
    let groups = ["cold", "end", "huge", "late", "one", "two", "walk", "warm"];
    let (may_find, events) = (allows & 0b11 == 0b11, allows_events(allows));
    case.ls("ls of the root", "", &groups, false, allows & 1 != 0);
    case.ls("ls of a group", "walk", &["s0.log", "s1.log", "s2.log"], false, may_find);
    case.cat("cat", "cold", "s", false, may_find && events);
    case.tail("tail -n 5", "huge", "s", may_find && events);
    case.grep("grep -r", "walk", false, may_find && events);
    let tail = follow(&mounted, "late", "s", "-n 20");
    let until = Instant::now() + Duration::from_secs(15);
    while lines_of(&tail).len() < 10 && !has_ended(&tail) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    world.put_now("late", "s", "line 10");
    let until = Instant::now() + Duration::from_secs(15);
    while lines_of(&tail).len() < 11 && !has_ended(&tail) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    match shown_by(&mut case, "tail -f", &tail, 0, 11) {
        Some(0) => {}
        None if may_find && events => case.found(format!("tail -f could follow: {:?}", lines_of(&tail))),
        None => {
            if !read_control(&mounted, "errors").contains("is not allowed") {
                case.found("tail -f failed, and errors doesn't say why");
            }
        }
        Some(lacks) => case.found(format!("tail -f lacks {lacks} lines: {:?}", lines_of(&tail))),
    }
    case.findings
}

fn has_ended(tail: &Listener) -> bool {
    lines_of(tail).last().is_some_and(|line| line.starts_with("tail ended"))
}

/// A mount that was allowed everything, whose policy is this for a while, and everything again.
fn changed(allows: u8) -> Findings {
    let mut world = World::start();
    populate(&world);
    let mounted = world.mount(&QUICK);
    let name = format!("changed to {}", named(allows));
    let mut case = Case { world: &world, mounted: &mounted, name, findings: Findings::default() };
    case.ls("ls", "walk", &["s0.log", "s1.log", "s2.log"], false, true);
    case.cat("cat", "warm", "s", false, true);
    case.grep("grep -r", "walk", false, true);
    let arguments = ["-n +1", "-n 20", "-n +1", "-n 20"];
    let tails: Vec<Listener> =
        FOLLOWED.iter().zip(arguments).map(|((group, stream), how)| follow(&mounted, group, stream, how)).collect();
    let mut put = 10;
    let put_line = |put: &mut usize| {
        let line = format!("line {put}");
        FOLLOWED.iter().for_each(|(group, stream)| world.put_now(group, stream, &line));
        *put += 1;
    };
    let wait = |put: usize, time: Duration| {
        let until = Instant::now() + time;
        while tails.iter().any(|tail| lines_of(tail).len() < put && !has_ended(tail)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait(put, Duration::from_secs(20));
    put_line(&mut put);
    wait(put, Duration::from_secs(20));
    for (tail, (group, stream)) in tails.iter().zip(FOLLOWED) {
        if shown_by(&mut case, "a tail before", tail, 0, put) != Some(0) {
            case.found(format!("the tail of {group}/{stream} lacks lines before: {:?}", lines_of(tail)));
        }
    }

    world.fake.change(|plan| plan.faults = lacking(None, allows));
    let events = allows_events(allows);
    for round in 0..LINES {
        put_line(&mut put);
        std::thread::sleep(Duration::from_secs(1));
        if round == 3 {
            world.put_now("warm", "s", "after");
            WALKED.iter().for_each(|stream| world.put_now("walk", stream, "after"));
            case.cat("cat after a put", "warm", "s", true, events);
            case.cat("cat once more", "warm", "s", true, events);
            case.grep("grep -r after a put", "walk", true, events);
            case.tail("tail -n 5", "huge", "s", events && allows & 0b11 == 0b11);
            case.ls("ls again", "walk", &["s0.log", "s1.log", "s2.log"], true, allows & 2 != 0);
        }
    }
    // Where one call is left, tails are at most some polls behind.
    wait(put, Duration::from_secs(if events { 20 } else { 2 }));
    for (tail, (group, stream)) in tails.iter().zip(FOLLOWED) {
        let what = format!("the tail of {group}/{stream}");
        match shown_by(&mut case, &what, tail, 0, put) {
            Some(0) => {}
            Some(lacks) if events => case.found(format!("{what} lacks {lacks} lines, though a call is left")),
            Some(_) => case.check_lag(&what, (group, stream), tail, put),
            None => case.found(format!("{what} ended: {:?}", lines_of(tail).last())),
        }
    }

    world.fake.change(|plan| plan.faults.clear());
    let given_back = Instant::now();
    put_line(&mut put);
    wait(put, GIVEN_BACK);
    println!("{}: tails were whole {:?} after it was given back", case.name, given_back.elapsed());
    for (tail, (group, stream)) in tails.iter().zip(FOLLOWED) {
        let what = format!("the tail of {group}/{stream} in the end");
        match shown_by(&mut case, &what, tail, 0, put) {
            Some(0) => {}
            lacks => case.found(format!("{what} lacks {lacks:?} lines: {:?}", lines_of(tail).last())),
        }
    }
    case.cat("cat in the end", "warm", "s", false, true);
    case.grep("grep -r in the end", "walk", false, true);
    for (group, stream) in [("warm", "s"), ("walk", "s1")] {
        let told = stale(&mounted.file(&format!("{group}/{stream}.log"))).unwrap();
        if !told.is_empty() {
            case.found(format!("{group}/{stream} is up to date, and said to be old: {told}"));
        }
    }
    let Case { mut findings, name, .. } = case;
    drop(tails);
    mounted.signal(libc::SIGTERM);
    let (_, log) = mounted.wait();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("shown from the copy")).collect();
    println!("{name}:\n{}", told.join("\n"));
    if !events && told.is_empty() {
        findings.0.push(format!("{name}: the log says nothing of what was old:\n{log}"));
    }
    // Once a cause, however many files it has; nothing else is wrong with this world.
    for call in CALLS {
        let of_call: Vec<_> =
            told.iter().filter(|line| line.contains(&format!("logs:{call} is not allowed"))).collect();
        if of_call.len() > 1 {
            findings.0.push(format!("{name}: {call} is told {} times: {of_call:#?}", of_call.len()));
        }
    }
    findings
}

fn all_at_once(cases: impl IntoIterator<Item = u8>, case: fn(u8) -> Findings) {
    let running: Vec<_> = cases.into_iter().map(|allows| std::thread::spawn(move || case(allows))).collect();
    let mut all = String::new();
    for case in running {
        case.join().unwrap().0.iter().for_each(|found| writeln!(all, "{found}").unwrap());
    }
    assert!(all.is_empty(), "{all}");
}

#[test]
fn whatever_is_missing_from_the_start_is_refused_or_done_without() {
    all_at_once(0..=ALL, cold);
}

#[test]
fn whatever_is_taken_away_and_given_back_leaves_no_gap_and_nothing_old_unsaid() {
    all_at_once(0..=ALL, changed);
}

/// What is put while nothing is allowed reaches further back than the late window, and is given in short pages with empty ones among
/// them, as the service may at any time.
fn backlog(allows: u8) -> Findings {
    let mut world = World::start();
    populate(&world);
    let mounted = world.mount(&QUICK);
    let name = format!("a backlog with {}", named(allows));
    let mut case = Case { world: &world, mounted: &mounted, name, findings: Findings::default() };
    case.cat("cat", "two", "c", false, true);
    let mut tails: Vec<(&str, &str, Listener)> =
        [("one", "s", "-n +1"), ("end", "s", "-n 20"), ("two", "a", "-n +1"), ("two", "b", "-n 20")]
            .map(|(group, stream, how)| (group, stream, follow(&mounted, group, stream, how)))
            .into();
    let wait = |tails: &[(&str, &str, Listener)], put: usize, time: Duration| {
        let until = Instant::now() + time;
        while tails.iter().any(|(.., tail)| lines_of(tail).len() < put && !has_ended(tail)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let streams = [("one", "s"), ("end", "s"), ("two", "a"), ("two", "b"), ("two", "c")];
    let mut put = 10;
    wait(&tails, put, Duration::from_secs(20));
    world.fake.change(|plan| plan.faults = lacking(None, 0));
    for round in 0..60 {
        for _ in 0..5 {
            streams.iter().for_each(|(group, stream)| world.put_now(group, stream, &format!("line {put}")));
            put += 1;
        }
        std::thread::sleep(Duration::from_millis(300));
        if round == 20 {
            // It shows the copy, and is polled for the first time while nothing is allowed.
            tails.push(("two", "c", follow(&mounted, "two", "c", "-n +1")));
        }
    }
    world.fake.change(|plan| {
        plan.faults = lacking(None, allows);
        (plan.page_events, plan.partial_page, plan.empty_page, plan.empty_first) = (40, 0.3, 0.3, 0.3);
    });
    wait(&tails, put, GIVEN_BACK);
    for (group, stream, tail) in &tails {
        match shown_by(&mut case, &format!("the tail of {group}/{stream}"), tail, 0, put) {
            Some(0) => {}
            lacks => case.found(format!("the tail of {group}/{stream} lacks {lacks:?} lines of {put}")),
        }
    }
    case.findings
}

#[test]
fn a_backlog_in_short_pages_comes_whole_and_in_order() {
    all_at_once([ALL, 0b0111, 0b1011], backlog);
}

/// Two groups whose policies differ and change places, again and again.
#[test]
fn policies_that_differ_by_group_and_change_places_leave_no_gap() {
    const BY_GET: u8 = 0b0111;
    const BY_FILTER: u8 = 0b1011;
    let mut world = World::start();
    populate(&world);
    let police = |world: &World, one: u8, two: u8| {
        world.fake.change(|plan| {
            plan.faults = lacking(Some("one"), one);
            plan.faults.extend(lacking(Some("two"), two));
        });
    };
    police(&world, BY_GET, BY_FILTER);
    let mounted = world.mount(&QUICK);
    let mut case = Case { world: &world, mounted: &mounted, name: "two groups".into(), findings: Findings::default() };
    let tails = [("one", "s", "-n +1"), ("two", "a", "-n +1"), ("two", "b", "-n 20")]
        .map(|(group, stream, how)| (group, stream, follow(&mounted, group, stream, how)));
    let mut put = 10;
    for (round, (one, two)) in
        [(BY_GET, BY_FILTER), (BY_FILTER, BY_GET), (ALL, 0), (BY_GET, BY_GET)].into_iter().enumerate()
    {
        police(&world, one, two);
        for _ in 0..7 {
            for (group, stream, _) in &tails {
                world.put_now(group, stream, &format!("line {put}"));
            }
            put += 1;
            std::thread::sleep(Duration::from_secs(1));
        }
        for (group, stream, tail) in &tails {
            let what = format!("the tail of {group}/{stream} in round {round}");
            match shown_by(&mut case, &what, tail, 0, put) {
                Some(0..=2) => {}
                Some(_) => case.check_lag(&what, (group, stream), tail, put),
                None => case.found(format!("{what} ended: {:?}", lines_of(tail).last())),
            }
        }
        case.cat(&format!("cat in round {round}"), "one", "s", true, false);
        case.cat(&format!("cat in round {round}"), "two", "a", true, false);
    }
    let until = Instant::now() + GIVEN_BACK;
    while tails.iter().any(|(.., tail)| lines_of(tail).len() < put && !has_ended(tail)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    for (group, stream, tail) in &tails {
        match shown_by(&mut case, &format!("the tail of {group}/{stream} in the end"), tail, 0, put) {
            Some(0) => {}
            lacks => case.found(format!("the tail of {group}/{stream} lacks {lacks:?} lines")),
        }
    }
    assert!(case.findings.0.is_empty(), "{}", case.findings.0.join("\n"));
}

/// No call asks for several streams then. Each cached open reads its stream to the end, which the service tells by the third answer, and one
/// page of what is stamped ahead.
#[test]
fn without_filter_log_events_a_cached_open_costs_four_calls() {
    let files = std::env::var("CWLOGS_OPENS").map_or(50, |number| number.parse().unwrap());
    let mut world = World::start();
    for i in 0..files {
        world.put_history("g", &format!("s{i:04}"), &[format!("line of {i}")]);
    }
    let mounted = world.mount(&["--poll-interval", "5m"]);
    let count = format!("cat {}/*.log | wc -l", mounted.file("g").display());
    assert_eq!(output(&count).trim(), files.to_string());
    world.fake.change(|plan| plan.faults = lacking(None, 0b0111));
    std::thread::sleep(Duration::from_millis(1_100));
    world.fake.reset_calls();
    let started = Instant::now();
    assert_eq!(output(&count).trim(), files.to_string());
    let calls = world.fake.calls();
    println!("{files} cached opens: {calls:?} in {:?}", started.elapsed());
    assert_eq!(calls.of("GetLogEvents"), 4 * files, "{calls:?}");
    assert!(calls.of("FilterLogEvents") <= 2, "{calls:?}");
}
