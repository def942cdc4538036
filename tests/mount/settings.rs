//! Settings of the AWS CLI, as a service manager, a script in some folder and an older environment give them.

use crate::world::{World, binary, detach, read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program with nothing of the machine's environment, in a folder.
fn program(world: &World, folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied())
        .args(["--endpoint-url", &world.fake.url(), "--cache-dir"])
        .arg(world.folder().join("cache"))
        .current_dir(folder)
        .stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn write_settings(folder: &Path, region: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let config = format!("[default]\nregion = us-east-1\n[profile other]\nregion = {region}\n");
    std::fs::write(folder.join("config"), config).unwrap();
    let keys = "aws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = secret\n";
    std::fs::write(folder.join("credentials"), format!("[default]\n{keys}[other]\n{keys}")).unwrap();
}

/// Mounts in the background, reads a file, and gives the status.
fn mounted(world: &World, mut command: Command) -> String {
    let path = world.folder().join("mnt");
    let _ = std::fs::create_dir(&path);
    let started = command.arg(&path).output().unwrap();
    let result = (started.status.success(), said(&started), read(&path.join("g/s.log")));
    let status = std::fs::read_to_string(path.join(".cwlogs/status"));
    Command::new(binary()).arg("--unmount").arg(&path).output().unwrap();
    detach(&path);
    assert!(result.0, "{}", result.1);
    assert_eq!(result.2.unwrap(), b"line\n");
    status.unwrap()
}

#[test]
fn relative_files_mean_the_folder_of_the_start_in_the_background_too() {
    let world = World::start();
    world.put_history("g", "s", &["line".into()]);
    let folder = world.folder().join("work");
    write_settings(&folder.join("aws"), "eu-west-1");
    let variables = [
        ("HOME", "/nonexistent"),
        ("AWS_CONFIG_FILE", "aws/config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "./aws/credentials"),
        ("AWS_DEFAULT_PROFILE", "other"),
    ];
    let status = mounted(&world, program(&world, &folder, &variables));
    assert!(status.contains("eu-west-1") && status.contains("other"), "the older variable's profile: {status}");
}

#[test]
fn without_a_home_in_the_environment_it_is_the_users() {
    let world = World::start();
    world.put_history("g", "s", &["line".into()]);
    let home = world.folder().join("home");
    write_settings(&home.join(".aws"), "eu-west-1");
    // In a namespace of its own, where the home of root's passwd entry is that one.
    let check = program(&world, world.folder(), &[("AWS_PROFILE", "other")]);
    let mut line = Command::new("unshare");
    line.args(["-m", "sh", "-c", "mount --bind \"$0\" ~root && exec \"$@\" --check"]).arg(&home).arg(binary());
    line.args(check.get_args()).env_clear();
    line.envs(check.get_envs().filter_map(|(name, value)| Some((name, value?)))).env_remove("HOME");
    let output = line.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("eu-west-1"), "{}", said(&output));
}

#[test]
fn what_the_environment_says_twice_is_told() {
    let world = World::start();
    world.put_history("g", "s", &["line".into()]);
    let folder = world.folder().join("work");
    write_settings(&folder, "eu-west-1");
    let log = world.folder().join("log");
    let variables = [
        ("HOME", "/nonexistent"),
        ("AWS_CONFIG_FILE", "config"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        ("AWS_PROFILE", "other"),
        ("AWS_DEFAULT_PROFILE", "default"),
    ];
    let mut command = program(&world, &folder, &variables);
    command.arg("--log-file").arg(&log);
    let status = mounted(&world, command);
    assert!(status.contains("eu-west-1"), "{status}");
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(
        text.matches("AWS_PROFILE says other and is taken, AWS_DEFAULT_PROFILE says default").count(),
        1,
        "{text}"
    );
}
