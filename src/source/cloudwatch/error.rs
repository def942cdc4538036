//! The SDK's errors into ours: by the service's code, then its HTTP status, then what the transport says.
//!
//! The status alone tells little (the service refuses with 400 throughout, throttling and credentials included). Messages are the
//! service's own sentence, but for refused signatures: those quote the signed request, and with it the session token.

use super::{clock, limit};
use crate::model::printable;
use crate::source::{Call, SourceError, SourceErrorKind};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use std::error::Error;

/// Longest message kept, in characters.
const MAX_MESSAGE: usize = 600;

/// What the failure of `call` means; `with_token` says whether the request carried a page token.
pub(crate) fn classify<E>(call: Call, with_token: bool, error: &SdkError<E, HttpResponse>) -> SourceError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let (kind, message) = match error {
        SdkError::ServiceError(refusal) => {
            let status = refusal.raw().status().as_u16();
            let (code, message) = (refusal.err().code(), refusal.err().message());
            match (code, status) {
                // A success whose body can't be read: the service's own, or the page of a proxy that has everybody sign in.
                (None, 200..=299) => {
                    let kind = if clock::is_dated(refusal.raw()) {
                        SourceErrorKind::Undecodable
                    } else {
                        SourceErrorKind::Network
                    };
                    (kind, format!("the answer was cut or is not JSON: {}", chain(refusal.err())))
                }
                _ => (of_refusal(code, message, status, with_token), sentence(code, message, status)),
            }
        }
        SdkError::TimeoutError(_) => (SourceErrorKind::Timeout, "no answer within the time allowed for a call".into()),
        SdkError::ConstructionFailure(_) => (of_cause(error, SourceErrorKind::Credentials), chain(error)),
        SdkError::DispatchFailure(failure) => {
            let kind = if failure.is_timeout() {
                SourceErrorKind::Timeout
            } else if failure.is_user() {
                SourceErrorKind::Invalid
            } else {
                SourceErrorKind::Network
            };
            let chain = failure.as_connector_error().map_or_else(|| "the request was not sent".into(), |e| chain(e));
            (failure.as_connector_error().map_or(kind, |e| of_cause(e, kind)), chain)
        }
        SdkError::ResponseError(failure) if let Some(size) = limit::exceeded(error, failure.raw()) => {
            (SourceErrorKind::TooLarge, size)
        }
        SdkError::ResponseError(failure) => {
            let kind = match failure.raw().status().as_u16() {
                500..=599 => SourceErrorKind::Unavailable,
                429 => SourceErrorKind::Throttled,
                _ => of_cause(error, SourceErrorKind::Network),
            };
            (kind, format!("the answer was cut or can't be read: {}", chain(error)))
        }
        other => (SourceErrorKind::Network, chain(other)),
    };
    SourceError { kind, call, message: tidy(&message) }
}

/// What is wrong with the credentials themselves, asked for outside any call.
pub(crate) fn of_credentials(error: &CredentialsError) -> (SourceErrorKind, String) {
    (of_cause(error, SourceErrorKind::Credentials), tidy(&chain(error)))
}

/// An answer that lacks what it must hold.
pub(crate) fn unusable(call: Call, lack: &str) -> SourceError {
    SourceError { kind: SourceErrorKind::Undecodable, call, message: format!("the answer can't be used: {lack}") }
}

fn of_refusal(code: Option<&str>, message: Option<&str>, status: u16, with_token: bool) -> SourceErrorKind {
    use SourceErrorKind::*;
    let message = message.unwrap_or_default();
    let code = code.unwrap_or_default();
    match code {
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "LimitExceeded"
        | "TooManyRequestsException"
        | "TooManyRequests"
        | "BandwidthLimitExceeded"
        | "SlowDown" => Throttled,
        "ServiceUnavailableException"
        | "ServiceUnavailable"
        | "InternalFailure"
        | "InternalError"
        | "InternalServerError"
        | "InternalServerException"
        | "InternalServiceError" => Unavailable,
        "RequestTimeout" | "RequestTimeoutException" => Timeout,
        "ResourceNotFoundException" => NotFound,
        "InvalidOperationException" => Unsupported,
        "OptInRequired" | "OptInRequiredException" => Denied,
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "AuthFailure"
        | "RequestExpired"
        | "RequestTimeTooSkewed" => Credentials,
        _ if code.starts_with("ExpiredToken") || code.starts_with("InvalidSignature") => Credentials,
        _ if code.starts_with("AccessDenied") => Denied,
        "InvalidParameterException" if with_token || message.to_ascii_lowercase().contains("token") => InvalidToken,
        _ if message.contains("Rate exceeded") => Throttled,
        _ => match status {
            429 => Throttled,
            500..=599 => Unavailable,
            401 => Credentials,
            403 => Denied,
            408 => Timeout,
            _ => Invalid,
        },
    }
}

fn sentence(code: Option<&str>, message: Option<&str>, status: u16) -> String {
    match (code, message) {
        (Some(code), _) if code.contains("Signature") => {
            format!("{code}: the signature was not accepted: check the secret key and this machine's clock")
        }
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_string(),
        (None, Some(message)) => format!("HTTP status {status}: {message}"),
        (None, None) => format!("HTTP status {status}"),
    }
}

/// `otherwise`, unless a cause further down says it better: a credentials provider that failed, and whether it was for the network.
fn of_cause(error: &(dyn Error + 'static), otherwise: SourceErrorKind) -> SourceErrorKind {
    let mut kind = otherwise;
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(credentials) = error.downcast_ref::<CredentialsError>() {
            kind = match credentials {
                CredentialsError::ProviderTimedOut(_) => SourceErrorKind::Timeout,
                _ => SourceErrorKind::Credentials,
            };
        } else if let Some(connector) = error.downcast_ref::<ConnectorError>() {
            if connector.is_timeout() {
                kind = SourceErrorKind::Timeout;
            } else if connector.is_io() {
                kind = SourceErrorKind::Network;
            }
        }
        cause = error.source();
    }
    kind
}

/// An error's sentence and those of its causes, each once; from the credentials' own on if they are the matter, since what the SDK
/// wraps around them says nothing more.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut causes: Vec<&(dyn Error + 'static)> = std::iter::successors(Some(error), |&error| error.source()).collect();
    if let Some(at) = causes.iter().position(|cause| cause.is::<CredentialsError>()) {
        causes.drain(..at);
    }
    let mut text = String::new();
    for sentence in causes.iter().map(ToString::to_string) {
        if text.is_empty() {
            text = sentence;
        } else if !text.contains(&sentence) {
            text.push_str(": ");
            text.push_str(&sentence);
        }
    }
    // The SDK's own sentence goes on with a paragraph for each provider of the chain.
    if text.contains("no credentials found in chain") {
        return "no credentials were found (environment, profile, web identity, container, instance metadata)".into();
    }
    text
}

fn tidy(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut kept: String = printable(&line).chars().take(MAX_MESSAGE + 1).collect();
    if let Some((cut, _)) = kept.char_indices().nth(MAX_MESSAGE) {
        kept.truncate(cut);
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use SourceErrorKind::*;

    fn kind(code: &str, message: &str, with_token: bool) -> SourceErrorKind {
        of_refusal(Some(code), Some(message), 400, with_token)
    }

    #[test]
    fn codes() {
        for (code, expected) in [
            ("ThrottlingException", Throttled),
            ("Throttling", Throttled),
            ("RequestLimitExceeded", Throttled),
            ("TooManyRequestsException", Throttled),
            ("LimitExceededException", Throttled),
            ("ServiceUnavailableException", Unavailable),
            ("ResourceNotFoundException", NotFound),
            ("InvalidOperationException", Unsupported),
            ("AccessDeniedException", Denied),
            ("AccessDenied", Denied),
            ("OptInRequired", Denied),
            ("UnrecognizedClientException", Credentials),
            ("ExpiredTokenException", Credentials),
            ("ExpiredToken", Credentials),
            ("InvalidSignatureException", Credentials),
            ("SignatureDoesNotMatch", Credentials),
            ("InvalidClientTokenId", Credentials),
            ("InvalidParameterException", Invalid),
            ("ValidationException", Invalid),
        ] {
            assert_eq!(kind(code, "a sentence", false), expected, "{code}");
        }
        assert_eq!(kind("SomethingNew", "Rate exceeded", false), Throttled);
    }

    #[test]
    fn a_parameter_refused_beside_a_token_is_the_token() {
        assert_eq!(kind("InvalidParameterException", "bad", true), InvalidToken);
        assert_eq!(kind("InvalidParameterException", "The specified nextToken is invalid.", false), InvalidToken);
        assert_eq!(kind("InvalidParameterException", "limit out of range", false), Invalid);
        assert_eq!(kind("ResourceNotFoundException", "gone", true), NotFound);
    }

    #[test]
    fn statuses_without_a_code() {
        for (status, expected) in [
            (500, Unavailable),
            (503, Unavailable),
            (429, Throttled),
            (403, Denied),
            (401, Credentials),
            (400, Invalid),
        ] {
            assert_eq!(of_refusal(None, None, status, false), expected, "{status}");
        }
    }

    #[test]
    fn signature_refusals_dont_quote_the_request() {
        let quoted = "The Canonical String should have been x-amz-security-token:SECRET";
        let text = sentence(Some("SignatureDoesNotMatch"), Some(quoted), 400);
        assert!(!text.contains("SECRET") && text.contains("clock"), "{text}");
        assert_eq!(sentence(Some("X"), Some("why"), 400), "X: why");
        assert_eq!(sentence(None, None, 502), "HTTP status 502");
    }

    #[test]
    fn messages_are_one_short_line() {
        assert_eq!(tidy("a\n b\t\u{1b}[31mc"), "a b \\u{1b}[31mc");
        let long = tidy(&"é".repeat(5000));
        assert_eq!(long.chars().count(), MAX_MESSAGE + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn causes() {
        let missing = CredentialsError::not_loaded("nothing configured");
        assert_eq!(of_cause(&missing, Network), Credentials);
        let cut = ConnectorError::io("refused".into());
        assert_eq!(of_cause(&CredentialsError::provider_error(cut), Network), Network);
        let slow = ConnectorError::timeout("slow".into());
        assert_eq!(of_cause(&CredentialsError::provider_error(slow), Network), Timeout);
        assert!(of_credentials(&missing).1.contains("nothing configured"));
        let wrapped = ConnectorError::other(Box::new(missing), None);
        assert!(!chain(&wrapped).contains("other"), "{}", chain(&wrapped));
        let nowhere = CredentialsError::not_loaded("no credentials found in chain. Attempted: a lot");
        assert!(!chain(&nowhere).contains("Attempted"));
    }
}
