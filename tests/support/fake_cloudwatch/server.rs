//! HTTP: connections, latency, quotas and faults around each call.
//!
//! A call passes credentials, quota and faults as it comes, waits half of its latency, is answered from the state of that moment,
//! and waits the other half. While the network is down nothing listens and every connection is closed.

use super::api::{self, Args, Call, Refusal, Reply};
use super::body::{AnswerBody, Cut, Wire};
use super::clock::{check_signed, http_date};
use super::control;
use super::locks::Locked;
use super::plan::{Fault, FaultKind, Plan};
use super::state::{ACCOUNT, State, machine_now};
use super::stats::CallLine;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// Serves until it is dropped.
pub(crate) async fn serve(state: Arc<State>, listener: TcpListener, address: SocketAddr) {
    let mut listener = Some(listener);
    let mut down = state.down.subscribe();
    loop {
        let until = *down.borrow_and_update();
        if let Some(until) = until {
            listener = None;
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {
                    state.down.send_if_modified(|slot| {
                        let mine = *slot == Some(until);
                        if mine {
                            *slot = None;
                        }
                        mine
                    });
                }
                _ = down.changed() => {}
            }
            continue;
        }
        let Some(open) = &listener else {
            match TcpListener::bind(address).await {
                Ok(bound) => listener = Some(bound),
                // Somebody else's connection may hold the port for a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            continue;
        };
        tokio::select! {
            accepted = open.accept() => {
                if let Ok((stream, _)) = accepted {
                    state.stats.locked().calls.connections += 1;
                    tokio::spawn(connection(state.clone(), stream));
                }
            }
            _ = down.changed() => {}
        }
    }
}

async fn connection(state: Arc<State>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut down = state.down.subscribe();
    let cut = Cut::none();
    let wire = Wire::new(stream, cut.clone());
    let service = service_fn(|request| handle(state.clone(), cut.clone(), request));
    let mut http = hyper::server::conn::http1::Builder::new();
    // The service has a clock of its own.
    let serving = http.auto_date_header(false).serve_connection(TokioIo::new(wire), service);
    tokio::pin!(serving);
    tokio::select! {
        // A connection that breaks is the client's business, or a fault that was asked for.
        _ = &mut serving => {}
        _ = down.wait_for(Option::is_some) => {}
    }
}

async fn handle(state: Arc<State>, cut: Cut, request: Request<Incoming>) -> Result<Response<AnswerBody>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    if head.uri.path().starts_with("/_control/") {
        return Ok(control::answer(&state, &head.method, &head.uri, &body));
    }
    let target = head.headers.get("x-amz-target").and_then(|v| v.to_str().ok()).unwrap_or("");
    let name = target.strip_prefix("Logs_20140328.").unwrap_or("");
    let plan = state.plan();
    let signed = head.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("");
    let is_key = |key: &String| signed.contains(&format!("Credential={key}/"));
    let expired = plan.accepted_key.as_ref().is_some_and(|key| !is_key(key));
    let signed_at = head.headers.get("x-amz-date").and_then(|v| v.to_str().ok());
    let refused = check_signed(&plan, signed_at, state.now());
    let refused = refused.and_then(|()| if expired { Err(expired_credentials()) } else { Ok(()) });
    let mut line = CallLine { at: machine_now(), call: name.into(), ..CallLine::default() };
    let (answer, fault) = call(&state, &plan, name, &body, refused, &mut line).await;
    if fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Hang) {
        line.error = Some("hang".into());
        state.stats.locked().add(line, 0);
        return std::future::pending().await;
    }
    let (status, kind, bytes) = match answer {
        Ok(reply) => {
            line.events = reply.events;
            (200, None, reply.body)
        }
        Err(refusal) => {
            line.error = Some(refusal.kind.clone());
            let body = refusal.body();
            (refusal.status, Some(refusal.kind), body)
        }
    };
    let length = bytes.len();
    let mut body = None;
    let mut bytes = Some(bytes);
    if let Some(fault) = fault {
        let whole = bytes.take().unwrap_or_default();
        match fault.kind {
            FaultKind::ResetBeforeHead => cut.after(0),
            FaultKind::ResetInHead => cut.after(20),
            FaultKind::ResetInBody => cut.after(400 + length / 2),
            FaultKind::TruncatedBody => body = Some(AnswerBody::truncated(whole.clone())),
            FaultKind::EndlessBody => body = Some(AnswerBody::endless(whole.clone())),
            FaultKind::GarbledBody => body = Some(AnswerBody::garbled(whole.clone())),
            FaultKind::SlowBody => body = Some(AnswerBody::slow(whole.clone(), fault.ms)),
            _ => {}
        }
        if line.error.is_none() && !matches!(fault.kind, FaultKind::EmptyPage | FaultKind::RepeatToken) {
            line.error = Some(format!("{:?}", fault.kind));
        }
        bytes = Some(whole);
    }
    let body = body.unwrap_or_else(|| AnswerBody::whole(bytes.unwrap_or_default()));
    state.stats.locked().add(line, length as u64);
    let mut response = Response::builder()
        .status(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST))
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amzn-requestid", format!("{:032x}", state.account.next_batch()));
    if let Some(kind) = kind {
        response = response.header("x-amzn-errortype", kind);
    }
    if plan.date_header {
        response = response.header("date", http_date(state.now()));
    }
    if let Some(age) = plan.age_header {
        response = response.header("age", age);
    }
    Ok(response.body(body).expect("these headers are valid"))
}

/// A call's answer, and the fault of the transport that it meets.
async fn call(
    state: &State,
    plan: &Plan,
    name: &str,
    body: &[u8],
    refused: Result<(), Refusal>,
    line: &mut CallLine,
) -> (Result<Reply, Refusal>, Option<Fault>) {
    let args: Args = match serde_json::from_slice(if body.is_empty() { b"{}" } else { body }) {
        Ok(args) => args,
        Err(error) => return (Err(Refusal::new("SerializationException", error.to_string())), None),
    };
    line.group = args.group_name();
    line.streams = args.stream_names();
    (line.start, line.end, line.limit) = (args.start_time, args.end_time, args.limit);
    (line.from_head, line.token) = (args.start_from_head, args.next_token.clone());

    let group = line.group.as_deref();
    let slow = plan.slow.iter().find(|slow| slow.which.matches(name, group, &line.streams));
    let latency = Duration::from_millis(slow.map_or(plan.latency_ms, |slow| slow.ms));
    let refused = refused.and_then(|()| admit(state, plan, name));
    let fault = match &refused {
        Ok(()) => {
            // Copied out, so that no lock is held below.
            let mut counts = state.faults.locked();
            let mut chance = state.chance.locked();
            let has_token = args.next_token.is_some();
            counts.draw(plan, &mut chance, name, group, &line.streams, has_token).cloned()
        }
        Err(_) => None,
    };
    let refused = refused.and_then(|()| fault.as_ref().map_or(Ok(()), |fault| refuse(fault.kind, name, line)));
    if let Err(refusal) = refused {
        // A refusal takes the plain latency, however slow the stream is.
        tokio::time::sleep(Duration::from_millis(plan.latency_ms)).await;
        return (Err(refusal), None);
    }
    if !latency.is_zero() {
        tokio::time::sleep(latency / 2).await;
    }
    let kind = fault.as_ref().map(|fault| fault.kind);
    let answer = api::answer(
        name,
        &Call {
            state,
            plan,
            args: &args,
            now: state.now(),
            force_empty: kind == Some(FaultKind::EmptyPage),
            repeat_token: kind == Some(FaultKind::RepeatToken),
        },
    );
    if !latency.is_zero() {
        tokio::time::sleep(latency - latency / 2).await;
    }
    (answer, fault)
}

/// Credentials and quota.
fn admit(state: &State, plan: &Plan, name: &str) -> Result<(), Refusal> {
    let expired = state.expired_until.locked().is_some_and(|until| Instant::now() < until);
    if expired {
        return Err(expired_credentials());
    }
    if let Some(kind) = &plan.credentials_error {
        let message = match kind.as_str() {
            "ExpiredTokenException" => return Err(expired_credentials()),
            "UnrecognizedClientException" => "The security token included in the request is invalid.",
            "InvalidSignatureException" => "Signature expired: the clock of the client and of the server differ.",
            _ => "The credentials are not accepted.",
        };
        return Err(Refusal::new(kind, message));
    }
    let mut limits = state.limits.locked();
    let mut chance = state.chance.locked();
    if limits.admit(&plan.quotas, &mut chance, name, Instant::now()) { Ok(()) } else { Err(throttled()) }
}

fn refuse(kind: FaultKind, call: &str, asked: &CallLine) -> Result<(), Refusal> {
    let refusal = match kind {
        FaultKind::InternalError => {
            Refusal { status: 500, ..Refusal::new("InternalFailure", "An internal error occurred.") }
        }
        FaultKind::ServiceUnavailable => Refusal {
            status: 503,
            ..Refusal::new("ServiceUnavailableException", "The service cannot complete the request.")
        },
        FaultKind::Throttle => throttled(),
        FaultKind::AccessDenied => {
            let stream = if call == "GetLogEvents" { asked.streams.first().map_or("", String::as_str) } else { "" };
            let group = asked.group.as_deref().unwrap_or_default();
            Refusal::new(
                "AccessDeniedException",
                format!(
                    "User: arn:aws:iam::{ACCOUNT}:user/reader is not authorized to perform: logs:{call} on resource: \
                     arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{group}:log-stream:{stream} because no identity-based \
                     policy allows the logs:{call} action"
                ),
            )
        }
        FaultKind::ExpiredCredentials => expired_credentials(),
        FaultKind::ExpiredToken => Refusal::invalid("The specified nextToken is expired."),
        _ => return Ok(()),
    };
    Err(refusal)
}

fn throttled() -> Refusal {
    Refusal::new("ThrottlingException", "Rate exceeded")
}

fn expired_credentials() -> Refusal {
    Refusal::new("ExpiredTokenException", "The security token included in the request is expired")
}
