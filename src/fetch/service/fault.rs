//! Why a transfer failed, before its subject is known; becomes an [`Error`] in a person's words once it is. The one place where errors
//! of the rooms below become [`Error`]s.

use crate::error::{Error, ErrorKind};
use crate::fetch::service::refusals::is_refusal;
use crate::source::{SourceError, SourceErrorKind};
use crate::store::{StoreError, StoreErrorKind};

/// What ended a transfer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The service refused, or didn't answer within the retry budget.
    Source(SourceError),
    /// The cache can't be read or written.
    Store(StoreError),
    /// The mount is going away.
    Stopping,
    /// The task that worked on it died: a defect.
    Died,
    /// The service gave nothing but empty pages, and says that more follow.
    Empties,
    /// Already an error about a subject.
    Known(Error),
}

impl Fault {
    /// The error that a reader of `subject` (`group/stream`) meets.
    pub(crate) fn about(self, subject: &str) -> Error {
        match self {
            Fault::Source(e) => to_error(subject, e),
            Fault::Store(e) => store_error(subject, e),
            Fault::Stopping => Error::new(ErrorKind::Stopping, subject, "the mount is stopping"),
            Fault::Died => {
                Error::new(ErrorKind::Damaged, subject, "the transfer broke off by a defect of this program")
            }
            Fault::Empties => {
                Error::new(ErrorKind::TimedOut, subject, "the service gives one empty page after the other, and no end")
            }
            Fault::Known(e) => e,
        }
    }

    /// Whether the service says that the stream or its group isn't there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Fault::Source(e) if e.kind == SourceErrorKind::NotFound)
    }

    /// Whether the group refuses the call, whatever is asked.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Fault::Source(e) if is_refusal(e.kind))
    }

    /// Whether it is one stream's, and says nothing about others of its group: its copy fails, no call answers for it, or only with
    /// empty pages.
    pub(crate) fn is_of_one_stream(&self) -> bool {
        matches!(self, Fault::Store(_) | Fault::Empties) || self.is_refusal()
    }

    /// Whether a token was too old.
    pub(crate) fn is_invalid_token(&self) -> bool {
        matches!(self, Fault::Source(e) if e.kind == SourceErrorKind::InvalidToken)
    }
}

impl From<SourceError> for Fault {
    fn from(e: SourceError) -> Fault {
        Fault::Source(e)
    }
}

impl From<StoreError> for Fault {
    fn from(e: StoreError) -> Fault {
        Fault::Store(e)
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Fault {
        Fault::Known(e)
    }
}

/// The error of a call about `subject` (a group, or `group/stream`).
fn to_error(subject: &str, error: SourceError) -> Error {
    let call = error.call.name();
    let message = error.message;
    let (kind, cause) = match error.kind {
        SourceErrorKind::NotFound => {
            (ErrorKind::NotFound, format!("CloudWatch Logs has no such log group or stream: {message}"))
        }
        SourceErrorKind::Throttled => (ErrorKind::Unavailable, format!("{call} is over its quota: {message}")),
        SourceErrorKind::Unavailable => {
            (ErrorKind::Unavailable, format!("CloudWatch Logs is unavailable to {call}: {message}"))
        }
        SourceErrorKind::Network => (ErrorKind::TimedOut, format!("{call} didn't get through: {message}")),
        SourceErrorKind::Timeout => (ErrorKind::TimedOut, format!("no answer to {call}: {message}")),
        SourceErrorKind::Denied => {
            (ErrorKind::Denied, format!("logs:{call} is not allowed: {}", without_resource(&message)))
        }
        SourceErrorKind::Credentials => {
            (ErrorKind::Denied, format!("the credentials are missing, expired or not accepted: {message}"))
        }
        // The caller starts again from its position; if that doesn't help either, nothing here is wrong with the request.
        SourceErrorKind::InvalidToken => {
            (ErrorKind::Unavailable, format!("{call} doesn't know its own page token: {message}"))
        }
        SourceErrorKind::Invalid => (ErrorKind::Invalid, format!("{call} refuses the request: {message}")),
        SourceErrorKind::Undecodable => {
            (ErrorKind::Unavailable, format!("{call} gives an answer that can't be read: {message}"))
        }
        // Asking for less was tried before.
        SourceErrorKind::TooLarge => (ErrorKind::Unavailable, format!("{call} can't be used: {message}")),
        SourceErrorKind::Unsupported => {
            (ErrorKind::Unsupported, format!("{call} doesn't serve this log group's class: {message}"))
        }
    };
    Error::new(kind, subject, cause)
}

/// A refusal names the resource, which is the subject once more: without it, what is missing for a thousand streams is one cause.
fn without_resource(message: &str) -> String {
    const BEFORE: &str = " on resource: ";
    /// What may follow it. A stream's name may hold blanks.
    const AFTER: [&str; 2] = [" because no ", " with an explicit deny"];
    let Some((before, resource)) = message.split_once(BEFORE) else { return message.to_owned() };
    let after = AFTER.iter().filter_map(|after| resource.rfind(after)).min().unwrap_or(resource.len());
    format!("{before}{}", &resource[after..])
}

/// The error of the local copy about `subject`.
pub(crate) fn store_error(subject: &str, error: StoreError) -> Error {
    let kind = match error.kind {
        StoreErrorKind::NoSpace => ErrorKind::NoSpace,
        StoreErrorKind::Exhausted => ErrorKind::Unavailable,
        StoreErrorKind::Damaged | StoreErrorKind::CatalogueLost | StoreErrorKind::Refused => ErrorKind::Damaged,
        StoreErrorKind::Sick(_) => ErrorKind::Sick,
        StoreErrorKind::TextLost(_) => ErrorKind::TextLost,
        StoreErrorKind::IndexLost(_) => ErrorKind::IndexLost,
        StoreErrorKind::Missing => ErrorKind::NotFound,
    };
    Error::new(kind, subject, error.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StreamId;
    use crate::source::Call;

    #[test]
    fn kinds_are_the_contracts() {
        let of = |kind| to_error("/g", SourceError { kind, call: Call::GetLogEvents, message: "m\u{1b}".into() });
        for (kind, expected) in [
            (SourceErrorKind::NotFound, ErrorKind::NotFound),
            (SourceErrorKind::Throttled, ErrorKind::Unavailable),
            (SourceErrorKind::Unavailable, ErrorKind::Unavailable),
            (SourceErrorKind::Network, ErrorKind::TimedOut),
            (SourceErrorKind::Timeout, ErrorKind::TimedOut),
            (SourceErrorKind::Denied, ErrorKind::Denied),
            (SourceErrorKind::Credentials, ErrorKind::Denied),
            (SourceErrorKind::InvalidToken, ErrorKind::Unavailable),
            (SourceErrorKind::Invalid, ErrorKind::Invalid),
            (SourceErrorKind::Unsupported, ErrorKind::Unsupported),
            (SourceErrorKind::Undecodable, ErrorKind::Unavailable),
            (SourceErrorKind::TooLarge, ErrorKind::Unavailable),
        ] {
            let error = of(kind);
            assert_eq!(error.kind(), expected, "{kind:?}");
            assert_eq!(error.subject(), "/g");
            assert!(!error.cause().contains('\u{1b}'), "a terminal could be steered");
        }
    }

    #[test]
    fn a_reader_of_a_sick_stream_hears_what_becomes_of_it() {
        let error = StoreError::new(StoreErrorKind::Sick(StreamId(17)), "can't sync 17.text");
        let told = store_error("/g/s", error).to_string();
        assert!(told.contains("made anew") && !told.contains("removing"), "{told}");
    }

    #[test]
    fn what_is_not_allowed_is_one_cause_whatever_it_was_asked_of() {
        let of = |stream: &str, after: &str| {
            let message = format!(
                "AccessDeniedException: User: arn:aws:iam::123456789012:user/reader is not authorized to perform: \
                 logs:GetLogEvents on resource: arn:aws:logs:eu-west-1:123456789012:log-group:/g:log-stream:{stream}{after}"
            );
            to_error("/g/s", SourceError { kind: SourceErrorKind::Denied, call: Call::GetLogEvents, message })
        };
        for after in
            ["", " because no identity-based policy allows the logs:GetLogEvents action", " with an explicit deny"]
        {
            let cause = of("a", after).cause().to_owned();
            assert_eq!(cause, of("no because of b", after).cause());
            assert!(cause.ends_with(&format!("logs:GetLogEvents{after}")), "{cause}");
        }
    }
}
