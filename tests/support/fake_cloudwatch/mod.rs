//! A server that speaks CloudWatch Logs' protocol, hazards included.
//!
//! Real HTTP/1.1 on 127.0.0.1, JSON 1.1, any credentials. It keeps what it is given in memory and answers as the service was recorded to
//! answer: page limits, tokens, ends, order. What the service does to a reader on bad days is off until a [`Plan`] switches it on.
//! [`Fake::start`] runs one inside a test; the `fake-cloudwatch` example runs one alone, steered over `/_control/`. The oracle
//! tells what a stream's file must hold.

mod account;
mod admin;
mod api;
mod body;
mod chance;
mod clock;
mod control;
mod filter;
mod key;
mod list;
mod locks;
mod oracle;
mod pattern;
mod plan;
mod populate;
mod query;
mod read;
mod server;
mod state;
mod stats;
mod stream;
mod synth;
mod text;
mod writer;

pub(crate) use oracle::OracleEvent;
pub(crate) use plan::{Fault, FaultKind, Hidden, Lag, Limiter, Missing, Plan, Quotas, Slow, Which};
pub(crate) use populate::{GivenEvent, GroupSpec, Populate, StreamSpec, SynthSpec};
pub(crate) use stats::{CallLine, Calls};
pub(crate) use synth::Synth;

use locks::Locked;
use oracle::Oracle;
use state::State;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A server that runs until it is dropped, on threads of its own: it may be used from sync and async tests alike.
pub(crate) struct Fake {
    address: SocketAddr,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

impl Fake {
    /// Starts on a free port.
    pub(crate) fn start(plan: Plan) -> Fake {
        Fake::start_on(plan, 0).expect("a free port on 127.0.0.1")
    }

    /// Starts on a port; 0 is a free one.
    pub(crate) fn start_on(plan: Plan, port: u16) -> std::io::Result<Fake> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("fake").build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::new(plan));
        runtime.spawn(server::serve(state.clone(), listener, address));
        Ok(Fake { address, state, runtime: Some(runtime) })
    }

    /// `http://127.0.0.1:PORT`, for AWS_ENDPOINT_URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The plan in force.
    pub(crate) fn plan(&self) -> Plan {
        (*self.state.plan()).clone()
    }

    /// The service's present moment, in ms since the epoch: the machine's unless the plan says otherwise.
    pub(crate) fn now(&self) -> i64 {
        self.state.now()
    }

    /// Changes the plan in force.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Plan)) {
        let mut plan = self.plan();
        change(&mut plan);
        self.state.set_plan(plan);
    }

    /// What was asked since the start or the last reset.
    pub(crate) fn calls(&self) -> Calls {
        self.state.stats.locked().calls.clone()
    }

    /// The latest calls, oldest first.
    pub(crate) fn call_log(&self) -> Vec<CallLine> {
        self.state.stats.locked().log.iter().cloned().collect()
    }

    /// Forgets what was asked.
    pub(crate) fn reset_calls(&self) {
        *self.state.stats.locked() = Default::default();
    }

    /// Makes a stream of computed events; panics where it can't be.
    pub(crate) fn synth(&self, group: &str, stream: &str, synth: Synth) {
        populate::synth(&self.state, SynthSpec { group: group.into(), stream: stream.into(), synth })
            .expect("valid computed events");
    }

    /// Makes groups and streams; panics where they can't be.
    pub(crate) fn populate(&self, spec: &Populate) -> u64 {
        populate::populate(&self.state, spec).expect("valid groups and streams")
    }

    /// Puts events as one batch made now, without a call and past the checks; group and stream are made if need be. The plan's hazards apply.
    pub(crate) fn put(&self, group: &str, stream: &str, events: &[(i64, &str)]) {
        let bytes: Vec<(i64, &[u8])> = events.iter().map(|(at, text)| (*at, text.as_bytes())).collect();
        self.put_bytes(group, stream, &bytes);
    }

    /// As [`Fake::put`], of messages that may be no text: a surrogate's three bytes are sent as an escape (`\ud83d`), other bytes that are no
    /// UTF-8 as they are.
    pub(crate) fn put_bytes(&self, group: &str, stream: &str, events: &[(i64, &[u8])]) {
        let now = self.now();
        let account = &self.state.account;
        let group =
            account.create_group(group, "STANDARD", now).or_else(|| account.group(group)).expect("the group is there");
        let stream = group.create_stream(stream, now).or_else(|| group.stream(stream)).expect("the stream is there");
        let events: Vec<api::InputEvent> =
            events.iter().map(|(at, text)| api::InputEvent { timestamp: *at, message: text::Text::of(text) }).collect();
        let plan = self.state.plan();
        let args = api::Args::default();
        let call =
            api::Call { state: &self.state, plan: &plan, args: &args, now, force_empty: false, repeat_token: false };
        admin::store(&call, &group, &stream, &events);
    }

    /// What the stream's file must hold: every accepted event, hidden ones included, in the service's order.
    pub(crate) fn oracle(&self, group: &str, stream: &str) -> Vec<u8> {
        self.reader(group, stream, false).bytes()
    }

    /// As [`Fake::oracle`], of those events only that reads show now.
    pub(crate) fn oracle_visible(&self, group: &str, stream: &str) -> Vec<u8> {
        self.reader(group, stream, true).bytes()
    }

    /// The last lines of [`Fake::oracle`], without making the rest.
    pub(crate) fn oracle_tail(&self, group: &str, stream: &str, lines: usize) -> Vec<u8> {
        self.reader(group, stream, false).tail(lines)
    }

    /// The bytes of [`Fake::oracle`] in pieces of about 1 MiB.
    pub(crate) fn oracle_pieces(&self, group: &str, stream: &str) -> impl Iterator<Item = bytes::Bytes> + use<> {
        let mut oracle = self.reader(group, stream, false);
        std::iter::from_fn(move || oracle.next())
    }

    /// (events, bytes of the file) that were accepted.
    pub(crate) fn oracle_size(&self, group: &str, stream: &str) -> (u64, u64) {
        self.state.account.size(group, stream).expect("the stream is there")
    }

    /// Every accepted event in the service's order.
    pub(crate) fn oracle_events(&self, group: &str, stream: &str) -> Vec<OracleEvent> {
        self.reader(group, stream, false).events()
    }

    fn reader(&self, group: &str, stream: &str, visible_only: bool) -> Oracle {
        Oracle::new(&self.state, group, stream, visible_only).expect("the stream is there")
    }

    /// Shows everything that is hidden; tells how many events that were.
    pub(crate) fn release(&self) -> u64 {
        self.state.account.release(None, None, self.now())
    }

    /// Refuses every page token given so far.
    pub(crate) fn expire_tokens(&self) {
        self.state.tokens.locked().expire_all(Instant::now());
    }

    /// Refuses credentials as expired for a time.
    pub(crate) fn expire_credentials(&self, time: Duration) {
        *self.state.expired_until.locked() = Some(Instant::now() + time);
    }

    /// Closes the listener and every connection for a time.
    pub(crate) fn network_down(&self, time: Duration) {
        self.state.down.send_replace(Some(Instant::now() + time));
    }

    /// Ends [`Fake::network_down`] early.
    pub(crate) fn network_up(&self) {
        self.state.down.send_replace(None);
    }

    /// Blocks for ever: the standalone server.
    pub(crate) fn run(self) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(std::future::pending::<()>());
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // A runtime can't be dropped, only sent away, where the test itself is async.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
