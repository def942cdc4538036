//! Each hazard, switched on alone.

use super::conformance::{drain, filter};
use crate::support::client::Client;
use crate::support::fake_cloudwatch::{
    Fake, Fault, FaultKind, GroupSpec, Hidden, Lag, Limiter, Missing, Plan, Populate, Slow, StreamSpec, Synth, Which,
};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A fake with ten events, a second apart, in group g, stream s, and a client.
fn ten(plan: Plan) -> (Fake, Client) {
    let fake = Fake::start(plan);
    let client = Client::new(&fake.url());
    let t = now() - 100_000;
    let lines: Vec<String> = (0..10).map(|i| format!("line {i}")).collect();
    let events: Vec<(i64, &str)> = lines.iter().zip(0..).map(|(l, i)| (t + i * 1000, l.as_str())).collect();
    fake.put("g", "s", &events);
    (fake, client)
}

fn head() -> Value {
    json!({ "logGroupName": "g", "logStreamName": "s", "startFromHead": true })
}

fn get(client: &Client) -> Result<Value, crate::support::client::Failed> {
    client.call("GetLogEvents", head())
}

fn count(page: &Value) -> usize {
    page["events"].as_array().unwrap().len()
}

fn kind(client: &Client) -> String {
    get(client).unwrap_err().kind
}

#[test]
fn empty_first_page_has_a_fresh_token() {
    let (_fake, client) = ten(Plan { empty_first: 1.0, ..Plan::default() });
    let page = get(&client).unwrap();
    assert_eq!(count(&page), 0);
    assert_eq!(drain(&client, head()).0.len(), 10);
    assert_eq!(drain(&client, json!({ "logGroupName": "g", "logStreamName": "s" })).0.len(), 10);
    assert_eq!(filter(&client, json!({ "logGroupName": "g" })).0.len(), 10);
}

#[test]
fn partial_and_empty_pages_lose_nothing() {
    let plan = Plan { partial_page: 0.7, empty_page: 0.7, empty_first: 0.5, ..Plan::default() };
    let fake = Fake::start(plan);
    let client = Client::new(&fake.url());
    // Many events a millisecond, so that pages end within one.
    let stream = |name: &str, count| StreamSpec {
        name: name.into(),
        count,
        events: 700,
        step_ms: Some(0),
        ..StreamSpec::default()
    };
    let mut spread = stream("spread", None);
    spread.step_ms = Some(2);
    let streams = vec![stream("s", None), spread];
    fake.populate(&Populate { groups: vec![GroupSpec { name: "g".into(), streams, ..GroupSpec::default() }] });
    let mut total = 0;
    for seed in 0..6 {
        fake.change(|plan| plan.seed = seed);
        for stream in ["s", "spread"] {
            let whole = String::from_utf8(fake.oracle("g", stream)).unwrap();
            let whole: Vec<&str> = whole.lines().collect();
            for from_head in [true, false] {
                let arguments = json!({ "logGroupName": "g", "logStreamName": stream, "startFromHead": from_head });
                let (all, calls) = drain(&client, arguments);
                assert!(all == whole, "{stream} seed {seed} head {from_head}: {} of {}", all.len(), whole.len());
                total += calls;
            }
        }
        for from_head in [true, false] {
            let arguments =
                json!({ "logGroupName": "g", "startFromHead": from_head, "startTime": 1_704_067_200_000i64 });
            assert_eq!(filter(&client, arguments).0.len(), 1400, "seed {seed} head {from_head}");
        }
    }
    assert!(total > 2 * 24 * 3, "24 undisturbed reads are three calls each, not {total}");
}

#[test]
fn scan_limit_gives_empty_pages_in_the_middle() {
    let (fake, client) = ten(Plan { scan_events: 3, ..Plan::default() });
    let (found, calls) = filter(&client, json!({ "logGroupName": "g", "filterPattern": "\"line 9\"" }));
    assert_eq!(found.len(), 1);
    assert_eq!(calls, 5, "three empty ones, the hit, the end");
    assert_eq!(fake.calls().of("FilterLogEvents"), 5);
}

#[test]
fn hidden_batch_shows_when_released_and_its_neighbour_at_once() {
    let (fake, client) = ten(Plan::default());
    fake.change(|plan| plan.hidden = Hidden { batch: 1.0, ..Hidden::default() });
    let t = now() - 50_000;
    client.put("g", "s", &[(t, "hidden 1"), (t + 1, "hidden 2")]).unwrap();
    fake.change(|plan| plan.hidden = Hidden::default());
    client.put("g", "s", &[(t + 2, "shown")]).unwrap();
    let all = drain(&client, head()).0;
    assert_eq!((all.len(), all[10].as_str()), (11, "shown"));
    assert_eq!(filter(&client, json!({ "logGroupName": "g" })).0.len(), 11);
    assert_eq!(fake.oracle("g", "s").iter().filter(|b| **b == b'\n').count(), 13);
    assert_eq!(fake.oracle_visible("g", "s").iter().filter(|b| **b == b'\n').count(), 11);
    assert_eq!(client.control("POST", "release", Value::Null)["released"], 2);
    assert_eq!(drain(&client, head()).0.len(), 13);
}

#[test]
fn single_events_hide_for_a_time() {
    let (fake, client) = ten(Plan::default());
    fake.change(|plan| plan.hidden = Hidden { event: 0.5, for_ms: Some(300), ..Hidden::default() });
    let t = now() - 50_000;
    let events: Vec<(i64, &str)> = (0..20).map(|i| (t + i, "young")).collect();
    client.put("g", "s", &events).unwrap();
    let seen = drain(&client, head()).0.len();
    assert!((11..30).contains(&seen), "{seen}");
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(drain(&client, head()).0.len(), 30);
}

#[test]
fn answers_miss_young_events_now_and_then() {
    let (_fake, client) = ten(Plan { missing: Missing { rate: 0.5, young_ms: 60_000 }, ..Plan::default() });
    let sizes: Vec<usize> = (0..10).map(|_| count(&get(&client).unwrap())).collect();
    assert!(sizes.iter().any(|n| *n < 10) && sizes.iter().any(|n| *n != sizes[0]), "{sizes:?}");
}

#[test]
fn listing_lags() {
    let fake =
        Fake::start(Plan { lag: Lag { later_puts_ms: 300, new_stream_ms: 0, ..Lag::default() }, ..Plan::default() });
    let client = Client::new(&fake.url());
    let t = now() - 60_000;
    let last = || {
        let page = client.call("DescribeLogStreams", json!({ "logGroupName": "g" })).unwrap();
        page["logStreams"][0]["lastEventTimestamp"].as_i64()
    };
    fake.put("g", "s", &[(t, "first")]);
    assert_eq!(last(), Some(t));
    fake.put("g", "s", &[(t + 5, "second")]);
    assert_eq!(last(), Some(t));
    assert_eq!(count(&get(&client).unwrap()), 2, "reads don't lag");
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(last(), Some(t + 5));
    fake.change(|plan| plan.lag.new_stream_ms = 300);
    fake.put("g", "t", &[(t, "x")]);
    let page = client.call("DescribeLogStreams", json!({ "logGroupName": "g", "orderBy": "LastEventTime" })).unwrap();
    assert_eq!(page["logStreams"].as_array().unwrap().len(), 1);
}

#[test]
fn quotas_throttle() {
    let (fake, client) = ten(Plan::default());
    fake.change(|plan| plan.quotas.region = Some("us-west-2".into()));
    let refused = (0..40).filter(|_| get(&client).is_err()).count();
    assert!((20..=30).contains(&refused), "{refused}");
    assert_eq!(fake.calls().throttled, refused as u64);
    let error = loop {
        if let Err(error) = get(&client) {
            break error;
        }
    };
    assert_eq!((error.kind.as_str(), error.message.as_str()), ("ThrottlingException", "Rate exceeded"));
    fake.change(|plan| plan.quotas.model = Limiter::SlidingSecond);
    assert_eq!((0..20).filter(|_| get(&client).is_ok()).count(), 10);
    client.control("POST", "plan", json!({ "quotas": { "model": "random", "random": 0.5 } }));
    let refused = (0..40).filter(|_| get(&client).is_err()).count();
    assert!((5..=35).contains(&refused), "{refused}");
}

#[test]
fn latency_is_each_call_s_or_one_stream_s() {
    let (fake, client) = ten(Plan { latency_ms: 60, ..Plan::default() });
    fake.put("g", "slow", &[(now(), "x")]);
    let which = Which { stream: Some("slow".into()), ..Which::default() };
    fake.change(|plan| plan.slow = vec![Slow { which, ms: 400 }]);
    let begun = Instant::now();
    get(&client).unwrap();
    let plain = begun.elapsed();
    assert!((60..390).contains(&plain.as_millis()), "{plain:?}");
    let slow = std::thread::spawn({
        let client = Client::new(&fake.url());
        move || client.call("GetLogEvents", json!({ "logGroupName": "g", "logStreamName": "slow" })).unwrap()
    });
    get(&client).unwrap();
    assert!(!slow.is_finished(), "a slow stream holds up no other");
    slow.join().unwrap();
    assert!(begun.elapsed() >= plain + Duration::from_millis(400));
}

#[test]
fn faults_happen_as_often_as_told() {
    let (fake, client) = ten(Plan::default());
    let fault = |kind| fake.change(|plan| plan.faults = vec![Fault::new(kind).of("GetLogEvents").times(1)]);
    for (wanted, status, name) in [
        (FaultKind::InternalError, 500, "InternalFailure"),
        (FaultKind::ServiceUnavailable, 503, "ServiceUnavailableException"),
        (FaultKind::Throttle, 400, "ThrottlingException"),
        (FaultKind::AccessDenied, 400, "AccessDeniedException"),
        (FaultKind::ExpiredCredentials, 400, "ExpiredTokenException"),
        (FaultKind::ResetBeforeHead, 0, "transport"),
        (FaultKind::ResetInHead, 0, "transport"),
        (FaultKind::ResetInBody, 0, "transport"),
        (FaultKind::TruncatedBody, 0, "transport"),
    ] {
        fault(wanted);
        let error = get(&client).unwrap_err();
        assert_eq!((error.status, error.kind.as_str()), (status, name), "{wanted:?}: {error:?}");
        assert_eq!(count(&get(&client).unwrap()), 10, "after {wanted:?}");
    }
    fault(FaultKind::AccessDenied);
    assert!(get(&client).unwrap_err().message.contains("logs:GetLogEvents"));
    fault(FaultKind::Hang);
    let impatient = Client::new(&fake.url()).with_timeout(Duration::from_millis(200));
    assert_eq!(kind(&impatient), "transport");
    assert_eq!(fake.calls().errors["hang"], 1);
    let skip = Fault { skip: 1, ..Fault::new(FaultKind::InternalError).times(1) };
    fake.change(|plan| plan.faults = vec![skip]);
    assert_eq!([get(&client).is_ok(), get(&client).is_ok(), get(&client).is_ok()], [true, false, true]);
}

#[test]
fn slow_bodies_arrive_in_pieces() {
    let fake = Fake::start(Plan::default());
    let client = Client::new(&fake.url());
    let synth =
        Synth { count: 500, line_bytes: 100, first: 1000, end: 2000, ingestion: None, seed: 1, burst: None, batch: 0 };
    fake.synth("g", "s", synth);
    fake.change(|plan| plan.faults = vec![Fault { ms: 50, ..Fault::new(FaultKind::SlowBody) }]);
    let begun = Instant::now();
    assert_eq!(count(&get(&client).unwrap()), 500);
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[test]
fn tokens_expire_and_repeat() {
    let (fake, client) = ten(Plan::default());
    let mut arguments = head();
    arguments["limit"] = 4.into();
    arguments["nextToken"] = client.call("GetLogEvents", arguments.clone()).unwrap()["nextForwardToken"].clone();
    assert_eq!(count(&client.call("GetLogEvents", arguments.clone()).unwrap()), 4);
    client.control("POST", "expire_tokens", Value::Null);
    let error = client.call("GetLogEvents", arguments.clone()).unwrap_err();
    assert_eq!(error.kind, "InvalidParameterException");
    arguments["nextToken"] = Value::Null;
    arguments["nextToken"] = client.call("GetLogEvents", arguments.clone()).unwrap()["nextForwardToken"].clone();
    fake.change(|plan| plan.token_ttl_ms = 50);
    std::thread::sleep(Duration::from_millis(80));
    assert!(client.call("GetLogEvents", arguments.clone()).is_err());
    fake.change(|plan| {
        plan.token_ttl_ms = 0;
        plan.faults = vec![Fault::new(FaultKind::RepeatToken).times(2), Fault::new(FaultKind::ExpiredToken).times(1)];
    });
    let page = client.call("GetLogEvents", arguments.clone()).unwrap();
    assert_eq!((count(&page), &page["nextForwardToken"]), (0, &arguments["nextToken"]));
    let first = client.call("FilterLogEvents", json!({ "logGroupName": "g", "limit": 4 })).unwrap();
    let token = &first["nextToken"];
    let next = client.call("FilterLogEvents", json!({ "logGroupName": "g", "nextToken": token })).unwrap();
    assert_eq!((count(&next), &next["nextToken"]), (0, token));
    assert!(client.call("GetLogEvents", arguments.clone()).is_err());
    assert_eq!(count(&client.call("GetLogEvents", arguments).unwrap()), 4);
}

#[test]
fn credentials_and_network_go_and_come_back() {
    let (fake, client) = ten(Plan::default());
    client.control("POST", "credentials", json!({ "expired_ms": 150 }));
    assert_eq!(kind(&client), "ExpiredTokenException");
    std::thread::sleep(Duration::from_millis(180));
    get(&client).unwrap();
    fake.change(|plan| plan.credentials_error = Some("UnrecognizedClientException".into()));
    assert_eq!(kind(&client), "UnrecognizedClientException");
    fake.change(|plan| plan.credentials_error = None);

    client.control("POST", "network", json!({ "down_ms": 400 }));
    std::thread::sleep(Duration::from_millis(120));
    assert_eq!(kind(&client), "transport", "a kept connection is closed");
    assert!(get(&client).unwrap_err().message.contains("refused"));
    std::thread::sleep(Duration::from_millis(500));
    get(&client).unwrap();
    fake.network_down(Duration::from_secs(600));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(kind(&client), "transport");
    fake.network_up();
    std::thread::sleep(Duration::from_millis(100));
    get(&client).unwrap();
}

#[test]
fn deleted_streams_read_empty_first() {
    let (_fake, client) = ten(Plan { deleted_empty_ms: 200, ..Plan::default() });
    client.call("DeleteLogStream", json!({ "logGroupName": "g", "logStreamName": "s" })).unwrap();
    assert_eq!(count(&get(&client).unwrap()), 0);
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(kind(&client), "ResourceNotFoundException");
}

#[test]
fn retention_can_be_enforced() {
    let (fake, client) = ten(Plan { enforce_retention: true, ..Plan::default() });
    fake.put("g", "s", &[(now() - 3 * 86_400_000, "old")]);
    assert_eq!(count(&get(&client).unwrap()), 11);
    client.call("PutRetentionPolicy", json!({ "logGroupName": "g", "retentionInDays": 1 })).unwrap();
    assert_eq!(count(&get(&client).unwrap()), 10);
    assert_eq!(filter(&client, json!({ "logGroupName": "g" })).0.len(), 10);
}

#[test]
fn masses_are_made_and_listed_quickly() {
    let fake = Fake::start(Plan::default());
    let client = Client::new(&fake.url());
    let begun = Instant::now();
    let spec = json!({ "groups": [{ "name": "mass", "streams": [
        { "name": "s-{}", "count": 20_000, "events": 100, "first": 1_790_000_000_000i64, "stagger_ms": 10 }
    ] }] });
    assert_eq!(client.control("POST", "populate", spec)["streams"], 20_000);
    let newest = json!({ "logGroupName": "mass", "orderBy": "LastEventTime", "descending": true });
    let page = client.call("DescribeLogStreams", newest).unwrap();
    assert_eq!(page["logStreams"][0]["logStreamName"], "s-019999");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let synth = json!({ "group": "huge", "stream": "s", "count": 10_000_000, "line_bytes": 199,
        "first": 1_790_000_000_000i64, "end": 1_790_003_600_000i64 });
    client.control("POST", "synth", synth);
    assert_eq!(fake.oracle_size("huge", "s"), (10_000_000, 2_000_000_000));
    let tail =
        client.call("GetLogEvents", json!({ "logGroupName": "huge", "logStreamName": "s", "limit": 20 })).unwrap();
    let lines: String =
        tail["events"].as_array().unwrap().iter().map(|e| format!("{}\n", e["message"].as_str().unwrap())).collect();
    assert_eq!(lines.as_bytes(), fake.oracle_tail("huge", "s", 20));
    let calls = client.control("GET", "calls?log=1", Value::Null);
    assert_eq!((&calls["by_group"]["huge"]["GetLogEvents"], &calls["log"][0]["group"]), (&json!(1), &json!("mass")));
    client.control("POST", "calls/reset", Value::Null);
    assert_eq!(fake.calls().total, 0);
}

#[test]
fn an_endless_body_goes_on() {
    let (fake, _) = ten(Plan { faults: vec![Fault::new(FaultKind::EndlessBody).times(1)], ..Plan::default() });
    let mut socket = std::net::TcpStream::connect(fake.url().trim_start_matches("http://")).unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nx-amz-target: Logs_20140328.GetLogEvents\r\ncontent-length: {}\r\n\r\n{}",
        head().to_string().len(),
        head()
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = vec![0; 8 << 20];
    socket.read_exact(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer[..2000]).contains("line 3"));
    drop(socket);
    assert_eq!(get(&Client::new(&fake.url())).map(|page| count(&page)), Ok(10), "once only");
}
