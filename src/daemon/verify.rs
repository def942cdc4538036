//! `--verify`: the rooms below the tree put together without a mount, on the cache of the mount it speaks of.

use super::lock::{CacheLock, Purpose};
use super::log::Log;
use super::run::{Connected, connect};
use super::{Failure, process};
use crate::config::Config;
use crate::fetch::{Fetch, Since};
use crate::mount::unmount;
use crate::source::DescribeGroups;
use crate::store::Store;
use crate::verify::{VerifyOptions, verify};
use std::io;
use std::sync::Arc;

/// Proves the copies that `globs` chooses (all if empty). Whether all are equal at the end.
pub fn verify_cache(config: &Config, globs: Vec<String>, reread: bool) -> Result<bool, Failure> {
    // What is found is told line by line; the log has only what a person asks for, and errors.
    let log = Log::start(if config.verbosity > 0 { config.verbosity } else { -1 })?;
    let _last_lines = log.last_lines();
    process::raise_open_files_limit();
    process::keep_memory_private();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("can't start: {error}")))?;
    runtime.block_on(async {
        let Connected { source, clock } = connect(config).await?;
        let cache_dir = config.cache_folder(&source.region()).map_err(Failure::new)?;
        let _lock = CacheLock::take(&cache_dir, Purpose::Verify, unmount::is_mounted)?;
        let store = Store::open(&cache_dir)
            .map_err(|error| Failure::new(format!("cache folder {}: {error}", cache_dir.display())))?;
        // Any answer tells the service's time; trouble is met again, and told, where streams are asked for.
        let _ = source.describe_log_groups(DescribeGroups { limit: Some(1), ..DescribeGroups::default() }).await;
        // What is settled by either clock.
        let now = clock.moment().earliest;
        let mut settings = config.fetch_settings(source.quotas());
        // It chooses hours here, not streams.
        let since = settings.selection.since.take();
        let options = VerifyOptions {
            globs,
            selection: settings.selection.clone(),
            since: since.map(|since| match since {
                Since::Ago(ago) => now - ago,
                Since::At(at) => at,
            }),
            settled: now - settings.settle_after,
            now,
            reread,
            quiet: config.verbosity < 0,
        };
        let (fetch, _news) = Fetch::start(source, store.clone(), clock, settings, Arc::default());
        let proved = verify(fetch.clone(), store.clone(), options, &mut io::stdout().lock()).await;
        fetch.stop().await;
        store.close().await.map_err(|error| Failure::new(format!("cache folder {}: {error}", cache_dir.display())))?;
        proved.map_err(Failure::new)
    })
}
