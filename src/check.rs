//! `--check`: everything that a mount needs, one step a line, each with `ok` or `FAILED` and the cure.
//!
//! A step that fails doesn't end the check: the next ones are tried with what is there, so that one run names everything that is
//! missing. Secrets are never printed: of the credentials only the provider's name and the last four characters of the key's id.

mod local;
mod service;
#[cfg(test)]
mod tests;

use crate::clock::{ServiceClock, SystemClock};
use crate::error::Error;
use crate::model::{printable, without_password};
use crate::source::cloudwatch::{CloudWatch, ConnectOptions};
use crate::source::{Call, LogSource};
use crate::store::MinFree;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// What to check.
pub struct CheckOptions {
    /// The mount would be open to other users.
    pub allow_other: bool,
    /// The cache folder that the mount would use.
    pub cache_dir: PathBuf,
    /// What must be free on the cache's disk.
    pub min_free: MinFree,
    /// Where events come from.
    pub target: Target,
    /// Makes a mount of nothing, and takes it away.
    pub trial: fn() -> Result<(), Error>,
    /// Prefixes of the groups wanted: permissions are often given for these alone.
    pub group_prefixes: Vec<String>,
    /// A group's exact name, to go on with where listing groups is not allowed.
    pub known_group: Option<String>,
}

/// Where events come from.
pub enum Target {
    /// The service, with region and credentials found out as part of the check.
    CloudWatch(Box<ConnectOptions>),
    /// A source that is there already (the demo).
    Source(Arc<dyn LogSource>),
}

/// Runs every step and writes a line for each to `out`. True if a mount would work.
pub async fn check(options: CheckOptions, out: &mut impl Write) -> bool {
    let mut report = Lines { out, ok: true, broken: None };
    local::fuse(&mut report, &local::Host::this_machine(options.trial), options.allow_other);
    local::cache(&mut report, &options.cache_dir, options.min_free);
    if let Some(source) = connect(&mut report, options.target).await {
        service::calls(&mut report, &*source, &options.group_prefixes, options.known_group.as_deref()).await;
    }
    report.ok && report.broken.is_none()
}

/// Region and credentials. `None` where no call could be made.
async fn connect<W: Write>(report: &mut Lines<'_, W>, target: Target) -> Option<Arc<dyn LogSource>> {
    let options = match target {
        Target::CloudWatch(options) => *options,
        Target::Source(source) => {
            report.ok("region", &source.region());
            return Some(source);
        }
    };
    let profile = options.profile.clone();
    let endpoint =
        options.endpoint_url.as_ref().map_or(String::new(), |url| format!(", endpoint {}", without_password(url)));
    let cloudwatch = match CloudWatch::connect(options, ServiceClock::new(Arc::new(SystemClock))).await {
        Ok(cloudwatch) => cloudwatch,
        Err(error) => {
            report.failed("region", &error.to_string(), None);
            service::skip(report, &Call::NEEDED, "not tried: there is nowhere to send it");
            return None;
        }
    };
    report.ok("region", &format!("{}{endpoint}", cloudwatch.region()));
    match cloudwatch.identity().await {
        Ok(who) => report.ok("credentials", &format!("access key …{} from {}", who.key_tail, who.provider)),
        Err((kind, why)) => {
            let cure = service::credentials_cure(kind, profile.as_deref());
            report.failed("credentials", &why, Some(&cure));
            service::skip(report, &Call::NEEDED, "not tried: there is nothing to sign with");
            return None;
        }
    }
    Some(Arc::new(cloudwatch))
}

/// The lines as they are written; remembers whether any step failed.
struct Lines<'a, W: Write> {
    out: &'a mut W,
    ok: bool,
    broken: Option<io::Error>,
}

impl<W: Write> Lines<'_, W> {
    fn ok(&mut self, step: &str, what: &str) {
        self.line("ok", step, what);
    }

    fn failed(&mut self, step: &str, why: &str, cure: Option<&str>) {
        self.ok = false;
        let text = cure.map_or_else(|| why.to_string(), |cure| format!("{why}; {cure}"));
        self.line("FAILED", step, &text);
    }

    fn skipped(&mut self, step: &str, why: &str) {
        self.line("-", step, why);
    }

    fn line(&mut self, mark: &str, step: &str, text: &str) {
        if self.broken.is_none() {
            self.broken = writeln!(self.out, "{mark:<6}  {step:<19} {}", printable(text)).err();
        }
    }
}
