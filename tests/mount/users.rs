//! Who mounts and who reads: an unprivileged user through `fusermount3`, others with and without `--allow-other`, programs from
//! unusual places, two accounts side by side.
//!
//! What such a user needs of the machine (a /dev/fuse open to all, `user_allow_other`) is made in a mount namespace of the test's
//! own thread, so that nothing changes for anybody else. That takes root.

use crate::support::fake_cloudwatch::Fake;
use crate::world::{BINARY, Mounted, World, is_mounted, now, output, shell};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// `nobody`, who has an entry in every passwd file, and somebody else, who needs none.
const USER: u32 = 65_534;
const OTHER: u32 = 54_321;

/// A machine on which an unprivileged user may mount, seen by one thread and its children alone.
fn with_machine(test: impl FnOnce(&mut World, &Path) + Send + 'static) {
    // SAFETY: geteuid only reads this process's credentials.
    let root = unsafe { libc::geteuid() } == 0;
    assert!(
        root,
        "needs root, to make a namespace where an unprivileged user may mount: `sudo -E cargo test --test mount users::`"
    );
    let thread = std::thread::spawn(move || {
        // SAFETY: unshare changes this thread's view alone, and nothing here relies on a shared one.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "{}", std::io::Error::last_os_error());
        output("mount --make-rprivate /");
        let mut world = World::start();
        let home = world.folder().to_path_buf();
        let place = home.join("machine");
        std::fs::create_dir(&place).unwrap();
        let shown = place.display().to_string();
        output(&format!(
            "set -e; mount -t tmpfs -o mode=755 machine {shown}
             mknod -m 666 {shown}/fuse c 10 229; mount --bind {shown}/fuse /dev/fuse
             (grep -v '^user_allow_other' /etc/fuse.conf || true) > {shown}/fuse.conf
             mount --bind {shown}/fuse.conf /etc/fuse.conf
             touch {shown}/cwlogs-mount; mount --bind '{BINARY}' {shown}/cwlogs-mount"
        ));
        for dir in [&home, &home.join("mnt")] {
            let _ = std::fs::create_dir(dir);
            std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
            chown(dir, Some(USER), Some(USER)).unwrap();
        }
        // Dropped before the world, whose folder could not be removed otherwise.
        let _machine = Machine(place);
        test(&mut world, &home.join("mnt"));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What was mounted for it; taken away when dropped, after a failure too.
struct Machine(PathBuf);

impl Drop for Machine {
    fn drop(&mut self) {
        drop(shell(&format!("umount -l /dev/fuse /etc/fuse.conf {}", self.0.display())));
    }
}

/// The program as the user would start it.
fn as_user(world: &World, arguments: &[&str]) -> Command {
    let of_root = world.command();
    let mut command = Command::new(world.folder().join("machine/cwlogs-mount"));
    command.args(of_root.get_args()).args(arguments).env_clear();
    command.envs(of_root.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.uid(USER).gid(USER);
    command
}

fn run_as(user: u32, script: &str) -> Output {
    Command::new("bash")
        .args(["-c", script])
        .uid(user)
        .gid(user)
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Whether `user` gets the text of the file.
fn reads(user: u32, file: &Path) -> Result<Vec<u8>, String> {
    let output = run_as(user, &format!("cat '{}'", file.display()));
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn allow_others(world: &World) {
    output(&format!("echo user_allow_other >> {}", world.folder().join("machine/fuse.conf").display()));
}

fn history(world: &World) -> Vec<u8> {
    let lines: Vec<String> = (0..20_000).map(|i| format!("{i:06} {}", "x".repeat(i % 60))).collect();
    world.put_history("app", "one", &lines);
    world.put_history("app", "two", &lines[..100]);
    world.fake.oracle("app", "one")
}

/// Files 0600, folders 0700, all the user's.
fn assert_private(folder: &Path) {
    let mut files = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        let found = at.metadata().unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o700, USER), "{}", at.display());
        for entry in std::fs::read_dir(&at).unwrap().flatten() {
            let found = entry.metadata().unwrap();
            if found.is_dir() {
                folders.push(entry.path());
                continue;
            }
            files += 1;
            assert_eq!((found.mode() & 0o7777, found.uid()), (0o600, USER), "{}", entry.path().display());
        }
    }
    assert!(files >= 3, "{files} files in the cache");
}

#[test]
fn an_unprivileged_user_mounts_for_himself() {
    with_machine(|world, mnt| {
        let expected = history(world);
        // Old enough to be settled by the first read: nothing is looked at twice.
        let settled = &["--settle-after", "1s"];
        std::thread::sleep(Duration::from_millis(1_200));
        let mounted = Mounted::start(as_user(world, settled), mnt);
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains(mnt.to_str().unwrap())).unwrap();
        assert!(line.contains("- fuse.cwlogs cwlogs:us-east-1") && line.contains("user_id=65534"), "{line}");
        assert!(line.contains("nosuid,nodev") && !line.contains("allow_other"), "{line}");
        let file = mounted.file("app/one.log");
        // Root looks first: nothing that it is refused may be left in a cache for the user to meet.
        for stranger in [0, OTHER] {
            let refused = reads(stranger, &file).unwrap_err();
            assert!(refused.contains("Permission denied"), "{refused}");
        }
        assert!(reads(USER, &file).unwrap() == expected);
        let shown = run_as(USER, &format!("stat -c '%u %a' {0} {0}/app {1}", mnt.display(), file.display()));
        assert_eq!(String::from_utf8_lossy(&shown.stdout), "65534 700\n65534 700\n65534 600\n");
        assert_private(&world.folder().join("cache"));

        // Nothing survives to say that it is dead; the next start at the same place just works.
        mounted.signal(libc::SIGKILL);
        let path = mounted.path().to_path_buf();
        let (status, _) = mounted.wait_leaving_the_mount();
        assert!(!status.success() && is_mounted(&path), "a stale mount is there");
        let mounted = Mounted::start(as_user(world, settled), mnt);
        world.fake.reset_calls();
        assert!(reads(USER, &file).unwrap() == expected);
        assert!(world.fake.calls().events < 100, "what was cached isn't downloaded again");
        // As from another terminal.
        let mut unmount = Command::new(world.folder().join("machine/cwlogs-mount"));
        assert!(unmount.arg("--unmount").arg(mnt).uid(USER).gid(USER).status().unwrap().success());
        assert!(mounted.wait().0.success() && !is_mounted(mnt));

        // The same in the background, ended by fusermount3 itself.
        let started = as_user(world, &[mnt.to_str().unwrap()]).output().unwrap();
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        assert!(reads(USER, &file).unwrap() == expected);
        assert!(run_as(USER, &format!("fusermount3 -u {}", mnt.display())).status.success());
        assert!(!is_mounted(mnt));
        wait_for_unlock(world);
    });
}

/// Until the daemon in the background is gone, which is nobody's child.
fn wait_for_unlock(world: &World) {
    let lock = world.folder().join("cache/lock");
    output(&format!("flock --timeout 10 '{}' true", lock.display()));
}

#[test]
fn others_are_let_in_when_asked_for() {
    with_machine(|world, mnt| {
        let expected = history(world);
        let refused = as_user(world, &["--allow-other", "-f", mnt.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("user_allow_other"), "{said}");
        assert!(!is_mounted(mnt));

        allow_others(world);
        let mounted = Mounted::start(as_user(world, &["--allow-other"]), mnt);
        // Whoever comes first: each of them meets a cold file once.
        for (user, name) in [(0, "one"), (OTHER, "two"), (USER, "one"), (OTHER, "one"), (0, "two")] {
            let file = mounted.file(&format!("app/{name}.log"));
            let text = reads(user, &file).unwrap();
            assert!(text == if name == "one" { &expected[..] } else { &expected[..text.len()] }, "user {user}, {name}");
            assert_eq!(text.len(), world.fake.oracle("app", name).len());
        }
        mounted.unmount();
        drop(std::fs::remove_dir_all(world.folder().join("cache")));

        let mounted =
            Mounted::start(as_user(world, &["--allow-other", "--file-mode", "600", "--dir-mode", "700"]), mnt);
        assert!(reads(OTHER, &mounted.file("app/one.log")).unwrap_err().contains("Permission denied"));
        assert!(reads(USER, &mounted.file("app/one.log")).unwrap() == expected);
        mounted.unmount();

        let mounted = Mounted::start(as_user(world, &["--allow-root"]), mnt);
        assert!(reads(0, &mounted.file("app/one.log")).unwrap() == expected);
        assert!(reads(OTHER, &mounted.file("app/one.log")).unwrap_err().contains("Permission denied"));
        mounted.unmount();
    });
}

const TOOLS: &[&str] = &[
    "cat FILE",
    "head -n 3 FILE",
    "head -c -100 FILE",
    "grep -c 9 FILE",
    "sed -n '$p' FILE",
    "tail -n 5 FILE",
    "tail -c 50 FILE",
    "timeout 2 tail -f FILE",
    "less FILE",
    "cp FILE COPY",
    "tar -cf - FILE",
    "wc FILE",
];

/// Tools from elsewhere aren't known by their path, and a daemon can't always see who asks (root, to another user's daemon):
/// then they wait for the whole, and are as right.
#[test]
fn tools_from_another_folder_and_of_another_user_are_right() {
    with_machine(|world, mnt| {
        allow_others(world);
        let lines: Vec<String> = (0..20_000).map(|i| format!("{i:06} {}", "x".repeat(i % 60))).collect();
        let callers = [USER, OTHER, 0];
        for number in 0..TOOLS.len() * callers.len() {
            world.put_history("cold", &format!("f{number}"), &lines);
        }
        world.small_pages(256 * 1024, Duration::from_millis(20));
        let (bin, plain, out) = (world.folder().join("bin"), world.folder().join("plain"), world.folder().join("out"));
        for dir in [&bin, &plain.join("cold"), &out] {
            std::fs::create_dir_all(dir).unwrap();
        }
        std::fs::set_permissions(&out, PermissionsExt::from_mode(0o1777)).unwrap();
        for tool in TOOLS {
            let name = tool.split(' ').find(|word| !["timeout", "2"].contains(word)).unwrap();
            std::fs::copy(Path::new("/usr/bin").join(name), bin.join(name)).unwrap();
        }
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let mounted = Mounted::start(as_user(world, &["--allow-other"]), mnt);
        let mut number = 0;
        let mut wrong = Vec::new();
        for user in callers {
            for tool in TOOLS {
                let file = format!("cold/f{number}.log");
                std::fs::write(plain.join(&file), &text).unwrap();
                let run = |root: &Path, copy: &Path| {
                    let command = tool.replace("FILE", &file).replace("COPY", copy.to_str().unwrap());
                    let script = format!("cd '{}' && PATH='{}':$PATH; {command}", root.display(), bin.display());
                    let result = run_as(user, &script);
                    // tar's header holds times, names and owners; its length and its status are compared.
                    let output = if tool.starts_with("tar") { vec![0; result.stdout.len()] } else { result.stdout };
                    (
                        result.status.code(),
                        output,
                        std::fs::read(copy).ok(),
                        String::from_utf8_lossy(&result.stderr).into_owned(),
                    )
                };
                let copy = |kind: &str| -> PathBuf { out.join(format!("{kind}{number}")) };
                let (expected, got) = (run(&plain, &copy("plain")), run(mounted.path(), &copy("mount")));
                if (expected.0, &expected.1, &expected.2) != (got.0, &got.1, &got.2) {
                    wrong.push(format!(
                        "user {user}, {tool}: status {:?} became {:?}, {} bytes became {}: {}",
                        expected.0,
                        got.0,
                        expected.1.len(),
                        got.1.len(),
                        got.3
                    ));
                }
                number += 1;
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn two_profiles_side_by_side() {
    let world = World::start();
    let second = Fake::start(Default::default());
    world.fake.put("app", "s", &[(now() - 60_000, "of the first account")]);
    second.put("app", "s", &[(now() - 60_000, "of the second account")]);
    let home = world.folder();
    std::fs::create_dir(home.join(".aws")).unwrap();
    let profile = |name: &str, region: &str, url: &str| {
        format!(
            "[profile {name}]\nregion = {region}\nendpoint_url = {url}\naws_access_key_id = AKIA{name}\naws_secret_access_key = s\n"
        )
    };
    let config = profile("first", "eu-west-1", &world.fake.url()) + &profile("second", "us-west-2", &second.url());
    std::fs::write(home.join(".aws/config"), config).unwrap();
    let mounts: Vec<(Mounted, &str)> = [("first", "eu-west-1"), ("second", "us-west-2")]
        .into_iter()
        .map(|(name, region)| {
            let mut command = Command::new(BINARY);
            command.env_clear().env("HOME", home).env("PATH", "/usr/bin:/bin").env("AWS_EC2_METADATA_DISABLED", "true");
            command.args(["--profile", name]);
            let mnt = home.join(name);
            std::fs::create_dir(&mnt).unwrap();
            (Mounted::start(command, &mnt), region)
        })
        .collect();
    for ((mounted, region), name) in mounts.iter().zip(["first", "second"]) {
        let text = std::fs::read_to_string(mounted.file("app/s.log")).unwrap();
        assert_eq!(text, format!("of the {name} account\n"));
        let status = std::fs::read_to_string(mounted.file(".cwlogs/status")).unwrap();
        assert!(status.contains(region), "{status}");
        let source = output(&format!("findmnt -no SOURCE,FSTYPE {}", mounted.path().display()));
        assert_eq!(source.split_whitespace().collect::<Vec<_>>(), [&format!("cwlogs:{region}")[..], "fuse.cwlogs"]);
    }
    // A cache each, by default.
    let caches = std::fs::read_dir(home.join(".cache/cwlogs-mount")).unwrap().count();
    assert_eq!(caches, 2);
    for (mounted, _) in mounts {
        mounted.unmount();
    }
}

#[test]
fn a_dead_mount_of_root_is_replaced() {
    let mut world = World::start();
    let expected = history(&world);
    let mounted = world.mount(&[]);
    assert!(std::fs::read(mounted.file("app/one.log")).unwrap() == expected);
    // A reader in the middle of it.
    let held = std::fs::File::open(mounted.file("app/one.log")).unwrap();
    let path = mounted.path().to_path_buf();
    mounted.signal(libc::SIGKILL);
    mounted.wait_leaving_the_mount();
    assert!(std::fs::read_dir(&path).is_err() && is_mounted(&path), "a stale mount is there");
    let again = world.mount_at(&path, &[]);
    assert!(std::fs::read(again.file("app/one.log")).unwrap() == expected);
    drop(held);
    again.unmount();
    assert!(!is_mounted(&path), "one mount was on top of the other");
}
