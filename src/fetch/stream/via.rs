//! The two calls that read a stream.

use crate::source::Call;

/// By which call a stream is read. Their quotas are separate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Get,
    Filter,
}

impl Via {
    /// The call.
    pub(crate) fn call(self) -> Call {
        match self {
            Via::Get => Call::GetLogEvents,
            Via::Filter => Call::FilterLogEvents,
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Via {
        match self {
            Via::Get => Via::Filter,
            Via::Filter => Via::Get,
        }
    }
}
