//! How the client is set up: what was chosen, and the SDK's chain for the rest.
//!
//! Timeouts and the retry mode are set on the service's client only, so that the credential providers (instance metadata, SSO, STS)
//! keep the SDK's own. AWS_ENDPOINT_URL_CLOUDWATCH_LOGS, AWS_ENDPOINT_URL and their names in the profile are read by the SDK when
//! its configuration becomes the service's; an explicit URL goes before them.

use super::clock::ServiceTime;
use super::files::{FileError, Places, Settings, sdk_name};
use super::limit::Limit;
use super::trust::client_that_trusts;
use crate::clock::ServiceClock;
use crate::model::without_password;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::config::AppName;
use aws_sdk_cloudwatchlogs::config::retry::RetryConfig;
use aws_sdk_cloudwatchlogs::config::timeout::TimeoutConfig;
use aws_sdk_cloudwatchlogs::config::{
    Builder, Credentials, IdentityCache, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long fetching credentials may take: `credential_process` helpers and SSO refreshes are slow at times.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(20);

/// Profiles that an error names.
const MOST_NAMED: usize = 12;

/// Where and as whom to connect. What is `None` comes from the SDK's own chain.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Profile of `~/.aws/config`. Where it differs from the environment's (AWS_PROFILE, or else AWS_DEFAULT_PROFILE) it was asked for
    /// by hand, and its credentials go before those of the environment, as with the AWS CLI.
    pub profile: Option<String>,
    /// Region, such as `eu-west-1`.
    pub region: Option<String>,
    /// URL of another endpoint than the region's own.
    pub endpoint_url: Option<String>,
    /// Where the AWS CLI's files are; `None`: nothing is read there but what the loader itself reads.
    pub files: Option<Places>,
    /// The certificates to trust, before those that the profile names.
    pub ca_bundle: Option<PathBuf>,
    /// (access key id, secret) for use where AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY aren't both set.
    pub access_key_fallback: Option<(String, String)>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the first byte of an answer may take.
    pub read_timeout: Duration,
    /// How long one call may take in all: credentials, connection, request, the whole answer.
    pub operation_timeout: Duration,
    /// Asks for masked data as it was (needs logs:Unmask).
    pub unmask: bool,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            profile: None,
            region: None,
            endpoint_url: None,
            files: None,
            ca_bundle: None,
            access_key_fallback: None,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(20),
            operation_timeout: Duration::from_secs(30),
            unmask: false,
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("profile", &self.profile)
            .field("region", &self.region)
            .field("endpoint_url", &self.endpoint_url.as_deref().map(without_password))
            .field("files", &self.files)
            .field("ca_bundle", &self.ca_bundle)
            .field("access_key_fallback", &self.access_key_fallback.as_ref().map(|_| "(hidden)"))
            .field("connect_timeout", &self.connect_timeout)
            .field("read_timeout", &self.read_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("unmask", &self.unmask)
            .finish()
    }
}

/// Why no client could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nothing names a region.
    #[error(
        "no region: give --region, set AWS_REGION, or add `region = …` to the profile `{profile}` in ~/.aws/config"
    )]
    NoRegion {
        /// The profile that was looked at.
        profile: String,
    },
    /// The region can't be one.
    #[error("`{0}` is not a region's name (such as eu-west-1): correct --region, AWS_REGION or the profile")]
    BadRegion(String),
    /// The endpoint can't be one.
    #[error("`{0}` is not an endpoint URL (such as https://logs.eu-west-1.amazonaws.com): correct --endpoint-url")]
    BadEndpoint(String),
    /// One of the AWS CLI's files can't be used.
    #[error("{0}")]
    File(#[from] FileError),
    /// The profile isn't in either file.
    #[error("no profile `{profile}` in {files}: correct --profile or AWS_PROFILE ({there})")]
    NoProfile {
        /// The profile that was asked for.
        profile: String,
        /// Where it was looked for.
        files: String,
        /// The profiles that are there, in words.
        there: String,
    },
    /// The certificates can't be used.
    #[error(
        "the certificates in {path} can't be used: {why}; correct --ca-bundle, AWS_CA_BUNDLE or the profile's ca_bundle"
    )]
    BadCaBundle {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A client, and the provider of what it signs with.
pub(crate) struct Loaded {
    pub(crate) client: Client,
    pub(crate) credentials: Option<SharedCredentialsProvider>,
    pub(crate) region: String,
}

/// The SDK's loader with nothing chosen yet; tests put one in its place that looks at nothing of the machine.
pub(crate) type BaseLoader = fn() -> ConfigLoader;

/// The loader that looks at environment, files and instance metadata.
pub(crate) fn machine_loader() -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
}

/// Reads configuration and credentials sources afresh and makes a client of them, which goes by `clock`. No call of the service.
pub(crate) async fn load(
    options: &ConnectOptions,
    base: BaseLoader,
    clock: &Arc<ServiceClock>,
) -> Result<Loaded, ConnectError> {
    if let Some(url) = options.endpoint_url.as_deref().filter(|url| !is_http_url(url)) {
        return Err(ConnectError::BadEndpoint(without_password(url)));
    }
    let settings = options.files.as_ref().map(Settings::read).transpose()?.unwrap_or_default();
    let profile = options.profile.as_deref().unwrap_or("default");
    if let Some(places) = &options.files
        && profile != "default"
        && !settings.has(profile)
    {
        return Err(no_profile(profile, places, &settings));
    }
    let by_hand = options.profile.as_deref().filter(|profile| env_profile().as_deref() != Some(*profile));
    let mut loader = base().time_source(ServiceTime(clock.clone()));
    if env("AWS_SDK_UA_APP_ID").is_none()
        && let Ok(name) = AppName::new(concat!(env!("CARGO_PKG_NAME"), "-", env!("CARGO_PKG_VERSION")))
    {
        loader = loader.app_name(name);
    }
    if options.files.is_some() {
        loader = loader.profile_files(settings.for_the_sdk()).profile_name(sdk_name(profile));
    } else if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    let http = http_client(options, &settings, profile)?;
    if let Some(http) = &http {
        loader = loader.http_client(http.clone());
    }
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let (None, Some(keys)) = (by_hand, fallback_keys(options)) {
        loader = loader.credentials_provider(keys);
    }
    let sdk = loader.load().await;
    let Some(region) = sdk.region().cloned() else {
        let profile = options.profile.clone().or_else(env_profile).unwrap_or_else(|| "default".into());
        return Err(ConnectError::NoRegion { profile });
    };
    // The region becomes part of a host name.
    if region.as_ref().is_empty() || !region.as_ref().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(ConnectError::BadRegion(region.as_ref().to_string()));
    }
    let credentials = match by_hand {
        Some(profile) => {
            let mut provider = ProviderConfig::without_region()
                .with_region(Some(region.clone()))
                .with_time_source(ServiceTime(clock.clone()));
            if let Some(http) = http {
                provider = provider.with_http_client(http);
            }
            Some(SharedCredentialsProvider::new(of_profile(profile, options, &settings, &provider)))
        }
        None => sdk.credentials_provider(),
    };
    let client = client(options, &sdk, credentials.clone());
    Ok(Loaded { client, credentials, region: region.to_string() })
}

fn client(options: &ConnectOptions, sdk: &SdkConfig, credentials: Option<SharedCredentialsProvider>) -> Client {
    let mut builder = Builder::from(sdk)
        .retry_config(RetryConfig::disabled())
        // Requests are signed by the service's clock already: see `clock`.
        .disable_clock_skew_correction(true)
        .interceptor(Limit)
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(options.connect_timeout)
                .read_timeout(options.read_timeout)
                .operation_timeout(options.operation_timeout)
                .build(),
        )
        // Only notices a transfer that has stopped; the deadline is the operation's.
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(options.read_timeout).build())
        .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS_TIMEOUT).build());
    builder.set_credentials_provider(credentials);
    if let Some(url) = &options.endpoint_url {
        builder = builder.endpoint_url(url);
    }
    Client::from_conf(builder.build())
}

/// The profile's credentials alone: falling back to others would read another account than the one that was named.
fn of_profile(
    profile: &str,
    options: &ConnectOptions,
    settings: &Settings,
    provider: &ProviderConfig,
) -> ProfileFileCredentialsProvider {
    let builder = ProfileFileCredentialsProvider::builder().configure(provider);
    match options.files {
        Some(_) => builder.profile_files(settings.for_the_sdk()).profile_name(sdk_name(profile)).build(),
        None => builder.profile_name(profile).build(),
    }
}

/// A client of its own where certificates are named; `None`: the SDK's.
fn http_client(
    options: &ConnectOptions,
    settings: &Settings,
    profile: &str,
) -> Result<Option<SharedHttpClient>, ConnectError> {
    let start = options.files.as_ref().and_then(|places| places.start.as_deref()).unwrap_or(Path::new("/"));
    let of_profile = || settings.get(profile, "ca_bundle").map(|path| start.join(path));
    let Some(bundle) = options.ca_bundle.clone().or_else(of_profile) else { return Ok(None) };
    let bad = |why| ConnectError::BadCaBundle { path: bundle.display().to_string(), why };
    client_that_trusts(&bundle).map(Some).map_err(bad)
}

fn no_profile(profile: &str, places: &Places, settings: &Settings) -> ConnectError {
    let names: Vec<&str> = settings.profiles().into_iter().collect();
    let there = match names[..] {
        [] => "there is none".to_owned(),
        [..] if names.len() > MOST_NAMED => {
            format!("there are {}, and {} more", names[..MOST_NAMED].join(", "), names.len() - MOST_NAMED)
        }
        [..] => format!("there are: {}", names.join(", ")),
    };
    let files = format!("{} and {}", places.config.display(), places.credentials.display());
    ConnectError::NoProfile { profile: profile.to_owned(), files, there }
}

/// The fallback keys, unless the standard names are set.
fn fallback_keys(options: &ConnectOptions) -> Option<Credentials> {
    let (id, secret) = options.access_key_fallback.as_ref()?;
    if env("AWS_ACCESS_KEY_ID").is_some() && env("AWS_SECRET_ACCESS_KEY").is_some() {
        return None;
    }
    Some(Credentials::new(id, secret, env("AWS_SESSION_TOKEN"), None, "AWS_ACCESS_KEY and AWS_SECRET"))
}

/// The profile that the environment names. The SDK doesn't know the older variable, which the AWS CLI takes.
fn env_profile() -> Option<String> {
    env("AWS_PROFILE").or_else(|| env("AWS_DEFAULT_PROFILE"))
}

/// What the environment names twice, and differently: the newer variable of each is taken, but versions of the AWS CLI differ in that.
pub(crate) fn contradictions() -> Vec<String> {
    let pairs = [("AWS_PROFILE", "AWS_DEFAULT_PROFILE"), ("AWS_REGION", "AWS_DEFAULT_REGION")];
    let differ = |(newer, older): (&str, &str)| {
        let (taken, other) = (env(newer)?, env(older)?);
        (taken != other).then(|| format!("{newer} says {taken} and is taken, {older} says {other}"))
    };
    pairs.into_iter().filter_map(differ).collect()
}

/// An environment variable that is set to something.
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn is_http_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with('/') && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_urls() {
        for good in ["http://127.0.0.1:4566", "https://logs.eu-west-1.amazonaws.com", "http://localhost:1/path"] {
            assert!(is_http_url(good), "{good}");
        }
        for bad in ["localhost:4566", "http://", "https:///x", "ftp://x", "http://a b", ""] {
            assert!(!is_http_url(bad), "{bad}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        let options =
            ConnectOptions { access_key_fallback: Some(("AKIDX".into(), "hush".into())), ..ConnectOptions::default() };
        let text = format!("{options:?}");
        assert!(!text.contains("hush") && !text.contains("AKIDX"), "{text}");
    }

    #[tokio::test]
    async fn a_bad_region_or_endpoint_is_told() {
        let base: BaseLoader = || machine_loader().empty_test_environment().no_credentials();
        let clock = ServiceClock::new(Arc::new(crate::clock::SystemClock));
        let options = ConnectOptions { region: Some("eu west".into()), ..ConnectOptions::default() };
        assert_eq!(load(&options, base, &clock).await.err(), Some(ConnectError::BadRegion("eu west".into())));
        let options = ConnectOptions { endpoint_url: Some("localhost".into()), ..ConnectOptions::default() };
        assert_eq!(load(&options, base, &clock).await.err(), Some(ConnectError::BadEndpoint("localhost".into())));
    }
}
