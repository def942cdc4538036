//! What the service tells and checks by its clock: the `Date` of its answers, and when a request was signed.

use super::api::Refusal;
use super::plan::Plan;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// How far off the service's clock a request may be signed, in ms.
const SIGNED_WITHIN: i64 = 5 * 60_000;
/// X-Amz-Date.
const SIGNED: &str = "%Y%m%dT%H%M%SZ";

/// The moment as `Date` writes it, in whole seconds.
pub(crate) fn http_date(ms: i64) -> String {
    moment(ms).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Refuses a request that was signed (X-Amz-Date) too far off the service's present moment `now`.
pub(crate) fn check_signed(plan: &Plan, signed: Option<&str>, now: i64) -> Result<(), Refusal> {
    let Some(text) = signed.filter(|_| plan.check_signing_time) else { return Ok(()) };
    let refused = |message| Err(Refusal::new("InvalidSignatureException", message));
    let at = DateTime::strptime(SIGNED, text).and_then(|civil| TimeZone::UTC.to_timestamp(civil));
    let Ok(at) = at.map(Timestamp::as_millisecond) else {
        return refused(format!("Date must be in ISO-8601 'basic format'. Got '{text}'."));
    };
    let tell = |ms| moment(ms).strftime(SIGNED).to_string();
    let (least, most) = (now - SIGNED_WITHIN, now + SIGNED_WITHIN);
    if at < least {
        return refused(format!(
            "Signature expired: {text} is now earlier than {} ({} - 5 min.)",
            tell(least),
            tell(now)
        ));
    }
    if at > most {
        return refused(format!(
            "Signature not yet current: {text} is still later than {} ({} + 5 min.)",
            tell(most),
            tell(now)
        ));
    }
    Ok(())
}

fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).expect("a time of this era")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_as_http_tells_it() {
        assert_eq!(http_date(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn requests_are_signed_within_five_minutes() {
        let now = 784_111_777_000;
        let said = |text| check_signed(&Plan::default(), Some(text), now).map_err(|refusal| refusal.message);
        assert_eq!(said("19941106T084437Z"), Ok(()));
        assert_eq!(said("19941106T085437Z"), Ok(()));
        assert_eq!(
            said("19941106T074937Z").unwrap_err(),
            "Signature expired: 19941106T074937Z is now earlier than 19941106T084437Z (19941106T084937Z - 5 min.)"
        );
        assert_eq!(
            said("19941106T094937Z").unwrap_err(),
            "Signature not yet current: 19941106T094937Z is still later than 19941106T085437Z (19941106T084937Z + 5 min.)"
        );
        assert!(said("yesterday").is_err() && check_signed(&Plan::default(), None, now).is_ok());
        let lenient = Plan { check_signing_time: false, ..Plan::default() };
        assert!(check_signed(&lenient, Some("19941106T074937Z"), now).is_ok());
    }
}
