//! What is read here is what the SDK reads, and what the SDK refuses is not read here.

use super::*;
use crate::model::{LogGroup, LogStream};
use crate::source::Page;
use crate::source::cloudwatch::convert;
use crate::source::cloudwatch::second_reader::{self, MARK};
use aws_sdk_cloudwatchlogs::operation::describe_log_groups::DescribeLogGroupsOutput;
use aws_sdk_cloudwatchlogs::operation::describe_log_streams::DescribeLogStreamsOutput;
use proptest::prelude::*;

fn by_sdk(sdk: Option<FrozenLayer>, body: &[u8]) -> Result<Output, OrchestratorError<Error>> {
    let mut response = HttpResponse::new(200.try_into().unwrap(), body.to_vec().into());
    let sdk = sdk.unwrap();
    let sdk = sdk.load::<SharedResponseDeserializer>().unwrap();
    assert!(sdk.deserialize_streaming_with_config(&mut response, &ConfigBag::base()).is_none());
    sdk.deserialize_nonstreaming_with_config(&response, &ConfigBag::base())
}

fn sdk_event_page(body: &[u8]) -> Option<EventPage> {
    let output = by_sdk(EventPage::sdk(), body).ok()?;
    convert::event_page(output.downcast().unwrap()).ok()
}

fn sdk_filter_page(body: &[u8]) -> Option<FilterPage> {
    let output = by_sdk(FilterPage::sdk(), body).ok()?;
    convert::filter_page(output.downcast().unwrap()).ok()
}

fn sdk_groups(body: &[u8]) -> Option<Page<LogGroup>> {
    let output: DescribeLogGroupsOutput = by_sdk(Page::<LogGroup>::sdk(), body).ok()?.downcast().unwrap();
    let groups = output.log_groups.unwrap_or_default();
    Some(Page { items: groups.into_iter().filter_map(convert::group).collect(), next: output.next_token })
}

fn sdk_streams(body: &[u8]) -> Option<Page<LogStream>> {
    let output: DescribeLogStreamsOutput = by_sdk(Page::<LogStream>::sdk(), body).ok()?.downcast().unwrap();
    let streams = output.log_streams.unwrap_or_default();
    Some(Page { items: streams.into_iter().filter_map(convert::stream).collect(), next: output.next_token })
}

/// What the call reads, without what was left out; the SDK's reading of the same with its marks resolved, and without what they mark.
type Both<P> = Option<(P, P)>;

/// Both readings, if it is read here. The SDK is given the body as strict JSON: what is proper comes through as it is.
fn both<P: Direct>(body: &[u8], sdk: impl Fn(&[u8]) -> Option<P>) -> Both<P> {
    let own = P::read(body)?.page;
    let strict = second_reader::strict(body)?;
    Some((own, sdk(&strict).expect("the SDK reads what is read here")))
}

fn unmarked(text: &str) -> String {
    text.replace(MARK, "\u{fffd}")
}

/// Whether GetLogEvents and FilterLogEvents read it here; it is then what the SDK reads.
fn agrees(body: &[u8]) -> (bool, bool) {
    let event = |event: &LogEvent| LogEvent { message: unmarked(&event.message), ..event.clone() };
    let get = both(body, sdk_event_page);
    if let Some((own, sdk)) = &get {
        assert_eq!((&own.forward, &own.backward), (&sdk.forward, &sdk.backward));
        assert_eq!(own.events, sdk.events.iter().map(event).collect::<Vec<_>>());
    }
    let filter = both(body, sdk_filter_page);
    if let Some((own, sdk)) = &filter {
        let proper = sdk.events.iter().filter(|(name, _)| !name.contains(MARK));
        assert_eq!(own.events, proper.map(|(name, e)| (name.clone(), event(e))).collect::<Vec<_>>());
        assert_eq!(own.next, sdk.next);
    }
    (get.is_some(), filter.is_some())
}

/// Whether each listing reads it here; it is then what the SDK reads.
fn listings_agree(body: &[u8]) -> (bool, bool) {
    let groups = both(body, sdk_groups);
    if let Some((own, sdk)) = &groups {
        let proper = sdk.items.iter().filter(|group| !group.name.contains(MARK));
        assert_eq!(
            own.items,
            proper.map(|g| LogGroup { arn: proper_or_none(&g.arn), ..g.clone() }).collect::<Vec<_>>()
        );
        assert_eq!(own.next, sdk.next);
    }
    let streams = both(body, sdk_streams);
    if let Some((own, sdk)) = &streams {
        let proper = sdk.items.iter().filter(|stream| !stream.name.contains(MARK));
        assert_eq!(
            own.items,
            proper.map(|s| LogStream { arn: proper_or_none(&s.arn), ..s.clone() }).collect::<Vec<_>>()
        );
        assert_eq!(own.next, sdk.next);
    }
    (groups.is_some(), streams.is_some())
}

fn proper_or_none(arn: &str) -> String {
    if arn.contains(MARK) { String::new() } else { arn.to_owned() }
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
        &format!(r#"{{"events":[{{"timestamp":5,"message":"\ud80"}}],{TOKENS}}}"#),
        r#"{"events":[],"nextForwardToken":"f/\ud800","nextBackwardToken":"b"}"#,
        &format!(r#"{{"events":[null],{TOKENS}}}"#),
        &format!(r#"{{"events":[],{TOKENS}}} x"#),
    ] {
        assert!(EventPage::read(body.as_bytes()).is_none(), "{body}");
    }
    let nameless = r#"{"events":[{"timestamp":1,"message":"m"}]}"#;
    assert!(FilterPage::read(nameless.as_bytes()).is_none());
    assert!(FilterPage::read(br#"{"events":[],"nextToken":"t\ud800"}"#).is_none(), "a token is sent back as it was");
    assert!(FilterPage::read(b"{\"events\":[],\"nextToken\":\"t\xff\"}").is_none());
    assert!(Page::<LogStream>::read(br#"{"logStreams":[],"nextToken":"t\ud800"}"#).is_none());
}

#[test]
fn a_message_that_is_no_text_takes_nothing_along() {
    let body = format!(
        r#"{{"events":[{{"timestamp":1,"message":"before"}},{{"timestamp":2,"message":"cut \ud83d"}},{{"timestamp":3,"message":"😀"}}],{TOKENS}}}"#
    );
    let body = [body.as_bytes(), b""].concat();
    let read = |body: &[u8]| {
        let page = EventPage::read(body).unwrap().page;
        page.events.into_iter().map(|event| event.message).collect::<Vec<_>>()
    };
    assert_eq!(read(&body), ["before", "cut \u{fffd}", "😀"]);
    let cut = body.iter().position(|byte| *byte == 0xf0).unwrap();
    let bytes = [&body[..cut + 2], &body[cut + 4..]].concat();
    assert_eq!(read(&bytes), ["before", "cut \u{fffd}", "\u{fffd}"]);
    assert_eq!((agrees(&body).0, agrees(&bytes).0), (true, true));
}

#[test]
fn what_has_a_name_that_is_no_text_is_left_out() {
    let body = br#"{"events":[{"logStreamName":"a","timestamp":1,"message":"m\ud83d"},{"logStreamName":"b\ud83d","timestamp":2,"message":"n"},
        {"logStreamName":"b\ud83d","timestamp":3,"message":"n"},{"logStreamName":"c\ufffd","timestamp":4,"message":"o"}],"nextToken":"t"}"#;
    let read = FilterPage::read(body).unwrap();
    let names: Vec<&str> = read.page.events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, read.page.next.as_deref()), (vec!["a", "c\u{fffd}"], Some("t")));
    assert_eq!(read.left_out, [b"b\xed\xa0\xbd".to_vec()]);
    assert!(agrees(body).1);

    let body = b"{\"logStreams\":[{\"logStreamName\":\"a\",\"arn\":\"arn:a\\ud83d\",\"creationTime\":1,\"lastEventTimestamp\":2},
        {\"logStreamName\":\"b\xe2\x82\",\"arn\":\"arn:b\xe2\x82\"},{\"logStreamName\":\"c\"}],\"nextToken\":\"t\"}";
    let read = Page::<LogStream>::read(body).unwrap();
    let names: Vec<&str> = read.page.items.iter().map(|stream| stream.name.as_str()).collect();
    assert_eq!((names, read.page.next.as_deref()), (vec!["a", "c"], Some("t")));
    assert_eq!(read.left_out, [b"b\xff".to_vec()]);
    assert_eq!(read.page.items[0].last_event, Some(Timestamp(2)));
    assert!(listings_agree(body).1);

    let body = br#"{"logGroups":[{"logGroupName":"a\udc00"},{"logGroupName":"b","logGroupArn":"arn:b"}]}"#;
    let read = Page::<LogGroup>::read(body).unwrap();
    assert_eq!((read.page.items.len(), read.left_out), (1, vec![b"a\xed\xb0\x80".to_vec()]));
    assert!(listings_agree(body).0);
}

#[test]
fn listings_are_read_here() {
    let groups = br#"{"logGroups":[{"logGroupName":"/a/b","arn":"arn:aws:logs:r:1:log-group:/a/b:*","creationTime":7,"retentionInDays":14,
        "storedBytes":99,"logGroupClass":"INFREQUENT_ACCESS","kmsKeyId":"k","inheritedProperties":["X"]},{"logGroupName":"x","logGroupClass":"DELIVERY",
        "logGroupArn":"arn:x","storedBytes":-1,"retentionInDays":null},{"logGroupName":"y","logGroupClass":"NEW"},{"arn":"nameless"}],"nextToken":"n"}"#;
    assert!(listings_agree(groups).0);
    let read = Page::<LogGroup>::read(groups).unwrap().page;
    assert_eq!((read.items.len(), read.items[0].arn.as_str()), (3, "arn:aws:logs:r:1:log-group:/a/b"));
    let streams = br#"{"logStreams":[{"logStreamName":"2026/11/23/[$LATEST]3f2a","arn":"arn:y","creationTime":1,"firstEventTimestamp":2,
        "lastEventTimestamp":3,"lastIngestionTime":4,"uploadSequenceToken":"u","storedBytes":0},{"logStreamName":"\ud83d\ude00"}]}"#;
    assert!(listings_agree(streams).1);
    assert_eq!(Page::<LogStream>::read(streams).unwrap().page.items[1].name, "😀");
    assert_eq!(listings_agree(b"{}"), (true, true));
    assert_eq!(listings_agree(br#"{"logGroups":null,"logStreams":null}"#), (true, true));
    assert_eq!(listings_agree(br#"{"logGroups":[null],"logStreams":{}}"#), (false, false));
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
        listings_agree(&body);
    }

    #[test]
    fn text_that_is_none_fails_no_page(
        rows in proptest::collection::vec((improper(), improper(), any::<i64>()), 0..6),
    ) {
        let row = |name: &[u8], value: &str, text: &[u8], at: i64| {
            [b"{\"", name, b"\":\"", text, b"\",", value.as_bytes(), b":", at.to_string().as_bytes(), b"}"].concat()
        };
        let page = |list: &str, rows: Vec<Vec<u8>>| {
            [b"{\"", list.as_bytes(), b"\":[", rows.join(&b',').as_slice(), b"],", TOKENS.as_bytes(), b",\"nextToken\":\"t\"}"].concat()
        };
        let events = rows.iter().map(|(name, message, at)| {
            let message = [name.as_slice(), b"\",\"message\":\"", message].concat();
            row(b"logStreamName", "\"timestamp\"", &message, *at)
        });
        prop_assert_eq!(agrees(&page("events", events.collect())), (true, true));
        let groups = rows.iter().map(|(name, _, at)| row(b"logGroupName", "\"creationTime\"", name, *at));
        prop_assert!(listings_agree(&page("logGroups", groups.collect())).0);
        let streams = rows.iter().map(|(name, _, at)| row(b"logStreamName", "\"creationTime\"", name, *at));
        prop_assert!(listings_agree(&page("logStreams", streams.collect())).1);
    }
}

/// The inside of a string that may be no text.
fn improper() -> impl Strategy<Value = Vec<u8>> {
    let escape = prop_oneof![any::<u16>(), 0xd800..=0xdfffu16].prop_map(|unit| format!("\\u{unit:04X}").into_bytes());
    let bytes = proptest::collection::vec(0x80..=0xffu8, 1..4);
    let plain = "[a-zé😀]{0,3}".prop_map(String::into_bytes);
    proptest::collection::vec(prop_oneof![3 => plain, 1 => escape, 1 => bytes], 0..6).prop_map(|parts| parts.concat())
}
