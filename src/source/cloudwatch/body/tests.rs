//! What is read here is what the SDK reads, and what the SDK refuses is not read here.

use super::*;
use crate::source::cloudwatch::convert;
use proptest::prelude::*;

fn by_sdk(sdk: Option<FrozenLayer>, body: &[u8]) -> Result<Output, OrchestratorError<Error>> {
    let mut response = HttpResponse::new(200.try_into().unwrap(), body.to_vec().into());
    let sdk = sdk.unwrap();
    let sdk = sdk.load::<SharedResponseDeserializer>().unwrap();
    assert!(sdk.deserialize_streaming_with_config(&mut response, &ConfigBag::base()).is_none());
    sdk.deserialize_nonstreaming_with_config(&response, &ConfigBag::base())
}

fn event_page(body: &[u8]) -> Option<EventPage> {
    let output = by_sdk(EventPage::sdk(), body).ok()?;
    convert::event_page(output.downcast().unwrap()).ok()
}

fn filter_page(body: &[u8]) -> Option<FilterPage> {
    let output = by_sdk(FilterPage::sdk(), body).ok()?;
    convert::filter_page(output.downcast().unwrap()).ok()
}

/// Whether it is read here; it is then what the SDK reads.
fn agrees(body: &[u8]) -> (bool, bool) {
    let own = (EventPage::read(body), FilterPage::read(body));
    if let Some(own) = &own.0 {
        let sdk = event_page(body).expect("the SDK reads what is read here");
        assert_eq!((&own.events, &own.forward, &own.backward), (&sdk.events, &sdk.forward, &sdk.backward));
    }
    if let Some(own) = &own.1 {
        let sdk = filter_page(body).expect("the SDK reads what is read here");
        assert_eq!((&own.events, &own.next), (&sdk.events, &sdk.next));
    }
    (own.0.is_some(), own.1.is_some())
}

const TOKENS: &str = r#""nextForwardToken":"f/1/s","nextBackwardToken":"b/0/s""#;

#[test]
fn pages_are_read_here() {
    for events in [
        "",
        r#"{"timestamp":5,"message":"a\nb","ingestionTime":6},{"message":"","timestamp":5}"#,
        r#"{"timestamp":-1,"message":"\u0000\u001b[31m \ud83d\ude00 é \\ \" \/ \b\f\r\t","ingestionTime":null}"#,
        r#"{"timestamp":9223372036854775807,"message":null,"new":[{"a":[1,2.5e3,true,null]},"x"]}"#,
    ] {
        let body = format!(r#"{{ "events" : [{events}], {TOKENS}, "more": {{"x": 1}} }}"#);
        assert!(agrees(body.as_bytes()).0, "{body}");
    }
    assert!(agrees(format!(r#"{{"events":null,{TOKENS}}}"#).as_bytes()).0);
    let named = r#"{"events":[{"logStreamName":"s\/1","timestamp":1,"message":"m","eventId":"1"}],"nextToken":"t"}"#;
    assert!(agrees(named.as_bytes()).1);
    assert!(agrees(br#"{"searchedLogStreams":[]}"#).1);
}

#[test]
fn what_is_odd_is_left_to_the_sdk() {
    for body in [
        "",
        "{",
        "<html>busy</html>",
        r#"{"events":[]}"#,
        r#"{"events":[{"timestamp":5,"mess"#,
        &format!(r#"{{"events":[{{"message":"no timestamp"}}],{TOKENS}}}"#),
        &format!(r#"{{"events":[{{"timestamp":"5"}}],{TOKENS}}}"#),
        &format!(r#"{{"events":[{{"timestamp":5,"message":"\ud800"}}],{TOKENS}}}"#),
        &format!(r#"{{"events":[null],{TOKENS}}}"#),
        &format!(r#"{{"events":[],{TOKENS}}} x"#),
    ] {
        assert!(EventPage::read(body.as_bytes()).is_none(), "{body}");
    }
    let nameless = r#"{"events":[{"timestamp":1,"message":"m"}]}"#;
    assert!(FilterPage::read(nameless.as_bytes()).is_none());
    let bytes = [br#"{"events":[{"timestamp":5,"message":""#.as_slice(), &[0xff], br#""}]}"#].concat();
    assert!(FilterPage::read(&bytes).is_none(), "not UTF-8");
}

/// A string as JSON, each character plain or escaped.
fn quoted(text: &str, escape: bool) -> String {
    if !escape {
        return serde_json::to_string(text).unwrap();
    }
    text.encode_utf16().fold(String::from("\""), |all, unit| format!("{all}\\u{unit:04x}")) + "\""
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn the_sdk_reads_the_same(
        events in proptest::collection::vec((any::<i64>(), any::<String>(), proptest::option::of(any::<i64>()), any::<bool>()), 0..6),
        damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let events: Vec<String> = events
            .iter()
            .map(|(at, message, ingestion, escape)| {
                let message = quoted(message, *escape);
                let ingestion = ingestion.map_or_else(|| "null".into(), |at| at.to_string());
                format!(r#"{{"logStreamName":{message},"timestamp":{at},"message":{message},"ingestionTime":{ingestion}}}"#)
            })
            .collect();
        let mut body = format!(r#"{{"events":[{}],{TOKENS},"nextToken":"t"}}"#, events.join(",")).into_bytes();
        let whole = damage.is_none() && cut.is_none();
        if let Some((at, byte)) = damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let read = agrees(&body);
        prop_assert!(!whole || read == (true, true));
    }
}
