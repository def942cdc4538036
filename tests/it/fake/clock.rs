//! The service's clock: what is told by it, and what is judged.

use crate::support::client::{Answer, Client};
use crate::support::fake_cloudwatch::{Fake, Plan};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3_600_000;

fn machine_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn request(client: &Client) -> Answer {
    client.request("POST", "/", Some("Logs_20140328.DescribeLogGroups"), b"{}").unwrap()
}

/// When an answer was dated, in ms.
fn date(answer: &Answer) -> i64 {
    let date = jiff::fmt::rfc2822::parse(answer.header("date").unwrap()).unwrap();
    date.timestamp().as_millisecond()
}

fn near(at: i64, to: i64) -> bool {
    (at - to).abs() < 5_000
}

#[test]
fn answers_are_dated_by_the_services_clock() {
    let fake = Fake::start(Plan::default());
    let client = Client::new(&fake.url());
    assert!(near(date(&request(&client)), machine_now()));
    fake.change(|plan| plan.clock_offset_ms = -3 * HOUR);
    assert!(near(date(&request(&client)), machine_now() - 3 * HOUR) && near(fake.now(), machine_now() - 3 * HOUR));
    client.control("POST", "plan", json!({ "clock_offset_ms": HOUR, "age_header": 7 }));
    let answer = request(&client);
    assert!(near(date(&answer), machine_now() + HOUR) && near(fake.now(), machine_now() + HOUR));
    assert_eq!(answer.header("age"), Some("7"));
    assert_eq!(answer.headers.iter().filter(|(name, _)| name == "date").count(), 1);
    fake.change(|plan| plan.date_header = false);
    assert_eq!(request(&client).header("date"), None);
}

#[test]
fn requests_signed_off_the_services_clock_are_refused() {
    let fake = Fake::start(Plan { clock_offset_ms: HOUR, ..Plan::default() });
    let signed = |at: i64| {
        let at = Timestamp::from_millisecond(at).unwrap().strftime("%Y%m%dT%H%M%SZ").to_string();
        Client::new(&fake.url()).with_header("X-Amz-Date", &at).call("DescribeLogGroups", json!({}))
    };
    let expired = signed(machine_now()).unwrap_err();
    assert_eq!((expired.status, expired.kind.as_str()), (400, "InvalidSignatureException"));
    assert!(expired.message.starts_with("Signature expired: "), "{}", expired.message);
    let early = signed(machine_now() + 2 * HOUR).unwrap_err();
    assert!(early.message.starts_with("Signature not yet current: "), "{}", early.message);
    signed(fake.now()).unwrap();
    fake.change(|plan| plan.check_signing_time = false);
    signed(machine_now()).unwrap();
}

#[test]
fn events_are_ingested_and_judged_by_the_services_clock() {
    let fake = Fake::start(Plan { clock_offset_ms: -5 * HOUR, ..Plan::default() });
    let client = Client::new(&fake.url());
    client.create("g", "s");
    let now = fake.now();
    let answer = client.put("g", "s", &[(now, "a"), (now + HOUR, "b"), (now + 3 * HOUR, "too new")]).unwrap();
    assert_eq!(answer["rejectedLogEventsInfo"], json!({ "tooNewLogEventStartIndex": 2 }));
    fake.put("g", "s", &[(now + 1, "c")]);
    let page = client
        .call("GetLogEvents", json!({ "logGroupName": "g", "logStreamName": "s", "startFromHead": true }))
        .unwrap();
    let ingested: Vec<&Value> =
        page["events"].as_array().unwrap().iter().map(|event| &event["ingestionTime"]).collect();
    assert!(ingested.len() == 3 && ingested.iter().all(|at| near(at.as_i64().unwrap(), now)), "{ingested:?}");
    let listed = client.call("DescribeLogStreams", json!({ "logGroupName": "g" })).unwrap();
    assert!(near(listed["logStreams"][0]["creationTime"].as_i64().unwrap(), now));
    assert!(near(listed["logStreams"][0]["lastIngestionTime"].as_i64().unwrap(), now));
}
