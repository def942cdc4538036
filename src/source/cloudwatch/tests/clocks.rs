//! The service's clock: which answers tell it, what is signed by it, and what a refusal for the time of a signature means.

use super::*;
use crate::clock::{Clock, ManualClock};

/// The service's time: 2026-09-21T14:13:20Z.
const SERVICE: Timestamp = Timestamp(1_790_000_000_000);
const HTTP_DATE: &str = "Mon, 21 Sep 2026 14:13:20 GMT";
const PAGE: &str = r#"{"logGroups":[]}"#;
const EXPIRED: &str = r#"{"__type":"InvalidSignatureException","message":"Signature expired: 20260921T141320Z is now earlier than 20260921T150820Z (20260921T151320Z - 5 min.)"}"#;

/// The service's clock as a machine knows it whose own clock is off by `skew` seconds and doesn't go on.
fn off_by(skew: i64) -> Arc<ServiceClock> {
    ServiceClock::new(Arc::new(ManualClock::new(Timestamp(SERVICE.0 + skew * 1000))))
}

fn dated(status: u16, text: &'static str) -> Answer {
    Answer::With(status, vec![("date", HTTP_DATE.into()), ("x-amzn-RequestId", "1".into())], text)
}

async fn ask(source: &CloudWatch) -> Result<(), SourceError> {
    source.describe_log_groups(DescribeGroups::default()).await.map(drop)
}

/// When each request was signed, in seconds off the service's clock.
fn signed(asked: &Asked) -> Vec<i64> {
    let second = |(.., date): &(String, serde_json::Value, String, String)| {
        let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).unwrap();
        jiff::tz::TimeZone::UTC.to_timestamp(at).unwrap().as_second() - SERVICE.0 / 1000
    };
    asked.lock().unwrap().iter().map(second).collect()
}

#[tokio::test]
async fn the_services_own_answers_tell_its_time_and_no_others() {
    let date = || ("date", HTTP_DATE.to_string());
    let id = || ("x-amzn-RequestId", "1b2c".to_string());
    let kind = ("x-amzn-ErrorType", "ThrottlingException".to_string());
    let refusal = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
    for (teaches, status, headers, body) in [
        (true, 200, vec![date(), id()], PAGE),
        (true, 400, vec![date(), id()], refusal),
        (true, 500, vec![date(), id()], ""),
        (true, 400, vec![date()], refusal),
        (true, 400, vec![date(), kind], ""),
        (false, 200, vec![date()], PAGE),
        (false, 407, vec![date()], "<html>log in</html>"),
        (false, 407, vec![date()], r#"{"code":"407","message":"log in"}"#),
        (false, 502, vec![date()], "<html>bad gateway</html>"),
        (false, 200, vec![id()], PAGE),
        (false, 200, vec![("date", "noon".into()), id()], PAGE),
        (false, 200, vec![date(), id(), ("age", "0".into())], PAGE),
        (false, 400, vec![date(), ("age", "9".into())], refusal),
    ] {
        let (url, _) = server(vec![Answer::With(status, headers.clone(), body)]).await;
        let clock = off_by(3600);
        let source = connect_by(clock.clone(), &url, test_loader).await;
        drop(ask(&source).await);
        assert_eq!(clock.is_known(), teaches, "{status} {headers:?} {body}");
        let expected = if teaches { SERVICE } else { SERVICE + Duration::from_hours(1) };
        // `Date` has no milliseconds.
        assert!((clock.now().0 - expected.0).abs() < 1000, "{status} {headers:?} {body}");
    }
}

#[tokio::test]
async fn what_was_learnt_is_signed_by_and_corrected_once() {
    for skew in [3600, -3 * 3600] {
        let (url, asked) = server(vec![dated(200, PAGE), dated(200, PAGE), dated(200, PAGE)]).await;
        let source = connect_by(off_by(skew), &url, test_loader).await;
        for _ in 0..3 {
            ask(&source).await.unwrap();
        }
        assert_eq!(signed(&asked), [skew, 0, 0]);
    }
}

#[tokio::test]
async fn a_refusal_for_a_wrong_clock_is_worth_another_try() {
    for (skew, way) in [(3600, "ahead of"), (-3 * 3600, "behind")] {
        for refusal in [EXPIRED, r#"{"__type":"RequestTimeTooSkewed"}"#, r#"{"__type":"RequestExpired"}"#] {
            let (url, asked) = server(vec![dated(400, refusal), dated(200, PAGE)]).await;
            let source = connect_by(off_by(skew), &url, test_loader).await;
            let error = ask(&source).await.unwrap_err();
            assert_eq!(error.kind, SourceErrorKind::Unavailable, "{error}");
            assert!(error.message.contains(&format!("{way} the service's")), "{error}");
            assert!(!source.current().refused.load(Ordering::Relaxed), "the credentials are good");
            ask(&source).await.unwrap();
            assert_eq!(signed(&asked), [skew, 0]);
        }
    }
}

#[tokio::test]
async fn a_refused_signature_is_the_credentials_where_the_clock_is_right() {
    let undated = Answer::With(400, vec![("x-amzn-RequestId", "1".into())], EXPIRED);
    for (skew, answer) in [(0, dated(400, EXPIRED)), (-200, dated(400, EXPIRED)), (3600, undated)] {
        let (url, _) = server(vec![answer]).await;
        let source = connect_by(off_by(skew), &url, test_loader).await;
        let error = ask(&source).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Credentials, "{error}");
        assert!(source.current().refused.load(Ordering::Relaxed));
    }
    // And where it was right already: the second refusal in a row.
    let (url, _) = server(vec![dated(400, EXPIRED), dated(400, EXPIRED)]).await;
    let source = connect_by(off_by(3600), &url, test_loader).await;
    assert_eq!(ask(&source).await.unwrap_err().kind, SourceErrorKind::Unavailable);
    assert_eq!(ask(&source).await.unwrap_err().kind, SourceErrorKind::Credentials);
}

#[tokio::test]
async fn what_was_learnt_outlives_a_reload_of_the_credentials() {
    let expired =
        r#"{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}"#;
    let (url, asked) = server(vec![dated(200, PAGE), dated(400, expired), dated(200, PAGE)]).await;
    let source = connect_by(off_by(3600), &url, test_loader).await;
    ask(&source).await.unwrap();
    assert_eq!(ask(&source).await.unwrap_err().kind, SourceErrorKind::Credentials);
    let before = source.current();
    ask(&source).await.unwrap();
    assert!(!Arc::ptr_eq(&before, &source.current()), "the client was made anew");
    assert_eq!(signed(&asked), [3600, 0, 0]);
}

#[tokio::test]
async fn the_machines_clock_may_jump_while_the_mount_stands() {
    let (url, asked) = server(vec![dated(200, PAGE), dated(200, PAGE)]).await;
    let machine = Arc::new(ManualClock::new(SERVICE));
    let clock = ServiceClock::new(Arc::<ManualClock>::clone(&machine));
    let source = connect_by(clock, &url, test_loader).await;
    ask(&source).await.unwrap();
    machine.set(SERVICE - Duration::from_hours(2));
    assert_eq!(machine.now(), SERVICE - Duration::from_hours(2));
    ask(&source).await.unwrap();
    assert_eq!(signed(&asked), [0, 0]);
}
