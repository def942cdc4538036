//! Calls that a group refuses, whatever is asked: the permission is missing, its class doesn't answer, or the service takes no such request.
//!
//! Both event calls give the same events, so where one is refused the other does the work. Policies differ by group and change while
//! mounted: a refusal is remembered for a minute, during which nobody asks again, and then forgotten.

use crate::source::{Call, SourceError, SourceErrorKind};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a refusal is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Refusals that are remembered at most; an account has thousands of groups.
const MOST: usize = 4096;

const EVENT_CALLS: [Call; 2] = [Call::GetLogEvents, Call::FilterLogEvents];

/// What was refused lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<(Call, String), (Instant, SourceError)>>);

impl Refusals {
    /// The refusal that holds for a call about a group, if there is one.
    pub(crate) fn get(&self, call: Call, group: &str) -> Option<SourceError> {
        let refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.is_empty() {
            return None;
        }
        let (at, error) = refusals.get(&(call, group.to_owned()))?;
        (at.elapsed() < REMEMBERED).then(|| error.clone())
    }

    /// A call about a group failed; `with_token` says whether it asked for a page other than the first.
    pub(crate) fn note(&self, group: &str, error: &SourceError, with_token: bool) {
        if with_token || !is_refusal(error.kind) {
            return;
        }
        // A request that neither call takes may be about one stream's name: the others must still be asked for.
        if error.kind == SourceErrorKind::Invalid && EVENT_CALLS.iter().any(|call| self.get(*call, group).is_some()) {
            return;
        }
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() >= MOST {
            refusals.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if refusals.len() < MOST {
            refusals.insert((error.call, group.to_owned()), (Instant::now(), error.clone()));
        }
    }
}

/// The call itself is refused, and would be for any stream of the group.
pub(crate) fn is_refusal(kind: SourceErrorKind) -> bool {
    matches!(kind, SourceErrorKind::Denied | SourceErrorKind::Unsupported | SourceErrorKind::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: SourceErrorKind) -> SourceError {
        SourceError { kind, call: Call::FilterLogEvents, message: "no".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_remembered_a_group_and_call_for_a_minute() {
        let refusals = Refusals::default();
        refusals.note("/a", &failed(SourceErrorKind::Denied), false);
        assert!(refusals.get(Call::FilterLogEvents, "/a").is_some());
        assert!(refusals.get(Call::GetLogEvents, "/a").is_none());
        assert!(refusals.get(Call::FilterLogEvents, "/b").is_none());
        tokio::time::advance(REMEMBERED).await;
        assert!(refusals.get(Call::FilterLogEvents, "/a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_no_call_takes_doesn_t_close_the_group() {
        let refusals = Refusals::default();
        refusals.note("/a", &failed(SourceErrorKind::Invalid), false);
        refusals.note("/a", &SourceError { call: Call::GetLogEvents, ..failed(SourceErrorKind::Invalid) }, false);
        assert!(refusals.get(Call::GetLogEvents, "/a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_answered_later_is_no_refusal() {
        let refusals = Refusals::default();
        for kind in [SourceErrorKind::Throttled, SourceErrorKind::Credentials, SourceErrorKind::NotFound] {
            refusals.note("/a", &failed(kind), false);
        }
        refusals.note("/a", &failed(SourceErrorKind::Invalid), true);
        assert!(refusals.get(Call::FilterLogEvents, "/a").is_none());
    }
}
