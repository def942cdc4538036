//! The protocol's calls: arguments, refusals, and which function answers which call.

use super::account::{Group, Stream};
use super::key::Token;
use super::locks::Locked;
use super::plan::Plan;
use super::state::{ACCOUNT, State};
use super::stream::Events;
use super::text::Text;
use super::{admin, filter, list, query, read};
use serde::Deserialize;
use std::sync::Arc;

/// The arguments of every call; each takes those that it knows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Args {
    pub(crate) log_group_name: Option<String>,
    pub(crate) log_group_identifier: Option<String>,
    pub(crate) log_group_name_prefix: Option<String>,
    pub(crate) log_group_name_pattern: Option<String>,
    pub(crate) log_group_class: Option<String>,
    pub(crate) log_stream_name: Option<String>,
    pub(crate) log_stream_names: Option<Vec<String>>,
    pub(crate) log_stream_name_prefix: Option<String>,
    pub(crate) order_by: Option<String>,
    pub(crate) descending: Option<bool>,
    pub(crate) start_time: Option<i64>,
    pub(crate) end_time: Option<i64>,
    pub(crate) next_token: Option<String>,
    pub(crate) limit: Option<i64>,
    pub(crate) start_from_head: Option<bool>,
    pub(crate) filter_pattern: Option<String>,
    pub(crate) retention_in_days: Option<u32>,
    pub(crate) log_events: Option<Vec<InputEvent>>,
    pub(crate) query_string: Option<String>,
    pub(crate) query_id: Option<String>,
}

/// An event as PutLogEvents takes it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct InputEvent {
    /// In ms.
    pub(crate) timestamp: i64,
    /// The text, which may be none.
    pub(crate) message: Text,
}

/// A call under way.
pub(crate) struct Call<'a> {
    /// The account and all else.
    pub(crate) state: &'a State,
    /// The hazards in force when it came.
    pub(crate) plan: &'a Plan,
    /// What it asks.
    pub(crate) args: &'a Args,
    /// When it is answered, in ms.
    pub(crate) now: i64,
    /// An empty page is to be given though events follow.
    pub(crate) force_empty: bool,
    /// An empty page is to be given with the token that was sent.
    pub(crate) repeat_token: bool,
}

/// A good answer.
pub(crate) struct Reply {
    /// JSON.
    pub(crate) body: Vec<u8>,
    /// How many events it holds.
    pub(crate) events: u64,
}

impl Reply {
    /// An answer without events.
    pub(crate) fn json(value: serde_json::Value) -> Reply {
        Reply { body: value.to_string().into_bytes(), events: 0 }
    }
}

/// A refusal, HTTP status 400 unless said.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) status: u16,
    /// The error's type.
    pub(crate) kind: String,
    /// The service's sentence.
    pub(crate) message: String,
}

impl Refusal {
    /// A refusal of `kind`.
    pub(crate) fn new(kind: &str, message: impl Into<String>) -> Refusal {
        Refusal { status: 400, kind: kind.into(), message: message.into() }
    }

    /// InvalidParameterException.
    pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
        Refusal::new("InvalidParameterException", message)
    }

    /// The service's sentence about a value that breaks a constraint.
    pub(crate) fn constraint(value: &str, field: &str, constraint: &str) -> Refusal {
        Refusal::invalid(format!(
            "1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: Member must {constraint}"
        ))
    }

    /// ResourceNotFoundException of a group or stream.
    pub(crate) fn not_found(what: &str) -> Refusal {
        Refusal::new("ResourceNotFoundException", format!("The specified log {what} does not exist."))
    }

    /// The answer's body.
    pub(crate) fn body(&self) -> Vec<u8> {
        serde_json::json!({ "__type": self.kind, "message": self.message }).to_string().into_bytes()
    }
}

/// Calls that read a group's events.
pub(crate) fn is_event_call(name: &str) -> bool {
    matches!(name, "GetLogEvents" | "FilterLogEvents")
}

/// Answers a call by its name.
pub(crate) fn answer(name: &str, call: &Call) -> Result<Reply, Refusal> {
    match name {
        "CreateLogGroup" => admin::create_group(call),
        "CreateLogStream" => admin::create_stream(call),
        "DeleteLogGroup" => admin::delete_group(call),
        "DeleteLogStream" => admin::delete_stream(call),
        "PutRetentionPolicy" => admin::put_retention(call),
        "PutLogEvents" => admin::put_events(call),
        "DescribeLogGroups" => list::describe_groups(call),
        "DescribeLogStreams" => list::describe_streams(call),
        "GetLogEvents" => read::get_events(call),
        "FilterLogEvents" => filter::filter_events(call),
        "StartQuery" => query::start(call),
        "GetQueryResults" => query::results(call),
        _ => Err(Refusal::new("UnknownOperationException", "")),
    }
}

impl Args {
    /// The group that is named, by name or ARN.
    pub(crate) fn group_name(&self) -> Option<String> {
        self.log_group_name.clone().or_else(|| {
            let text = self.log_group_identifier.as_deref()?;
            let name = text.split_once(":log-group:").map_or(text, |(_, name)| name);
            Some(name.strip_suffix(":*").unwrap_or(name).into())
        })
    }

    /// The streams that are named.
    pub(crate) fn stream_names(&self) -> Vec<String> {
        self.log_stream_name.iter().chain(self.log_stream_names.iter().flatten()).cloned().collect()
    }
}

impl Call<'_> {
    /// The group's name, checked.
    pub(crate) fn group_name(&self) -> Result<String, Refusal> {
        if self.args.log_group_name.is_some() && self.args.log_group_identifier.is_some() {
            return Err(Refusal::invalid("LogGroup name and LogGroup ARN are mutually exclusive parameters."));
        }
        let name = self.args.group_name().ok_or_else(|| Refusal::constraint("null", "logGroupName", "not be null"))?;
        check_group_name(&name)?;
        Ok(name)
    }

    /// The group that is named.
    pub(crate) fn group(&self) -> Result<Arc<Group>, Refusal> {
        let name = self.group_name()?;
        self.state.account.group(&name).ok_or_else(|| Refusal::not_found("group"))
    }

    /// The stream's name, checked.
    pub(crate) fn stream_name(&self) -> Result<&str, Refusal> {
        let name = self.args.log_stream_name.as_deref();
        let name = name.ok_or_else(|| Refusal::constraint("null", "logStreamName", "not be null"))?;
        check_stream_name(name, "logStreamName")?;
        Ok(name)
    }

    /// The stream that is named in `group`.
    pub(crate) fn stream(&self, group: &Group) -> Result<Arc<Stream>, Refusal> {
        group.stream(self.stream_name()?).ok_or_else(|| Refusal::not_found("stream"))
    }

    /// `limit`, checked.
    pub(crate) fn limit(&self, most: i64) -> Result<usize, Refusal> {
        let limit = self.args.limit.unwrap_or(most);
        if limit < 1 {
            return Err(Refusal::constraint(&limit.to_string(), "limit", "have value greater than or equal to 1"));
        }
        if limit > most {
            let constraint = format!("have value less than or equal to {most}");
            return Err(Refusal::constraint(&limit.to_string(), "limit", &constraint));
        }
        Ok(limit as usize)
    }

    /// Refuses negative times.
    pub(crate) fn check_times(&self) -> Result<(), Refusal> {
        for (time, field) in [(self.args.start_time, "startTime"), (self.args.end_time, "endTime")] {
            if let Some(time) = time.filter(|time| *time < 0) {
                return Err(Refusal::constraint(&time.to_string(), field, "have value greater than or equal to 0"));
            }
        }
        Ok(())
    }

    /// Refuses groups whose class answers no event calls.
    pub(crate) fn check_class(&self, group: &Group, call: &str) -> Result<(), Refusal> {
        if group.class == "STANDARD" {
            return Ok(());
        }
        Err(Refusal::new(
            "InvalidOperationException",
            format!("{call} operation is not supported on log groups in {} class", group.class),
        ))
    }

    /// The first millisecond that reads show of `group`: `startTime`, and retention where it is enforced.
    pub(crate) fn first_ms(&self, group: &Group) -> i64 {
        self.args.start_time.unwrap_or(0).max(self.kept_ms(group))
    }

    /// The first millisecond that `group` keeps.
    fn kept_ms(&self, group: &Group) -> i64 {
        let days = group.retention.load(std::sync::atomic::Ordering::Relaxed) as i64;
        if self.plan.enforce_retention && days > 0 { self.now - days * 86_400_000 } else { 0 }
    }

    /// Whether a read that met so many empty pages, and no event, gets one more: it began before what is kept of `events`.
    pub(crate) fn is_expired<'a>(
        &self,
        group: &Group,
        events: impl Iterator<Item = &'a Events>,
        sent: Option<Token>,
    ) -> bool {
        let met = sent.map_or(Some(0), |token| token.key.is_between().then_some(token.key.place));
        if self.plan.expired_pages == 0 || met.is_none_or(|met| met >= self.plan.expired_pages) {
            return false;
        }
        let kept = self.kept_ms(group);
        // Where nothing expires, all that lies long before the first event is as empty.
        let end = if kept > 0 { Some(kept) } else { events.filter_map(|e| e.first_from(0)).min() };
        end.is_some_and(|end| self.args.start_time.unwrap_or(0) < end - 60_000)
    }

    /// Whether this answer shows an event.
    pub(crate) fn shows(&self, event: &super::stream::Event) -> bool {
        let missing = &self.plan.missing;
        event.visible(self.now)
            && !(missing.rate > 0.0
                && self.now - event.key().ingestion < missing.young_ms as i64
                && self.state.hit(missing.rate))
    }

    /// Refuses a token that doesn't hold any more.
    pub(crate) fn check_token(&self, token: &str) -> Result<(), Refusal> {
        let holds = self.state.tokens.locked().holds(token, self.plan.token_ttl_ms, std::time::Instant::now());
        if holds { Ok(()) } else { Err(Refusal::invalid("The specified nextToken is expired.")) }
    }

    /// Remembers when a token was given.
    pub(crate) fn give_token(&self, token: &str) {
        self.state.tokens.locked().give(token, std::time::Instant::now());
    }

    /// A group's ARN without `:*`.
    pub(crate) fn group_arn(&self, group: &str) -> String {
        format!("arn:aws:logs:{}:{ACCOUNT}:log-group:{group}", self.plan.region)
    }
}

/// Refuses a group name that the service doesn't take.
pub(crate) fn check_group_name(name: &str) -> Result<(), Refusal> {
    check_length(name, "logGroupName")?;
    if name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_/#".contains(c)) {
        return Ok(());
    }
    Err(Refusal::constraint(name, "logGroupName", r"satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+"))
}

/// Refuses a stream name that the service doesn't take.
pub(crate) fn check_stream_name(name: &str, field: &str) -> Result<(), Refusal> {
    check_length(name, field)?;
    if !name.contains([':', '*']) {
        return Ok(());
    }
    Err(Refusal::constraint(name, field, "satisfy regular expression pattern: [^:*]*"))
}

fn check_length(name: &str, field: &str) -> Result<(), Refusal> {
    match name.chars().count() {
        0 => Err(Refusal::constraint(name, field, "have length greater than or equal to 1")),
        1..=512 => Ok(()),
        _ => Err(Refusal::constraint(name, field, "have length less than or equal to 512")),
    }
}
