//! Answers of the service that anybody may have written, read by the real client, for `crate::fuzzing`.
//!
//! The connection is left out: the client gets the status and body at once. What it reads is compared with what a second reader of JSON
//! finds in the same body, so that an event that is left out without a word fails too, and so does a page that fails for text that is
//! none.

use super::body::Direct;
use super::second_reader::{self, MARK};
use super::*;
use crate::model::Timestamp;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_cloudwatchlogs::config::Credentials;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use serde_json::Value;
use std::cell::RefCell;

thread_local! {
    /// What the next call is answered: status, error type in the header, body.
    static ANSWER: RefCell<(u16, &'static str, Vec<u8>)> = const { RefCell::new((200, "", Vec::new())) };
    /// The client and what it runs on, made once: making them takes longer than a call.
    static CLIENT: (tokio::runtime::Runtime, CloudWatch) = client();
}

/// Statuses that an answer comes with, the good one most often.
const STATUSES: [u16; 8] = [200, 200, 200, 400, 403, 429, 500, 503];
/// Error types that come in the header, beside or against what the body says.
const TYPES: [&str; 4] = ["", "", "ThrottlingException", "com.amazonaws.logs#ResourceNotFoundException:http://x"];

#[derive(Debug)]
struct Replay;

impl HttpConnector for Replay {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let (status, kind, body) = ANSWER.with_borrow(Clone::clone);
        // Only statuses of the list above come here.
        let status = status.try_into().expect("a status of HTTP");
        let mut answer = HttpResponse::new(status, body.into());
        if !kind.is_empty() {
            answer.headers_mut().insert("x-amzn-errortype", kind);
        }
        HttpConnectorFuture::ready(Ok(answer))
    }
}

fn loader() -> ConfigLoader {
    let keys = Credentials::new("AKIDTEST00001234", "not-a-secret", None, None, "test");
    aws_config::defaults(BehaviorVersion::latest())
        .empty_test_environment()
        .credentials_provider(keys)
        .http_client(http_client_fn(|_, _| SharedHttpConnector::new(Replay)))
}

fn client() -> (tokio::runtime::Runtime, CloudWatch) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // Neither can fail but where the machine has no descriptors left.
    let runtime = runtime.expect("a runtime");
    let options = ConnectOptions { region: Some("eu-west-1".into()), ..ConnectOptions::default() };
    // Refused credentials are never read afresh: that makes a client.
    let never = Duration::from_secs(u64::from(u32::MAX));
    let clock = ServiceClock::new(Arc::new(crate::clock::SystemClock));
    let source = runtime.block_on(CloudWatch::connect_from(options, clock, loader, never)).expect("a client");
    (runtime, source)
}

/// The first byte chooses the call, the second one status and header, the rest is the body.
pub(crate) fn answer(bytes: &[u8]) {
    let [call, status, body @ ..] = bytes else { return };
    let kind = TYPES[usize::from(*status / 8) % TYPES.len()];
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    ANSWER.set((status, kind, body.to_vec()));
    let strict = second_reader::strict(body);
    let json = strict.as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or(Value::Null);
    CLIENT.with(|(runtime, source)| runtime.block_on(ask(source, *call, status, &json)));
    if let Some(strict) = strict.filter(|strict| strict != body)
        && let Some(must_fail) = second_reader::must_fail(&json)
    {
        match call % 6 {
            0 => check_improper::<Page<LogGroup>>(body, &strict, must_fail),
            1 => check_improper::<Page<LogStream>>(body, &strict, must_fail),
            2 => check_improper::<EventPage>(body, &strict, must_fail),
            3 => check_improper::<FilterPage>(body, &strict, must_fail),
            _ => {}
        }
    }
}

/// Text that is none fails a page where it must be text, and nowhere else.
fn check_improper<P: Direct>(body: &[u8], strict: &[u8], must_fail: bool) {
    let is_read = P::read(body).is_some();
    if P::read(&second_reader::replaced(strict)).is_some() {
        assert_eq!(is_read, !must_fail, "{}", body.escape_ascii());
    }
}

async fn ask(source: &CloudWatch, call: u8, status: u16, json: &Value) {
    let (group, stream) = ("g".to_owned(), "s".to_owned());
    let failure = match call % 6 {
        0 => {
            match source.describe_log_groups(DescribeGroups::default()).await {
                Ok(page) => {
                    let names = texts(json, "logGroups", "logGroupName");
                    assert!(names.is_none_or(|names| names == page.items.iter().map(|g| g.name.as_str()).collect::<Vec<_>>()));
                    None
                }
                Err(error) => Some(error),
            }
        }
        1 => {
            match source.describe_log_streams(DescribeStreams { group, ..DescribeStreams::default() }).await {
                Ok(page) => {
                    let names = texts(json, "logStreams", "logStreamName");
                    assert!(names.is_none_or(|names| names == page.items.iter().map(|s| s.name.as_str()).collect::<Vec<_>>()));
                    None
                }
                Err(error) => Some(error),
            }
        }
        2 => match source.get_log_events(GetEvents { group, stream, ..GetEvents::default() }).await {
            Ok(page) => {
                let read: Vec<_> = page.events.into_iter().map(|e| (e.timestamp, e.message)).collect();
                assert!(events(json, false).is_none_or(|events| events == read));
                None
            }
            Err(error) => Some(error),
        },
        3 => match source.filter_log_events(FilterEvents { group, ..FilterEvents::default() }).await {
            Ok(page) => {
                let read: Vec<_> = page.events.into_iter().map(|(_, e)| (e.timestamp, e.message)).collect();
                assert!(events(json, true).is_none_or(|events| events == read));
                None
            }
            Err(error) => Some(error),
        },
        4 => {
            let (start, end) = (Timestamp(0), Timestamp(3_600_000));
            source.start_count(CountEvents { group, stream, start, end }).await.err()
        }
        _ => source.count_results("q".into()).await.err(),
    };
    if let Some(error) = failure {
        assert!(!error.message.chars().any(char::is_control), "a message for a terminal: {error:?}");
    } else {
        assert_eq!(status, 200, "a refusal is none");
    }
}

/// The names under `key` in a list, without those that are no text; `None` where the list isn't as the service would write it.
fn texts<'a>(json: &'a Value, list: &str, key: &str) -> Option<Vec<&'a str>> {
    let names: Option<Vec<_>> = json.get(list)?.as_array()?.iter().map(|item| item.get(key)?.as_str()).collect();
    Some(names?.into_iter().filter(|name| !name.contains(MARK)).collect())
}

/// The events as they are to be read; `named`: those of streams whose names are text.
fn events(json: &Value, named: bool) -> Option<Vec<(Timestamp, String)>> {
    let is_listed = |item: &&Value| {
        let name = item.get("logStreamName").and_then(Value::as_str);
        !named || !name.is_some_and(|name| name.contains(MARK))
    };
    let event = |item: &Value| {
        let message = item.get("message")?.as_str()?.replace(MARK, "\u{fffd}");
        Some((Timestamp(item.get("timestamp")?.as_i64()?), message))
    };
    json.get("events")?.as_array()?.iter().filter(is_listed).map(event).collect()
}

/// Answers as the service gives them, to begin with.
pub(crate) const SEEDS: &[&[u8]] = &[
    br#"{"logGroups":[{"logGroupName":"/aws/lambda/x","logGroupArn":"arn:x","arn":"arn:x:*","creationTime":3,"retentionInDays":14,"storedBytes":4,"logGroupClass":"INFREQUENT_ACCESS"},{"logGroupName":"g"}],"nextToken":"n"}"#,
    br#"{"logStreams":[{"logStreamName":"2026/11/23/[$LATEST]3f2a","arn":"arn:y","creationTime":1,"firstEventTimestamp":2,"lastEventTimestamp":3,"lastIngestionTime":4,"uploadSequenceToken":"u","storedBytes":0}],"nextToken":"n"}"#,
    br#"{"events":[{"timestamp":5,"message":"a\nb\u00e9\ud83d\ude00","ingestionTime":6},{"timestamp":-5,"message":""}],"nextForwardToken":"f/2/s","nextBackwardToken":"b/0/s"}"#,
    br#"{"events":[{"logStreamName":"s","timestamp":1,"message":"m","ingestionTime":2,"eventId":"1"}],"searchedLogStreams":[],"nextToken":"t"}"#,
    br#"{"queryId":"12ab34cd"}"#,
    br#"{"status":"Complete","results":[[{"field":"bin(1h)","value":"2026-11-23 10:00:00.000"},{"field":"count(*)","value":"12"}]],"statistics":{"recordsMatched":1.0,"bytesScanned":2.5},"encryptionKey":"k"}"#,
    br#"{"__type":"com.amazonaws.logs#ThrottlingException","message":"Rate exceeded"}"#,
    br#"{"__type":"MalformedQueryException","message":"m","queryCompileError":{"location":{"startCharOffset":1,"endCharOffset":2},"message":"q"}}"#,
    b"{\"events\":[{\"timestamp\":5,\"message\":\"cut \\ud83d\"},{\"timestamp\":6,\"message\":\"\xf0\x9f\x98 \\ude00\"}],\"nextForwardToken\":\"f/2/s\",\"nextBackwardToken\":\"b/0/s\"}",
    b"{\"events\":[{\"logStreamName\":\"s\\ud83d\",\"timestamp\":1,\"message\":\"m\"},{\"logStreamName\":\"t\",\"timestamp\":1,\"message\":\"\xff\"}],\"nextToken\":\"t\"}",
    br#"{"queryId":"\ud83d"}"#,
    br#"{"status":"Complete","results":[[{"field":"bin(1h)","value":"\ud83d"}]]}"#,
    b"{\"logGroups\":[{\"logGroupName\":\"\xff\"},{\"logGroupName\":\"g\"}]}",
    br#"{"logStreams":[{"logStreamName":"cut \ud83d","creationTime":1},{"logStreamName":"s","creationTime":1}]}"#,
];
