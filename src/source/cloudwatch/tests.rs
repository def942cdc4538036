//! Against a small HTTP server with scripted answers, and credentials of its own: nothing of the machine is looked at.

use super::*;
use crate::clock::SystemClock;
use crate::model::Timestamp;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_cloudwatchlogs::config::Credentials;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

mod clocks;
mod size;

/// One answer of the server.
#[derive(Clone)]
enum Answer {
    Json(u16, &'static str),
    /// With more headers.
    With(u16, Vec<(&'static str, String)>, &'static str),
    Slow,
    /// A body without end, in pieces of 1 MiB, with this status. Counts the pieces.
    Endless(u16, Arc<AtomicU32>),
}

/// What the server was asked: operation, body, Authorization header, X-Amz-Date header.
type Asked = Arc<Mutex<Vec<(String, serde_json::Value, String, String)>>>;

async fn server(answers: Vec<Answer>) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let log = asked.clone();
    let answers = Arc::new(Mutex::new(answers.into_iter().collect::<std::collections::VecDeque<_>>()));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (answers, log) = (answers.clone(), log.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (answers, log) = (answers.clone(), log.clone());
                async move {
                    let header = |name: &str| {
                        request.headers().get(name).map(|v| v.to_str().unwrap().to_string()).unwrap_or_default()
                    };
                    let (target, signed, date) =
                        (header("x-amz-target"), header("authorization"), header("x-amz-date"));
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    log.lock().unwrap().push((target, serde_json::from_slice(&body).unwrap(), signed, date));
                    let answer = answers.lock().unwrap().pop_front().expect("an answer is left");
                    let (status, headers, text) = match answer {
                        Answer::Endless(status, pieces) => {
                            let piece = Bytes::from_static(&[b' '; 1 << 20]);
                            let pieces = futures_util::stream::repeat_with(move || {
                                pieces.fetch_add(1, Ordering::SeqCst);
                                Ok(Frame::data(piece.clone()))
                            });
                            let body = StreamBody::new(pieces).boxed_unsync();
                            return Ok(Response::builder().status(status).body(body).unwrap());
                        }
                        Answer::Json(status, text) => (status, Vec::new(), text),
                        Answer::With(status, headers, text) => (status, headers, text),
                        Answer::Slow => {
                            tokio::time::sleep(Duration::from_secs(60)).await;
                            (200, Vec::new(), "{}")
                        }
                    };
                    let answer = Response::builder().status(status);
                    let answer = headers.iter().fold(answer, |answer, (name, value)| answer.header(*name, value));
                    let body = Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync();
                    Ok::<_, Infallible>(answer.body(body).unwrap())
                }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            // Names of headers as the service writes them, and a `Date` only where one is scripted.
            http.title_case_headers(true).auto_date_header(false);
            tokio::spawn(http.serve_connection(TokioIo::new(socket), service));
        }
    });
    (url, asked)
}

fn test_loader() -> ConfigLoader {
    let keys = Credentials::new("AKIDTEST00001234", "not-a-secret", None, None, "test");
    aws_config::defaults(BehaviorVersion::latest()).empty_test_environment().credentials_provider(keys)
}

async fn connect(url: &str, base: BaseLoader) -> CloudWatch {
    connect_by(ServiceClock::new(Arc::new(SystemClock)), url, base).await
}

async fn connect_by(clock: Arc<ServiceClock>, url: &str, base: BaseLoader) -> CloudWatch {
    let options = ConnectOptions {
        region: Some("eu-west-1".into()),
        endpoint_url: Some(url.into()),
        connect_timeout: Duration::from_secs(1),
        read_timeout: Duration::from_millis(300),
        operation_timeout: Duration::from_secs(2),
        ..ConnectOptions::default()
    };
    CloudWatch::connect_from(options, clock, base, Duration::ZERO).await.unwrap()
}

async fn kind_of(answer: Answer, token: Option<&str>) -> SourceError {
    let (url, asked) = server(vec![answer]).await;
    let source = connect(&url, test_loader).await;
    let request =
        GetEvents { group: "g".into(), stream: "s".into(), token: token.map(Into::into), ..GetEvents::default() };
    let error = source.get_log_events(request).await.unwrap_err();
    assert_eq!(asked.lock().unwrap().len(), 1, "one call is one request");
    error
}

#[tokio::test]
async fn a_page_of_events() {
    let page = r#"{"events":[{"timestamp":5,"message":"a\nb","ingestionTime":6},{"timestamp":5,"message":""}],
        "nextForwardToken":"f/2/s","nextBackwardToken":"b/0/s"}"#;
    let (url, asked) = server(vec![Answer::Json(200, page), Answer::Json(200, page)]).await;
    let source = connect(&url, test_loader).await;
    let request = GetEvents {
        group: "/aws/lambda/x".into(),
        stream: "2026/11/23/[$LATEST]3f2a".into(),
        start: Some(Timestamp(1)),
        end: Some(Timestamp(9)),
        limit: Some(10),
        ..GetEvents::default()
    };
    let answer = source.get_log_events(request.clone()).await.unwrap();
    assert_eq!(answer.events.len(), 2);
    assert_eq!(answer.events[0].message, "a\nb");
    assert_eq!(answer.events[1].ingestion_time, Timestamp(5));
    source.get_log_events(GetEvents { token: Some(answer.forward), ..request }).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].0, "Logs_20140328.GetLogEvents");
    assert!(asked[0].2.contains("/eu-west-1/logs/aws4_request"), "{}", asked[0].2);
    assert_eq!(
        asked[0].1,
        serde_json::json!({"logGroupName": "/aws/lambda/x", "logStreamName": "2026/11/23/[$LATEST]3f2a",
            "startTime": 1, "endTime": 9, "limit": 10, "startFromHead": false})
    );
    assert_eq!(asked[1].1["startFromHead"], true, "a forward token wants it");
}

#[tokio::test]
async fn listings_are_ordered_as_the_service_allows() {
    let page = r#"{"logStreams":[{"logStreamName":"s","creationTime":1}],"nextToken":"n"}"#;
    let (url, asked) = server(vec![Answer::Json(200, page), Answer::Json(200, page)]).await;
    let source = connect(&url, test_loader).await;
    let request = DescribeStreams { group: "g".into(), ..DescribeStreams::default() };
    let answer = source.describe_log_streams(request.clone()).await.unwrap();
    assert_eq!((answer.items[0].name.as_str(), answer.next.as_deref()), ("s", Some("n")));
    source.describe_log_streams(DescribeStreams { prefix: Some("s".into()), ..request }).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_eq!((&asked[0].1["orderBy"], &asked[0].1["descending"]), (&"LastEventTime".into(), &true.into()));
    assert_eq!((&asked[1].1["orderBy"], &asked[1].1["descending"]), (&"LogStreamName".into(), &false.into()));
    assert_eq!(asked[1].1["logStreamNamePrefix"], "s");
}

#[tokio::test]
async fn groups_and_filtered_events() {
    let groups = r#"{"logGroups":[{"logGroupName":"g","logGroupArn":"arn:x","creationTime":3,"storedBytes":4}]}"#;
    let events = r#"{"events":[{"logStreamName":"s","timestamp":1,"message":"m","eventId":"1"}],"nextToken":"t"}"#;
    let (url, asked) =
        server(vec![Answer::Json(200, groups), Answer::Json(200, groups), Answer::Json(200, events)]).await;
    let source = connect(&url, test_loader).await;
    let request = DescribeGroups { pattern: Some("che".into()), ..DescribeGroups::default() };
    source.describe_log_groups(request).await.unwrap();
    assert_eq!(asked.lock().unwrap()[0].1["logGroupNamePattern"], "che");
    let page =
        source.describe_log_groups(DescribeGroups { limit: Some(50), ..DescribeGroups::default() }).await.unwrap();
    assert_eq!((page.items[0].arn.as_str(), page.next), ("arn:x", None));
    let request = FilterEvents { group: "g".into(), streams: vec!["s".into()], ..FilterEvents::default() };
    let page = source.filter_log_events(request).await.unwrap();
    assert_eq!((page.events[0].0.as_str(), page.next.as_deref()), ("s", Some("t")));
    assert_eq!(asked.lock().unwrap()[2].1["logStreamNames"], serde_json::json!(["s"]));
}

#[tokio::test]
async fn refusals() {
    use SourceErrorKind::*;
    let throttled = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
    let error = kind_of(Answer::Json(400, throttled), None).await;
    assert_eq!((error.kind, error.message.as_str()), (Throttled, "ThrottlingException: Rate exceeded"));
    let gone = r#"{"__type":"com.amazonaws.logs#ResourceNotFoundException","message":"The specified log stream does not exist."}"#;
    assert_eq!(kind_of(Answer::Json(400, gone), None).await.kind, NotFound);
    let parameter = r#"{"__type":"InvalidParameterException","message":"no"}"#;
    assert_eq!(kind_of(Answer::Json(400, parameter), None).await.kind, Invalid);
    assert_eq!(kind_of(Answer::Json(400, parameter), Some("f/old")).await.kind, InvalidToken);
    let denied =
        r#"{"__type":"AccessDeniedException","Message":"User: arn:x is not authorized to perform: logs:GetLogEvents"}"#;
    let error = kind_of(Answer::Json(400, denied), None).await;
    assert_eq!(error.kind, Denied);
    assert!(error.message.contains("not authorized"), "{}", error.message);
    assert_eq!(kind_of(Answer::Json(500, ""), None).await.kind, Unavailable);
    assert_eq!(kind_of(Answer::Json(503, "<html>busy</html>"), None).await.kind, Unavailable);
}

#[tokio::test]
async fn transport_failures() {
    assert_eq!(kind_of(Answer::Slow, None).await.kind, SourceErrorKind::Timeout);
    let cut = kind_of(Answer::Json(200, r#"{"events":[{"timestamp":5,"mess"#), None).await;
    assert_eq!(cut.kind, SourceErrorKind::Network, "{cut}");
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let source = connect(&refused, test_loader).await;
    let error = source.describe_log_groups(DescribeGroups::default()).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Network, "{error}");
}

#[tokio::test]
async fn a_connection_cut_inside_the_body_is_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut scratch = [0; 16 * 1024];
        let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut scratch).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"events\":[").await.unwrap();
    });
    let source = connect(&url, test_loader).await;
    let error =
        source.get_log_events(GetEvents { group: "g".into(), stream: "s".into(), ..GetEvents::default() }).await;
    assert_eq!(error.unwrap_err().kind, SourceErrorKind::Network);
}

static LOADS: AtomicU32 = AtomicU32::new(0);

fn renewed_loader() -> ConfigLoader {
    let load = LOADS.fetch_add(1, Ordering::SeqCst);
    let keys = Credentials::new(format!("AKIDTEST0000000{load}"), "not-a-secret", None, None, "test");
    aws_config::defaults(BehaviorVersion::latest()).empty_test_environment().credentials_provider(keys)
}

#[tokio::test]
async fn refused_credentials_are_read_afresh() {
    let expired =
        r#"{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}"#;
    let page = r#"{"logGroups":[]}"#;
    let (url, asked) = server(vec![
        Answer::Json(200, page),
        Answer::Json(400, expired),
        Answer::Json(200, page),
        Answer::Json(200, page),
    ])
    .await;
    let source = connect(&url, renewed_loader).await;
    let ask = || source.describe_log_groups(DescribeGroups::default());
    ask().await.unwrap();
    assert_eq!(ask().await.unwrap_err().kind, SourceErrorKind::Credentials);
    ask().await.unwrap();
    ask().await.unwrap();
    let asked = asked.lock().unwrap();
    let keys: Vec<bool> = asked.iter().map(|(_, _, signed, _)| signed.contains("AKIDTEST00000000/")).collect();
    assert_eq!(keys, [true, true, false, false]);
    assert_eq!(LOADS.load(Ordering::SeqCst), 2, "read afresh once");
}

#[tokio::test]
async fn missing_credentials() {
    #[derive(Debug)]
    struct Nothing;
    impl ProvideCredentials for Nothing {
        fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let error = aws_credential_types::provider::error::CredentialsError::not_loaded("nothing is configured");
            aws_credential_types::provider::future::ProvideCredentials::ready(Err(error))
        }
    }
    let base: BaseLoader =
        || aws_config::defaults(BehaviorVersion::latest()).empty_test_environment().credentials_provider(Nothing);
    let source = connect("http://127.0.0.1:9", base).await;
    let error = source.describe_log_groups(DescribeGroups::default()).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::Credentials, "{error}");
    assert_eq!(source.identity().await.unwrap_err().0, SourceErrorKind::Credentials);
}

#[tokio::test]
async fn an_identity_shows_four_characters() {
    let source = connect("http://127.0.0.1:9", test_loader).await;
    let identity = source.identity().await.unwrap();
    assert_eq!(identity, Identity { key_tail: "1234".into(), provider: "test".into() });
    assert_eq!(provider_name("something else"), "the SDK's chain");
    assert_eq!(source.quotas(), Quotas::of_region("eu-west-1"));
}
