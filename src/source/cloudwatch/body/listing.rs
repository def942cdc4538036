//! Listings straight from an answer's body: one row whose name is no text must not take its page along.

use super::text::{Bytes, Text, loosely};
use super::{Direct, Read};
use crate::model::{LogClass, LogGroup, LogStream, Timestamp};
use crate::source::Page;
use aws_sdk_cloudwatchlogs::config::{FrozenLayer, RuntimePlugin};
use aws_sdk_cloudwatchlogs::operation::describe_log_groups::{DescribeLogGroups, DescribeLogGroupsOutput};
use aws_sdk_cloudwatchlogs::operation::describe_log_streams::{DescribeLogStreams, DescribeLogStreamsOutput};
use aws_smithy_runtime_api::client::interceptors::context::Output;
use serde::Deserialize;

impl Direct for Page<LogGroup> {
    fn read(body: &[u8]) -> Option<Read<Page<LogGroup>>> {
        let body: GroupsBody = loosely(body)?;
        Some(page(body.log_groups, body.next_token))
    }

    fn stand_in() -> Output {
        Output::erase(DescribeLogGroupsOutput::builder().build())
    }

    fn sdk() -> Option<FrozenLayer> {
        DescribeLogGroups::new().config()
    }
}

impl Direct for Page<LogStream> {
    fn read(body: &[u8]) -> Option<Read<Page<LogStream>>> {
        let body: StreamsBody = loosely(body)?;
        Some(page(body.log_streams, body.next_token))
    }

    fn stand_in() -> Output {
        Output::erase(DescribeLogStreamsOutput::builder().build())
    }

    fn sdk() -> Option<FrozenLayer> {
        DescribeLogStreams::new().config()
    }
}

/// Rows without a name are no rows, as in `convert`.
fn page<R: Row>(rows: Option<Vec<R>>, next: Option<String>) -> Read<Page<R::Item>> {
    let (mut items, mut left_out) = (Vec::new(), Vec::new());
    for row in rows.unwrap_or_default() {
        match row.item() {
            Some(Ok(item)) => items.push(item),
            Some(Err(name)) => left_out.push(name),
            None => {}
        }
    }
    Read { page: Page { items, next }, left_out }
}

trait Row {
    type Item;
    /// What the row lists; the bytes of a name that is no text.
    fn item(self) -> Option<Result<Self::Item, Vec<u8>>>;
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupsBody {
    log_groups: Option<Vec<GroupRow>>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupRow {
    log_group_name: Option<Bytes>,
    log_group_arn: Option<Bytes>,
    arn: Option<Bytes>,
    creation_time: Option<i64>,
    log_group_class: Option<Bytes>,
    retention_in_days: Option<i32>,
    stored_bytes: Option<i64>,
}

impl Row for GroupRow {
    type Item = LogGroup;

    fn item(self) -> Option<Result<LogGroup, Vec<u8>>> {
        let arn = text(self.log_group_arn).or_else(|| text(self.arn).map(|arn| arn.trim_end_matches(":*").to_owned()));
        let class = text(self.log_group_class);
        Some(self.log_group_name?.name().map(|name| LogGroup {
            name,
            arn: arn.unwrap_or_default(),
            created: Timestamp(self.creation_time.unwrap_or_default()),
            class: match class.as_deref() {
                Some("INFREQUENT_ACCESS") => LogClass::InfrequentAccess,
                Some("DELIVERY") => LogClass::Delivery,
                _ => LogClass::Standard,
            },
            retention_days: self.retention_in_days.and_then(|days| u32::try_from(days).ok()),
            stored_bytes: self.stored_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default(),
        }))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StreamsBody {
    log_streams: Option<Vec<StreamRow>>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StreamRow {
    log_stream_name: Option<Bytes>,
    arn: Option<Bytes>,
    creation_time: Option<i64>,
    first_event_timestamp: Option<i64>,
    last_event_timestamp: Option<i64>,
    last_ingestion_time: Option<i64>,
}

impl Row for StreamRow {
    type Item = LogStream;

    fn item(self) -> Option<Result<LogStream, Vec<u8>>> {
        let arn = text(self.arn).unwrap_or_default();
        Some(self.log_stream_name?.name().map(|name| LogStream {
            name,
            arn,
            created: Timestamp(self.creation_time.unwrap_or_default()),
            first_event: self.first_event_timestamp.map(Timestamp),
            last_event: self.last_event_timestamp.map(Timestamp),
            last_ingestion: self.last_ingestion_time.map(Timestamp),
        }))
    }
}

fn text(bytes: Option<Bytes>) -> Option<String> {
    bytes.and_then(|bytes| bytes.name().ok())
}
