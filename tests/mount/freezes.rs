//! Nothing that is written or told can freeze the mount: a log that nobody reads, a disk that stands still.

use crate::support::failing_disk::{FailingDisk, Fault};
use crate::support::fake_cloudwatch::{Slow, Which};
use crate::world::{Listener, Mounted, World, abort, detach, is_mounted, output, read, shell};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Files whose reads have something to say in the log.
const FILES: usize = 200;

/// A daemon whose standard error is a pipe that is never read; killed when dropped.
struct Unread {
    daemon: Child,
    path: PathBuf,
}

impl Unread {
    fn start(world: &World, path: &Path, arguments: &[&str], disk: Option<&FailingDisk>) -> Unread {
        let mut command = world.command();
        command.args(arguments).arg("--foreground").arg(path);
        if let Some(disk) = disk {
            disk.beneath(&mut command);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let daemon = command.spawn().unwrap();
        let stderr = daemon.stderr.as_ref().unwrap().as_raw_fd();
        // SAFETY: fcntl on an open pipe, with a plain number.
        assert!(unsafe { libc::fcntl(stderr, libc::F_SETPIPE_SZ, 4096) } > 0);
        let unread = Unread { daemon, path: path.to_owned() };
        let started = Instant::now();
        while !is_mounted(path) {
            assert!(started.elapsed() < Duration::from_secs(20), "not mounted in 20 s");
            std::thread::sleep(Duration::from_millis(5));
        }
        unread
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory preconditions; the process is our own child.
        unsafe { libc::kill(self.daemon.id() as i32, signal) };
    }

    fn ends_within(&mut self, time: Duration) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.daemon.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < time, "the daemon lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A script that must end well within some seconds.
    fn answers(&self, script: &str) -> String {
        let answer = shell(&format!("cd {} && timeout -s KILL 10 bash -c '{script}'", self.path.display()));
        assert!(answer.status.success(), "{script}: {} {}", answer.status, String::from_utf8_lossy(&answer.stderr));
        String::from_utf8(answer.stdout).unwrap()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        abort(&self.path);
        let _ = self.daemon.wait();
        detach(&self.path);
    }
}

fn folder(world: &World, name: &str) -> PathBuf {
    let path = world.folder().join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

fn populated() -> World {
    let world = World::start();
    for i in 0..FILES {
        world.put_history("g", &format!("s{i:03}"), &[format!("line of {i}")]);
    }
    world
}

#[test]
fn a_standard_error_that_nobody_reads_holds_nothing_up() {
    let world = populated();
    let mut mount = Unread::start(&world, &folder(&world, "mnt"), &["-v", "-v"], None);
    // Each call has lines of its own: far more than a pipe of one page takes.
    assert_eq!(mount.answers("cat g/*.log | wc -l").trim(), FILES.to_string());
    for _ in 0..3 {
        assert_eq!(mount.answers("cat g/*.log | wc -l").trim(), FILES.to_string());
        assert!(mount.answers("cat .cwlogs/status").contains("GetLogEvents"));
        mount.answers("ls -l g >/dev/null; df . >/dev/null");
    }
    mount.signal(libc::SIGTERM);
    assert!(mount.ends_within(Duration::from_secs(10)).success());
    assert!(!is_mounted(&mount.path));
}

#[test]
fn a_disk_that_stands_still_holds_up_neither_what_is_cached_nor_the_end() {
    let world = populated();
    let disk = FailingDisk::new(world.folder());
    let log = world.folder().join("cache.log");
    let arguments = ["-v", "-v", "--log-file", log.to_str().unwrap()];
    let mut mount = Unread::start(&world, &folder(&world, "mnt"), &arguments, Some(&disk));
    assert_eq!(mount.answers("cat g/*.log | wc -l").trim(), FILES.to_string());
    mount.answers("df . >/dev/null");
    let stands = |call| Fault { call, errno: -1, part: "/cache".to_owned() };
    disk.fail(&["open", "write", "cut", "sync", "rename", "remove", "mkdir", "stat", "space"].map(stands));
    for _ in 0..3 {
        assert!(mount.answers("cat .cwlogs/status").contains("GetLogEvents"));
        mount.answers("df . >/dev/null");
        // No name, size or byte of it needs the disk but by reading.
        mount.answers("ls -l g >/dev/null; cat g/s000.log >/dev/null");
    }
    // It can't write out what it has; the second signal waits for nothing.
    mount.signal(libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(300));
    mount.signal(libc::SIGTERM);
    assert_eq!(mount.ends_within(Duration::from_secs(5)).code(), Some(1));
    disk.fail(&[]);
}

#[test]
fn one_signal_after_an_unmount_is_the_first() {
    let mut world = populated();
    for lazy in [false, true] {
        let mounted = world.mount(&[]);
        assert_eq!(output(&format!("cat {}/*.log | wc -l", mounted.file("g").display())).trim(), FILES.to_string());
        shell(&format!("fusermount3 -u {} {}", if lazy { "-z" } else { "" }, mounted.path().display()));
        mounted.signal(libc::SIGTERM);
        let (status, log) = mounted.wait();
        assert!(status.success() && !log.contains("forced"), "{status}: {log}");
    }
}

#[test]
fn an_unmount_by_others_is_no_failure() {
    let mut world = populated();
    let mounted = world.mount(&[]);
    // A call of the daemon's own may keep it busy for a moment.
    let unmount = format!("for i in $(seq 100); do umount {} && break; sleep 0.05; done", mounted.path().display());
    assert!(shell(&unmount).status.success());
    let (status, log) = mounted.wait();
    assert!(status.success() && log.contains("unmounted from outside") && !log.contains("WARN"), "{status}: {log}");
}

/// Aborts the mount's connection as an administrator does, by the control file system.
fn abort_connection(mounted: &Mounted) {
    use std::os::unix::fs::MetadataExt;
    let connections = Path::new("/sys/fs/fuse/connections");
    let own = is_mounted(connections);
    if !own {
        assert!(shell(&format!("mount -t fusectl none {}", connections.display())).status.success(), "fusectl");
    }
    let device = std::fs::metadata(mounted.path()).unwrap().dev();
    std::fs::write(connections.join(libc::minor(device).to_string()).join("abort"), "1").unwrap();
    if !own {
        shell(&format!("umount {}", connections.display()));
    }
}

#[test]
fn a_connection_that_is_aborted_is_told_and_leaves_no_dead_mount() {
    let mut world = populated();
    let mounted = world.mount(&[]);
    let path = mounted.path().to_owned();
    abort_connection(&mounted);
    let (status, log) = mounted.wait();
    assert_eq!(status.code(), Some(3), "{:?} {log}", status.signal());
    assert!(log.contains("WARN") && log.contains("connection to the kernel ended"), "{log}");
    assert!(!is_mounted(&path));
}

#[test]
fn what_is_mounted_in_its_place_stays() {
    let mut world = populated();
    let mounted = world.mount(&[]);
    let path = mounted.path().to_owned();
    let held = std::fs::File::open(mounted.file("g/s000.log")).unwrap();
    let shown = path.display().to_string();
    shell(&format!("umount -l {shown} && mount -t tmpfs none {shown} && touch {shown}/theirs"));
    assert!(path.join("theirs").exists());
    mounted.signal(libc::SIGTERM);
    let (status, log) = mounted.wait_leaving_the_mount();
    assert!(status.success(), "{status}: {log}");
    assert!(path.join("theirs").exists(), "{log}");
    drop(held);
    detach(&path);
}

#[test]
fn what_is_mounted_over_it_stays() {
    let mut world = populated();
    let mounted = world.mount(&[]);
    let path = mounted.path().to_owned();
    let shown = path.display().to_string();
    shell(&format!("mount -t tmpfs none {shown} && touch {shown}/theirs"));
    mounted.signal(libc::SIGTERM);
    let (status, log) = mounted.wait_leaving_the_mount();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("something else is mounted over it"), "{log}");
    assert!(path.join("theirs").exists());
    detach(&path);
    detach(&path);
}

/// Streams `big`, whose text is no longer in the cache, and `other`, which is; `h/cold` was never read.
struct Evicted {
    world: World,
    mounted: Mounted,
    /// All of `big`.
    whole: Vec<u8>,
}

impl Evicted {
    fn start() -> Evicted {
        let mut world = World::start();
        let lines: Vec<String> = (0..2_000).map(|i| format!("{i:05} {}", "x".repeat(1_000))).collect();
        world.put_history("g", "big", &lines);
        world.put_history("g", "other", &["first".into()]);
        world.put_history("h", "cold", &["cold".into()]);
        let mounted = world.mount(&[]);
        let whole = read(&mounted.file("g/big.log")).unwrap();
        read(&mounted.file("g/other.log")).unwrap();
        mounted.unmount();

        // So small that it lets go of the text as it starts.
        let mounted = world.mount(&["--cache-size", "1MiB", "--min-free", "0"]);
        let folder = format!("{}/cache/streams", world.folder().display());
        let text =
            || output(&format!("find {folder} -name '*.text' -size +1000k -printf '%b\n' | sort -n | tail -n 1"));
        let started = Instant::now();
        while text().trim().parse::<u64>().unwrap_or(0) > 2_000 {
            assert!(started.elapsed() < Duration::from_secs(20), "it isn't evicted: {}", text());
            std::thread::sleep(Duration::from_millis(20));
        }
        Evicted { world, mounted, whole }
    }

    /// Whatever reads `big` by itself waits so long from now on.
    fn delay_big(&self, ms: u64) {
        let which = Which { call: Some("GetLogEvents".into()), group: None, stream: Some("big".into()) };
        self.world.fake.change(|plan| plan.slow.push(Slow { which, ms }));
    }

    /// Reads the last 100 bytes of `big` as they were in the beginning.
    fn read_end(&self) -> std::thread::JoinHandle<std::io::Result<[u8; 100]>> {
        let (path, at) = (self.mounted.file("g/big.log"), self.whole.len() as u64 - 100);
        std::thread::spawn(move || {
            let mut bytes = [0; 100];
            std::fs::File::open(path)?.read_exact_at(&mut bytes, at)?;
            Ok(bytes)
        })
    }
}

/// A reader waits for text that was taken out of the cache, while its file grows: the kernel is told of that once the reader has its page,
/// and of other files' growth meanwhile.
#[test]
fn a_reader_that_waits_for_evicted_text_delays_no_other_file() {
    let evicted = Evicted::start();
    let Evicted { world, mounted, whole } = &evicted;
    let tails = ["big", "other"].map(|stream| {
        Listener::start(&format!("tail -c 0 -s 0.1 -f {}", mounted.file(&format!("g/{stream}.log")).display()))
    });
    // Both are polled, by the call for several.
    std::thread::sleep(Duration::from_millis(1_500));
    evicted.delay_big(12_000);
    let waiting = evicted.read_end();
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    for round in 0..3 {
        world.put_now("g", "big", &format!("more {round}"));
        world.put_now("g", "other", &format!("more {round}"));
        assert!(tails[1].wait_for(round + 1, Duration::from_secs(5)).len() > round, "growth of another file waits");
    }
    assert_eq!(read(&mounted.file("h/cold.log")).unwrap(), b"cold\n");
    let took = began.elapsed();
    assert!(!waiting.is_finished(), "the reader waits: {took:?}");
    assert!(whole.ends_with(&waiting.join().unwrap().unwrap()));
    assert_eq!(tails[0].wait_for(3, Duration::from_secs(10)).len(), 3);
}

/// The kernel has each process that waits for a page ask for it anew once it could not be read, one after the other: together they wait no
/// longer than one alone.
#[test]
fn many_readers_of_one_page_that_never_comes_all_give_up_together() {
    let evicted = Evicted::start();
    evicted.delay_big(600_000);
    let began = Instant::now();
    let readers = [(); 4].map(|()| evicted.read_end());
    for reader in readers {
        let error = reader.join().unwrap().expect_err("the text can't be fetched");
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT), "{error}");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(45), "the last gave up after {took:?}");
    assert_eq!(read(&evicted.mounted.file("h/cold.log")).unwrap(), b"cold\n");
}

/// Another user asks for many names that nobody has: most are answered from what is known, and the folder's owner lists it.
#[test]
fn another_users_typos_take_no_quota_from_listings() {
    let mut world = populated();
    world.latency(Duration::from_millis(50));
    let mounted = world.mount(&["--allow-other"]);
    shell(&format!("chmod o+x {}", world.folder().display()));
    let folder = mounted.file("g").display().to_string();
    assert_eq!(output(&format!("ls {folder} | wc -l")).trim(), FILES.to_string());
    world.fake.reset_calls();
    let began = Instant::now();
    let script = format!(
        "for p in 1 2 3 4 5 6 7 8; do (for i in $(seq 15); do cat {folder}/absent-$p-$i.log; done) & done; wait"
    );
    let asking = std::thread::spawn(move || shell(&format!("setpriv --reuid 65534 --clear-groups bash -c '{script}'")));
    while !asking.is_finished() {
        assert_eq!(output(&format!("timeout 10 ls {folder} | wc -l")).trim(), FILES.to_string());
        std::thread::sleep(Duration::from_millis(200));
    }
    let said = asking.join().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.matches("No such file").count(), 120, "{said}");
    // A burst, four a second, and the pages of the listing.
    let most = 20 + 4 * (began.elapsed().as_secs() + 1) + 2 * (began.elapsed().as_secs() / 10 + 2) * 5;
    let calls = world.fake.calls().of("DescribeLogStreams");
    assert!(calls <= most, "{calls} calls in {:?}, at most {most}", began.elapsed());
}

/// In a folder that was never listed, a user asks for more names at once than may be asked for: those that are there are found.
#[test]
fn of_many_names_asked_for_at_once_none_that_is_there_is_denied() {
    let mut world = populated();
    world.latency(Duration::from_millis(50));
    let mounted = world.mount(&[]);
    let folder = mounted.file("g").display().to_string();
    let script = format!(
        "for i in $(seq 0 {}); do (cat {folder}/absent-$i.log; cat {folder}/s$(printf %03d $i).log) & done; wait",
        FILES - 1
    );
    let said = shell(&script);
    let errors = String::from_utf8_lossy(&said.stderr);
    assert_eq!(errors.matches("No such file").count(), FILES, "{errors}");
    assert_eq!(String::from_utf8_lossy(&said.stdout).lines().count(), FILES, "{errors}");
}
