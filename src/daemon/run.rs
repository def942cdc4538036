//! From a configuration to a mount and back: the one place where the rooms are put together.
//!
//! Order of the start: terminal left, signals listened to, source reached, cache locked, mount point ready, store recovered, fetch,
//! tree, mount; only then `ready`. Order of the end: detach, answer what waits, write out, remove what was made, unlock. An
//! unmount from outside and a signal end alike. After a signal the session isn't waited for long: files still open elsewhere keep
//! a detached session alive.

use super::background::{self, Parent};
use super::housekeeping::{keep_house, write_sizes};
use super::lock::{CacheLock, Purpose};
use super::log::Log;
use super::signals::{Ask, Signals, Terminal};
use super::{Failure, notify, process};
use crate::cli::Cli;
use crate::clock::{ServiceClock, SystemClock};
use crate::config::{Config, Env};
use crate::error::{Error, ErrorKind};
use crate::fetch::{Fetch, FetchSettings};
use crate::model::{Timestamp, printable};
use crate::mount::Mount;
use crate::mount::options::MountOptions;
use crate::mount::unmount::{self, MountPoint};
use crate::report::Report;
use crate::report::status::MountFacts;
use crate::source::cloudwatch::{self, CloudWatch, ConnectOptions, Places};
use crate::source::demo::Demo;
use crate::source::{LogSource, Quotas};
use crate::store::{Limits, Store};
use crate::tree::{Tree, TreeSettings};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// How long a detached session may take to end after a signal.
const SESSION_END: Duration = Duration::from_secs(1);
/// How long writing out may take.
const WRITE_OUT: Duration = Duration::from_secs(10);
/// How long what still runs may take once everything is written.
const LEFTOVERS: Duration = Duration::from_millis(500);

/// Mounts and stays until unmounted; or, for the background, until the mount of the process started for that is ready.
pub fn run(cli: Cli, env: Env, config: Config) -> Result<(), Failure> {
    if let (Some(source), Some(mountpoint)) = (&cli.source, &config.mountpoint)
        && unmount::is_served(mountpoint, source)
    {
        // `mount -a` compares its table with the sources shown, and asks for what is there already.
        return Ok(());
    }
    if !config.foreground && !cli.background_child {
        return background::launch();
    }
    let parent = cli.background_child.then(Parent::adopt).transpose()?;
    if parent.is_none() && process::has_terminal() {
        Terminal::Own.is();
    }
    let log = Log::start(config.verbosity)?;
    let last_lines = log.last_lines();
    if !cli.ignored.is_empty() {
        tracing::info!(options = %cli.ignored.join(","), "these mount options change nothing here");
    }
    process::raise_open_files_limit();
    process::keep_memory_private();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4)))
        .thread_name("cwlogs")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("can't start threads: {error}")))?;
    let stop = CancellationToken::new();
    let (reload, reloads) = tokio::sync::mpsc::channel(1);
    let signals = runtime.block_on(async { Signals::listen() });
    let signals = signals.map_err(|error| Failure::new(format!("can't listen to signals: {error}")))?;
    runtime.spawn(pass_on(signals, stop.clone(), reload));

    let in_background = parent.is_some();
    let failure = match Running::start(&runtime, &config, &log, in_background, &stop) {
        Ok(Some(running)) => {
            let told = parent.map_or(Ok(()), Parent::ready);
            if told.is_err() {
                stop.cancel();
            }
            let status = format!("serving {}", printable(&running.mountpoint.path().to_string_lossy()));
            notify::ready(&status);
            if let Some(within) = notify::watchdog() {
                runtime.spawn(feed_watchdog(running.mount.clone(), within / 2));
            }
            let Running { fetch, store, tree, quotas, .. } = &running;
            let (fetch, store, tree, quotas) = (fetch.clone(), store.clone(), tree.clone(), *quotas);
            runtime.spawn(reload_on_request(
                reloads,
                Reloading { cli, env, config, log, quotas, fetch, store, tree, status },
            ));
            runtime.spawn(keep_house(running.store.clone(), running.fetch.clone(), stop.clone()));
            runtime.spawn(write_sizes(running.store.clone(), stop.clone()));
            return running.until_ended(runtime, &stop).and(told);
        }
        // Stopped before it was mounted: nothing to say in the foreground, nothing left behind.
        Ok(None) if parent.is_none() => return Ok(()),
        Ok(None) => Failure::new("stopped by a signal before the mount was ready"),
        Err(failure) => failure,
    };
    match parent {
        Some(parent) => {
            drop(last_lines);
            parent.fail(&failure)
        }
        None => Err(failure),
    }
}

/// Tells systemd that requests are served, for as long as one that goes through the mount itself is answered.
async fn feed_watchdog(mount: Arc<Mount>, every: Duration) {
    loop {
        let asked = mount.clone();
        match tokio::task::spawn_blocking(move || asked.answers()).await {
            Ok(true) => notify::alive(),
            Ok(false) => tracing::warn!("the mount doesn't answer; the watchdog isn't told that it does"),
            Err(_) => return,
        }
        tokio::time::sleep(every).await;
    }
}

/// Passes signals on.
async fn pass_on(mut signals: Signals, stop: CancellationToken, reload: tokio::sync::mpsc::Sender<()>) {
    loop {
        match signals.next().await {
            Ask::Stop => stop.cancel(),
            // A reload that is still waiting reads the newest file too.
            Ask::Reload => drop(reload.try_send(())),
        }
    }
}

/// A mount with everything beneath it.
struct Running {
    mount: Arc<Mount>,
    fetch: Arc<Fetch>,
    store: Arc<Store>,
    tree: Arc<Tree>,
    mountpoint: MountPoint,
    quotas: Quotas,
    _lock: CacheLock,
}

impl Running {
    /// `None`: `stop` came first.
    fn start(
        runtime: &Runtime,
        config: &Config,
        log: &Log,
        in_background: bool,
        stop: &CancellationToken,
    ) -> Result<Option<Running>, Failure> {
        if let Some(path) = &config.log_file {
            log.to_file(path)?;
        }
        let asked = config.required_mountpoint().map_err(Failure::new)?;
        let connected = runtime.block_on(async {
            tokio::select! {
                source = connect(config) => Some(source),
                () = stop.cancelled() => None,
            }
        });
        let Some(Connected { source, clock }) = connected.transpose()? else { return Ok(None) };
        let region = source.region();
        let quotas = source.quotas();
        let cache_dir = config.cache_folder(&region).map_err(Failure::new)?;

        // The lock before the mount point: a daemon that is just ending removes the folder that it made, then unlocks.
        let resolved = unmount::resolve(asked).map_err(Failure::new)?;
        refuse_overlap(&cache_dir, &resolved)?;
        let lock = CacheLock::take(&cache_dir, Purpose::Mount(&resolved), unmount::is_mounted)?;
        let mountpoint = MountPoint::prepare(&resolved).map_err(Failure::new)?;
        let parts = Parts { config, log, in_background, source, clock, region, quotas, cache_dir };
        match parts.assemble(runtime, mountpoint.path()) {
            Ok(Assembled { mount, fetch, store, tree }) => {
                Ok(Some(Running { mount: Arc::new(mount), fetch, store, tree, mountpoint, quotas, _lock: lock }))
            }
            Err(failure) => {
                mountpoint.clean_up();
                Err(failure)
            }
        }
    }

    /// Waits for a signal or an unmount, then ends everything in order. Fails if the mount broke.
    fn until_ended(self, runtime: Runtime, stop: &CancellationToken) -> Result<(), Failure> {
        let (ended, session_end) = mpsc::channel();
        let waits = self.mount.clone();
        let watched = stop.clone();
        let watching = thread::Builder::new().name("session-end".to_owned()).spawn(move || {
            waits.wait();
            // First, so that an unmount isn't taken for a signal. The receiver is gone if this took too long.
            let _ = ended.send(());
            watched.cancel();
        });
        if let Err(error) = watching {
            tracing::error!("can't watch the mount: {error}");
            stop.cancel();
        }
        runtime.block_on(stop.cancelled());
        notify::stopping();
        let mut ended = Ok(());
        if session_end.try_recv().is_ok() {
            if self.mount.is_dead() {
                ended = Err(Failure::broken(
                    "the connection to the kernel ended under the mount; mount again, and see `dmesg` for who ended it",
                ));
                tracing::warn!("the connection to the kernel ended under the mount");
                self.mount.stop();
            } else {
                tracing::info!("unmounted from outside");
            }
        } else {
            self.mount.stop();
            let _ = session_end.recv_timeout(SESSION_END);
        }
        let written = runtime.block_on(async {
            let all = async {
                self.fetch.stop().await;
                self.store.close().await
            };
            tokio::time::timeout(WRITE_OUT, all).await
        });
        match written {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => {
                tracing::warn!("stopped; the cache wasn't written out, the next start recovers it: {error}")
            }
            Err(_) => tracing::warn!("stopped; writing out took too long, the next start recovers the cache"),
        }
        self.mountpoint.clean_up();
        runtime.shutdown_timeout(LEFTOVERS);
        ended
    }
}

/// What a mount is put together from.
struct Parts<'a> {
    config: &'a Config,
    log: &'a Log,
    in_background: bool,
    source: Arc<dyn LogSource>,
    clock: Arc<ServiceClock>,
    region: String,
    quotas: Quotas,
    cache_dir: PathBuf,
}

/// What a mount consists of.
struct Assembled {
    mount: Mount,
    fetch: Arc<Fetch>,
    store: Arc<Store>,
    tree: Arc<Tree>,
}

impl Parts<'_> {
    fn assemble(self, runtime: &Runtime, mountpoint: &Path) -> Result<Assembled, Failure> {
        let Parts { config, log, in_background, source, clock, region, quotas, cache_dir } = self;
        if in_background && config.log_file.is_none() {
            log.to_cache(&cache_dir)?;
        }
        let store = Store::open(&cache_dir).map_err(|error| {
            Failure::new(format!("cache folder {}: {error}; give --cache-dir another folder", cache_dir.display()))
        })?;
        suspect_on_panic(store.dir());
        let _inside = runtime.enter();
        limit(&store, config.limits);
        let report = Arc::new(Report::default());
        if let Some(why) = store.rebuilt() {
            let what =
                format!("the catalogue was damaged and is rebuilt from the cached files, under new inodes ({why})");
            report.error(&Error::new(ErrorKind::IndexLost, cache_dir.to_string_lossy(), what));
        }
        report.describe(MountFacts {
            pid: std::process::id(),
            since: Timestamp::from_system_time(SystemTime::now()),
            region: region.clone(),
            profile: config.aws.profile.clone(),
            endpoint_url: config.aws.endpoint_url.clone(),
            mountpoint: mountpoint.to_owned(),
            cache_dir,
        });
        let settings: FetchSettings = config.fetch_settings(quotas);
        let (fetch, news) = Fetch::start(source, store.clone(), clock, settings, report.clone());
        let tree = Tree::new(fetch.clone(), store.clone(), report, tree_settings(config));
        runtime.spawn(tree.clone().hear(news));
        let options = MountOptions {
            region: region.clone(),
            allow_other: config.allow_other,
            allow_root: config.allow_root,
            extra: Vec::new(),
        };
        let mount = Mount::start(tree.clone(), mountpoint, &options, runtime.handle().clone()).map_err(|error| {
            let (subject, cause) = (error.subject(), error.cause());
            Failure::new(format!("can't mount {subject}: {cause}; `cwlogs-mount --check` says what is missing"))
        })?;
        let shown = printable(&mountpoint.to_string_lossy());
        tracing::info!(version = env!("CARGO_PKG_VERSION"), mountpoint = %shown, region = %printable(&region), "mounted");
        Ok(Assembled { mount, fetch, store, tree })
    }
}

/// Has a panic noted in the cache folder `dir` beside what is done about it now. It may come from the database, of a page that isn't what
/// was written, and end the process: then the next start verifies the whole catalogue.
fn suspect_on_panic(dir: &Path) {
    let (dir, earlier) = (dir.to_owned(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        Store::suspect_catalogue(&dir);
        earlier(info);
    }));
}

/// Bounds the cache, and makes it smaller in the background if it is too large by now. Must be called inside the runtime.
fn limit(store: &Arc<Store>, limits: Limits) {
    store.set_limits(limits);
    let store = store.clone();
    tokio::spawn(async move {
        if let Err(error) = store.make_room().await {
            tracing::warn!(%error, "the cache is too large and could not be made smaller");
        }
    });
}

fn tree_settings(config: &Config) -> TreeSettings {
    TreeSettings {
        names: config.names,
        format: config.format.clone(),
        uid: config.uid,
        gid: config.gid,
        dir_mode: config.dir_mode,
        file_mode: config.file_mode,
        inotify_interval: config.poll_interval / 2,
    }
}

/// A service, and its clock.
pub(super) struct Connected {
    pub(super) source: Arc<dyn LogSource>,
    pub(super) clock: Arc<ServiceClock>,
}

pub(super) async fn connect(config: &Config) -> Result<Connected, Failure> {
    let machine = Arc::new(SystemClock);
    if config.demo {
        let source = Arc::new(Demo::new(demo_epoch(), machine.clone()));
        return Ok(Connected { source, clock: ServiceClock::of_this_machine(machine) });
    }
    let clock = ServiceClock::new(machine);
    for contradiction in cloudwatch::contradictions() {
        tracing::warn!("{}; unset one of them", printable(&contradiction));
    }
    let source = CloudWatch::connect(connect_options(config), clock.clone()).await.map_err(Failure::new)?;
    Ok(Connected { source: Arc::new(source), clock })
}

/// The demo's history begins at the start of the present hour: its cache stays good over remounts within the hour.
pub(super) fn demo_epoch() -> Timestamp {
    const HOUR_MS: i64 = 3_600_000;
    let now = Timestamp::from_system_time(SystemTime::now());
    Timestamp(now.0 - now.0 % HOUR_MS)
}

/// How the account is reached; `--check` goes the same way.
pub(super) fn connect_options(config: &Config) -> ConnectOptions {
    ConnectOptions {
        profile: config.aws.profile.clone(),
        region: config.aws.region.clone(),
        endpoint_url: config.aws.endpoint_url.clone(),
        files: config.aws.files.clone().map(|places| away_from(config.mountpoint.as_deref(), places)),
        ca_bundle: config.aws.ca_bundle.clone(),
        access_key_fallback: config.aws.access_key_fallback.clone(),
        ..ConnectOptions::default()
    }
}

/// Nothing is run beneath our own mount point: it would wait for itself.
fn away_from(mountpoint: Option<&Path>, places: Places) -> Places {
    let is_beneath = |start: &PathBuf| {
        mountpoint.is_some_and(|mountpoint| {
            start.starts_with(mountpoint) || start.starts_with(existing_part_resolved(mountpoint))
        })
    };
    Places { start: places.start.filter(|start| !is_beneath(start)), ..places }
}

/// A cache beneath its own mount would make the daemon wait for itself; a mount inside the cache would hide a part of it.
fn refuse_overlap(cache_dir: &Path, mountpoint: &Path) -> Result<(), Failure> {
    let cache = existing_part_resolved(cache_dir);
    if cache.starts_with(mountpoint) || mountpoint.starts_with(&cache) {
        let (cache, mountpoint) = (cache.display(), mountpoint.display());
        return Err(Failure::new(format!(
            "the cache folder {cache} and the mount point {mountpoint} lie one in the other; give --cache-dir another folder"
        )));
    }
    Ok(())
}

/// Resolves symbolic links in what exists of a path; the rest is kept as it is.
fn existing_part_resolved(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(resolved), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return resolved.join(rest);
        }
    }
    path.to_owned()
}

/// What a reload starts from.
struct Reloading {
    cli: Cli,
    env: Env,
    config: Config,
    log: Log,
    quotas: Quotas,
    fetch: Arc<Fetch>,
    store: Arc<Store>,
    tree: Arc<Tree>,
    /// What systemd is told of a mount that is ready.
    status: String,
}

async fn reload_on_request(mut requests: tokio::sync::mpsc::Receiver<()>, mut state: Reloading) {
    while requests.recv().await.is_some() {
        notify::reloading();
        state.log.reopen();
        state.reload();
        notify::ready(&state.status);
    }
}

impl Reloading {
    fn reload(&mut self) {
        let mut new = match Config::resolve(&self.cli, &self.env) {
            Ok(new) => new,
            Err(error) => return tracing::error!("not reloaded, everything stays as it was: {error}"),
        };
        let fixed = self.config.fixed_differences(&new);
        if !fixed.is_empty() {
            tracing::warn!("these changes need a new mount: {}", fixed.join(", "));
        }
        // What stays in force is remembered, so that the next reload names it again.
        new.keep_fixed(&self.config);
        if new.verbosity != self.config.verbosity {
            self.log.set_verbosity(new.verbosity);
        }
        if new.limits != self.config.limits {
            limit(&self.store, new.limits);
        }
        if new.fetches_differently(&self.config) {
            self.fetch.reconfigure(new.fetch_settings(self.quotas));
            self.tree.selection_changed();
        }
        self.config = new;
        tracing::info!("settings reloaded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_has_the_next_start_prove_the_catalogue() {
        let dir = tempfile::tempdir().unwrap();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        suspect_on_panic(dir.path());
        assert!(std::panic::catch_unwind(|| panic!("a page that isn't what was written")).is_err());
        std::panic::set_hook(hook);
        assert!(dir.path().join("catalogue.opening").exists());
        drop(Store::open(dir.path()).unwrap());
        assert!(!dir.path().join("catalogue.opening").exists());
    }

    #[test]
    fn a_cache_and_its_mount_point_lie_apart() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (mount, other) = (root.join("mount"), root.join("other"));
        std::fs::create_dir(&mount).unwrap();
        std::os::unix::fs::symlink(&mount, root.join("link")).unwrap();
        assert!(refuse_overlap(&mount.join("cache/a"), &mount).is_err());
        assert!(refuse_overlap(&root.join("link/cache"), &mount).is_err());
        assert!(refuse_overlap(&mount, &mount).is_err());
        assert!(refuse_overlap(&root, &mount).is_err());
        assert!(refuse_overlap(&other, &mount).is_ok());
        assert!(refuse_overlap(&root.join("mount2"), &mount).is_ok());
    }
}
