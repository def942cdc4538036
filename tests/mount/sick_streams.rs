//! One stream on whose files the disk fails, among thirty others of its group: those go on, it alone fails its readers and says why, and
//! after the fault it is whole again, in the same inode, with each byte where it was.

use crate::support::failing_disk::{FailingDisk, Fault};
use crate::world::{Listener, Mounted, World, now, read, shell};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const NEIGHBOURS: usize = 30;
/// Neighbours that get as much as the sick one, and so are written to their files in the same commits.
const LARGE: usize = 2;
/// Neighbours that a tail follows.
const FOLLOWED: usize = 4;
/// Looks at everything while the disk fails.
const ROUNDS: usize = 3;
/// How long a condition may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the sick stream's history is.
#[derive(Clone, Copy, PartialEq)]
enum History {
    /// Cached, in files; short enough to be read through the page cache.
    Short,
    /// Cached, and long enough to be read by the kernel itself.
    Long,
    /// Cached by an earlier mount: the disk fails from the start.
    Earlier,
    /// The same, and what was cached of its text is lost.
    Lost,
    /// Never read before the disk fails.
    Cold,
}

/// What is expected while the disk fails.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    /// The stream is sick; readers get EIO.
    Sick,
    /// The machine lacks something: nothing is sick.
    Lacking,
}

struct Case {
    /// Call, errno, and file, in which `ID` stands for the stream's number and `FOLDER` for that of its folder.
    faults: &'static [(&'static str, i32, &'static str)],
    history: History,
    expected: Expected,
}

struct Group {
    world: World,
    disk: FailingDisk,
    mounted: Option<Mounted>,
    lines: usize,
}

const SICK: &str = "sick";

fn neighbour(at: usize) -> String {
    format!("neighbour-{at:02}")
}

impl Group {
    fn new(history: History) -> Group {
        let world = World::start();
        let disk = FailingDisk::new(world.folder());
        let old = |stream: &str, count: usize| -> Vec<String> {
            (0..count).map(|i| format!("{stream} old {i:05} {}", "x".repeat(280))).collect()
        };
        for at in 0..NEIGHBOURS {
            world.put_history("g", &neighbour(at), &old(&neighbour(at), if at < LARGE { 300 } else { 5 }));
        }
        world.put_history("g", SICK, &old(SICK, if history == History::Short { 300 } else { 1_000 }));
        let mut group = Group { world, disk, mounted: None, lines: 0 };
        group.mount("mnt");
        group
    }

    fn mount(&mut self, name: &str) {
        let path = self.world.folder().join(name);
        std::fs::create_dir(&path).unwrap();
        let mut command = self.world.command();
        command.args(["--poll-interval", "300ms"]);
        self.disk.beneath(&mut command);
        self.mounted = Some(Mounted::start(command, &path));
    }

    fn unmount(&mut self) {
        self.mounted.take().unwrap().unmount();
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.mounted.as_ref().unwrap().file(relative)
    }

    fn file(&self, stream: &str) -> PathBuf {
        self.path(&format!("g/{stream}.log"))
    }

    fn inode(&self) -> u64 {
        std::fs::metadata(self.file(SICK)).unwrap().ino()
    }

    fn control(&self, name: &str) -> String {
        String::from_utf8(read(&self.path(&format!(".cwlogs/{name}"))).unwrap()).unwrap()
    }

    fn told(&self) -> String {
        format!("{}\n{}", self.control("status"), self.control("errors"))
    }

    fn is_told_to_be_sick(&self) -> bool {
        self.control("status").contains("it fails on the files of 1 stream")
    }

    fn is_told_to_be_old(&self) -> bool {
        self.control("status").contains(&format!("g/{SICK}"))
    }

    /// A line more for a stream, that no other has.
    fn put(&mut self, stream: &str, words: &str) {
        self.lines += 1;
        self.world.put_now("g", stream, &format!("{stream} {words} {:05}", self.lines));
    }

    /// More than stays out of a stream's files.
    fn put_much(&mut self, stream: &str) {
        // In one millisecond: a read that begins in their midst would make the others late.
        let at = now();
        let y = "y".repeat(300);
        let lines: Vec<String> = (0..300).map(|i| format!("{stream} much {:05} {y}", self.lines + i)).collect();
        self.lines += lines.len();
        let events: Vec<(i64, &str)> = lines.iter().map(|line| (at, &**line)).collect();
        self.world.fake.put("g", stream, &events);
    }

    fn oracle(&self, stream: &str) -> Vec<u8> {
        self.world.fake.oracle("g", stream)
    }

    fn tail(&self, stream: &str) -> Listener {
        Listener::start(&format!("tail -s 0.1 -n +1 -f {}", self.file(stream).display()))
    }

    /// All that the neighbours have, with a line more each, by `cat`, `grep -r` and their tails.
    fn neighbours_are_right(&mut self, tails: &[Listener], words: &str) {
        for at in 0..NEIGHBOURS {
            self.put(&neighbour(at), words);
        }
        for at in 0..NEIGHBOURS {
            let stream = neighbour(at);
            // An open shows what was there a second before it.
            let started = Instant::now();
            loop {
                let bytes = read(&self.file(&stream)).unwrap_or_else(|e| panic!("{stream}: {e}\n{}", self.told()));
                let all = self.oracle(&stream);
                if bytes == all {
                    break;
                }
                let what = difference(&bytes, &all);
                assert!(started.elapsed() < PATIENCE, "{stream}: {what}\n{}", self.told());
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let found = shell(&format!("grep -rh '^neighbour.*{words}' {}", self.path("g").display()));
        let found = String::from_utf8(found.stdout).unwrap();
        assert_eq!(found.lines().count(), NEIGHBOURS, "grep -r: {found}\n{}", self.told());
        for (at, tail) in tails.iter().enumerate() {
            self.tail_is_right(tail, &neighbour(at));
        }
    }

    /// The tail comes to show all that the stream has: each line once, in its place.
    fn tail_is_right(&self, tail: &Listener, stream: &str) {
        let all = lines(&self.oracle(stream));
        let started = Instant::now();
        while shown(tail).len() < all.len() && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        let shown = shown(tail);
        let what = || difference(shown.join("\n").as_bytes(), all.join("\n").as_bytes());
        assert!(shown == all, "the tail of {stream}: {}\n{}", what(), self.told());
    }
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

/// Where text first differs from what it should be.
fn difference(bytes: &[u8], all: &[u8]) -> String {
    let line = |line: Option<String>| line.map(|mut line| line.drain(..line.len().min(40)).collect::<String>());
    let (is, should) = (lines(bytes), lines(all));
    let first = is.iter().zip(&should).take_while(|(is, should)| is == should).count();
    let (is_there, expected) = (line(is.get(first).cloned()), line(should.get(first).cloned()));
    format!("{} lines of {}, from line {first} on {is_there:?} for {expected:?}", is.len(), should.len())
}

fn shown(tail: &Listener) -> Vec<String> {
    tail.lines().into_iter().map(|(_, line)| line).collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn run(case: &Case) {
    let mut group = Group::new(case.history);
    let inode = group.inode();
    let number = inode >> 4;
    let before = if case.history == History::Cold { Vec::new() } else { read(&group.file(SICK)).unwrap() };
    let fault = |(call, errno, file): &(&'static str, i32, &str)| Fault {
        call,
        errno: *errno,
        part: file.replace("ID", &number.to_string()).replace("FOLDER", &format!("{number:02x}")),
    };
    let faults: Vec<Fault> = case.faults.iter().map(fault).collect();
    if case.history == History::Cold {
        // The next mount numbers streams alike, and reads none ahead of the faults.
        group.unmount();
        std::fs::remove_dir_all(group.world.folder().join("cache")).unwrap();
        group.disk.fail(&faults);
        group.mount("cold");
    }
    for at in 0..NEIGHBOURS {
        assert!(read(&group.file(&neighbour(at))).unwrap() == group.oracle(&neighbour(at)));
    }
    let mut sick_tail = matches!(case.history, History::Short | History::Long).then(|| group.tail(SICK));
    if let Some(tail) = &sick_tail {
        group.tail_is_right(tail, SICK);
    }
    if matches!(case.history, History::Earlier | History::Lost) {
        group.unmount();
        if case.history == History::Lost {
            let text = format!("cache/streams/{number:02x}/{number}.text");
            std::fs::remove_file(group.world.folder().join(text)).unwrap();
        }
        group.disk.fail(&faults);
        group.mount("again");
    }
    let tails: Vec<Listener> = (0..FOLLOWED).map(|at| group.tail(&neighbour(at))).collect();
    if case.history != History::Cold {
        group.neighbours_are_right(&tails, "before");
    }
    group.disk.fail(&faults);

    let mut refused = 0;
    for round in 0..ROUNDS {
        for stream in [SICK.to_owned()].into_iter().chain((0..LARGE).map(neighbour)) {
            group.put_much(&stream);
        }
        // An open shows what was there a second before it.
        std::thread::sleep(Duration::from_millis(1_100));
        let was_sick = case.expected == Expected::Sick && round > 0 && group.is_told_to_be_sick();
        match read(&group.file(SICK)) {
            Err(error) => {
                refused += 1;
                let errno = error.raw_os_error().unwrap();
                let expected: &[i32] = match case.expected {
                    Expected::Sick => &[libc::EIO],
                    Expected::Lacking => &[libc::ENOSPC, libc::EAGAIN],
                };
                assert!(expected.contains(&errno), "round {round}: {error}\n{}", group.told());
            }
            Ok(bytes) if bytes == group.oracle(SICK) => {
                assert!(!was_sick || !group.is_told_to_be_sick(), "round {round}: it isn't sick");
            }
            Ok(_) => assert!(
                case.expected == Expected::Lacking && group.is_told_to_be_old(),
                "round {round}: old bytes, and nothing is said\n{}",
                group.told()
            ),
        }
        group.neighbours_are_right(&tails, &format!("round{round}"));
        if case.expected == Expected::Lacking {
            assert!(!group.is_told_to_be_sick(), "{}", group.told());
        }
    }
    assert!(group.disk.failed() > 0, "no call failed");
    if case.expected == Expected::Sick {
        assert!(refused > 0, "no reader was refused\n{}", group.told());
        let errors = group.control("errors");
        let told = errors.lines().find(|line| line.contains(&format!("g/{SICK}: ")));
        let told = told.unwrap_or_else(|| panic!("nothing is told: {errors}"));
        assert!(told.contains("made anew") && !told.contains("removing"), "{told}");
    }
    group.disk.fail(&[]);

    // Whole again, at the same inode, and nothing moved.
    let started = Instant::now();
    loop {
        let read = read(&group.file(SICK));
        if read.as_ref().is_ok_and(|bytes| *bytes == group.oracle(SICK)) {
            break;
        }
        if let Ok(bytes) = &read {
            let same = bytes.len().min(before.len());
            assert!(bytes[..same] == before[..same], "a byte moved");
        }
        let said = |bytes: Vec<u8>| difference(&bytes, &group.oracle(SICK));
        assert!(started.elapsed() < PATIENCE, "{:?}\n{}", read.map(said), group.told());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(group.inode(), inode, "{}", group.told());
    until("it is told to be sick", || !group.is_told_to_be_sick());
    let sick_tail = sick_tail.take().unwrap_or_else(|| group.tail(SICK));
    group.put(SICK, "after");
    group.tail_is_right(&sick_tail, SICK);
    group.neighbours_are_right(&tails, "after");
    assert!(read(&group.file(SICK)).unwrap() == group.oracle(SICK));
    drop((tails, sick_tail));
    group.unmount();
    group.mount("last");
    assert!(read(&group.file(SICK)).unwrap() == group.oracle(SICK), "in the next mount");
    assert_eq!(group.inode(), inode);
    group.unmount();
}

macro_rules! cases {
    ($($name:ident: $history:ident, $expected:ident, $faults:expr;)*) => {
        $(#[test]
        fn $name() {
            run(&Case { faults: &$faults, history: History::$history, expected: Expected::$expected });
        })*
    };
}

use libc::{EIO, EMFILE, ENOSPC};

cases! {
    a_text_that_is_not_synced: Short, Sick, [("sync", EIO, "/ID.text")];
    a_long_text_that_is_not_synced: Long, Sick, [("sync", EIO, "/ID.text")];
    an_index_that_is_not_synced: Short, Sick, [("sync", EIO, "/ID.index")];
    a_text_that_is_not_written: Short, Sick, [("write", EIO, "/ID.text")];
    a_long_text_that_is_not_written: Long, Sick, [("write", EIO, "/ID.text")];
    an_index_that_is_not_written_nor_cut: Short, Sick, [("write", EIO, "/ID.index"), ("cut", EIO, "/ID.")];
    a_text_that_is_not_opened: Short, Sick, [("open", EIO, "/ID.text")];
    an_index_that_is_not_opened: Long, Sick, [("open", EIO, "/ID.index")];
    old_files_that_fail_on: Long, Sick, [("sync", EIO, "/ID.text$"), ("write", EIO, "/ID.text$")];
    files_that_can_not_be_exchanged: Short, Sick, [("sync", EIO, "/ID.text$"), ("rename", EIO, "/ID.text.new$")];
    a_text_that_is_not_read: Earlier, Sick, [("read", EIO, "/ID.text")];
    an_index_that_is_not_read: Earlier, Sick, [("read", EIO, "/ID.index")];
    a_text_that_is_not_there_yet: Cold, Sick, [("write", EIO, "/ID.text")];
    a_new_index_that_is_not_synced: Cold, Sick, [("sync", EIO, "/ID.index")];
    a_text_that_is_not_written_again: Lost, Sick, [("write", EIO, "/ID.text")];
    a_folder_that_is_not_made: Cold, Sick, [("mkdir", EIO, "/FOLDER$")];
    a_folder_that_is_not_synced: Cold, Sick, [("sync", EIO, "/FOLDER$")];
    a_text_that_finds_no_room: Short, Lacking, [("write", ENOSPC, "/ID.text")];
    a_long_text_that_finds_no_room: Long, Lacking, [("write", ENOSPC, "/ID.text")];
    an_index_that_finds_no_room: Cold, Lacking, [("write", ENOSPC, "/ID.index")];
    no_descriptor_for_a_text: Short, Lacking, [("open", EMFILE, "/ID.text")];
    no_descriptor_for_an_index: Earlier, Lacking, [("open", EMFILE, "/ID.index")];
}
