//! One meaning a name, over the whole way: a scripted service, a store that outlives restarts, fetch and the tree.

use super::*;
use crate::clock::{Clock, ServiceClock};
use crate::fetch::scripted::{ScriptedSource, settings};
use crate::fetch::{Fetch, FetchSettings};
use crate::model::Timestamp;
use crate::render::Format;
use crate::store::Store;
use crate::store::in_memory::{CrashDisk, Unsynced};
use crate::store::names::{exact_encode, hash8, slug_of, slug_with_hash};
use crate::tree::{CommandLine, Lookup, Names, Process, SystemCall, TreeSettings};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseError;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 3_600_000_000_000;
const TTL: Duration = Duration::from_secs(10);

#[test]
fn names_that_nobody_has_cost_nothing() {
    for name in [".git", "HEAD", "@all.log", ".log", "x.txt", "", ".jsonl", "log"] {
        assert_eq!(split(name), None, "{name}");
    }
    assert_eq!(split("a.log"), Some(("a", Show::Log)));
    assert_eq!(split("a.log.jsonl"), Some(("a.log", Show::JsonLines)));
    assert_eq!(split(".x.log"), Some((".x", Show::Log)));
}

/// A process that nothing is known of.
struct Unknown;

impl Lookup for Unknown {
    fn process(&self, _: u32) -> Process {
        Process::default()
    }

    fn command_line(&self, _: &Process) -> Option<CommandLine> {
        None
    }

    fn threads(&self, _: u32) -> Vec<u32> {
        Vec::new()
    }

    fn system_call(&self, _: u32) -> SystemCall {
        SystemCall::Unknown
    }
}

/// A wall clock that goes with the paused one.
struct PausedClock(tokio::time::Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp(NOW) + self.0.elapsed()
    }

    fn since_boot(&self) -> Duration {
        self.0.elapsed()
    }

    fn suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// The program while it runs.
struct House {
    store: Arc<Store>,
    fetch: Arc<Fetch>,
    tree: Arc<Tree>,
}

/// A service and a cache, mounted one time after the other.
struct World {
    source: Arc<ScriptedSource>,
    clock: Arc<PausedClock>,
    disk: CrashDisk,
    names: Names,
    house: House,
    /// The groups and streams that the service has.
    living: BTreeMap<String, BTreeSet<String>>,
    /// What each name meant when it meant something: (folder's group, name) to the exact name.
    meant: BTreeMap<(Option<String>, OsString), String>,
    /// When each stream was made.
    made: BTreeMap<(String, String), i64>,
}

fn start(source: &Arc<ScriptedSource>, clock: &Arc<PausedClock>, disk: &CrashDisk, names: Names) -> House {
    let store = Store::open_in_memory(disk).unwrap();
    let settings = FetchSettings { listing_ttl: TTL, ..settings() };
    let clock = ServiceClock::new(Arc::<PausedClock>::clone(clock));
    let report = Arc::<crate::report::Report>::default();
    // Nothing is watched: news may pile up.
    let (fetch, _news) =
        Fetch::start(Arc::<ScriptedSource>::clone(source), store.clone(), clock, settings, report.clone());
    let settings = TreeSettings {
        names,
        format: Format::Message,
        uid: 0,
        gid: 0,
        dir_mode: 0o755,
        file_mode: 0o644,
        inotify_interval: Duration::from_secs(1),
    };
    let tree = Tree::new(fetch.clone(), store.clone(), report, settings);
    House { store, fetch, tree }
}

impl World {
    fn new(names: Names) -> World {
        let (source, disk) = (Arc::<ScriptedSource>::default(), CrashDisk::default());
        let clock = Arc::new(PausedClock(tokio::time::Instant::now()));
        let house = start(&source, &clock, &disk, names);
        World {
            source,
            clock,
            disk,
            names,
            house,
            living: BTreeMap::new(),
            meant: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    async fn restart(&mut self) {
        self.house.fetch.stop().await;
        self.house.store.close().await.unwrap();
        self.disk = self.disk.after_power_cut(Unsynced::Kept);
        self.house = start(&self.source, &self.clock, &self.disk, self.names);
    }

    /// Made again, a stream has the time that it had: it is the same one, with the same inode.
    fn put(&mut self, group: &str, stream: &str) {
        let next = NOW - 1_000_000 + self.made.len() as i64;
        let at = *self.made.entry((group.to_owned(), stream.to_owned())).or_insert(next);
        self.source.put_stream(group, stream, at);
        self.living.entry(group.to_owned()).or_default().insert(stream.to_owned());
    }

    fn delete(&mut self, group: &str, stream: &str) {
        if self.living.get_mut(group).is_some_and(|streams| streams.remove(stream)) {
            self.source.delete_stream(group, stream);
        }
    }

    fn delete_group(&mut self, group: &str) {
        if self.living.remove(group).is_some() {
            self.source.delete_group(group);
        }
    }

    /// The exact name behind an inode.
    fn exact(&self, ino: Ino) -> String {
        match Node::of(ino) {
            Some(Node::Group(id, _)) => self.house.store.group(id).unwrap().unwrap().group.name,
            Some(Node::Stream(id, _)) => self.house.store.stream(id).unwrap().unwrap().stream.name,
            node => panic!("not a name's: {node:?}"),
        }
    }

    /// A name that means something means what it meant before.
    fn means(&mut self, group: Option<&str>, name: &OsStr, exact: &str) -> Result<(), TestCaseError> {
        let key = (group.map(str::to_owned), name.to_os_string());
        let before = self.meant.entry(key).or_insert_with(|| exact.to_owned());
        prop_assert_eq!(before.as_str(), exact, "{:?} in {:?} means another one now", name, group);
        Ok(())
    }

    /// Looks `name` up: its inode and exact name.
    async fn look(
        &mut self,
        group: Option<&str>,
        folder: Ino,
        name: &OsStr,
    ) -> Result<Option<(Ino, String)>, TestCaseError> {
        let ino = match self.house.tree.lookup(folder, name, &Caller::new(1, 0, &Unknown)).await {
            Ok(entry) => entry.attributes.ino,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TestCaseError::fail(format!("{name:?}: {error}"))),
        };
        let exact = self.exact(ino);
        self.means(group, name, &exact)?;
        Ok(Some((ino, exact)))
    }

    /// The folder of a group, by the name that never varies.
    async fn folder(&mut self, group: &str) -> Result<Option<Ino>, TestCaseError> {
        let found = self.look(None, ROOT, OsStr::new(&slug_with_hash(group))).await?;
        if let Some((_, exact)) = &found {
            prop_assert_eq!(exact, group);
        }
        Ok(found.map(|(ino, _)| ino))
    }

    /// Lists a folder; each name in it is there once and means, now and from now on, what it is listed for.
    async fn list(&mut self, group: Option<&str>, folder: Ino) -> Result<BTreeMap<String, OsString>, TestCaseError> {
        let caller = Caller::new(1, 0, &Unknown);
        let handle = self.house.tree.open_dir(folder, &caller).await.unwrap().handle;
        let (mut cookie, mut entries) = (0, Vec::new());
        loop {
            let more = match self.house.tree.read_dir(handle, cookie).await {
                Ok(more) => more,
                // The group was deleted.
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            let Some(last) = more.last() else { break };
            cookie = last.cookie;
            entries.extend(more);
        }
        self.house.tree.release(handle);
        entries.retain(|entry| entry.name != "." && entry.name != "..");
        let mut names = BTreeSet::new();
        let mut shown = BTreeMap::new();
        for entry in &entries {
            let exact = self.exact(entry.attributes.ino);
            prop_assert!(names.insert(entry.name.clone()), "{:?} is listed twice", entry.name);
            prop_assert!(entry.name.len() <= 255);
            self.means(group, &entry.name, &exact)?;
            shown.insert(exact, entry.name.clone());
        }
        for entry in &entries {
            let listed = self.exact(entry.attributes.ino);
            match self.look(group, folder, &entry.name).await? {
                Some((ino, _)) => prop_assert_eq!(ino, entry.attributes.ino, "{:?}", &entry.name),
                None => {
                    let is_there = match group {
                        Some(group) => self.living.get(group).is_some_and(|streams| streams.contains(&listed)),
                        None => self.living.contains_key(&listed),
                    };
                    prop_assert!(!is_there, "{:?} is listed and isn't found", &entry.name);
                }
            }
        }
        Ok(shown)
    }

    /// In a folder that was listed: what a living name's own names mean. `ending` is what file names end in.
    async fn is_found(
        &mut self,
        group: Option<&str>,
        folder: Ino,
        exact: &str,
        ending: &str,
        shown: &BTreeMap<String, OsString>,
    ) -> Result<(), TestCaseError> {
        let hashed = OsString::from(format!("{}{ending}", slug_with_hash(exact)));
        let found = self.look(group, folder, &hashed).await?.map(|(_, name)| name);
        prop_assert_eq!(found.as_deref(), Some(exact), "by {:?}", hashed);
        let encoded = OsString::from(format!("{}{ending}", exact_encode(exact)));
        if encoded.len() > 255 {
            return Ok(());
        }
        let found = self.look(group, folder, &encoded).await?.map(|(_, name)| name);
        if found.as_deref() == Some(exact) {
            return Ok(());
        }
        prop_assert_eq!(self.names, Names::Slug, "{:?} means {:?}", encoded, found);
        prop_assert_eq!(&encoded, &OsString::from(format!("{}{ending}", slug_of(exact))), "means {:?}", found);
        prop_assert_ne!(shown.get(exact), Some(&encoded));
        // A letter encoded makes it the exact name in any case.
        let letter = exact.as_bytes()[0];
        let encoded = OsString::from(format!("%{letter:02x}{}{ending}", &exact[1..]));
        if encoded.len() <= 255 {
            let found = self.look(group, folder, &encoded).await?.map(|(_, name)| name);
            prop_assert_eq!(found.as_deref(), Some(exact), "by {:?}", encoded);
        }
        Ok(())
    }
}

/// A name that a program asks for, made from an exact one.
#[derive(Clone, Copy, Debug)]
enum Form {
    Slug,
    Hashed,
    Exact,
    Raw,
    FirstEncoded,
}

impl Form {
    fn of(self, exact: &str) -> Option<String> {
        Some(match self {
            Form::Slug => slug_of(exact),
            Form::Hashed => slug_with_hash(exact),
            Form::Exact => exact_encode(exact),
            Form::Raw => (!exact.contains(['/', '\0'])).then(|| exact.to_owned())?,
            Form::FirstEncoded => {
                let first = exact.chars().next()?.len_utf8();
                let encoded: String = exact[..first].bytes().map(|b| format!("%{b:02x}")).collect();
                format!("{encoded}{}", exact_encode(&exact[first..]))
            }
        })
    }
}

/// Something that happens to the account or the mount.
#[derive(Clone, Debug)]
enum Step {
    Put(Index, Index),
    Delete(Index, Index),
    DeleteGroup(Index),
    ListRoot,
    List(Index),
    /// A listing begins; what comes next happens meanwhile.
    Touch(Option<Index>),
    Look(Index, Form),
    LookIn(Index, Index, Form),
    Wait(u64),
    Restart,
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Slug), Just(Form::Hashed), Just(Form::Exact), Just(Form::Raw), Just(Form::FirstEncoded)]
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<Index>;
    prop_oneof![
        6 => (any(), any()).prop_map(|(group, stream)| Step::Put(group, stream)),
        2 => (any(), any()).prop_map(|(group, stream)| Step::Delete(group, stream)),
        1 => any().prop_map(Step::DeleteGroup),
        2 => Just(Step::ListRoot),
        3 => any().prop_map(Step::List),
        2 => proptest::option::of(any()).prop_map(Step::Touch),
        4 => (any(), form()).prop_map(|(group, form)| Step::Look(group, form)),
        8 => (any(), any(), form()).prop_map(|(group, stream, form)| Step::LookIn(group, stream, form)),
        2 => prop_oneof![Just(1), Just(11), Just(3700)].prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

/// Group names with few slugs.
fn group_names() -> impl Strategy<Value = Vec<String>> {
    let plain = prop_oneof!["/?[ab][/._-][abA]", "[#./]{1,2}", "(/xy){80}"];
    related(plain.boxed()).prop_map(|names| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/#".contains(c);
        names.into_iter().filter(|name| name.chars().all(allowed)).collect()
    })
}

/// Stream names with few slugs, and some that are meant to be taken for another's.
fn stream_names() -> impl Strategy<Value = Vec<String>> {
    let plain = prop_oneof![
        6 => "[ab][-/._ ]{1,2}[abAB]",
        1 => "[%./@ ]{1,2}",
        1 => "[ab]%[26][0F]?[ab]",
        1 => "[ab][\u{1}\u{85}\u{9b}\u{202e}\u{2028}é]b",
        1 => "(/ab){70,90}",
    ];
    related(plain.boxed())
}

/// Names, and others made of them: their slugs, slugs with hashes, encodings.
fn related(plain: BoxedStrategy<String>) -> impl Strategy<Value = Vec<String>> {
    let derived = (plain.clone(), 0..6u8).prop_map(|(name, how)| match how {
        0 => vec![slug_of(&name), name],
        1 => vec![slug_with_hash(&name), name],
        2 => vec![exact_encode(&name), name],
        3 => vec![hash8(&name), name],
        4 => vec![format!("{}~0123abcd", slug_of(&name)), name],
        _ => vec![name.to_uppercase(), name],
    });
    let either = prop_oneof![2 => plain.prop_map(|name| vec![name]), 3 => derived];
    proptest::collection::vec(either, 2..5).prop_map(|names| {
        let mut names: Vec<String> = names.into_iter().flatten().filter(|name| !name.is_empty()).collect();
        names.push("a-b".into());
        names.push("a/b".into());
        names
    })
}

async fn run(
    names: Names,
    latency: Duration,
    groups: &[String],
    streams: &[String],
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let mut world = World::new(names);
    world.source.latency(latency);
    let group_at = |at: &Index| groups[at.index(groups.len())].as_str();
    let stream_at = |at: &Index| streams[at.index(streams.len())].as_str();
    for step in steps {
        match step {
            Step::Put(group, stream) => world.put(group_at(group), stream_at(stream)),
            Step::Delete(group, stream) => world.delete(group_at(group), stream_at(stream)),
            Step::DeleteGroup(group) => world.delete_group(group_at(group)),
            Step::ListRoot => drop(world.list(None, ROOT).await?),
            Step::List(group) => {
                let group = group_at(group);
                if let Some(folder) = world.folder(group).await? {
                    world.list(Some(group), folder).await?;
                }
            }
            Step::Touch(None) => world.house.fetch.touch_listing(None),
            Step::Touch(Some(group)) => {
                let row = world.house.store.group_by_name(group_at(group)).unwrap();
                row.into_iter().for_each(|row| world.house.fetch.touch_listing(Some(row.id)));
            }
            Step::Look(group, form) => {
                if let Some(name) = form.of(group_at(group)).filter(|name| name.len() <= 255) {
                    world.look(None, ROOT, OsStr::new(&name)).await?;
                }
            }
            Step::LookIn(group, stream, form) => {
                let group = group_at(group);
                let name = form.of(stream_at(stream)).map(|name| format!("{name}.log"));
                if let Some(name) = name.filter(|name| name.len() <= 255)
                    && let Some(folder) = world.folder(group).await?
                {
                    world.look(Some(group), folder, OsStr::new(&name)).await?;
                }
            }
            Step::Wait(seconds) => tokio::time::sleep(Duration::from_secs(*seconds)).await,
            Step::Restart => world.restart().await,
        }
    }
    // However it came about: listed, every name is one row's.
    tokio::time::sleep(TTL * 2).await;
    let shown = world.list(None, ROOT).await?;
    for (group, streams) in world.living.clone() {
        world.is_found(None, ROOT, &group, "", &shown).await?;
        let folder = world.folder(&group).await?.unwrap();
        let shown = world.list(Some(&group), folder).await?;
        for stream in &streams {
            world.is_found(Some(&group), folder, stream, ".log", &shown).await?;
        }
        if names == Names::Exact {
            for slug in streams.iter().map(|name| slug_of(name)) {
                let found = world.look(Some(&group), folder, OsStr::new(&format!("{slug}.log"))).await?;
                // A deleted stream may be there still, by the names that it has.
                let is_its = |exact: &str| exact == slug || slug_with_hash(exact) == slug;
                prop_assert!(found.is_none_or(|(_, exact)| is_its(&exact)), "{} is a bare slug", slug);
            }
        }
    }
    world.house.fetch.stop().await;
    Ok(())
}

/// Runs in paused time.
fn in_paused_time(future: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).max_blocking_threads(1).build();
    runtime.unwrap().block_on(future)
}

#[test]
fn by_exact_names_a_slug_of_another_is_no_name_of_it() {
    in_paused_time(async {
        let mut world = World::new(Names::Exact);
        for group in ["/web/1", "/web-1"] {
            for stream in ["web/1", "web-1"] {
                world.put(group, stream);
            }
        }
        world.put("web-1", "s");
        let groups = world.list(None, ROOT).await?;
        prop_assert_eq!(groups["web-1"].as_os_str(), "web-1");
        prop_assert_eq!(world.look(None, ROOT, OsStr::new("web")).await?, None);
        let folder = world.folder("/web/1").await?.unwrap();
        let streams = world.list(Some("/web/1"), folder).await?;
        prop_assert_eq!(streams["web-1"].as_os_str(), "web-1.log");
        prop_assert_eq!(streams["web/1"].as_os_str(), "web%2F1.log");
        for seconds in [61, 3700] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            prop_assert_eq!(world.list(None, ROOT).await?, groups.clone());
            prop_assert_eq!(world.list(Some("/web/1"), folder).await?, streams.clone());
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn the_slug_of_a_deleted_stream_is_not_handed_on() {
    in_paused_time(async {
        let mut world = World::new(Names::Slug);
        let name = OsStr::new("a-b.log");
        world.put("g", "a/b");
        let folder = world.folder("g").await?.unwrap();
        let shown = world.list(Some("g"), folder).await?;
        prop_assert_eq!(shown["a/b"].as_os_str(), name);
        world.put("g", "a-b");
        world.delete("g", "a/b");
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(3700)).await;
            world.list(Some("g"), folder).await?;
        }
        prop_assert_eq!(world.look(Some("g"), folder, name).await?, None, "not the stream of that exact name");
        world.put("g", "a/b");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let found = world.look(Some("g"), folder, name).await?.map(|(_, exact)| exact);
        prop_assert_eq!(found.as_deref(), Some("a/b"));
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_slug_given_while_its_exact_name_is_asked_for_means_what_is_listed() {
    in_paused_time(async {
        let mut world = World::new(Names::Slug);
        world.put("g", "ab");
        world.put("g", "/ab");
        let folder = world.folder("g").await?.unwrap();
        world.source.latency(Duration::from_millis(50));
        let Some(Node::Group(id, _)) = Node::of(folder) else { panic!("a group's") };
        world.house.fetch.touch_listing(Some(id));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let found = world.look(Some("g"), folder, OsStr::new("ab.log")).await?.map(|(_, exact)| exact);
        prop_assert_eq!(found.as_deref(), Some("/ab"));
        world.list(Some("g"), folder).await?;
        Ok(())
    })
    .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_name_means_one_row_for_ever(
        exact in any::<bool>(),
        latency in prop_oneof![Just(0), Just(50)],
        groups in group_names(),
        streams in stream_names(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let names = if exact { Names::Exact } else { Names::Slug };
        in_paused_time(run(names, Duration::from_millis(latency), &groups, &streams, &steps))?;
    }
}
