//! The control endpoints under `/_control/`: the same that a test in Rust does on [`super::Fake`].

use super::body::AnswerBody;
use super::locks::Locked;
use super::oracle::Oracle;
use super::plan::Plan;
use super::populate::{self, Populate, SynthSpec};
use super::state::State;
use super::writer::{self, Write};
use hyper::{Method, Response, StatusCode, Uri};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Answers one control request.
pub(crate) fn answer(state: &Arc<State>, method: &Method, uri: &Uri, body: &[u8]) -> Response<AnswerBody> {
    let query = query(uri.query().unwrap_or(""));
    let path = uri.path().trim_start_matches("/_control/");
    if (method, path) == (&Method::GET, "oracle") {
        return oracle(state, &query);
    }
    let done = match (method, path) {
        (&Method::GET, "plan") => Ok(json!(&*state.plan())),
        (&Method::POST, "plan") => merge_plan(state, body),
        (&Method::PUT, "plan") => parse(body).map(|plan: Plan| state.set_plan(plan)).map(|()| json!(&*state.plan())),
        (&Method::GET, "calls") => {
            let stats = state.stats.locked();
            let mut value = json!(stats.calls);
            if query.contains_key("log") {
                value["log"] = json!(stats.log);
            }
            Ok(value)
        }
        (&Method::POST, "calls/reset") => {
            *state.stats.locked() = Default::default();
            Ok(json!({}))
        }
        (&Method::POST, "synth") => {
            parse(body).and_then(|spec: SynthSpec| populate::synth(state, spec)).map(|()| json!({}))
        }
        (&Method::POST, "populate") => {
            parse(body).and_then(|spec: Populate| populate::populate(state, &spec)).map(|n| json!({ "streams": n }))
        }
        (&Method::POST, "write") => parse(body).and_then(|spec: Write| writer::start(state, spec)).map(|()| json!({})),
        (&Method::POST, "release") => {
            let (group, stream) = (query.get("group"), query.get("stream"));
            let released = state.account.release(group.map(String::as_str), stream.map(String::as_str), state.now());
            Ok(json!({ "released": released }))
        }
        (&Method::POST, "expire_tokens") => {
            state.tokens.locked().expire_all(Instant::now());
            Ok(json!({}))
        }
        (&Method::POST, "credentials") => ms(body, "expired_ms").map(|ms| {
            *state.expired_until.locked() = Some(Instant::now() + ms);
            json!({})
        }),
        (&Method::POST, "network") => ms(body, "down_ms").map(|ms| {
            network_down(state, ms);
            json!({})
        }),
        _ => return respond(StatusCode::NOT_FOUND, json!({ "error": "no such control" })),
    };
    match done {
        Ok(value) => respond(StatusCode::OK, value),
        Err(error) => respond(StatusCode::BAD_REQUEST, json!({ "error": error })),
    }
}

/// Closes the listener and every connection for a time, from 20 ms on, so that the request for it is still answered.
pub(crate) fn network_down(state: &State, time: Duration) {
    let down = state.down.clone();
    let until = Instant::now() + time;
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        down.send_replace(Some(until));
    });
}

/// Merges JSON into the plan in force.
pub(crate) fn merge_plan(state: &State, patch: &[u8]) -> Result<Value, String> {
    let patch: Value = parse(patch)?;
    let mut value = json!(&*state.plan());
    merge(&mut value, patch);
    let plan: Plan = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    state.set_plan(plan);
    Ok(value)
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

fn oracle(state: &Arc<State>, query: &HashMap<String, String>) -> Response<AnswerBody> {
    let (Some(group), Some(stream)) = (query.get("group"), query.get("stream")) else {
        return respond(StatusCode::BAD_REQUEST, json!({ "error": "group and stream are needed" }));
    };
    let visible_only = query.contains_key("visible");
    let Some(mut oracle) = Oracle::new(state, group, stream, visible_only) else {
        return respond(StatusCode::NOT_FOUND, json!({ "error": "no such stream" }));
    };
    if let Some(lines) = query.get("tail").and_then(|n| n.parse().ok()) {
        return Response::new(AnswerBody::whole(oracle.tail(lines)));
    }
    match query.get("format").map(String::as_str) {
        Some("events") => respond(StatusCode::OK, json!(oracle.events())),
        Some("size") => {
            let (events, bytes) = state.account.size(group, stream).unwrap_or_default();
            respond(StatusCode::OK, json!({ "events": events, "bytes": bytes }))
        }
        _ => Response::new(AnswerBody::made(move || oracle.next())),
    }
}

fn respond(status: StatusCode, value: Value) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(value.to_string().into_bytes()));
    *response.status_mut() = status;
    response
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(if body.is_empty() { b"{}" } else { body }).map_err(|error| error.to_string())
}

fn ms(body: &[u8], field: &str) -> Result<Duration, String> {
    let value: Value = parse(body)?;
    let ms = value[field].as_u64().ok_or_else(|| format!("{field} is needed"))?;
    Ok(Duration::from_millis(ms))
}

fn query(text: &str) -> HashMap<String, String> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect()
}
