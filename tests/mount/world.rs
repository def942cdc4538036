//! A world for one test: a fake CloudWatch, folders, and mounts of it by the real daemon in processes of its own. All of it
//! goes when it is dropped.

use crate::support::fake_cloudwatch::{Fake, Plan};
use std::ffi::CString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_cwlogs-mount");

/// The program to run: `CWLOGS_TEST_BINARY` where figures of a release build are wanted.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("CWLOGS_TEST_BINARY").map_or_else(|| BINARY.into(), PathBuf::from)
}

/// The present, in ms since the epoch.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A fake service and a cache folder.
pub(crate) struct World {
    pub(crate) fake: Fake,
    folder: TempDir,
    mounts: u32,
}

impl World {
    pub(crate) fn start() -> World {
        World::with(Plan::default())
    }

    pub(crate) fn with(plan: Plan) -> World {
        World { fake: Fake::start(plan), folder: tempfile::tempdir().unwrap(), mounts: 0 }
    }

    /// The folder that holds cache and mount points.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Events an hour old, a millisecond apart, as one stream's history.
    pub(crate) fn put_history(&self, group: &str, stream: &str, lines: &[String]) {
        let first = now() - 3_600_000;
        let events: Vec<(i64, &str)> = lines.iter().enumerate().map(|(i, l)| (first + i as i64, l.as_str())).collect();
        // An empty stream is one too.
        self.fake.put(group, stream, &[]);
        for batch in events.chunks(10_000) {
            self.fake.put(group, stream, batch);
        }
    }

    /// An event stamped now.
    pub(crate) fn put_now(&self, group: &str, stream: &str, line: &str) {
        self.fake.put(group, stream, &[(now(), line)]);
    }

    pub(crate) fn latency(&self, time: Duration) {
        self.fake.change(|plan| plan.latency_ms = time.as_millis() as u64);
    }

    /// Makes streams arrive in many pages.
    pub(crate) fn small_pages(&self, bytes: usize, latency: Duration) {
        self.fake.change(|plan| {
            plan.page_bytes = bytes;
            plan.latency_ms = latency.as_millis() as u64;
        });
    }

    /// The program, told where this world is and nothing of the machine's own configuration.
    pub(crate) fn command(&self) -> Command {
        self.command_on(&self.fake.url())
    }

    /// As `command`, with another service than the fake.
    fn command_on(&self, url: &str) -> Command {
        let mut command = Command::new(binary());
        let home = self.folder.path();
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", home)
            .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .args(["--region", "us-east-1", "--endpoint-url", url])
            .arg("--cache-dir")
            .arg(home.join("cache"));
        command
    }

    /// Mounts in the foreground with more arguments, and waits until it answers.
    pub(crate) fn mount(&mut self, arguments: &[&str]) -> Mounted {
        self.mounts += 1;
        let path = self.folder.path().join(format!("mnt{}", self.mounts));
        std::fs::create_dir(&path).unwrap();
        self.mount_at(&path, arguments)
    }

    /// As `mount`, of another service than the fake.
    pub(crate) fn mount_on(&self, url: &str, arguments: &[&str]) -> Mounted {
        let path = self.folder.path().join("elsewhere");
        std::fs::create_dir(&path).unwrap();
        let mut command = self.command_on(url);
        command.args(arguments);
        Mounted::start(command, &path)
    }

    /// As `mount`, at a folder that is there.
    pub(crate) fn mount_at(&self, path: &Path, arguments: &[&str]) -> Mounted {
        let mut command = self.command();
        command.args(arguments);
        Mounted::start(command, path)
    }
}

/// A mount by a daemon in the foreground; unmounted and ended when dropped.
pub(crate) struct Mounted {
    path: PathBuf,
    daemon: Child,
    log: Option<std::thread::JoinHandle<String>>,
    leave: bool,
}

impl Mounted {
    /// By a command of [`World::command`], with more arguments or as another user.
    pub(crate) fn start(mut command: Command, path: &Path) -> Mounted {
        command.arg("--foreground").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: prctl is async-signal-safe and touches no memory of ours.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let dead = is_mounted(path);
        let mut daemon = command.spawn().unwrap();
        let stderr = daemon.stderr.take().unwrap();
        let said = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let says = said.clone();
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if std::env::var_os("CWLOGS_TEST_LOG").is_some() {
                    eprintln!("{line}");
                }
                text.push_str(&line);
                text.push('\n');
                if line.contains(": mounted version=") {
                    says.store(true, std::sync::atomic::Ordering::SeqCst);
                }
            }
            text
        });
        let mut mounted = Mounted { path: path.to_path_buf(), daemon, log: Some(log), leave: false };
        let started = Instant::now();
        // A dead mount in its place looks like the new one, which may even get the same number.
        while !is_mounted(path) || dead && !said.load(std::sync::atomic::Ordering::SeqCst) {
            if let Some(status) = mounted.daemon.try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{}", mounted.log.take().unwrap().join().unwrap());
            }
            assert!(started.elapsed() < Duration::from_secs(20), "not mounted in 20 s");
            std::thread::sleep(Duration::from_millis(5));
        }
        mounted
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.daemon.id() as i32
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory preconditions; the process is our own child.
        unsafe { libc::kill(self.pid(), signal) };
    }

    /// Whether the daemon has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.daemon.try_wait().unwrap().is_some()
    }

    /// Waits for the daemon's end; its exit status and its log.
    pub(crate) fn wait(mut self) -> (std::process::ExitStatus, String) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.daemon.try_wait().unwrap() {
                return (status, self.log.take().unwrap().join().unwrap());
            }
            assert!(started.elapsed() < Duration::from_secs(10), "the daemon lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// As `wait`, for a daemon that is killed: what it leaves stays.
    pub(crate) fn wait_leaving_the_mount(mut self) -> (std::process::ExitStatus, String) {
        self.leave = true;
        self.wait()
    }

    /// Ends it as a person would.
    pub(crate) fn unmount(self) {
        self.signal(libc::SIGTERM);
        let (status, log) = self.wait();
        assert!(status.success(), "{status}:\n{log}");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.daemon.try_wait().ok().flatten().is_none() {
            self.signal(libc::SIGTERM);
            for _ in 0..300 {
                if self.daemon.try_wait().ok().flatten().is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.daemon.kill();
            // A daemon that waits for itself ends only when its mount is aborted, and would keep the test for ever.
            abort(&self.path);
            let _ = self.daemon.wait();
        }
        if !self.leave {
            detach(&self.path);
        }
    }
}

/// Whether something is mounted at `path`.
pub(crate) fn is_mounted(path: &Path) -> bool {
    // The thread's table: a test may have moved its own into another namespace.
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

/// Takes away whatever is mounted at `path`.
pub(crate) fn detach(path: &Path) {
    unmount(path, libc::MNT_DETACH);
}

/// As `detach`; whoever waits for an answer gets an error.
pub(crate) fn abort(path: &Path) {
    unmount(path, libc::MNT_DETACH | libc::MNT_FORCE);
}

fn unmount(path: &Path, flags: i32) {
    if is_mounted(path) {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: a NUL-terminated path that lives over the call.
        unsafe { libc::umount2(path.as_ptr(), flags) };
    }
}

/// A shell command's output, its errors shown on failure.
pub(crate) fn shell(script: &str) -> Output {
    Command::new("bash").args(["-c", script]).stdin(Stdio::null()).output().unwrap()
}

/// The standard output of a shell command that must succeed.
pub(crate) fn output(script: &str) -> String {
    let output = shell(script);
    assert!(output.status.success(), "{script}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A process whose output is collected with the time of each line.
pub(crate) struct Listener {
    child: Child,
    lines: std::sync::Arc<std::sync::Mutex<Vec<(Instant, String)>>>,
}

impl Listener {
    pub(crate) fn start(script: &str) -> Listener {
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("exec {script}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.process_group(0).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let collected = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                collected.lock().unwrap().push((Instant::now(), line));
            }
        });
        Listener { child, lines }
    }

    pub(crate) fn lines(&self) -> Vec<(Instant, String)> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until so many lines have come.
    pub(crate) fn wait_for(&self, count: usize, time: Duration) -> Vec<(Instant, String)> {
        let started = Instant::now();
        loop {
            let lines = self.lines();
            if lines.len() >= count || started.elapsed() > time {
                return lines;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // SAFETY: kill has no memory preconditions; the group is our own child's.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
