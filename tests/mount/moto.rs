//! The main scenario against moto, a server by other hands, written to through boto3.

use crate::content::names_in;
use crate::support::moto::Moto;
use crate::world::{Listener, World, output, read};
use cwlogs_mount::store::names::{exact_encode, slug_with_hash};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Puts what its input says, a JSON array of group, stream and messages a line, and answers each with a line.
const WRITER: &str = r#"
import boto3, json, sys, time
logs = boto3.client("logs", endpoint_url=sys.argv[1], region_name="us-east-1",
                    aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="secret")
for line in sys.stdin:
    group, stream, messages = json.loads(line)
    for make, names in ((logs.create_log_group, dict(logGroupName=group)),
                        (logs.create_log_stream, dict(logGroupName=group, logStreamName=stream))):
        try:
            make(**names)
        except logs.exceptions.ResourceAlreadyExistsException:
            pass
    now = int(time.time() * 1000)
    if messages:
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[
            dict(timestamp=now, message=message) for message in messages])
    print("ok", flush=True)
"#;

struct Writer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Writer {
    fn start(moto: &Moto) -> Writer {
        let python = std::env::var_os("CWLOGS_TEST_PYTHON")
            .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv/bin/python").into());
        let mut child = Command::new(&python)
            .args(["-c", WRITER, &moto.url()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{python:?}: {error}: boto3 isn't installed; run scripts/test, which installs it")
            });
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Writer { child, input, output }
    }

    fn put(&mut self, group: &str, stream: &str, messages: &[String]) {
        let line = serde_json::json!([group, stream, messages]);
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        assert_eq!(answer, "ok\n", "boto3 failed: if it isn't installed, run scripts/test, which installs it");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shown(messages: &[String]) -> String {
    messages.iter().flat_map(|m| [m.as_str(), if m.ends_with('\n') { "" } else { "\n" }]).collect()
}

#[test]
fn lists_reads_names_and_follows_what_boto3_writes() {
    let moto = Moto::start();
    let mut writer = Writer::start(&moto);
    let groups = ["/aws/lambda/checkout", "/ecs/Web", "plain"];
    let streams = ["2026/11/23/[$LATEST]3f2a", "..", "@at", "a b\u{e9}\u{1f980}", "100%", "same/name", "same-name"];
    let mut all = Vec::new();
    for group in groups {
        for (at, stream) in streams.iter().enumerate() {
            let mut messages: Vec<String> = (0..40 * at).map(|i| format!("{group} {stream} {i}")).collect();
            messages.extend(["of\nlines\n".into(), "\u{1b}[1m\ttext \u{1f980}".into()]);
            writer.put(group, stream, &messages);
            all.push((group, *stream, messages));
        }
    }
    // Only the folders of this world are used.
    let world = World::start();
    let mounted = world.mount_on(&moto.url(), &["--listing-ttl", "1s"]);
    let mut folders = names_in(mounted.path());
    folders.sort();
    assert_eq!(folders, ["aws-lambda-checkout", "ecs-web", "plain"]);
    for folder in &folders {
        assert_eq!(names_in(&mounted.file(folder)).len(), streams.len());
    }
    for (group, stream, messages) in &all {
        for (folder, name) in
            [(slug_with_hash(group), slug_with_hash(stream)), (exact_encode(group), exact_encode(stream))]
        {
            let path = mounted.file(&format!("{folder}/{name}.log"));
            let done = Command::new("cat").arg(&path).output().unwrap();
            let text = String::from_utf8(done.stdout).unwrap();
            assert_eq!(text, shown(messages), "{path:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
    }
    let root = mounted.path().display().to_string();
    let found = output(&format!("grep -rl 'plain same/name 7$' {root}"));
    assert_eq!(found.lines().count(), 1, "{found}");
    let total: usize = all.iter().map(|(_, _, messages)| shown(messages).len()).sum();
    assert_eq!(output(&format!("cat {root}/*/*.log | wc -c")).trim(), total.to_string());

    let path = mounted.file(&format!("plain/{}.log", exact_encode("same/name")));
    let listener = Listener::start(&format!("tail -s 0.1 -n 0 -f {}", path.display()));
    std::thread::sleep(Duration::from_secs(1));
    let lines: Vec<String> = (0..20).map(|i| format!("line {i}")).collect();
    for pair in lines.chunks(2) {
        writer.put("plain", "same/name", pair);
        std::thread::sleep(Duration::from_millis(200));
    }
    let seen: Vec<String> =
        listener.wait_for(lines.len(), Duration::from_secs(15)).into_iter().map(|(_, line)| line).collect();
    assert_eq!(seen, lines, "each once, in order");
    drop(listener);

    writer.put("plain", "New/Stream", &["hello".into()]);
    assert_eq!(read(&mounted.file("plain/New%2FStream.log")).unwrap(), b"hello\n", "before any listing");
    assert!(names_in(&mounted.file("plain")).contains(&"new-stream.log".into()));
    mounted.unmount();
}
