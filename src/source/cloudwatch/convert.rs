//! Between the SDK's types and the domain's. An answer that lacks what makes it usable is an error, never a silent gap.

use crate::model::{LogClass, LogEvent, LogGroup, LogStream, Timestamp};
use crate::source::{EventPage, FilterPage};
use aws_sdk_cloudwatchlogs::operation::filter_log_events::FilterLogEventsOutput;
use aws_sdk_cloudwatchlogs::operation::get_log_events::GetLogEventsOutput;
use aws_sdk_cloudwatchlogs::types;

/// A limit as the service takes it.
pub(crate) fn limit(limit: Option<u32>) -> Option<i32> {
    limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX))
}

/// A listed group; `None` without a name.
pub(crate) fn group(group: types::LogGroup) -> Option<LogGroup> {
    let arn = group.log_group_arn.or_else(|| group.arn.map(|arn| arn.trim_end_matches(":*").to_string()));
    Some(LogGroup {
        name: group.log_group_name?,
        arn: arn.unwrap_or_default(),
        created: Timestamp(group.creation_time.unwrap_or_default()),
        class: match group.log_group_class {
            Some(types::LogGroupClass::InfrequentAccess) => LogClass::InfrequentAccess,
            Some(types::LogGroupClass::Delivery) => LogClass::Delivery,
            // A class that this program doesn't know is tried; the service's refusal tells if it can't be read.
            _ => LogClass::Standard,
        },
        retention_days: group.retention_in_days.and_then(|days| u32::try_from(days).ok()),
        stored_bytes: group.stored_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
    })
}

/// A listed stream; `None` without a name.
pub(crate) fn stream(stream: types::LogStream) -> Option<LogStream> {
    Some(LogStream {
        name: stream.log_stream_name?,
        arn: stream.arn.unwrap_or_default(),
        created: Timestamp(stream.creation_time.unwrap_or_default()),
        first_event: stream.first_event_timestamp.map(Timestamp),
        last_event: stream.last_event_timestamp.map(Timestamp),
        last_ingestion: stream.last_ingestion_time.map(Timestamp),
    })
}

fn event(timestamp: Option<i64>, ingestion: Option<i64>, message: Option<String>) -> Result<LogEvent, &'static str> {
    let timestamp = timestamp.ok_or("an event without a timestamp")?;
    Ok(LogEvent {
        timestamp: Timestamp(timestamp),
        ingestion_time: Timestamp(ingestion.unwrap_or(timestamp)),
        message: message.unwrap_or_default(),
    })
}

/// A page of GetLogEvents, or what it lacks.
pub(crate) fn event_page(output: GetLogEventsOutput) -> Result<EventPage, &'static str> {
    let events = output.events.unwrap_or_default();
    Ok(EventPage {
        events: events
            .into_iter()
            .map(|e| event(e.timestamp, e.ingestion_time, e.message))
            .collect::<Result<_, _>>()?,
        forward: output.next_forward_token.ok_or("no forward token")?,
        backward: output.next_backward_token.ok_or("no backward token")?,
    })
}

/// A page of FilterLogEvents, or what it lacks.
pub(crate) fn filter_page(output: FilterLogEventsOutput) -> Result<FilterPage, &'static str> {
    let events = output.events.unwrap_or_default();
    Ok(FilterPage {
        events: events
            .into_iter()
            .map(|e| {
                let stream = e.log_stream_name.ok_or("an event without a stream's name")?;
                Ok((stream, event(e.timestamp, e.ingestion_time, e.message)?))
            })
            .collect::<Result<_, &'static str>>()?,
        next: output.next_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_cloudwatchlogs::types::{FilteredLogEvent, LogGroupClass, OutputLogEvent};

    #[test]
    fn a_group_in_full_and_bare() {
        let full = types::LogGroup::builder()
            .log_group_name("/a/b")
            .arn("arn:aws:logs:r:1:log-group:/a/b:*")
            .creation_time(7)
            .retention_in_days(14)
            .stored_bytes(99)
            .log_group_class(LogGroupClass::InfrequentAccess)
            .build();
        let full = group(full).unwrap();
        assert_eq!(full.arn, "arn:aws:logs:r:1:log-group:/a/b");
        assert_eq!((full.created, full.retention_days, full.stored_bytes), (Timestamp(7), Some(14), 99));
        assert_eq!(full.class, LogClass::InfrequentAccess);
        let bare = group(types::LogGroup::builder().log_group_name("x").build()).unwrap();
        assert_eq!((bare.arn.as_str(), bare.class, bare.retention_days), ("", LogClass::Standard, None));
        assert!(group(types::LogGroup::builder().build()).is_none());
    }

    #[test]
    fn a_page_keeps_order_and_text() {
        let event = |t, m: &str| OutputLogEvent::builder().timestamp(t).ingestion_time(t + 1).message(m).build();
        let output = GetLogEventsOutput::builder()
            .events(event(1, "a\nb"))
            .events(event(1, "\0"))
            .next_forward_token("f")
            .next_backward_token("b")
            .build();
        let page = event_page(output).unwrap();
        assert_eq!(page.events.iter().map(|e| e.message.as_str()).collect::<Vec<_>>(), ["a\nb", "\0"]);
        assert_eq!((page.events[0].ingestion_time, page.forward.as_str()), (Timestamp(2), "f"));
    }

    #[test]
    fn what_is_lacking_is_told() {
        assert_eq!(event_page(GetLogEventsOutput::builder().build()).unwrap_err(), "no forward token");
        let nameless = FilterLogEventsOutput::builder().events(FilteredLogEvent::builder().timestamp(1).build());
        assert_eq!(filter_page(nameless.build()).unwrap_err(), "an event without a stream's name");
        let empty = filter_page(FilterLogEventsOutput::builder().build()).unwrap();
        assert!(empty.events.is_empty() && empty.next.is_none());
    }

    #[test]
    fn limits() {
        assert_eq!((limit(None), limit(Some(5)), limit(Some(u32::MAX))), (None, Some(5), Some(i32::MAX)));
    }
}
