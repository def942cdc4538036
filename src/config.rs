//! What is meant: flags, environment and file resolved once, in that order of precedence.
//!
//! Resolving is pure but for reading the settings file: the environment comes in as [`Env`]. SIGHUP resolves again from the same
//! flags and environment; [`Config::fixed_differences`] says what a running mount can't take over.

pub(crate) mod file;
pub mod value;

use crate::cli::Cli;
use crate::fetch::{FetchSettings, Selection};
use crate::model::{printable, without_password};
use crate::render::Format;
use crate::source::Quotas;
use crate::source::cloudwatch::Places;
use crate::store::{Limits, MinFree};
use file::FileSettings;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use value::{Names, Rate};

/// How long one waiting request may go without progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that the cache may grow to by default.
const CACHE_SIZE: u64 = 10 << 30;
/// What stays free on its disk by default.
const MIN_FREE: MinFree = MinFree::Percent(5.0);

/// Looks up an environment variable.
pub type Lookup = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What the process was given from outside.
pub struct Env {
    /// An environment variable; unset, empty and not Unicode are the same.
    pub var: Lookup,
    /// The home folder.
    pub home: Option<PathBuf>,
    /// The folder in which the program was started.
    pub start: Option<PathBuf>,
    /// XDG_CONFIG_HOME or its default.
    pub config_home: Option<PathBuf>,
    /// XDG_CACHE_HOME or its default.
    pub cache_home: Option<PathBuf>,
    /// Effective user and group.
    pub ids: (u32, u32),
}

impl Env {
    /// This process's.
    pub fn of_process() -> Env {
        Env {
            var: Box::new(|name| std::env::var(name).ok().filter(|value| !value.is_empty())),
            home: dirs::home_dir(),
            start: std::env::current_dir().ok(),
            config_home: dirs::config_dir(),
            cache_home: dirs::cache_dir(),
            ids: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        }
    }

    fn var(&self, name: &str) -> Option<String> {
        (self.var)(name)
    }
}

/// Why there is no configuration: one line, and whether the command line is to blame (status 2) or something else (status 1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The command line says too little or contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// The environment or the file is wrong.
    #[error("{0}")]
    Invalid(String),
}

/// How to reach the account. What is `None` is left to the SDK's own chain.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Aws {
    /// Profile of `~/.aws/config`.
    pub profile: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Another endpoint.
    pub endpoint_url: Option<String>,
    /// Where the AWS CLI's files are; `None` where nothing tells.
    pub files: Option<Places>,
    /// Certificates to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// (key id, secret) of AWS_ACCESS_KEY and AWS_SECRET, where the standard names aren't both set.
    pub access_key_fallback: Option<(String, String)>,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws")
            .field("profile", &self.profile)
            .field("region", &self.region)
            .field("endpoint_url", &self.endpoint_url.as_deref().map(without_password))
            .field("files", &self.files)
            .field("ca_bundle", &self.ca_bundle)
            .field("access_key_fallback", &self.access_key_fallback.as_ref().map(|_| "(hidden)"))
            .finish()
    }
}

/// Everything resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// The built-in samples instead of an account.
    pub demo: bool,
    /// Absolute; `None` only where the command needs none (`--check`).
    pub mountpoint: Option<PathBuf>,
    /// How to reach the account.
    pub aws: Aws,
    /// What is shown.
    pub selection: Selection,
    /// A group that the selection names exactly, where it does.
    pub known_group: Option<String>,
    /// How things are named.
    pub names: Names,
    /// What files show of an event.
    pub format: Format,
    /// How long a listing is believed.
    pub listing_ttl: Duration,
    /// How often followed streams are asked.
    pub poll_interval: Duration,
    /// How far back followed streams are read again.
    pub late_window: Duration,
    /// When a range counts as settled.
    pub settle_after: Duration,
    /// Rates that replace the region's defaults.
    pub rates: Vec<Rate>,
    /// The cache folder asked for; `None` takes one under `cache_home`.
    pub cache_dir: Option<PathBuf>,
    /// XDG_CACHE_HOME or its default.
    pub cache_home: Option<PathBuf>,
    /// How large the cache may grow.
    pub limits: Limits,
    /// Stay in the foreground.
    pub foreground: bool,
    /// Let other users in.
    pub allow_other: bool,
    /// Let root in.
    pub allow_root: bool,
    /// Owner shown.
    pub uid: u32,
    /// Group shown.
    pub gid: u32,
    /// Permission bits of folders.
    pub dir_mode: u16,
    /// Permission bits of files.
    pub file_mode: u16,
    /// Where the log goes, if not the default.
    pub log_file: Option<PathBuf>,
    /// −1 quiet, 0 normal, 1 and 2 more.
    pub verbosity: i8,
    /// What decides the selection, comparably: a set of globs can't be compared.
    selection_key: String,
}

impl Config {
    /// Resolves `cli` (its paths already absolute) over `env` over the settings file.
    pub fn resolve(cli: &Cli, env: &Env) -> Result<Config, ConfigError> {
        let (file, file_path) = read_file(cli, env)?;
        let said = |key: &str, why: String| ConfigError::Invalid(format!("{}: {key}: {why}", printable(&file_path)));
        macro_rules! from_file {
            ($key:literal, $field:ident, $parse:path) => {
                file.$field.as_deref().map($parse).transpose().map_err(|why| said($key, why))
            };
        }
        let in_file = |path: Option<PathBuf>, key: &str| {
            path.map(|p| file::path(p, key, env.home.as_deref())).transpose().map_err(|why| said(key, why))
        };

        let allow_other = cli.allow_other || (file.allow_other.unwrap_or(false) && !cli.allow_root);
        let allow_root = cli.allow_root || (file.allow_root.unwrap_or(false) && !cli.allow_other);
        if allow_other && allow_root {
            return Err(ConfigError::Invalid(format!(
                "{}: allow-other and allow-root exclude each other; allow-other lets root in too",
                printable(&file_path)
            )));
        }
        let verbosity = match (cli.quiet, cli.verbose) {
            (true, _) => -1,
            (false, 0) if file.quiet.unwrap_or(false) => -1,
            (false, 0) => file.verbose.unwrap_or(0).min(2) as i8,
            (false, typed) => typed.min(2) as i8,
        };

        let mountpoint = match &cli.mountpoint {
            Some(path) => Some(path.clone()),
            None => match env.var("AWS_LOGS_DIRECTORY") {
                Some(path) => Some(absolute("AWS_LOGS_DIRECTORY", path)?),
                None => in_file(file.mountpoint.clone(), "mountpoint")?,
            },
        };
        let cache_dir = match (&cli.cache_dir, env.var("CWLOGS_CACHE_DIR")) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(path)) => Some(absolute("CWLOGS_CACHE_DIR", path)?),
            (None, None) => in_file(file.cache_dir.clone(), "cache-dir")?,
        };
        let ca_bundle = match (&cli.ca_bundle, env.var("AWS_CA_BUNDLE")) {
            (Some(path), _) => Some(path.clone()),
            (None, Some(path)) => Some(absolute("AWS_CA_BUNDLE", path)?),
            (None, None) => in_file(file.ca_bundle.clone(), "ca-bundle")?,
        };
        let log_file = match &cli.log_file {
            Some(path) => Some(path.clone()),
            None => in_file(file.log_file.clone(), "log-file")?,
        };

        let names = cli.names.or(from_file!("names", names, value::names)?).unwrap_or_default();
        let format = cli.format.clone().or(from_file!("format", format, value::format)?).unwrap_or_default();
        let listing_ttl = cli.listing_ttl.or(from_file!("listing-ttl", listing_ttl, value::listing_ttl)?);
        let poll_interval = cli.poll_interval.or(from_file!("poll-interval", poll_interval, value::poll_interval)?);
        let late_window = cli.late_window.or(from_file!("late-window", late_window, value::window)?);
        let settle_after = cli.settle_after.or(from_file!("settle-after", settle_after, value::window)?);
        let limits = Limits {
            size: cli.cache_size.or(from_file!("cache-size", cache_size, value::cache_size)?).unwrap_or(CACHE_SIZE),
            min_free: cli.min_free.or(from_file!("min-free", min_free, value::min_free)?).unwrap_or(MIN_FREE),
        };
        let dir_mode = cli.dir_mode.or(from_file!("dir-mode", dir_mode, value::mode)?);
        let file_mode = cli.file_mode.or(from_file!("file-mode", file_mode, value::mode)?);
        let since = cli.since.or(from_file!("since", since, value::since)?);
        let (uid, gid) = (cli.uid.or(file.uid), cli.gid.or(file.gid));
        let foreground = cli.foreground || file.foreground.unwrap_or(false);
        let rates = match file.rate {
            Some(rates) if cli.rate.is_empty() => rates.into_rates().map_err(|why| said("rate", why))?,
            _ => cli.rate.clone(),
        };

        let listed = |typed: &[String], env: Option<Vec<String>>, file: Option<file::OneOrMore>| {
            if typed.is_empty() {
                env.or(file.map(file::OneOrMore::into_vec)).unwrap_or_default()
            } else {
                typed.to_vec()
            }
        };
        let group_prefixes = listed(
            &cli.log_group_prefix,
            env.var("LOG_GROUP_NAME_PREFIX").map(|prefix| vec![prefix]),
            file.log_group_prefix,
        );
        let from_env = env.var("LOG_STREAMS_FILTER").map(|text| value::stream_list(&text));
        let from_env =
            from_env.transpose().map_err(|why| ConfigError::Invalid(format!("LOG_STREAMS_FILTER: {why}")))?;
        let streams = listed(&cli.log_stream, from_env, file.log_stream);
        let patterns = listed(&cli.log_group, None, file.log_group);
        let group_patterns = value::patterns(&patterns).map_err(|why| match cli.log_group.is_empty() {
            true => said("log-group", why),
            false => ConfigError::Usage(format!("--log-group: {}", printable(&why))),
        })?;
        let known_group = patterns.iter().find(|pattern| !pattern.contains(['*', '?', '[', '{', '\\'])).cloned();
        let selection_key = format!("{group_prefixes:?} {patterns:?} {streams:?} {since:?}");

        let demo = cli.demo;
        let aws = if demo {
            Aws::default()
        } else {
            Aws {
                profile: cli
                    .profile
                    .clone()
                    .or_else(|| env.var("AWS_PROFILE"))
                    .or_else(|| env.var("AWS_DEFAULT_PROFILE"))
                    .or(file.profile),
                region: cli
                    .region
                    .clone()
                    .or_else(|| env.var("AWS_REGION"))
                    .or_else(|| env.var("AWS_DEFAULT_REGION"))
                    .or(file.region),
                endpoint_url: cli.endpoint_url.clone().or_else(|| endpoint_of_env(env)).or(file.endpoint_url),
                files: places(env),
                ca_bundle,
                access_key_fallback: access_key_fallback(env),
            }
        };

        Ok(Config {
            demo,
            mountpoint,
            aws,
            selection: Selection { group_prefixes, group_patterns, streams, since },
            known_group,
            names,
            format,
            listing_ttl: listing_ttl.unwrap_or(Duration::from_secs(10)),
            poll_interval: poll_interval.unwrap_or(Duration::from_secs(1)),
            late_window: late_window.unwrap_or(Duration::from_secs(300)),
            settle_after: settle_after.unwrap_or(Duration::from_secs(900)),
            rates,
            cache_dir,
            cache_home: env.cache_home.clone(),
            limits,
            foreground,
            allow_other,
            allow_root,
            uid: uid.unwrap_or(env.ids.0),
            gid: gid.unwrap_or(env.ids.1),
            // The kernel answers other users from what the owner asked for. These bits keep them out, unless everybody may ask.
            // Write bits for the owner, though nothing can be written: the kernel checks them first, and without them a change
            // would be refused with EACCES there and never reach the daemon's EROFS (nor its own notices of growth).
            dir_mode: dir_mode.unwrap_or(if allow_other { 0o755 } else { 0o700 }),
            file_mode: file_mode.unwrap_or(if allow_other { 0o644 } else { 0o600 }),
            log_file,
            verbosity,
            selection_key,
        })
    }

    /// The mount point, or the usage error that it is missing.
    pub fn required_mountpoint(&self) -> Result<&Path, ConfigError> {
        self.mountpoint
            .as_deref()
            .ok_or_else(|| ConfigError::Usage("no mount point: give MOUNTPOINT, or set AWS_LOGS_DIRECTORY".to_owned()))
    }

    /// What fetch works by; `quotas` are the source's.
    pub fn fetch_settings(&self, mut quotas: Quotas) -> FetchSettings {
        for &(call, rate) in &self.rates {
            *quotas.of_mut(call) = rate;
        }
        FetchSettings {
            selection: self.selection.clone(),
            poll_interval: self.poll_interval,
            late_window: self.late_window,
            settle_after: self.settle_after,
            listing_ttl: self.listing_ttl,
            quotas,
            patience: PATIENCE,
        }
    }

    /// The cache folder for the region that the source turned out to have.
    pub fn cache_folder(&self, region: &str) -> Result<PathBuf, ConfigError> {
        if let Some(dir) = &self.cache_dir {
            return Ok(dir.clone());
        }
        let home = self.cache_home.as_ref().ok_or_else(|| {
            ConfigError::Invalid("no home folder to keep the cache in: give --cache-dir, or set HOME".to_owned())
        })?;
        let name = if self.demo { "demo".to_owned() } else { self.cache_name(region) };
        Ok(home.join("cwlogs-mount").join(name))
    }

    /// Readable, and told apart by a hash where the readable part isn't exact.
    fn cache_name(&self, region: &str) -> String {
        let profile = self.aws.profile.as_deref().unwrap_or("default");
        let endpoint = self.aws.endpoint_url.as_deref().unwrap_or("");
        let readable: String = format!("{profile}-{region}")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
            .take(60)
            .collect();
        let hash = xxhash_rust::xxh3::xxh3_64(format!("{profile}\0{region}\0{endpoint}").as_bytes());
        format!("{}-{:08x}", readable.trim_start_matches('.'), hash as u32)
    }

    /// Whether `other` fetches differently.
    pub fn fetches_differently(&self, other: &Config) -> bool {
        let key = |c: &Config| {
            (c.listing_ttl, c.poll_interval, c.late_window, c.settle_after, c.rates.clone(), c.selection_key.clone())
        };
        key(self) != key(other)
    }

    /// Takes `running`'s values for all that only a new mount can change.
    pub fn keep_fixed(&mut self, running: &Config) {
        *self = Config {
            selection: self.selection.clone(),
            known_group: self.known_group.clone(),
            selection_key: self.selection_key.clone(),
            listing_ttl: self.listing_ttl,
            poll_interval: self.poll_interval,
            late_window: self.late_window,
            settle_after: self.settle_after,
            rates: self.rates.clone(),
            limits: self.limits,
            verbosity: self.verbosity,
            ..running.clone()
        };
    }

    /// Options whose new values only a new mount can take over.
    pub fn fixed_differences(&self, other: &Config) -> Vec<&'static str> {
        let pairs = [
            ("mountpoint", self.mountpoint != other.mountpoint),
            ("profile", self.aws.profile != other.aws.profile),
            ("region", self.aws.region != other.aws.region),
            ("ca-bundle", self.aws.ca_bundle != other.aws.ca_bundle),
            ("endpoint-url", self.aws.endpoint_url != other.aws.endpoint_url),
            ("names", self.names != other.names),
            ("format", self.format != other.format),
            ("cache-dir", self.cache_dir != other.cache_dir),
            ("foreground", self.foreground != other.foreground),
            ("allow-other", self.allow_other != other.allow_other),
            ("allow-root", self.allow_root != other.allow_root),
            ("uid", self.uid != other.uid),
            ("gid", self.gid != other.gid),
            ("dir-mode", self.dir_mode != other.dir_mode),
            ("file-mode", self.file_mode != other.file_mode),
            ("log-file", self.log_file != other.log_file),
        ];
        pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// The file's settings, and its path for messages.
fn read_file(cli: &Cli, env: &Env) -> Result<(FileSettings, String), ConfigError> {
    let default = env.config_home.as_ref().map(|home| home.join("cwlogs-mount").join("config.toml"));
    let Some(path) = cli.config.as_ref().or(default.as_ref()) else { return Ok(Default::default()) };
    let shown = path.to_string_lossy().into_owned();
    match file::read(path).map_err(ConfigError::Invalid)? {
        Some(settings) => Ok((settings, shown)),
        None if cli.config.is_some() => {
            Err(ConfigError::Invalid(format!("{}: no such file; check --config", printable(&shown))))
        }
        None => Ok(Default::default()),
    }
}

fn absolute(name: &str, path: String) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|error| ConfigError::Invalid(format!("{name}: {error}")))
}

/// The AWS CLI's files, as its environment names them.
fn places(env: &Env) -> Option<Places> {
    let place = |variable: &str, name: &str| match env.var(variable) {
        Some(path) => Some(match (path.strip_prefix("~/"), &env.home, &env.start) {
            (Some(rest), Some(home), _) => home.join(rest),
            (_, _, Some(start)) => start.join(path),
            (_, _, None) => path.into(),
        }),
        None => Some(env.home.as_ref()?.join(".aws").join(name)),
    };
    Some(Places {
        config: place("AWS_CONFIG_FILE", "config")?,
        credentials: place("AWS_SHARED_CREDENTIALS_FILE", "credentials")?,
        start: env.start.clone(),
    })
}

fn endpoint_of_env(env: &Env) -> Option<String> {
    if env.var("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        return None;
    }
    env.var("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS").or_else(|| env.var("AWS_ENDPOINT_URL"))
}

fn access_key_fallback(env: &Env) -> Option<(String, String)> {
    if env.var("AWS_ACCESS_KEY_ID").is_some() && env.var("AWS_SECRET_ACCESS_KEY").is_some() {
        return None;
    }
    Some((env.var("AWS_ACCESS_KEY")?, env.var("AWS_SECRET")?))
}

#[cfg(test)]
mod tests;
