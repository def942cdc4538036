//! Groups and streams by the thousand, with computed or given events, past every check but the names'.

use super::account::{Account, Group};
use super::api::{check_group_name, check_stream_name};
use super::key::Key;
use super::state::State;
use super::stream::Stored;
use super::synth::{Synth, mix};
use super::text::Text;
use serde::Deserialize;
use std::sync::Arc;

/// A whole account, or a part of one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Populate {
    /// Groups.
    pub(crate) groups: Vec<GroupSpec>,
}

/// One group, or `count` of them with a number in the name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GroupSpec {
    /// Name; `{}` stands for the number.
    pub(crate) name: String,
    /// How many; without it, one of that exact name.
    pub(crate) count: Option<u64>,
    /// `STANDARD` unless said.
    pub(crate) class: Option<String>,
    /// Days of retention.
    pub(crate) retention: Option<u32>,
    /// When it was made, in ms; now unless said.
    pub(crate) created: Option<i64>,
    /// Its streams.
    pub(crate) streams: Vec<StreamSpec>,
}

/// One stream, or `count` of them with a number in the name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StreamSpec {
    /// Name; `{}` stands for the number.
    pub(crate) name: String,
    /// How many; without it, one of that exact name.
    pub(crate) count: Option<u64>,
    /// Computed events in each.
    pub(crate) events: u64,
    /// Bytes of each computed message; 99 unless said.
    pub(crate) line_bytes: Option<usize>,
    /// Timestamp of the first computed event, in ms; an hour ago unless said.
    pub(crate) first: Option<i64>,
    /// Between two computed events, in ms; 1 unless said.
    pub(crate) step_ms: Option<i64>,
    /// Between the first events of two streams of the count, in ms.
    pub(crate) stagger_ms: i64,
    /// Ingestion time of all, in ms; 500 ms after each event's own time unless said.
    pub(crate) ingestion: Option<i64>,
    /// Makes the text differ.
    pub(crate) seed: u64,
    /// Given events, as one put after the computed ones.
    pub(crate) messages: Vec<GivenEvent>,
}

/// A given event.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GivenEvent {
    /// In ms.
    pub(crate) timestamp: i64,
    /// In ms; 500 ms after the timestamp unless said.
    #[serde(default)]
    pub(crate) ingestion: Option<i64>,
    /// The text, which may be none (`"cut \\ud83d"`).
    pub(crate) message: Text,
}

/// Computed events for one stream, which is made if need be.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SynthSpec {
    /// The group.
    pub(crate) group: String,
    /// The stream.
    pub(crate) stream: String,
    /// The events.
    #[serde(flatten)]
    pub(crate) synth: Synth,
}

fn group_of(account: &Account, name: &str, class: &str, created: i64) -> Result<Arc<Group>, String> {
    check_group_name(name).map_err(|refusal| refusal.message)?;
    let made = account.create_group(name, class, created);
    Ok(made.or_else(|| account.group(name)).ok_or("the group went away")?)
}

/// Makes one stream of computed events.
pub(crate) fn synth(state: &State, spec: SynthSpec) -> Result<(), String> {
    check_stream_name(&spec.stream, "logStreamName").map_err(|refusal| refusal.message)?;
    if spec.synth.line_bytes < 32 || spec.synth.end < spec.synth.first || spec.synth.first < 0 {
        return Err("line_bytes must be at least 32, and 0 <= first <= end".into());
    }
    if spec
        .synth
        .burst
        .is_some_and(|b| !(0.0..=1.0).contains(&b.events) || b.at < 0.0 || b.time < 0.0 || b.at + b.time > 1.0)
    {
        return Err("a burst's parts must be within 0 and 1".into());
    }
    let group = group_of(&state.account, &spec.group, "STANDARD", state.now())?;
    let made = group.create_stream(&spec.stream, state.now());
    let stream = made.or_else(|| group.stream(&spec.stream)).ok_or("the stream went away")?;
    let synth = Synth { batch: state.account.next_batch(), ..spec.synth };
    if group.set_synth(&stream, synth) { Ok(()) } else { Err("the stream has computed events already".into()) }
}

/// Makes what `spec` says; tells how many streams that are.
pub(crate) fn populate(state: &State, spec: &Populate) -> Result<u64, String> {
    let mut streams = 0;
    for group_spec in &spec.groups {
        for number in 0..group_spec.count.unwrap_or(1) {
            let name = numbered(&group_spec.name, group_spec.count, number);
            let class = group_spec.class.as_deref().unwrap_or("STANDARD");
            let group = group_of(&state.account, &name, class, group_spec.created.unwrap_or_else(|| state.now()))?;
            if let Some(days) = group_spec.retention {
                group.retention.store(days, std::sync::atomic::Ordering::Relaxed);
            }
            for stream_spec in &group_spec.streams {
                for number in 0..stream_spec.count.unwrap_or(1) {
                    stream_of(state, &group, stream_spec, number)?;
                    streams += 1;
                }
            }
        }
    }
    Ok(streams)
}

fn stream_of(state: &State, group: &Group, spec: &StreamSpec, number: u64) -> Result<(), String> {
    let name = numbered(&spec.name, spec.count, number);
    check_stream_name(&name, "logStreamName").map_err(|refusal| refusal.message)?;
    let first = spec.first.unwrap_or_else(|| state.now() - 3_600_000) + spec.stagger_ms * number as i64;
    let made = group.create_stream(&name, first.min(state.now()));
    let stream = made.or_else(|| group.stream(&name)).ok_or("the stream went away")?;
    if spec.events > 0 {
        let seed = name.bytes().fold(spec.seed, |seed, byte| mix(seed ^ byte as u64));
        let line_bytes = spec.line_bytes.unwrap_or(99).max(32);
        let end = first + spec.events as i64 * spec.step_ms.unwrap_or(1).max(0);
        let batch = state.account.next_batch();
        let synth =
            Synth { count: spec.events, line_bytes, first, end, ingestion: spec.ingestion, seed, burst: None, batch };
        if !group.set_synth(&stream, synth) {
            return Err(format!("{name} has computed events already"));
        }
    }
    if !spec.messages.is_empty() {
        let batch = state.account.next_batch();
        let stored = spec.messages.iter().zip(0..).map(|(event, place)| {
            let ingestion = event.ingestion.or(spec.ingestion).unwrap_or(event.timestamp + 500);
            Stored::new(Key { timestamp: event.timestamp, ingestion, batch, place }, event.message.clone(), i64::MIN)
        });
        group.put(&stream, stored.collect(), 0, 0);
    }
    Ok(())
}

fn numbered(name: &str, count: Option<u64>, number: u64) -> String {
    if count.is_some() { name.replace("{}", &format!("{number:06}")) } else { name.into() }
}
