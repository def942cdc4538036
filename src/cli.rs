//! What was typed. Nothing is looked up here: meaning, defaults, environment and file are [`config`](crate::config)'s.
//!
//! `-o` (the way of `/etc/fstab` and `mount`) is rewritten into the long options of the same names and parsed again, so that there
//! is one parser and one kind of message. `mount` hands over the table's first column too: two paths mean `SOURCE MOUNTPOINT`.

// A help text names its environment variable in brackets, which aren't links.
#![allow(rustdoc::broken_intra_doc_links)]

use crate::config::value::{self, Names, Rate};
use crate::fetch::Since;
use crate::render::Format;
use crate::store::MinFree;
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

const USAGE: &str = "cwlogs-mount [OPTIONS] [MOUNTPOINT]
       cwlogs-mount --demo [OPTIONS] MOUNTPOINT
       cwlogs-mount --unmount MOUNTPOINT
       cwlogs-mount --check [OPTIONS]
       cwlogs-mount --check --live [--fresh] MOUNTPOINT
       cwlogs-mount --verify [GLOB]... [OPTIONS]";

const AFTER: &str = "\
Names in [brackets] are environment variables. Flags win over the environment, and it over the file.
DURATION: 1s, 5m, 2h 30m.  SIZE: 500MB, 10GiB.  TIME: 1h (before now), 2026-11-23, 2026-11-23T10:00Z; UTC where no zone is given.
FORMAT: message, timestamped, or a template: {timestamp} {ingestion_time} {log_group} {log_stream} {message}.
Exit status: 0 done, 1 failed, 2 usage.";

/// Mount options that `mount` and fstab use for themselves, or that change nothing here.
const IGNORED_MOUNT_OPTIONS: &[&str] = &[
    "defaults",
    "ro",
    "rw",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "noexec",
    "async",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "diratime",
    "nodiratime",
];

/// Generic options that ask for something else than what a mount here is: left out, and told.
const ODD_MOUNT_OPTIONS: &[&str] = &[
    "sync",
    "dirsync",
    "lazytime",
    "nolazytime",
    "strictatime",
    "nostrictatime",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "silent",
    "loud",
    "nonempty",
    "auto_unmount",
    "default_permissions",
    // No file here is a link.
    "nosymfollow",
    "symfollow",
];

/// Long options that make no sense as mount options.
const NOT_MOUNT_OPTIONS: &[&str] =
    &["unmount", "check", "live", "fresh", "live-child", "verify", "reread", "help", "version", "background-child"];

/// Mounts an AWS account's CloudWatch Logs: a folder for each log group, a read-only file for each stream.
#[derive(Parser, Clone, Debug, Default)]
#[command(
    name = "cwlogs-mount",
    version,
    override_usage = USAGE,
    after_help = AFTER,
    term_width = 110,
    disable_help_flag = true,
    disable_version_flag = true,
    help_template = "{about}\n\n{usage-heading} {usage}\n\n{all-args}{after-help}"
)]
pub struct Cli {
    /// Where to mount; made if only its last part is missing [AWS_LOGS_DIRECTORY]
    #[arg(value_name = "MOUNTPOINT")]
    pub mountpoint: Option<PathBuf>,
    /// Given by `mount`, which passes `SOURCE MOUNTPOINT`; moved to its place at once.
    #[arg(hide = true)]
    second: Option<PathBuf>,

    /// Mount built-in sample logs that keep growing: no account, no network
    #[arg(long, help_heading = "What to do", conflicts_with_all = ["unmount", "check", "profile", "region", "endpoint_url", "ca_bundle"])]
    pub demo: bool,
    /// Unmount MOUNTPOINT; files still open are detached
    #[arg(long, help_heading = "What to do", conflicts_with = "check")]
    pub unmount: bool,
    /// Say what is wrong: credentials, region, each permission, FUSE, cache
    #[arg(long, help_heading = "What to do")]
    pub check: bool,
    /// With --check: whether the daemon of the mount at MOUNTPOINT answers, within 5 s
    #[arg(long, help_heading = "What to do", requires = "check")]
    pub live: bool,
    /// With --live: fail, too, if something is shown from the copy alone
    #[arg(long, help_heading = "What to do", requires = "live")]
    pub fresh: bool,
    /// The process that asks, which is abandoned if it gets no answer.
    #[arg(long, hide = true, requires = "live")]
    pub live_child: bool,
    /// Verify the cached streams GLOB (group/stream; all): count, compare, fetch
    #[arg(
        long,
        value_name = "GLOB",
        num_args = 0..,
        help_heading = "What to do",
        conflicts_with_all = ["unmount", "check"]
    )]
    pub verify: Option<Vec<String>>,
    /// With --verify: read everything again instead of counting by Logs Insights
    #[arg(long, help_heading = "What to do", requires = "verify")]
    pub reread: bool,

    /// Profile of ~/.aws/config [AWS_PROFILE, AWS_DEFAULT_PROFILE]
    #[arg(long, value_name = "NAME", help_heading = "AWS")]
    pub profile: Option<String>,
    /// Region, such as eu-west-1 [AWS_REGION, AWS_DEFAULT_REGION]
    #[arg(long, value_name = "NAME", help_heading = "AWS")]
    pub region: Option<String>,
    /// Another endpoint [AWS_ENDPOINT_URL_CLOUDWATCH_LOGS, AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL", help_heading = "AWS")]
    pub endpoint_url: Option<String>,
    /// Certificates to trust, in PEM [AWS_CA_BUNDLE]
    #[arg(long, value_name = "FILE", help_heading = "AWS")]
    pub ca_bundle: Option<PathBuf>,

    /// Only groups whose names start so; repeatable [LOG_GROUP_NAME_PREFIX]
    #[arg(long, value_name = "PREFIX", help_heading = "Selection")]
    pub log_group_prefix: Vec<String>,
    /// Only groups whose names match (* also matches /); repeatable
    #[arg(long, value_name = "PATTERN", help_heading = "Selection")]
    pub log_group: Vec<String>,
    /// Only streams of this exact name; repeatable [LOG_STREAMS_FILTER]
    #[arg(long, value_name = "NAME", help_heading = "Selection")]
    pub log_stream: Vec<String>,
    /// Only streams with events since, shown whole; --verify: hours since
    #[arg(long, value_name = "TIME", value_parser = value::since, help_heading = "Selection")]
    pub since: Option<Since>,

    /// Names of folders and files: slug (default) or exact, percent-encoded
    #[arg(long, value_name = "KIND", value_parser = value::names, help_heading = "Files")]
    pub names: Option<Names>,
    /// What .log files show of each event (default: message)
    #[arg(long, value_name = "FORMAT", value_parser = value::format, help_heading = "Files")]
    pub format: Option<Format>,
    /// How long a listing is believed (default: 10s)
    #[arg(long, value_name = "DURATION", value_parser = value::listing_ttl, help_heading = "Files")]
    pub listing_ttl: Option<Duration>,
    /// How often open files are asked for new events (default: 1s)
    #[arg(long, value_name = "DURATION", value_parser = value::poll_interval, help_heading = "Files")]
    pub poll_interval: Option<Duration>,
    /// How far back open files are read again for late events (default: 5m)
    #[arg(long, value_name = "DURATION", value_parser = value::window, help_heading = "Files")]
    pub late_window: Option<Duration>,
    /// Age at which events no longer need a second look (default: 15m)
    #[arg(long, value_name = "DURATION", value_parser = value::window, help_heading = "Files")]
    pub settle_after: Option<Duration>,

    /// Folder of the local copy (default: in ~/.cache/cwlogs-mount) [CWLOGS_CACHE_DIR]
    #[arg(long, value_name = "DIR", help_heading = "Cache")]
    pub cache_dir: Option<PathBuf>,
    /// How large the local copy may grow (default: 10GiB)
    #[arg(long, value_name = "SIZE", value_parser = value::cache_size, help_heading = "Cache")]
    pub cache_size: Option<u64>,
    /// What stays free on its disk, as 5% (default) or 20GiB
    #[arg(long, value_name = "SIZE", value_parser = value::min_free, help_heading = "Cache")]
    pub min_free: Option<MinFree>,

    /// Calls a second to start from, as get-log-events=25,filter-log-events=10
    #[arg(long, value_name = "CALL=N,...", value_delimiter = ',', value_parser = value::rate, help_heading = "Quotas")]
    pub rate: Vec<Rate>,

    /// Stay in the foreground and log to the terminal
    #[arg(short, long, help_heading = "Mount")]
    pub foreground: bool,
    /// Let other users in, root among them
    #[arg(long, help_heading = "Mount", conflicts_with = "allow_root")]
    pub allow_other: bool,
    /// Let root in
    #[arg(long, help_heading = "Mount")]
    pub allow_root: bool,
    /// Owner of everything shown (default: yours)
    #[arg(long, value_name = "ID", help_heading = "Mount")]
    pub uid: Option<u32>,
    /// Group of everything shown (default: yours)
    #[arg(long, value_name = "ID", help_heading = "Mount")]
    pub gid: Option<u32>,
    /// Permission bits of folders (default: 700; 755 with --allow-other)
    #[arg(long, value_name = "OCTAL", value_parser = value::mode, help_heading = "Mount")]
    pub dir_mode: Option<u16>,
    /// Permission bits of files (default: 600; 644 with --allow-other)
    #[arg(long, value_name = "OCTAL", value_parser = value::mode, help_heading = "Mount")]
    pub file_mode: Option<u16>,
    /// The first column of fstab, if one was given.
    #[arg(skip)]
    pub source: Option<String>,
    /// Mount options that were given and change nothing here.
    #[arg(skip)]
    pub ignored: Vec<String>,
    /// Options as in /etc/fstab: allow_other, region=..., any long option
    #[arg(short = 'o', value_name = "OPT,...", help_heading = "Mount")]
    pub mount_options: Vec<String>,

    /// Settings file (default: ~/.config/cwlogs-mount/config.toml)
    #[arg(long, value_name = "FILE", help_heading = "Other")]
    pub config: Option<PathBuf>,
    /// Append the log to this file
    #[arg(long, value_name = "FILE", help_heading = "Other")]
    pub log_file: Option<PathBuf>,
    /// Log more; twice for everything
    #[arg(short, long, action = ArgAction::Count, help_heading = "Other", conflicts_with = "quiet")]
    pub verbose: u8,
    /// Log errors only
    #[arg(short, long, help_heading = "Other")]
    pub quiet: bool,
    /// Show the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "Other")]
    version: Option<bool>,
    /// Show this help
    #[arg(short, long, action = ArgAction::Help, help_heading = "Other")]
    help: Option<bool>,

    /// Set by the background start: standard output is the pipe that takes the readiness line.
    #[arg(long, hide = true)]
    pub background_child: bool,
}

impl Cli {
    /// Parses a command line, its program name first. The error prints itself and knows its exit status (help and version: 0).
    pub fn parse_line(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        let line: Vec<OsString> = line.into_iter().collect();
        let first = Cli::try_parse_from(&line)?;
        let mut cli = if first.mount_options.is_empty() {
            first
        } else {
            let mut expanded = line.get(..1).unwrap_or_default().to_vec();
            let mut ignored = Vec::new();
            for options in &first.mount_options {
                expanded.extend(expand_mount_options(options, &mut ignored)?);
            }
            expanded.extend(line.into_iter().skip(1));
            Cli { ignored, ..Cli::try_parse_from(expanded)? }
        };
        cli.take_source()?;
        // Said to clap as a conflict, it would no longer ask for --verify beside --reread.
        if cli.verify.is_some() && cli.mountpoint.is_some() {
            return Err(usage("--verify takes no mount point: the patterns come after it"));
        }
        Ok(cli)
    }

    /// Makes every path absolute, so that the working directory may change.
    pub fn make_paths_absolute(&mut self) -> io::Result<()> {
        let paths =
            [&mut self.mountpoint, &mut self.cache_dir, &mut self.config, &mut self.log_file, &mut self.ca_bundle];
        for path in paths.into_iter().flatten() {
            *path = std::path::absolute(&*path)?;
        }
        Ok(())
    }

    /// Two paths: the first is fstab's source column, which may name the region.
    fn take_source(&mut self) -> Result<(), clap::Error> {
        let Some(second) = self.second.take() else { return Ok(()) };
        let source = self.mountpoint.replace(second).unwrap_or_default().to_string_lossy().into_owned();
        self.source = Some(source.clone());
        match source.strip_prefix("cwlogs") {
            Some("") => Ok(()),
            Some(rest) if rest.len() > 1 && rest.starts_with(':') => {
                if !self.demo && self.region.is_none() {
                    self.region = Some(rest[1..].to_owned());
                }
                Ok(())
            }
            _ => Err(usage(format!(
                "two paths were given, and the first, `{}`, is neither `cwlogs` nor `cwlogs:REGION`",
                crate::model::printable(&source)
            ))),
        }
    }
}

/// An error that prints as clap's own do and exits with 2.
pub fn usage(message: impl std::fmt::Display) -> clap::Error {
    Cli::command().error(ErrorKind::InvalidValue, message)
}

/// One sentence: a table's line has no use for the usage of a command line.
fn mount_option(message: impl std::fmt::Display) -> clap::Error {
    clap::Error::raw(ErrorKind::InvalidValue, format!("{message}\n"))
}

/// What a `umask`, `dmask` or `fmask` takes away of the modes that a plain file system gives.
fn masked(name: &str, value: &str) -> Result<Vec<OsString>, clap::Error> {
    let mask = value::mode(value).map_err(|why| mount_option(format!("mount option `{name}={value}`: {why}")))?;
    let dir = || format!("--dir-mode={:o}", 0o777 & !mask).into();
    let file = || format!("--file-mode={:o}", 0o666 & !mask).into();
    Ok(match name {
        "dmask" => vec![dir()],
        "fmask" => vec![file()],
        _ => vec![dir(), file()],
    })
}

/// `a,b=c` → `--a`, `--b=c`; what only concerns `mount` is left out, and what isn't done goes to `ignored`.
fn expand_mount_options(options: &str, ignored: &mut Vec<String>) -> Result<Vec<OsString>, clap::Error> {
    let command = Cli::command();
    let mut expanded = Vec::new();
    for option in split_commas(options) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option.as_str(), None),
        };
        if name.is_empty() || name.starts_with("x-") || name == "comment" || IGNORED_MOUNT_OPTIONS.contains(&name) {
            continue;
        }
        if ODD_MOUNT_OPTIONS.contains(&name) {
            ignored.push(name.to_owned());
            continue;
        }
        if let ("umask" | "dmask" | "fmask", Some(value)) = (name, value) {
            expanded.extend(masked(name, value)?);
            continue;
        }
        let long = name.replace('_', "-");
        let known = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(long.as_str()) && !NOT_MOUNT_OPTIONS.contains(&long.as_str()));
        let Some(known) = known else {
            let name = crate::model::printable(name);
            return Err(mount_option(format!(
                "unknown mount option `{name}`; `cwlogs-mount --help` names those that there are"
            )));
        };
        match (known.get_action().takes_values(), value) {
            (true, Some(value)) => expanded.push(format!("--{long}={value}").into()),
            (false, None) => expanded.push(format!("--{long}").into()),
            (true, None) => return Err(mount_option(format!("mount option `{name}` needs a value: `{name}=...`"))),
            (false, Some(_)) => return Err(mount_option(format!("mount option `{name}` takes no value"))),
        }
    }
    Ok(expanded)
}

/// Splits at commas; a backslash takes the next character as it is, as libfuse does.
fn split_commas(options: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        match c {
            ',' => parts.push(String::new()),
            _ => {
                let taken = if c == '\\' { chars.next().unwrap_or('\\') } else { c };
                // `parts` starts with one element and never shrinks.
                if let Some(last) = parts.last_mut() {
                    last.push(taken);
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::parse_line(std::iter::once("cwlogs-mount").chain(args.iter().copied()).map(OsString::from))
    }

    fn status(args: &[&str]) -> i32 {
        parse(args).unwrap_err().exit_code()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn generic_mount_options_are_taken_and_unknown_ones_told_in_a_sentence() {
        let cli = parse(&["cwlogs", "/mnt", "-o", "sync,umask=027,nosymfollow,nofail"]).unwrap();
        assert_eq!(cli.ignored, ["sync", "nosymfollow"]);
        assert_eq!((cli.dir_mode, cli.file_mode), (Some(0o750), Some(0o640)));
        assert_eq!(parse(&["/mnt", "-o", "fmask=0133"]).unwrap().file_mode, Some(0o644));
        for options in ["colour=red", "umask=9", "region"] {
            let said = parse(&["/mnt", "-o", options]).unwrap_err().to_string();
            assert!(said.lines().count() == 1 && said.contains("mount option"), "{said}");
            assert_eq!(status(&["/mnt", "-o", options]), 2);
        }
    }

    #[test]
    fn every_option_takes_one_line_of_help() {
        let help = Cli::command().render_help().to_string();
        for line in help.lines() {
            assert!(line.chars().count() <= 110, "{line}");
        }
        for arg in Cli::command().get_arguments().filter(|a| !a.is_hide_set()) {
            if let Some(long) = arg.get_long() {
                let text = arg.get_help().unwrap().to_string();
                let found = help.lines().any(|line| line.contains(&format!("--{long}")) && line.ends_with(&text));
                assert!(found, "--{long}");
            }
        }
    }

    #[test]
    fn mount_options_become_long_options() {
        let cli = parse(&[
            "cwlogs:eu-west-1",
            "/mnt/logs",
            "-o",
            "rw,dev,suid,_netdev,x-systemd.automount,allow_other,uid=7,log_group_prefix=/a\\,b,profile=prod",
        ])
        .unwrap();
        assert!(cli.allow_other);
        assert_eq!(cli.uid, Some(7));
        assert_eq!(cli.log_group_prefix, ["/a,b"]);
        assert_eq!(cli.profile.as_deref(), Some("prod"));
        assert_eq!(cli.region.as_deref(), Some("eu-west-1"));
        assert_eq!(cli.mountpoint.as_deref(), Some(std::path::Path::new("/mnt/logs")));
    }

    #[test]
    fn usage_errors_have_status_two() {
        assert_eq!(status(&["--nonsense"]), 2);
        assert_eq!(status(&["-o", "nonsense", "/mnt"]), 2);
        assert_eq!(status(&["-o", "region", "/mnt"]), 2);
        assert_eq!(status(&["-o", "allow_other=1", "/mnt"]), 2);
        assert_eq!(status(&["-o", "unmount", "/mnt"]), 2);
        assert_eq!(status(&["elsewhere", "/mnt"]), 2);
        assert_eq!(status(&["--allow-other", "--allow-root", "/mnt"]), 2);
        assert_eq!(status(&["--poll-interval", "0s", "/mnt"]), 2);
        assert_eq!(status(&["--rate", "get-log-events", "/mnt"]), 2);
        assert_eq!(status(&["--demo", "--region", "x", "/mnt"]), 2);
        assert_eq!(status(&["/mnt", "--verify"]), 2);
        assert_eq!(status(&["--reread", "/mnt"]), 2);
        assert_eq!(status(&["--verify", "--unmount"]), 2);
        assert_eq!(status(&["--help"]), 0);
        assert_eq!(status(&["--version"]), 0);
    }

    #[test]
    fn verify_takes_what_follows_it() {
        assert_eq!(parse(&["--verify"]).unwrap().verify, Some(Vec::new()));
        let cli = parse(&["--verify", "a/*", "b", "--reread", "--since", "1d"]).unwrap();
        assert_eq!(cli.verify.unwrap(), ["a/*", "b"]);
        assert!(cli.reread && cli.since.is_some());
    }

    #[test]
    fn rates_are_a_list_or_repeated() {
        let cli =
            parse(&["--rate", "get-log-events=5,filter-log-events=2.5", "-o", "rate=describe-log-groups=1", "/m"]);
        assert_eq!(cli.unwrap().rate.len(), 3);
    }
}
