//! Starting, ending, reloading, checking, and what each refusal is called.

use crate::support::fake_cloudwatch::{Fault, FaultKind, GroupSpec, Populate, Slow, StreamSpec, Which};
use crate::world::{Mounted, World, binary, detach, is_mounted, output, read, shell};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("line {i}")).collect()
}

/// A mount by a daemon in the background, which is nobody's child; taken away when dropped.
struct Background {
    path: PathBuf,
    pid: i32,
}

fn mountpoint(world: &World, name: &str) -> PathBuf {
    let path = world.folder().join(name);
    let _ = std::fs::create_dir(&path);
    path
}

fn launch(world: &World, path: &Path, arguments: &[&str]) -> Output {
    world.command().args(arguments).arg(path).stdin(Stdio::null()).output().unwrap()
}

/// What the lock says of its holder.
fn holder(world: &World) -> i32 {
    let text = std::fs::read_to_string(world.folder().join("cache/lock")).unwrap();
    let holder: serde_json::Value = serde_json::from_str(&text).unwrap();
    holder["pid"].as_i64().unwrap() as i32
}

impl Background {
    fn start(world: &World, path: &Path) -> Background {
        let started = launch(world, path, &[]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        assert!(started.stdout.is_empty() && started.stderr.is_empty(), "a start says nothing");
        // It is ready there and then, not a moment later.
        assert!(is_mounted(path));
        assert_eq!(std::fs::read(path.join("app/one.log")).unwrap(), world.fake.oracle("app", "one"));
        Background { path: path.to_path_buf(), pid: holder(world) }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory preconditions; the process holds the lock of this test's cache.
        unsafe { libc::kill(self.pid, signal) };
    }

    fn lives(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        status.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
    }

    /// How long it takes to be gone: mount, process and all.
    fn gone_within(&self, time: Duration) -> Duration {
        let started = Instant::now();
        while self.lives() || is_mounted(&self.path) {
            assert!(started.elapsed() < time, "still there after {time:?}: mounted {}", is_mounted(&self.path));
            std::thread::sleep(Duration::from_millis(5));
        }
        started.elapsed()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.lives() {
            self.signal(libc::SIGKILL);
        }
        detach(&self.path);
    }
}

/// Every way to end a mount that nobody uses, and one that is in use: files open, a read and an open that wait.
#[test]
fn every_way_to_end_a_mount() {
    let world = World::start();
    world.put_history("app", "one", &lines(100));
    world.put_history("app", "slow", &lines(3));
    let which = Which { call: Some("GetLogEvents".into()), group: None, stream: Some("slow".into()) };
    world.fake.change(|plan| plan.slow.push(Slow { which, ms: 20_000 }));
    let path = mountpoint(&world, "mnt");
    let shown = path.display().to_string();
    type End<'a> = Box<dyn Fn(&Background) + 'a>;
    let command = |script: String| -> End<'_> { Box::new(move |_: &Background| drop(output(&script))) };
    let ends: Vec<(&str, bool, End<'_>)> = vec![
        ("SIGTERM", true, Box::new(|mount: &Background| mount.signal(libc::SIGTERM))),
        ("SIGINT", true, Box::new(|mount: &Background| mount.signal(libc::SIGINT))),
        ("--unmount", true, command(format!("{} --unmount {shown}", crate::world::BINARY))),
        ("fusermount3 -u -z", true, command(format!("fusermount3 -u -z {shown}"))),
        ("umount -l", true, command(format!("umount -l {shown}"))),
        ("fusermount3 -u", false, command(format!("fusermount3 -u {shown}"))),
        ("umount", false, command(format!("umount {shown}"))),
    ];
    for (name, lazy, end) in &ends {
        for in_use in [false, true] {
            if in_use && !lazy {
                // These two say "busy" of any mount that is in use.
                continue;
            }
            let mount = Background::start(&world, &path);
            let mut users = Vec::new();
            let held = in_use.then(|| std::fs::File::open(path.join("app/one.log")).unwrap());
            if in_use {
                for script in ["exec cat app/slow.log", "exec busybox cat app/slow.log", "exec sleep 60"] {
                    let mut user = Command::new("bash");
                    user.args(["-c", script]).current_dir(&path).stdout(Stdio::null()).stderr(Stdio::null());
                    users.push(user.spawn().unwrap());
                }
                std::thread::sleep(Duration::from_millis(500));
                assert!(users.iter_mut().all(|user| user.try_wait().unwrap().is_none()), "they wait");
            }
            end(&mount);
            let by_signal = name.starts_with("SIG");
            assert!(by_signal || !is_mounted(&path), "{name}: returned before the mount was gone");
            let mut left = Duration::ZERO;
            if in_use && !by_signal {
                // Nobody told the daemon: it serves on for those who have files open, and goes when they do.
                assert!(mount.lives() && users.iter_mut().all(|user| user.try_wait().unwrap().is_none()));
                for user in &mut users {
                    let _ = user.kill();
                    let _ = user.wait();
                }
                drop(held);
            } else {
                left = mount.gone_within(Duration::from_secs(5));
            }
            for mut user in users {
                let _ = user.kill();
                let _ = user.wait();
            }
            let left = left.max(mount.gone_within(Duration::from_secs(5)));
            eprintln!("{name}, in use {in_use}: gone after {left:?}");
            assert!(std::fs::read_dir(&path).unwrap().next().is_none());
        }
    }
}

#[test]
fn a_start_that_fails_says_why() {
    let mut world = World::start();
    world.put_history("app", "one", &lines(10));
    let file = world.folder().join("file");
    std::fs::write(&file, "").unwrap();
    for (path, why) in [
        (file, "not a folder"),
        (world.folder().join("a/b/c"), "make it first"),
        (PathBuf::from("/proc/version/x"), "Not a directory"),
    ] {
        for arguments in [&["-f"][..], &[]] {
            let failed = launch(&world, &path, arguments);
            let said = String::from_utf8_lossy(&failed.stderr).into_owned();
            assert_eq!(failed.status.code(), Some(1), "{said}");
            let last = said.lines().last().unwrap_or_default();
            assert!(last.starts_with("cwlogs-mount: ") && last.contains(why), "{said}");
            assert!(arguments == ["-f"] || said.lines().count() == 1, "one line: {said}");
        }
    }

    // A second daemon on one cache, wherever it mounts; and one at the same place with another cache.
    let mounted = world.mount(&[]);
    for arguments in [&["-f"][..], &[]] {
        let failed = launch(&world, &mountpoint(&world, "second"), arguments);
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(1));
        let pid = format!("process {}", mounted.pid());
        assert!(said.contains(&pid) && said.contains(mounted.path().to_str().unwrap()), "{said}");
    }
    let other = world.folder().join("other-cache").display().to_string();
    let mut again = world.command();
    again.env("CWLOGS_CACHE_DIR", &other);
    let failed = again.args(["--config", "/dev/null"]).arg(mounted.path()).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let busy = Command::new(crate::world::BINARY)
        .args(["--demo", "--cache-dir", &other])
        .arg(mounted.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&busy.stderr).into_owned();
    assert!(busy.status.code() == Some(1) && said.contains("already mounted"), "{said}");
    mounted.unmount();

    // An endpoint that is down is no reason not to mount.
    world.fake.network_down(Duration::from_secs(600));
    let path = mountpoint(&world, "down");
    let started = launch(&world, &path, &[]);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let mount = Background { pid: holder(&world), path };
    world.fake.network_up();
    std::thread::sleep(Duration::from_millis(500));
    let seen = std::fs::read(mount.path.join("app/one.log")).unwrap();
    assert_eq!(seen, world.fake.oracle("app", "one"));
    mount.signal(libc::SIGTERM);
    mount.gone_within(Duration::from_secs(5));

    // A folder that was made for the mount goes with it.
    let made = world.folder().join("made");
    let mount = Background::start(&world, &made);
    mount.signal(libc::SIGTERM);
    mount.gone_within(Duration::from_secs(5));
    output(&format!("flock --timeout 5 {} true", world.folder().join("cache/lock").display()));
    assert!(!made.exists());
}

/// Processes whose command line names this world's folder.
fn daemons(world: &World) -> usize {
    let folder = world.folder().to_str().unwrap().as_bytes();
    let names_it = |process: &std::fs::DirEntry| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.windows(folder.len()).any(|part| part == folder)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(names_it).count()
}

/// Where these tests run in the background of a script, they ignore SIGINT, and so would the daemon until it listens.
fn heed_interrupts(command: &mut Command) {
    // SAFETY: signal is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        });
    }
}

#[test]
fn a_signal_at_any_moment_of_the_start_leaves_nothing() {
    let world = World::start();
    world.put_history("app", "one", &lines(10));
    let path = mountpoint(&world, "mnt");
    let (mut early, mut late) = (0, 0);
    for step in 0..60u64 {
        let signal = if step % 2 == 0 { libc::SIGTERM } else { libc::SIGINT };
        let foreground = step % 3 != 0;
        let mut command = world.command();
        command.args(foreground.then_some("-f")).arg(&path);
        let log = world.folder().join("stderr");
        let stderr = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        heed_interrupts(&mut command);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(step * 3));
        // SAFETY: kill has no memory preconditions; the process is our own child, not yet waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        let status = child.wait().unwrap();
        if foreground {
            // Killed before it could listen, or ended in order.
            let said = || std::fs::read_to_string(&log).unwrap();
            assert!(status.success() || status.code().is_none(), "step {step}: {status}: {}", said());
            early += u32::from(status.code().is_none());
            late += u32::from(status.success());
            assert!(!is_mounted(&path), "step {step}: {status}");
        } else if status.success() {
            // It was ready before the signal: that is a mount, for its user to end.
            assert!(is_mounted(&path), "step {step}: started, and yet not mounted");
            output(&format!("{} --unmount {}", crate::world::BINARY, path.display()));
        }
        // What still runs in the background finds its parent gone.
        let started = Instant::now();
        while is_mounted(&path) || daemons(&world) > 0 {
            assert!(started.elapsed() < Duration::from_secs(10), "step {step}: a mount that nobody started");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(!is_mounted(&path) && std::fs::read_dir(&path).is_ok_and(|mut dir| dir.next().is_none()));
    eprintln!("in the foreground: {early} killed before they listened, {late} ended in order");
}

/// Until the mount is taken, what a terminal sends reaches the starter and the daemon: either both go on, or nothing is left.
#[test]
fn what_a_terminal_sends_while_it_starts_has_one_result() {
    let world = World::start();
    world.put_history("app", "one", &lines(10));
    let path = mountpoint(&world, "mnt");
    let mut results = std::collections::BTreeMap::<_, (u32, u32)>::new();
    for step in 0..60u64 {
        let signal = [libc::SIGINT, libc::SIGHUP, libc::SIGTSTP][step as usize % 3];
        let mut command = world.command();
        command.arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        heed_interrupts(&mut command);
        let mut starter = command.spawn().unwrap();
        let group = -(starter.id() as i32);
        std::thread::sleep(Duration::from_millis(step / 3 * 5));
        // SAFETY: kill has no memory preconditions; the group is our own child's, which isn't waited for yet.
        unsafe { libc::kill(group, signal) };
        if signal == libc::SIGTSTP {
            std::thread::sleep(Duration::from_millis(50));
            // SAFETY: as above.
            unsafe { libc::kill(group, libc::SIGCONT) };
        }
        let status = starter.wait().unwrap();
        let result = results.entry(signal).or_default();
        if status.success() {
            result.0 += 1;
            assert!(is_mounted(&path), "step {step}: it says that it mounted");
            assert_eq!(
                read(&path.join("app/one.log")).unwrap(),
                (lines(10).join("\n") + "\n").as_bytes(),
                "step {step}"
            );
            output(&format!("{} --unmount {}", crate::world::BINARY, path.display()));
        } else {
            result.1 += 1;
            assert_ne!(signal, libc::SIGTSTP, "step {step}: {status}: it was to go on");
        }
        let started = Instant::now();
        while is_mounted(&path) || daemons(&world) > 0 {
            assert!(started.elapsed() < Duration::from_secs(10), "step {step}: {status}, and yet something is left");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    eprintln!("(mounted, ended) by signal: {results:?}");
}

#[test]
fn hanging_up_reads_the_settings_again() {
    let mut world = World::start();
    for group in ["app/a", "app/b", "db/a"] {
        world.put_history(group, "s", &lines(3));
    }
    let config = world.folder().join("config.toml");
    std::fs::write(&config, "log-group-prefix = \"app/\"\n").unwrap();
    let mounted = world.mount(&["--config", config.to_str().unwrap(), "--listing-ttl", "100ms"]);
    let listed = || output(&format!("ls {}", mounted.path().display()));
    let becomes = |expected: &str| {
        let started = Instant::now();
        while listed() != expected {
            assert!(started.elapsed() < Duration::from_secs(5), "{:?} is not {expected:?}", listed());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    becomes("app-a\napp-b\n");
    let held = std::fs::File::open(mounted.file("app-a/s.log")).unwrap();
    std::fs::write(&config, "log-group-prefix = [\"db/\", \"app/b\"]\n").unwrap();
    mounted.signal(libc::SIGHUP);
    becomes("app-b\ndb-a\n");
    // A mistake changes nothing, and is said.
    std::fs::write(&config, "log-group-prefix = 7\n").unwrap();
    mounted.signal(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(500));
    becomes("app-b\ndb-a\n");
    std::fs::write(&config, "names = \"exact\"\n").unwrap();
    mounted.signal(libc::SIGHUP);
    becomes("app-a\napp-b\ndb-a\n");
    drop(held);
    mounted.signal(libc::SIGTERM);
    let (status, log) = mounted.wait();
    assert!(status.success());
    assert!(log.contains("not reloaded, everything stays as it was"), "{log}");
    assert!(log.contains("need a new mount: names"), "{log}");
}

#[test]
fn a_check_names_each_missing_permission() {
    let world = World::start();
    world.put_history("app", "s", &lines(3));
    let check = |arguments: &[&str]| {
        let result = world.command().arg("--check").args(arguments).output().unwrap();
        (result.status.code(), String::from_utf8_lossy(&result.stdout).into_owned())
    };
    let (status, said) = check(&[]);
    assert_eq!(status, Some(0), "{said}");
    const CALLS: [&str; 4] = ["DescribeLogGroups", "DescribeLogStreams", "GetLogEvents", "FilterLogEvents"];
    let missing = |call: &str| format!("missing permission: allow logs:{call} on arn:aws:logs:us-east-1:");
    for denied in CALLS {
        world.fake.change(|plan| plan.faults = vec![Fault::new(FaultKind::AccessDenied).of(denied)]);
        let (status, said) = check(&[]);
        assert_eq!(status, Some(1), "{denied}: {said}");
        for call in CALLS {
            assert_eq!(said.contains(&missing(call)), call == denied, "{denied} is denied: {said}");
        }
    }
    // All at once: a group that is named needn't be listed.
    world.fake.change(|plan| plan.faults = vec![Fault::new(FaultKind::AccessDenied)]);
    let (status, said) = check(&["--log-group", "app"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(CALLS.iter().all(|call| said.contains(&missing(call))), "{said}");
    world.fake.change(|plan| plan.faults.clear());
    world.fake.change(|plan| plan.credentials_error = Some("ExpiredTokenException".into()));
    let (status, said) = check(&[]);
    assert!(status == Some(1) && said.contains("aws sso login"), "{said}");
}

fn errno(path: &Path) -> Option<i32> {
    std::fs::read(path).err().and_then(|error| error.raw_os_error())
}

#[test]
fn each_refusal_has_its_errno() {
    let mut world = World::start();
    for stream in ["ok", "denied", "throttled", "cold", "late"] {
        world.put_history("app", stream, &lines(10));
    }
    let class = |name: &str, class: &str| GroupSpec {
        name: name.into(),
        class: Some(class.into()),
        streams: vec![StreamSpec { name: "s".into(), events: 3, ..StreamSpec::default() }],
        ..GroupSpec::default()
    };
    let groups = vec![class("rare", "INFREQUENT_ACCESS"), class("delivery", "DELIVERY")];
    world.fake.populate(&Populate { groups });
    let of = |kind: FaultKind, call: &str, stream: &str| {
        let mut fault = Fault::new(kind).of(call);
        fault.which.stream = Some(stream.into());
        fault
    };
    world.fake.change(|plan| {
        plan.faults = vec![
            of(FaultKind::AccessDenied, "GetLogEvents", "denied"),
            of(FaultKind::AccessDenied, "FilterLogEvents", "denied"),
            of(FaultKind::Throttle, "GetLogEvents", "throttled"),
        ];
    });
    let mounted = world.mount(&[]);
    let file = |name: &str| mounted.file(name);
    assert_eq!(errno(&file("app/none.log")), Some(libc::ENOENT));
    assert_eq!(errno(&file("none/x.log")), Some(libc::ENOENT));
    assert_eq!(errno(&file("app/none")), Some(libc::ENOENT));
    assert_eq!(errno(&file("app/denied.log")), Some(libc::EACCES));
    assert_eq!(errno(&file("rare/s.log")), Some(libc::ENOTSUP));
    if file("delivery").exists() {
        assert_eq!(errno(&file("delivery/s.log")), Some(libc::ENOTSUP));
    }
    let cat = shell(&format!("cat {}", file("app/denied.log").display()));
    assert!(String::from_utf8_lossy(&cat.stderr).contains("Permission denied"), "a streaming reader meets it too");
    let errors = std::fs::read_to_string(file(".cwlogs/errors")).unwrap();
    assert!(errors.contains("app/denied") && errors.contains("logs:GetLogEvents is not allowed"), "{errors}");

    let ok = file("app/ok.log").display().to_string();
    let folder = file("app").display().to_string();
    let root = mounted.path().display().to_string();
    assert_eq!(std::fs::read(&ok).unwrap(), world.fake.oracle("app", "ok"));
    for script in [
        format!("touch {ok}"),
        format!("touch {folder}/new.log"),
        format!("rm -f {ok}"),
        format!("rm -rf {folder}"),
        format!("rmdir {folder}"),
        format!("mv {ok} {folder}/x.log"),
        format!("mkdir {folder}/d"),
        format!("mkdir {root}/d"),
        format!("ln {ok} {folder}/x.log"),
        format!("ln -s x {folder}/y.log"),
        format!("chmod 600 {ok}"),
        format!("chown 1 {ok}"),
        format!("truncate -s 0 {ok}"),
        format!("truncate -s 100 {folder}/z.log"),
        format!("setfattr -n user.x -v 1 {ok}"),
        format!("setfattr -x user.x {ok}"),
        format!("echo more >> {ok}"),
        format!("echo other > {ok}"),
        format!("echo new > {folder}/new.log"),
        format!("mknod {folder}/p p"),
        format!("sed -i s/a/b/ {ok}"),
        format!("touch {root}/.cwlogs/status"),
    ] {
        let result = shell(&format!("export LC_ALL=C; {script}"));
        let said = String::from_utf8_lossy(&result.stderr).into_owned();
        assert!(!result.status.success() && said.contains("Read-only file system"), "{script}: {said}");
    }
    assert_eq!(std::fs::read(&ok).unwrap(), world.fake.oracle("app", "ok"));

    let started = Instant::now();
    assert_eq!(errno(&file("app/throttled.log")), Some(libc::EAGAIN));
    assert!(started.elapsed() < Duration::from_secs(35));
    eprintln!("throttled for good: EAGAIN after {:?}", started.elapsed());
}

#[test]
fn mount_finds_its_table_done_the_second_time() {
    let world = World::start();
    world.put_history("app", "one", &lines(3));
    let path = mountpoint(&world, "mnt");
    let background = Background::start(&world, &path);
    let again = |source: &str| {
        let mut command = world.command();
        command.arg(source).arg(&background.path).args(["-o", "rw,sync,lazytime,nosymfollow,umask=077"]);
        command.output().unwrap()
    };
    for source in ["cwlogs", "cwlogs:us-east-1"] {
        let output = again(source);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let source = output(&format!("findmnt -n -o SOURCE {}", background.path.display()));
    assert_eq!(source.trim(), "cwlogs:us-east-1");
    let elsewhere = again("cwlogs:eu-west-1");
    assert_eq!(elsewhere.status.code(), Some(1), "another region's is another mount");
}

#[test]
fn systemd_is_told_how_it_goes() {
    let world = World::start();
    world.put_history("app", "one", &lines(3));
    let path = world.folder().join("mnt");
    std::fs::create_dir(&path).unwrap();
    let socket = world.folder().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut command = world.command();
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "600000");
    let mounted = Mounted::start(command, &path);
    let next = || {
        let mut message = [0; 1024];
        let len = manager.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..len]).into_owned()
    };
    let next_but_alive = || std::iter::repeat_with(next).find(|message| message != "WATCHDOG=1").unwrap();
    assert_eq!(next_but_alive(), format!("READY=1\nSTATUS=serving {}", path.display()));
    let began = Instant::now();
    (0..4).for_each(|_| assert_eq!(next(), "WATCHDOG=1"));
    assert!(began.elapsed() < Duration::from_millis(4 * 600), "in time: {:?}", began.elapsed());
    mounted.signal(libc::SIGHUP);
    let reloading = next_but_alive();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(next_but_alive().starts_with("READY=1"));
    mounted.signal(libc::SIGTERM);
    assert!(next_but_alive().starts_with("STOPPING=1"));
    assert!(mounted.wait().0.success());
}

#[test]
fn a_check_tries_what_a_mount_does() {
    let world = World::start();
    let mut check = world.command();
    check.arg("--check");
    let output = check.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("ok      FUSE"), "{said}");
    // A device that opens like FUSE's, and isn't.
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["-m", "sh", "-c", "mount --bind /dev/null /dev/fuse && exec \"$0\" \"$@\""]);
    elsewhere.arg(check.get_program()).args(check.get_args()).env_clear();
    elsewhere.envs(check.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = elsewhere.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("a mount fails"), "{said}");
}

/// A probe: it ends within 5 s whatever the daemon does, and isn't red because the service is.
#[test]
fn a_probe_tells_whether_the_daemon_answers() {
    let world = World::start();
    world.put_history("app", "one", &lines(3));
    let path = world.folder().join("mnt");
    std::fs::create_dir(&path).unwrap();
    let probe = |more: &[&str]| {
        let began = Instant::now();
        let output = Command::new(binary()).args(["--check", "--live"]).args(more).arg(&path).output().unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (status, said) = probe(&[]);
    assert!(status == Some(1) && said.contains("no cwlogs-mount is mounted there"), "{said}");
    let mounted = Mounted::start(world.command(), &path);
    assert_eq!(read(&path.join("app/one.log")).unwrap(), world.fake.oracle("app", "one"));
    let (status, said) = probe(&["--fresh"]);
    assert!(status == Some(0) && said.contains(&format!("process {}", mounted.pid())), "{said}");
    world.fake.change(|plan| plan.faults = vec![Fault::new(FaultKind::AccessDenied)]);
    let began = Instant::now();
    while probe(&["--fresh"]).0 == Some(0) {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing is shown from the copy");
        let _ = read(&path.join("app/one.log"));
        std::thread::sleep(Duration::from_millis(500));
    }
    let (status, said) = probe(&[]);
    assert!(status == Some(0) && said.contains("stale   app/one"), "{said}");
    mounted.signal(libc::SIGSTOP);
    let (status, said) = probe(&[]);
    mounted.signal(libc::SIGCONT);
    assert!(status == Some(1) && said.contains("doesn't answer within 5 s"), "{said}");
}
