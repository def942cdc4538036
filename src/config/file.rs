//! The settings file: TOML with the long options' names, dashes and underscores alike. An unknown key is an error that names it.

use super::value;
use crate::model::printable;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What the file may set. Values are strings where the option takes them so; they are parsed with the option's own parser.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FileSettings {
    pub(crate) mountpoint: Option<PathBuf>,
    pub(crate) profile: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint_url: Option<String>,
    pub(crate) ca_bundle: Option<PathBuf>,
    pub(crate) log_group_prefix: Option<OneOrMore>,
    pub(crate) log_group: Option<OneOrMore>,
    pub(crate) log_stream: Option<OneOrMore>,
    pub(crate) since: Option<String>,
    pub(crate) names: Option<String>,
    pub(crate) format: Option<String>,
    pub(crate) listing_ttl: Option<String>,
    pub(crate) poll_interval: Option<String>,
    pub(crate) late_window: Option<String>,
    pub(crate) settle_after: Option<String>,
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) cache_size: Option<String>,
    pub(crate) min_free: Option<String>,
    pub(crate) rate: Option<Rates>,
    pub(crate) foreground: Option<bool>,
    pub(crate) allow_other: Option<bool>,
    pub(crate) allow_root: Option<bool>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) dir_mode: Option<String>,
    pub(crate) file_mode: Option<String>,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) verbose: Option<u8>,
    pub(crate) quiet: Option<bool>,
}

/// `"a"` or `["a", "b"]`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    }
}

/// `"get-log-events=25,…"` or a table `{ get-log-events = 25 }`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Rates {
    Text(String),
    Table(std::collections::BTreeMap<String, f64>),
}

impl Rates {
    pub(crate) fn into_rates(self) -> Result<Vec<value::Rate>, String> {
        match self {
            Rates::Text(text) => text.split(',').map(value::rate).collect(),
            Rates::Table(table) => table.iter().map(|(name, rate)| value::rate(&format!("{name}={rate}"))).collect(),
        }
    }
}

/// Reads the file. `Ok(None)`: it isn't there. The error is one line that names the file.
pub(crate) fn read(path: &Path) -> Result<Option<FileSettings>, String> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).map(Some).map_err(|why| format!("{}: {why}", printable(&path.to_string_lossy()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: can't be read: {error}", printable(&path.to_string_lossy()))),
    }
}

pub(crate) fn parse(text: &str) -> Result<FileSettings, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("line {line}: {}", printable(&error.message().replace('\n', "; ")))
    })?;
    let mut settings = toml::Table::new();
    for (key, value) in table {
        let name = key.replace('_', "-");
        if settings.insert(name, value).is_some() {
            return Err(format!("`{}` is given twice", printable(&key)));
        }
    }
    settings.try_into().map_err(|error: toml::de::Error| {
        let why = printable(error.to_string().trim_end()).replace("\\n", " ");
        match why.strip_prefix("unknown field ").and_then(|rest| rest.split_once(", expected")) {
            Some((key, _)) => format!("unknown key {key}; keys are the long options' names"),
            None => why,
        }
    })
}

/// A path from the file: absolute, or under `~/`, since no shell has seen it.
pub(crate) fn path(path: PathBuf, key: &str, home: Option<&Path>) -> Result<PathBuf, String> {
    if let Ok(rest) = path.strip_prefix("~") {
        let home = home.ok_or_else(|| format!("{key} starts with ~, and there is no home folder"))?;
        return Ok(home.join(rest));
    }
    if path.is_absolute() {
        return Ok(path);
    }
    Err(format!("{key} must be an absolute path or start with ~/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_and_underscores_are_the_same() {
        let settings =
            parse("log_group_prefix = \"/aws\"\npoll-interval = \"2s\"\n[rate]\nget_log_events = 5\n").unwrap();
        assert_eq!(settings.log_group_prefix.unwrap().into_vec(), ["/aws"]);
        assert_eq!(settings.poll_interval.as_deref(), Some("2s"));
        assert_eq!(settings.rate.unwrap().into_rates().unwrap().len(), 1);
    }

    #[test]
    fn errors_name_the_key_or_the_line() {
        assert!(parse("nonsense = 1").unwrap_err().contains("nonsense"));
        assert!(parse("a_b = 1\na-b = 2").unwrap_err().contains("twice"));
        assert!(parse("region = \"x\"\nprofile = \n").unwrap_err().starts_with("line 2"));
        let wrong = parse("uid = \"x\"").unwrap_err();
        assert!(wrong.contains("uid") && !wrong.contains('\n'), "{wrong}");
    }

    #[test]
    fn paths_must_stand_by_themselves() {
        let home = Path::new("/home/ada");
        assert_eq!(path("~/logs".into(), "log-file", Some(home)), Ok("/home/ada/logs".into()));
        assert_eq!(path("/x".into(), "log-file", None), Ok("/x".into()));
        assert!(path("x".into(), "log-file", Some(home)).unwrap_err().contains("log-file"));
    }

    #[test]
    fn an_absent_file_is_none() {
        assert!(read(Path::new("/nonexistent/config.toml")).unwrap().is_none());
    }
}
