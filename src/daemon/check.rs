//! `--check`, with the configuration of the mount it speaks of.

use super::run::{connect_options, demo_epoch};
use super::{Failure, process};
use crate::check::{CheckOptions, Target, check};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::mount::MountOptions;
use crate::mount::trial::try_mount;
use crate::source::demo::Demo;
use std::io;
use std::sync::Arc;

/// Says step by step what would keep a mount from working. Whether nothing would.
pub fn check_setup(config: &Config) -> Result<bool, Failure> {
    process::keep_memory_private();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("can't start: {error}")))?;
    // The folder's name holds the region; where that isn't known yet, the check of the region says so.
    let region = config.aws.region.as_deref().unwrap_or(if config.demo { "demo" } else { "unknown" });
    let target = if config.demo {
        Target::Source(Arc::new(Demo::new(demo_epoch(), Arc::new(SystemClock))))
    } else {
        Target::CloudWatch(Box::new(connect_options(config)))
    };
    let options = CheckOptions {
        allow_other: config.allow_other,
        cache_dir: config.cache_folder(region).map_err(Failure::new)?,
        min_free: config.limits.min_free,
        target,
        trial: || try_mount(&MountOptions { region: "check".to_owned(), ..MountOptions::default() }),
        group_prefixes: config.selection.group_prefixes.clone(),
        known_group: config.known_group.clone(),
    };
    Ok(runtime.block_on(check(options, &mut io::stdout().lock())))
}
