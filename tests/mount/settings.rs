//! Settings of the AWS CLI, as a service manager, a script in some folder and an older environment give them.

use crate::world::{World, binary, detach, read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program with nothing of the machine's environment, in a folder.
fn program(world: &World, folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = bare(world, folder, variables);
    command.args(["--endpoint-url", &world.fake.url()]);
    command
}

/// The same, which isn't told where the service is.
fn bare(world: &World, folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(variables.iter().copied())
        .arg("--cache-dir")
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

/// Files in a folder, as the AWS CLI's variables name them.
const HERE: [(&str, &str); 3] =
    [("HOME", "/nonexistent"), ("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")];

fn with_profile(profile: &str) -> Vec<(&str, &str)> {
    HERE.into_iter().chain([("AWS_PROFILE", profile)]).collect()
}

#[test]
fn files_as_the_aws_cli_takes_them() {
    let world = World::start();
    world.put_history("g", "s", &["line".into()]);
    let folder = world.folder().join("work");
    std::fs::create_dir(&folder).unwrap();
    let config = format!(
        "  [default] # text after it\n  region: eu-west-1\n[profile \"my own\"]\n    region = eu-west-2\n    \
         services = here\n\
         [services here]\ncloudwatch_logs =\n  endpoint_url = {}\n",
        world.fake.url()
    );
    std::fs::write(folder.join("config"), config).unwrap();
    let keys = "  aws_access_key_id = AKIAEXAMPLE\n  aws_secret_access_key = secret\n";
    std::fs::write(folder.join("credentials"), format!("[my own]\n{keys}")).unwrap();
    let status = mounted(&world, bare(&world, &folder, &with_profile("my own")));
    assert!(status.contains("eu-west-2") && status.contains("my own"), "{status}");
}

#[test]
fn a_helper_for_credentials_runs_where_the_program_was_started() {
    let world = World::start();
    world.put_history("g", "s", &["line".into()]);
    let folder = world.folder().join("a 'folder'");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config"), "[default]\nregion = eu-west-1\ncredential_process = sh ./helper keys\n")
        .unwrap();
    let keys = r#"{"Version": 1, "AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "secret"}"#;
    std::fs::write(folder.join("keys"), keys).unwrap();
    std::fs::write(folder.join("helper"), "cat \"$1\"; pwd > ran-in\n").unwrap();
    mounted(&world, program(&world, &folder, &HERE));
    let ran_in = std::fs::read_to_string(folder.join("ran-in")).unwrap();
    assert_eq!(Path::new(ran_in.trim_end()), folder.canonicalize().unwrap());
}

#[test]
fn what_is_wrong_with_the_files_is_told() {
    let world = World::start();
    let folder = world.folder().join("work");
    write_settings(&folder, "eu-west-1");
    let check = |variables: &[(&str, &str)]| {
        let output = program(&world, &folder, variables).arg("--check").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    let said = check(&with_profile("othr"));
    assert!(said.contains("no profile `othr` in") && said.contains("default, other"), "{said}");
    std::fs::write(folder.join("config"), "[default]\nregion eu-west-1\n").unwrap();
    let said = check(&HERE);
    assert!(said.contains("config, line 2: neither"), "{said}");
    write_settings(&folder, "eu-west-1");
    let said = check(&[HERE[0], HERE[1], HERE[2], ("AWS_CA_BUNDLE", "config")]);
    assert!(said.contains("it holds no certificate") && said.contains("AWS_CA_BUNDLE"), "{said}");
}

/// Takes TLS away before the service: a proxy of a company that looks into it, with a certificate of its own.
const PROXY: &str = r#"
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def copy(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for end in (a, b):
        try: end.shutdown(socket.SHUT_RDWR)
        except OSError: pass
def serve(raw):
    try:
        client = context.wrap_socket(raw, server_side=True)
    except OSError:
        return
    service = socket.create_connection(("127.0.0.1", int(sys.argv[3])))
    threading.Thread(target=copy, args=(client, service), daemon=True).start()
    copy(service, client)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

#[test]
fn certificates_of_ones_own_are_trusted() {
    let world = World::start();
    world.put_history("g", "s", &["line".into()]);
    let folder = world.folder().join("work");
    write_settings(&folder, "eu-west-1");
    let made = crate::world::shell(&format!(
        "cd {} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key -out own.pem -days 2 \
         -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE",
        folder.display()
    ));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let url = world.fake.url();
    let port = url.rsplit(':').next().unwrap();
    let mut proxy = Command::new("python3")
        .args(["-c", PROXY, "own.pem", "key", port])
        .current_dir(&folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(proxy.stdout.take().unwrap()), &mut line).unwrap();
    let url = format!("https://localhost:{}", line.trim());
    let program = |variables: &[(&str, &str)]| {
        let variables: Vec<_> = HERE.iter().chain(variables).copied().collect();
        let mut command = bare(&world, &folder, &variables);
        command.args(["--endpoint-url", &url]);
        command
    };
    let refused = program(&[]).arg("--check").output().unwrap();
    let by_variable = program(&[("AWS_CA_BUNDLE", "own.pem")]).arg("--check").output().unwrap();
    let by_option =
        program(&[("AWS_CA_BUNDLE", "config")]).args(["--ca-bundle", "own.pem", "--check"]).output().unwrap();
    let config = std::fs::read_to_string(folder.join("config")).unwrap();
    std::fs::write(folder.join("config"), config.replace("us-east-1", "us-east-1\nca_bundle = own.pem")).unwrap();
    let of_profile = std::panic::catch_unwind(|| mounted(&world, program(&[])));
    let _ = proxy.kill();
    let _ = proxy.wait();
    assert!(!refused.status.success() && said(&refused).contains("certificate"), "{}", said(&refused));
    assert!(by_variable.status.success(), "{}", said(&by_variable));
    assert!(by_option.status.success(), "{}", said(&by_option));
    of_profile.unwrap();
}
