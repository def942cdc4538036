//! Answers that are larger than any that is taken.

use super::*;

/// Pieces of 1 MiB that the limit lets in, and as many again for what sockets and the server itself hold.
const PIECES: u32 = 64 + 64;

async fn patient(url: &str) -> CloudWatch {
    let options = ConnectOptions {
        region: Some("eu-west-1".into()),
        endpoint_url: Some(url.into()),
        operation_timeout: Duration::from_secs(60),
        ..ConnectOptions::default()
    };
    let clock = ServiceClock::new(Arc::new(SystemClock));
    CloudWatch::connect_from(options, clock, test_loader, Duration::ZERO).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_given_up_by_every_call() {
    for call in Call::ALL {
        for status in [200, 400, 500] {
            let pieces = Arc::new(AtomicU32::new(0));
            let (url, _) = server(vec![Answer::Endless(status, pieces.clone())]).await;
            let source = patient(&url).await;
            let (group, stream) = ("g".to_owned(), "s".to_owned());
            let answer = match call {
                Call::DescribeLogGroups => source.describe_log_groups(DescribeGroups::default()).await.map(drop),
                Call::DescribeLogStreams => {
                    source.describe_log_streams(DescribeStreams { group, ..DescribeStreams::default() }).await.map(drop)
                }
                Call::GetLogEvents => {
                    source.get_log_events(GetEvents { group, stream, ..GetEvents::default() }).await.map(drop)
                }
                Call::FilterLogEvents => {
                    source.filter_log_events(FilterEvents { group, ..FilterEvents::default() }).await.map(drop)
                }
                Call::StartQuery => {
                    source.start_count(CountEvents { group, stream, ..CountEvents::default() }).await.map(drop)
                }
                Call::GetQueryResults => source.count_results("q".into()).await.map(drop),
            };
            let error = answer.unwrap_err();
            assert_eq!((error.kind, error.call), (SourceErrorKind::TooLarge, call), "{status}: {error}");
            assert!(error.to_string().contains("larger than the 64.0 MiB"), "{error}");
            let sent = pieces.load(Ordering::SeqCst);
            assert!((64..=PIECES).contains(&sent), "{call:?}, {status}: {sent} MiB were taken");
        }
    }
}

#[tokio::test]
async fn an_answer_that_says_that_it_is_too_large_is_not_taken() {
    // 100 MiB by its head, and not much of it there: the rest isn't waited for.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut scratch = [0; 16 * 1024];
        let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut scratch).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n{\"events\":[").await.unwrap();
        let _held_open = tokio::io::AsyncReadExt::read(&mut socket, &mut scratch).await;
    });
    let source = patient(&url).await;
    let request = GetEvents { group: "g".into(), stream: "s".into(), ..GetEvents::default() };
    let error =
        tokio::time::timeout(Duration::from_secs(10), source.get_log_events(request)).await.unwrap().unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::TooLarge, "{error}");
    assert!(error.message.contains("100.0 MiB"), "{error}");
}

#[tokio::test]
async fn a_large_page_below_the_limit_is_read() {
    let message = "x".repeat(60 << 20);
    let page = format!(
        r#"{{"events":[{{"timestamp":5,"message":"{message}"}}],"nextForwardToken":"f/2/s","nextBackwardToken":"b/0/s"}}"#
    );
    let (url, _) = server(vec![Answer::Json(200, page.leak())]).await;
    let request = GetEvents { group: "g".into(), stream: "s".into(), ..GetEvents::default() };
    let page = patient(&url).await.get_log_events(request).await.unwrap();
    assert_eq!(page.events[0].message.len(), 60 << 20);
}
