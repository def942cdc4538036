//! A writer inside the server: many streams that grow at a steady rate, each event telling when it was put.
//!
//! A writer of its own over HTTP would take more of the machine than what is measured.

use super::account::Group;
use super::api::{Args, Call, InputEvent};
use super::state::State;
use super::{admin, chance::Chance};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// How often it puts.
const TICK: Duration = Duration::from_millis(50);

/// Streams that grow for a time; made if need be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Write {
    /// The group.
    group: String,
    /// The streams' names; `{}` stands for the number.
    stream: String,
    /// How many streams.
    streams: u64,
    /// Events a second, over all streams, each to a stream by chance.
    per_second: f64,
    /// Bytes of each message: `put MILLISECONDS `, filled up.
    line_bytes: usize,
    /// For how long; 0 only makes the streams.
    seconds: f64,
}

/// Makes the streams and begins to write, in a task of its own.
pub(crate) fn start(state: &Arc<State>, spec: Write) -> Result<(), String> {
    let account = &state.account;
    let made = account.create_group(&spec.group, "STANDARD", state.now());
    let group = made.or_else(|| account.group(&spec.group)).ok_or("the group went away")?;
    for number in 0..spec.streams {
        group.create_stream(&name(&spec, number), state.now());
    }
    if spec.seconds > 0.0 {
        tokio::spawn(write(state.clone(), group, spec));
    }
    Ok(())
}

async fn write(state: Arc<State>, group: Arc<Group>, spec: Write) {
    let mut chance = Chance::new(spec.streams);
    let mut tick = tokio::time::interval(TICK);
    let ticks = (spec.seconds / TICK.as_secs_f64()) as u64;
    let mut written = 0;
    for number in 1..=ticks {
        tick.tick().await;
        let due = (number as f64 * TICK.as_secs_f64() * spec.per_second) as u64;
        while written < due {
            written += 1;
            let stream = name(&spec, chance.between(0, spec.streams.saturating_sub(1)));
            let Some(stream) = group.stream(&stream) else { continue };
            let (plan, args, now) = (state.plan(), Args::default(), state.now());
            let call = Call { state: &state, plan: &plan, args: &args, now, force_empty: false, repeat_token: false };
            let mut message = format!("put {now} ");
            message.extend(std::iter::repeat_n('x', spec.line_bytes.saturating_sub(message.len())));
            admin::store(&call, &group, &stream, &[InputEvent { timestamp: now, message: message.into() }]);
        }
    }
}

fn name(spec: &Write, number: u64) -> String {
    spec.stream.replace("{}", &format!("{number:06}"))
}
