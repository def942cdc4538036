//! Calls that a group refuses, whatever is asked: the permission is missing, its class doesn't answer, or the service takes no such request.
//!
//! Both event calls give the same events, so where one is refused the other does the work. Policies differ by group and change while
//! mounted: a refusal is remembered for a minute, during which it isn't asked again, and then forgotten, or sooner where the other call is
//! refused, too: then nothing can be read, and which of them is allowed by now must be found out soon. A page of several streams that
//! can't be read at all is none of these streams' fault: for a minute they are asked one by one, as if such pages were refused.

use crate::source::{Call, SourceError, SourceErrorKind};
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long a refusal is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How long it is remembered where the other call is refused, too.
const REMEMBERED_IN_NEED: Duration = Duration::from_secs(5);
/// Refusals that are remembered at most; an account has thousands of groups.
const MOST: usize = 4096;

const EVENT_CALLS: [Call; 2] = [Call::GetLogEvents, Call::FilterLogEvents];

/// What was refused lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<(Call, String), (Instant, SourceError)>>);

impl Refusals {
    /// The refusal that holds for a call about a group, if there is one.
    pub(crate) fn get(&self, call: Call, group: &str) -> Option<SourceError> {
        let refusals = lock(&self.0);
        if refusals.is_empty() {
            return None;
        }
        let (at, error) = refusals.get(&(call, group.to_owned()))?;
        (at.elapsed() < REMEMBERED).then(|| error.clone())
    }

    /// A call about a group failed.
    pub(crate) fn note(&self, about: &About, error: &SourceError) {
        let is_remembered = match error.kind {
            SourceErrorKind::Undecodable | SourceErrorKind::TooLarge => !about.one_stream,
            kind => is_refusal(kind) && !about.with_token,
        };
        if !is_remembered {
            return;
        }
        let group = about.group.as_str();
        // A request that neither call takes may be about one stream's name, and a policy may allow GetLogEvents by stream: the others must
        // still be asked for.
        let is_by_stream = error.kind == SourceErrorKind::Invalid || error.call == Call::GetLogEvents;
        if is_by_stream && EVENT_CALLS.iter().any(|call| self.get(*call, group).is_some()) {
            let mut refusals = lock(&self.0);
            for other in EVENT_CALLS.into_iter().filter(|other| *other != error.call) {
                let key = (other, group.to_owned());
                if refusals.get(&key).is_some_and(|(at, _)| at.elapsed() >= REMEMBERED_IN_NEED) {
                    refusals.remove(&key);
                }
            }
            return;
        }
        let mut refusals = lock(&self.0);
        if refusals.len() >= MOST {
            refusals.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        refusals.remove(&(Call::GetLogEvents, group.to_owned()));
        if refusals.len() < MOST {
            refusals.insert((error.call, group.to_owned()), (Instant::now(), error.clone()));
        }
    }
}

/// What a call for events asked for.
#[derive(Debug)]
pub(crate) struct About {
    /// The group's exact name.
    pub(crate) group: String,
    /// It was for a page other than the first.
    pub(crate) with_token: bool,
    /// It was for one stream alone.
    pub(crate) one_stream: bool,
}

/// The call itself is refused, or can't be read, and would be if it was asked again: the other one may do.
pub(crate) fn is_refusal(kind: SourceErrorKind) -> bool {
    use SourceErrorKind::{Denied, Invalid, TooLarge, Undecodable, Unsupported};
    matches!(kind, Denied | Unsupported | Invalid | Undecodable | TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: SourceErrorKind) -> SourceError {
        SourceError { kind, call: Call::FilterLogEvents, message: "no".into() }
    }

    fn about(with_token: bool) -> About {
        About { group: "/a".into(), with_token, one_stream: true }
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_of_several_that_can_t_be_read_has_them_asked_one_by_one() {
        let refusals = Refusals::default();
        for kind in [SourceErrorKind::Undecodable, SourceErrorKind::TooLarge] {
            refusals.note(&about(true), &failed(kind));
            assert!(refusals.get(Call::FilterLogEvents, "/a").is_none(), "one stream's page is that stream's own");
            refusals.note(&About { one_stream: false, ..about(true) }, &failed(kind));
            assert_eq!(refusals.get(Call::FilterLogEvents, "/a").unwrap().kind, kind);
            tokio::time::advance(REMEMBERED).await;
            assert!(refusals.get(Call::FilterLogEvents, "/a").is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_a_group_and_call_for_a_minute() {
        let refusals = Refusals::default();
        refusals.note(&about(false), &failed(SourceErrorKind::Denied));
        assert!(refusals.get(Call::FilterLogEvents, "/a").is_some());
        assert!(refusals.get(Call::GetLogEvents, "/a").is_none());
        assert!(refusals.get(Call::FilterLogEvents, "/b").is_none());
        tokio::time::advance(REMEMBERED).await;
        assert!(refusals.get(Call::FilterLogEvents, "/a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_no_call_takes_doesn_t_close_the_group() {
        let refusals = Refusals::default();
        refusals.note(&about(false), &failed(SourceErrorKind::Invalid));
        refusals.note(&about(false), &SourceError { call: Call::GetLogEvents, ..failed(SourceErrorKind::Invalid) });
        assert!(refusals.get(Call::GetLogEvents, "/a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_no_call_may_read_doesn_t_close_the_group() {
        for calls in [[Call::GetLogEvents, Call::FilterLogEvents], [Call::FilterLogEvents, Call::GetLogEvents]] {
            let refusals = Refusals::default();
            for call in calls {
                refusals.note(&about(false), &SourceError { call, ..failed(SourceErrorKind::Denied) });
            }
            assert!(refusals.get(Call::GetLogEvents, "/a").is_none(), "policies may allow it by stream");
            assert!(refusals.get(Call::FilterLogEvents, "/a").is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_other_call_is_refused_too_the_first_is_asked_again_soon() {
        let refusals = Refusals::default();
        let get = SourceError { call: Call::GetLogEvents, ..failed(SourceErrorKind::Denied) };
        refusals.note(&about(false), &failed(SourceErrorKind::Denied));
        refusals.note(&about(false), &get);
        assert!(
            refusals.get(Call::FilterLogEvents, "/a").is_some(),
            "not at once: a read would go from one to the other"
        );
        tokio::time::advance(REMEMBERED_IN_NEED).await;
        assert!(refusals.get(Call::FilterLogEvents, "/a").is_some(), "while the other call does the work");
        refusals.note(&about(false), &get);
        assert!(refusals.get(Call::FilterLogEvents, "/a").is_none(), "the policies may have changed places");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_answered_later_is_no_refusal() {
        let refusals = Refusals::default();
        for kind in [SourceErrorKind::Throttled, SourceErrorKind::Credentials, SourceErrorKind::NotFound] {
            refusals.note(&about(false), &failed(kind));
        }
        refusals.note(&about(true), &failed(SourceErrorKind::Invalid));
        assert!(refusals.get(Call::FilterLogEvents, "/a").is_none());
    }
}
