use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::error::ErrorKind;
use crate::model::{LogGroup, LogStream, Timestamp};
use crate::source::demo::Demo;
use crate::source::{
    DescribeGroups, DescribeStreams, EventPage, FilterEvents, FilterPage, GetEvents, Page, Quotas, SourceError,
    SourceErrorKind,
};
use async_trait::async_trait;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

/// The demo, but for the calls that are refused.
struct Refusing {
    demo: Demo,
    refused: Vec<(Call, SourceErrorKind)>,
    calls: AtomicU32,
}

impl Refusing {
    fn new(refused: &[(Call, SourceErrorKind)]) -> Arc<Refusing> {
        let epoch = Timestamp(1_795_392_000_000);
        let demo = Demo::new(epoch, Arc::new(ManualClock::new(epoch)));
        Arc::new(Refusing { demo, refused: refused.to_vec(), calls: AtomicU32::new(0) })
    }

    fn pass(&self, call: Call) -> Result<(), SourceError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.refused.iter().find(|(refused, _)| *refused == call) {
            Some((_, kind)) => Err(SourceError { kind: *kind, call, message: "not\u{1b}authorized".into() }),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl LogSource for Refusing {
    async fn describe_log_groups(&self, request: DescribeGroups) -> Result<Page<LogGroup>, SourceError> {
        self.pass(Call::DescribeLogGroups)?;
        self.demo.describe_log_groups(request).await
    }
    async fn describe_log_streams(&self, request: DescribeStreams) -> Result<Page<LogStream>, SourceError> {
        self.pass(Call::DescribeLogStreams)?;
        self.demo.describe_log_streams(request).await
    }
    async fn get_log_events(&self, request: GetEvents) -> Result<EventPage, SourceError> {
        self.pass(Call::GetLogEvents)?;
        self.demo.get_log_events(request).await
    }
    async fn filter_log_events(&self, request: FilterEvents) -> Result<FilterPage, SourceError> {
        self.pass(Call::FilterLogEvents)?;
        self.demo.filter_log_events(request).await
    }
    fn quotas(&self) -> Quotas {
        self.demo.quotas()
    }
    fn region(&self) -> String {
        "eu-west-1".into()
    }
}

async fn service_lines(source: Arc<Refusing>, prefixes: &[&str], known: Option<&str>) -> (bool, Vec<String>) {
    let mut out = Vec::new();
    let mut lines = Lines { out: &mut out, ok: true, broken: None };
    let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    service::calls(&mut lines, &*source, &prefixes, known).await;
    let ok = lines.ok;
    (ok, String::from_utf8(out).unwrap().lines().map(str::to_string).collect())
}

#[tokio::test]
async fn all_calls_answer() {
    let source = Refusing::new(&[]);
    let (ok, lines) = service_lines(source.clone(), &[], None).await;
    assert!(ok, "{lines:#?}");
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line.starts_with("ok ")), "{lines:#?}");
    assert_eq!(source.calls.load(Ordering::SeqCst), 4, "each call once");
}

#[tokio::test]
async fn each_missing_permission_is_named_and_the_rest_is_tried() {
    let denied = SourceErrorKind::Denied;
    let source = Refusing::new(&[(Call::GetLogEvents, denied), (Call::DescribeLogStreams, denied)]);
    let (ok, lines) = service_lines(source, &["app/"], None).await;
    assert!(!ok);
    let arn = "arn:aws:logs:demo:000000000000:log-group:app/orders";
    assert!(lines[0].starts_with("ok "), "{lines:#?}");
    assert!(
        lines[1].starts_with("FAILED") && lines[1].contains(&format!("logs:DescribeLogStreams on {arn}:*")),
        "{lines:#?}"
    );
    assert!(lines[2].starts_with("FAILED") && lines[2].contains(&format!("logs:GetLogEvents on {arn}:log-stream:*")));
    assert!(lines[3].starts_with("ok "), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "control characters are escaped");
}

#[tokio::test]
async fn a_known_group_helps_where_listing_is_denied() {
    let refused = [(Call::DescribeLogGroups, SourceErrorKind::Denied)];
    let (ok, lines) = service_lines(Refusing::new(&refused), &[], Some("app/orders")).await;
    assert!(!ok);
    assert!(lines[0].contains("logs:DescribeLogGroups on arn:aws:logs:eu-west-1:*:log-group:*"), "{lines:#?}");
    assert!(lines[1..].iter().all(|line| line.starts_with("ok ")), "{lines:#?}");
    let (_, lines) = service_lines(Refusing::new(&refused), &[], None).await;
    assert!(lines[1..].iter().all(|line| line.starts_with("- ")), "{lines:#?}");
}

#[tokio::test]
async fn a_stream_that_is_not_there_shows_the_permission() {
    let source = Refusing::new(&[(Call::DescribeLogStreams, SourceErrorKind::Denied)]);
    let (_, lines) = service_lines(source, &["app/"], None).await;
    assert!(lines[2].contains("is permitted"), "{lines:#?}");
}

#[tokio::test]
async fn throttling_is_waited_out_a_while() {
    let source = Refusing::new(&[(Call::FilterLogEvents, SourceErrorKind::Throttled)]);
    let (ok, lines) = service_lines(source.clone(), &[], None).await;
    assert!(!ok && lines[3].contains("quota"), "{lines:#?}");
    assert_eq!(source.calls.load(Ordering::SeqCst), 3 + 4);
}

#[tokio::test]
async fn the_whole_check_over_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let options = CheckOptions {
        allow_other: false,
        cache_dir: folder.path().join("a/b"),
        min_free: MinFree::Bytes(1),
        target: Target::Source(Arc::new(Demo::new(Timestamp(1_795_392_000_000), Arc::new(SystemClock)))),
        trial: || Ok(()),
        group_prefixes: vec![],
        known_group: None,
    };
    let mut out = Vec::new();
    check(options, &mut out).await;
    let text = String::from_utf8(out).unwrap();
    // Whether FUSE is there depends on the machine.
    let rest: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(rest.len(), 6, "{text}");
    assert!(rest.iter().all(|line| line.starts_with("ok ")), "{text}");
    assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 0, "nothing is left behind");
}

fn host_lines(host: &local::Host, allow_other: bool) -> (bool, String) {
    let mut out = Vec::new();
    let mut lines = Lines { out: &mut out, ok: true, broken: None };
    local::fuse(&mut lines, host, allow_other);
    let ok = lines.ok;
    (ok, String::from_utf8(out).unwrap())
}

#[test]
fn fuse_of_a_user() {
    let folder = tempfile::tempdir().unwrap();
    let fusermount = folder.path().join("fusermount3");
    let host = local::Host {
        // A character device that anyone may open stands in for /dev/fuse.
        device: "/dev/null".into(),
        path: folder.path().into(),
        fuse_conf: folder.path().join("fuse.conf"),
        root: false,
        trial: || Ok(()),
    };
    let (ok, text) = host_lines(&host, true);
    assert!(!ok && text.contains("fuse3") && text.contains("add the line user_allow_other"), "{text}");
    std::fs::write(&fusermount, "").unwrap();
    std::fs::set_permissions(&fusermount, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&host.fuse_conf, "# user_allow_other\n").unwrap();
    let (ok, text) = host_lines(&host, true);
    assert!(!ok && text.contains("not setuid") && text.contains("FAILED  --allow-other"), "{text}");
    std::fs::write(&host.fuse_conf, "user_allow_other # yes\n").unwrap();
    assert!(host_lines(&host, true).1.contains("ok      --allow-other"));
    let host = local::Host { root: true, ..host };
    let (ok, text) = host_lines(&host, true);
    assert!(ok, "{text}");
    let refused = local::Host { trial: || Err(Error::new(ErrorKind::Damaged, "/tmp/x", "not permitted")), ..host };
    let (ok, text) = host_lines(&refused, false);
    assert!(!ok && text.contains("a mount fails") && text.contains("not permitted"), "{text}");
    let missing = local::Host {
        device: folder.path().join("none"),
        root: true,
        path: "".into(),
        fuse_conf: "".into(),
        trial: || panic!("there is nothing to try"),
    };
    let (ok, text) = host_lines(&missing, false);
    assert!(!ok && text.contains("modprobe fuse"), "{text}");
}

#[test]
fn a_cache_that_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (cache, min_free, word) in
        [(file.join("x"), 0, "--cache-dir"), (folder.path().join("c"), u64::MAX, "--min-free")]
    {
        let mut out = Vec::new();
        let mut lines = Lines { out: &mut out, ok: true, broken: None };
        local::cache(&mut lines, &cache, MinFree::Bytes(min_free));
        assert!(!lines.ok);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("FAILED  cache") && text.contains(word), "{text}");
    }
    let mode = std::fs::metadata(folder.path().join("c")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn without_a_region_that_can_be_the_calls_are_not_tried() {
    let options = ConnectOptions { region: Some("eu west".into()), ..ConnectOptions::default() };
    let mut out = Vec::new();
    let mut lines = Lines { out: &mut out, ok: true, broken: None };
    // An endpoint that can't be one is found before anything of the machine is looked at.
    let target = Target::CloudWatch(Box::new(ConnectOptions { endpoint_url: Some("nowhere".into()), ..options }));
    assert!(connect(&mut lines, target).await.is_none());
    assert!(!lines.ok);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("- ")).count(), 4, "{text}");
    assert!(text.starts_with("FAILED  region") && text.contains("--endpoint-url"), "{text}");
}
