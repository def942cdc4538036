//! The AWS CLI's files, read as the AWS CLI reads them, for the SDK, which reads them more strictly.
//!
//! The SDK gives up a whole file for an indented line or for text after a `]`, knows no profile whose name has a space, looks for
//! `[services …]` by names that the AWS CLI's users don't write, and runs a `credential_process` wherever this process happens to be. So the files are
//! read here by the rules of Python's `configparser`, which the AWS CLI 2 uses
//! (<https://docs.python.org/3/library/configparser.html>, `botocore/configloader.py`), and given to the SDK in the form that it takes.

use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// AWS_CONFIG_FILE, or `~/.aws/config`.
    pub config: PathBuf,
    /// AWS_SHARED_CREDENTIALS_FILE, or `~/.aws/credentials`.
    pub credentials: PathBuf,
    /// The folder that relative paths in them mean, and where `credential_process` runs.
    pub start: Option<PathBuf>,
}

/// Why a file can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("{0} can't be read: {1}")]
    Unreadable(String, String),
    /// A line that the AWS CLI refuses, too.
    #[error("{path}, line {line}: {what}; correct it (nothing of that file can be used until then)")]
    Line {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// What the files say.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    config: String,
    credentials: String,
    /// Settings by profile, as they were written.
    profiles: BTreeMap<String, BTreeMap<String, String>>,
}

impl Settings {
    /// Reads both files; one that isn't there is empty.
    pub(crate) fn read(places: &Places) -> Result<Settings, FileError> {
        let mut settings = Settings::default();
        let start = places.start.as_deref();
        settings.config = settings.take(&places.config, Kind::Config, start)?;
        settings.credentials = settings.take(&places.credentials, Kind::Credentials, start)?;
        Ok(settings)
    }

    fn take(&mut self, path: &Path, kind: Kind, start: Option<&Path>) -> Result<String, FileError> {
        let shown = path.display().to_string();
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(String::new());
            }
            Err(error) => return Err(FileError::Unreadable(shown, error.to_string())),
        };
        let Ok(text) = String::from_utf8(bytes) else {
            return Err(FileError::Unreadable(shown, "it is no UTF-8 text".into()));
        };
        let sections = parse(&text).map_err(|(line, what)| FileError::Line { path: shown, line, what })?;
        for section in &sections {
            if let Some(name) = kind.profile(&section.name) {
                let profile = self.profiles.entry(name).or_default();
                profile.extend(section.options.iter().map(|option| (option.key.clone(), option.value.clone())));
            }
        }
        Ok(written(&sections, kind, start))
    }

    /// Whether either file has the profile.
    pub(crate) fn has(&self, profile: &str) -> bool {
        self.profiles.contains_key(profile)
    }

    /// All profiles, in order.
    pub(crate) fn profiles(&self) -> BTreeSet<&str> {
        self.profiles.keys().map(String::as_str).collect()
    }

    /// What a profile says.
    pub(crate) fn get(&self, profile: &str, key: &str) -> Option<&str> {
        self.profiles.get(profile)?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The files as the SDK takes them; profiles have the names that [`sdk_name`] gives.
    pub(crate) fn for_the_sdk(&self) -> EnvConfigFiles {
        EnvConfigFiles::builder()
            .with_contents(EnvConfigFileKind::Config, self.config.as_str())
            .with_contents(EnvConfigFileKind::Credentials, self.credentials.as_str())
            .build()
    }
}

/// The name by which the SDK knows a profile: what it takes for no part of a name is escaped, and so is the `%` of an escape, so that two
/// profiles never have one name.
pub(crate) fn sdk_name(name: &str) -> String {
    /// All but what the SDK takes.
    const OTHERS: AsciiSet =
        NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'/').remove(b'.').remove(b'@').remove(b':').remove(b'+');
    utf8_percent_encode(name, &OTHERS).to_string()
}

/// Which of the two files it is: they name profiles differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Config,
    Credentials,
}

impl Kind {
    /// The profile that a section is.
    fn profile(self, section: &str) -> Option<String> {
        match self {
            Kind::Credentials => Some(section.to_owned()),
            Kind::Config if section == "default" => Some(section.to_owned()),
            Kind::Config => named(section).filter(|(kind, _)| kind == "profile").map(|(_, name)| name),
        }
    }

    /// A section's name as the SDK takes it.
    fn header(self, section: &str) -> String {
        match self {
            Kind::Credentials => sdk_name(section),
            Kind::Config => {
                named(section).map_or(section.to_owned(), |(kind, name)| format!("{kind} {}", sdk_name(&name)))
            }
        }
    }
}

/// A section such as `profile "my own"`: what it is, and its name without quotes.
fn named(section: &str) -> Option<(String, String)> {
    let (kind, name) = section.split_once([' ', '\t'])?;
    let name = name.trim();
    let inner = ['"', '\''].iter().find_map(|quote| name.strip_prefix(*quote)?.strip_suffix(*quote));
    // Two words without quotes name nothing.
    let name = inner.or((!name.contains([' ', '\t', '"', '\''])).then_some(name))?;
    Some((kind.to_owned(), name.to_owned()))
}

#[derive(Debug, PartialEq, Eq)]
struct Section {
    name: String,
    options: Vec<Parameter>,
}

/// A setting: `key = value`, and the indented lines beneath it.
#[derive(Debug, PartialEq, Eq)]
struct Parameter {
    key: String,
    value: String,
    more: Vec<String>,
}

/// By `configparser`'s rules: a line that is indented more than the setting before it goes on with that one.
fn parse(text: &str) -> Result<Vec<Section>, (usize, &'static str)> {
    let mut sections: Vec<Section> = Vec::new();
    let mut indent = 0;
    for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let (rest, at) = (line.trim(), line.len() - line.trim_start().len());
        if rest.is_empty() || rest.starts_with(['#', ';']) {
            continue;
        }
        if at > indent
            && let Some(option) = sections.last_mut().and_then(|section| section.options.last_mut())
        {
            option.more.push(rest.to_owned());
            continue;
        }
        indent = at;
        if let Some((name, _)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            sections.push(Section { name: name.trim().to_owned(), options: Vec::new() });
            continue;
        }
        let Some(section) = sections.last_mut() else {
            return Err((number + 1, "a setting before the first [profile …]"));
        };
        let Some((key, value)) = rest.split_once(['=', ':']) else {
            return Err((number + 1, "neither a [profile …] nor a setting (`name = value`)"));
        };
        let key = key.trim().to_ascii_lowercase();
        if key.is_empty() {
            return Err((number + 1, "a setting without a name"));
        }
        section.options.push(Parameter { key, value: value.trim().to_owned(), more: Vec::new() });
    }
    Ok(sections)
}

/// A file for the SDK.
fn written(sections: &[Section], kind: Kind, start: Option<&Path>) -> String {
    let mut out = String::new();
    for section in sections {
        out.push_str(&format!("[{}]\n", kind.header(&section.name)));
        let is_services = named(&section.name).is_some_and(|(kind, _)| kind == "services");
        for option in &section.options {
            let key = if is_services { option.key.replace('_', "-") } else { option.key.clone() };
            out.push_str(&format!("{key} = {}\n", for_the_sdk(option, start)));
            option.more.iter().for_each(|line| out.push_str(&format!("  {line}\n")));
        }
    }
    out
}

fn for_the_sdk(option: &Parameter, start: Option<&Path>) -> String {
    match option.key.as_str() {
        "source_profile" | "sso_session" | "services" => sdk_name(&option.value),
        "credential_process" => start
            .and_then(Path::to_str)
            // What the SDK takes for a comment would cut the line.
            .filter(|start| !option.value.is_empty() && !start.contains(['#', ';', '\n']))
            .map_or(option.value.clone(), |start| {
                format!("cd '{}' || cd / && {}", start.replace('\'', r"'\''"), option.value)
            }),
        _ => option.value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str, credentials: &str) -> Result<Settings, FileError> {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            config: dir.path().join("config"),
            credentials: dir.path().join("credentials"),
            start: Some("/a folder".into()),
        };
        fs::write(&places.config, config).unwrap();
        fs::write(&places.credentials, credentials).unwrap();
        Settings::read(&places)
    }

    async fn sdk(settings: &Settings) -> aws_config::profile::ProfileSet {
        use aws_config::profile::load;
        let (fs, env) = (Default::default(), Default::default());
        load(&fs, &env, &settings.for_the_sdk(), Some("default".into())).await.unwrap()
    }

    #[tokio::test]
    async fn what_the_cli_takes_the_sdk_takes() {
        let config = "\u{feff}# a comment\n  [default] # the first\n  region = eu-west-1\n\n  output: json\n\
            [profile plain]\nREGION=eu-west-2\n\
            [profile \"my own\"]\n    region = eu-west-3\n    source_profile = the 'other'\n    s3 =\n      max = 10\n\
            [preview]\nx = y\n";
        let settings = read(config, "[the 'other']\n aws_access_key_id = AKIA\n").unwrap();
        assert_eq!(Vec::from_iter(settings.profiles()), ["default", "my own", "plain", "the 'other'"]);
        assert_eq!(settings.get("my own", "region"), Some("eu-west-3"));
        assert_eq!(settings.get("default", "output"), Some("json"));
        let sdk = sdk(&settings).await;
        let of = |profile: &str, key: &str| sdk.get_profile(&sdk_name(profile)).unwrap().get(key).map(str::to_owned);
        assert_eq!(of("default", "region").as_deref(), Some("eu-west-1"));
        assert_eq!(of("plain", "region").as_deref(), Some("eu-west-2"));
        assert_eq!(of("my own", "source_profile"), Some(sdk_name("the 'other'")));
        assert_eq!(of("the 'other'", "aws_access_key_id").as_deref(), Some("AKIA"));
    }

    #[tokio::test]
    async fn no_two_profiles_are_one_for_the_sdk() {
        let config = "[profile \"a b\"]\nregion = eu-west-1\n[profile a%20b]\nregion = eu-west-2\n";
        let sdk = sdk(&read(config, "").unwrap()).await;
        let region = |profile: &str| sdk.get_profile(&sdk_name(profile)).unwrap().get("region").map(str::to_owned);
        assert_eq!(region("a b").as_deref(), Some("eu-west-1"));
        assert_eq!(region("a%20b").as_deref(), Some("eu-west-2"));
    }

    #[test]
    fn a_line_that_nobody_takes_is_told_by_its_number() {
        for (config, expected) in [("region = x\n", 1), ("[default]\n# c\nregion\n", 3), ("[default]\n = x\n", 2)] {
            let Err(FileError::Line { line, .. }) = read(config, "") else { panic!("{config:?} is taken") };
            assert_eq!(line, expected);
        }
        assert!(read("", "").unwrap().profiles().is_empty());
    }

    #[test]
    fn helpers_run_in_the_folder_of_the_start() {
        let settings = read("[default]\ncredential_process = ./helper --json\n", "").unwrap();
        assert_eq!(settings.config, "[default]\ncredential_process = cd '/a folder' || cd / && ./helper --json\n");
        assert_eq!(settings.get("default", "credential_process"), Some("./helper --json"));
    }

    #[test]
    fn services_have_the_names_that_the_sdk_looks_for() {
        let settings = read("[services mine]\ncloudwatch_logs =\n  endpoint_url = http://localhost:1\n", "").unwrap();
        assert_eq!(settings.config, "[services mine]\ncloudwatch-logs = \n  endpoint_url = http://localhost:1\n");
    }
}
