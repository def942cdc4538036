//! The one Logs Insights query that is asked: a stream's events counted by the hour.

use crate::model::{Hours, Timestamp};
use crate::source::{Call, Counted, SourceError, SourceErrorKind};
use aws_sdk_cloudwatchlogs::operation::get_query_results::GetQueryResultsOutput;
use aws_sdk_cloudwatchlogs::types::{QueryStatus, ResultField};

const HOUR: &str = "bin(1h)";
const COUNT: &str = "count(*)";

/// The query; `None` for a name that its language can't quote safely (nothing documents how quotes and backslashes escape).
pub(crate) fn text(stream: &str) -> Option<String> {
    let quotable = !stream.chars().any(|c| matches!(c, '"' | '\\') || c.is_control());
    quotable.then(|| format!("filter @logStream = \"{stream}\" | stats {COUNT} by {HOUR}"))
}

/// The error of a name that [`text`] doesn't take.
pub(crate) fn unspeakable() -> SourceError {
    SourceError {
        kind: SourceErrorKind::Invalid,
        call: Call::StartQuery,
        message: "the stream's name can't be put into a query".into(),
    }
}

/// What an answer says, or what it lacks.
pub(crate) fn counted(output: GetQueryResultsOutput) -> Result<Counted, &'static str> {
    match output.status.ok_or("no status")? {
        QueryStatus::Scheduled | QueryStatus::Running | QueryStatus::UnknownValue => Ok(Counted::Running),
        QueryStatus::Complete => {
            let rows = output.results.unwrap_or_default();
            let hours: Option<Hours> = rows.iter().map(|row| Some((hour(row)?, count(row)?))).collect();
            hours.map(Counted::Done).ok_or("a row without an hour or a count")
        }
        status => Ok(Counted::Failed(format!("the query ended as {}", status.as_str()))),
    }
}

fn field<'a>(row: &'a [ResultField], name: &str) -> Option<&'a str> {
    row.iter().find(|field| field.field() == Some(name))?.value()
}

/// `2026-11-23 10:00:00.000`, UTC.
fn hour(row: &[ResultField]) -> Option<i64> {
    let civil: jiff::civil::DateTime = field(row, HOUR)?.parse().ok()?;
    let at = jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?;
    Some(Timestamp(at.as_millisecond()).hour())
}

fn count(row: &[ResultField]) -> Option<u64> {
    field(row, COUNT)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(hour: &str, count: &str) -> Vec<ResultField> {
        let field = |name: &str, value: &str| ResultField::builder().field(name).value(value).build();
        vec![field(HOUR, hour), field(COUNT, count)]
    }

    fn output(status: QueryStatus, rows: Vec<Vec<ResultField>>) -> GetQueryResultsOutput {
        GetQueryResultsOutput::builder().status(status).set_results(Some(rows)).build()
    }

    #[test]
    fn rows_become_hours() {
        let rows = vec![row("1970-01-01 02:00:00.000", "12"), row("1970-01-02 00:00:00.000", "1")];
        let done = counted(output(QueryStatus::Complete, rows)).unwrap();
        assert_eq!(done, Counted::Done(Hours::from([(2, 12), (24, 1)])));
        assert!(counted(output(QueryStatus::Complete, vec![row("soon", "1")])).is_err());
        assert_eq!(counted(output(QueryStatus::Running, Vec::new())), Ok(Counted::Running));
        assert!(matches!(counted(output(QueryStatus::Timeout, Vec::new())), Ok(Counted::Failed(_))));
    }

    #[test]
    fn names_that_could_break_out_of_the_quotes_are_refused() {
        assert_eq!(
            text("2026/11/23/[$LATEST]3f2a").unwrap(),
            "filter @logStream = \"2026/11/23/[$LATEST]3f2a\" | stats count(*) by bin(1h)"
        );
        for name in ["a\"b", "a\\", "a\nb"] {
            assert_eq!(text(name), None, "{name:?}");
        }
    }
}
