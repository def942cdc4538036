use super::*;
use crate::model::{GroupId, LogClass, LogGroup, LogStream, StreamId, Timestamp};
use crate::store::names::{Names, candidates, hash8, slug_with_hash};
use crate::store::row::{GroupRow, Named, StreamRow};
use std::path::PathBuf;

struct Fixture {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalogue.redb");
        Fixture { _dir: dir, path }
    }

    fn open(&self) -> Catalogue {
        match Catalogue::open(file_opener(&self.path).unwrap(), Box::new(|_| {})).unwrap() {
            Opened::Ready(catalogue) => catalogue,
            Opened::Foreign(what) => panic!("{what}"),
        }
    }
}

fn group(name: &str, created: i64) -> LogGroup {
    LogGroup {
        name: name.into(),
        arn: String::new(),
        created: Timestamp(created),
        class: LogClass::Standard,
        retention_days: None,
        stored_bytes: 0,
    }
}

fn stream(name: &str, created: i64, last: Option<i64>) -> LogStream {
    LogStream {
        name: name.into(),
        arn: String::new(),
        created: Timestamp(created),
        first_event: last.map(Timestamp),
        last_event: last.map(Timestamp),
        last_ingestion: last.map(Timestamp),
    }
}

fn stream_named(catalogue: &Catalogue, group: GroupId, name: &str) -> Option<StreamRow> {
    catalogue.stream_named(group, name, Names::Slug).unwrap().row()
}

fn group_named(catalogue: &Catalogue, name: &str) -> Option<GroupRow> {
    catalogue.group_named(name, Names::Slug).unwrap().row()
}

fn commits(catalogue: &Catalogue) -> u64 {
    catalogue.read(|tx| Ok(tx.open_table(COUNTERS)?.get(COMMITS)?.map_or(0, |v| v.value()))).unwrap()
}

#[test]
fn slugs_stay_over_restarts_and_deletions() {
    let fixture = Fixture::new();
    let names = ["a/b", "a-b", "A B", "###", &"x".repeat(400)];
    let slugs: Vec<String>;
    let g;
    {
        let catalogue = fixture.open();
        g = catalogue.upsert_groups(&[group("/g", 1)]).unwrap()[0].id;
        let streams: Vec<_> = names.iter().map(|n| stream(n, 1, None)).collect();
        let rows = catalogue.upsert_streams(g, &streams).unwrap().rows;
        slugs = rows.iter().map(|r| r.slug.clone()).collect();
        assert_eq!(slugs[0], "a-b");
        assert_eq!(slugs[1], format!("a-b~{}", hash8("a-b")));
        assert_eq!(slugs[2], format!("a-b~{}", hash8("A B")));
        assert_eq!(rows.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        catalogue.forget_stream(rows[0].id).unwrap();
        assert_eq!(stream_named(&catalogue, g, "a-b"), None);
        assert_eq!(catalogue.stream_by_name(g, "a/b").unwrap(), None);
        assert_eq!(catalogue.streams_after(g, 0, 10).unwrap().len(), 4);
    }
    let catalogue = fixture.open();
    let other = catalogue.upsert_streams(g, &[stream("a.b", 9, None)]).unwrap().rows.remove(0);
    assert_eq!(other.slug, format!("a-b~{}", hash8("a.b")), "the slug of a deleted stream isn't given away");
    for (name, slug) in names.iter().zip(&slugs) {
        let row = catalogue.upsert_streams(g, &[stream(name, 1, None)]).unwrap().rows.remove(0);
        assert_eq!(&row.slug, slug);
        for asked in [slug, &slug_with_hash(name)] {
            assert_eq!(stream_named(&catalogue, g, asked).unwrap().stream.name, *name, "{asked}");
        }
        assert_eq!(catalogue.stream_by_name(g, name).unwrap().unwrap().id, row.id);
    }
    assert_eq!(stream_named(&catalogue, g, "a-b~00000000"), None);
    assert_eq!(stream_named(&catalogue, GroupId(g.0 + 100), "a-b"), None);
}

#[test]
fn the_slug_of_a_stream_that_is_gone_is_still_its_name() {
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    let g = catalogue.upsert_groups(&[group("/g", 1)]).unwrap()[0].id;
    let rows = catalogue.upsert_streams(g, &[stream("a/b", 1, None), stream("a-b", 1, None)]).unwrap().rows;
    let named = |name: &str, listed| catalogue.stream_named(g, name, listed).unwrap();
    let row = |name: &str, listed| named(name, listed).row().unwrap().id;
    assert_eq!(row("a-b", Names::Slug), rows[0].id, "a listed slug beats an equal exact name");
    assert_eq!(row("%61-b", Names::Slug), rows[1].id);
    assert_eq!(row("a-b", Names::Exact), rows[1].id);
    catalogue.forget_stream(rows[0].id).unwrap();
    assert_eq!(named("a-b", Names::Slug), Named::Exact("a/b".into()), "not the exact name of the other");
    assert_eq!(row("a-b", Names::Exact), rows[1].id);
    assert_eq!(named("a-c", Names::Slug), Named::Slug);
    assert_eq!(named("a-c", Names::Exact), Named::Exact("a-c".into()));
    assert_eq!(named("a-c~0123abcd", Names::Exact), Named::Hashed);
    assert_eq!(named("100%", Names::Slug), Named::Nothing);
}

#[test]
fn of_two_names_with_one_slug_and_hash_the_first_keeps_both() {
    // Names of symbols alone around an `a`: enough of them for two that share 32 bits.
    let symbols = ['/', '.', '_', ' ', '+', '=', ',', ';'];
    let name = |mut n: usize| {
        let tail = std::iter::repeat_with(|| {
            let symbol = symbols[n % 8];
            n /= 8;
            symbol
        });
        format!("a{}", tail.take(6).collect::<String>())
    };
    let mut seen = HashMap::new();
    let pair = (0..8usize.pow(6)).map(name).find_map(|name| {
        let before = seen.insert(hash8(&name), name.clone())?;
        Some((before, name))
    });
    let (first, second) = pair.unwrap();
    assert_eq!(slug_with_hash(&first), slug_with_hash(&second));
    let hashed = slug_with_hash(&first);

    let fixture = Fixture::new();
    let catalogue = fixture.open();
    let g = catalogue.upsert_groups(&[group("/g", 1)]).unwrap()[0].id;
    let put = |name: &str| catalogue.upsert_streams(g, &[stream(name, 1, None)]).unwrap().rows.remove(0);
    let one = put(&first);
    assert_eq!(stream_named(&catalogue, g, &hashed).unwrap().id, one.id);
    let other = put(&second);
    assert_eq!(other.slug, candidates(&second).nth(2).unwrap());
    assert_eq!(stream_named(&catalogue, g, &hashed).unwrap().id, one.id);
    catalogue.forget_stream(one.id).unwrap();
    assert_eq!(stream_named(&catalogue, g, &hashed), None, "the name isn't handed on");
    assert_eq!(stream_named(&catalogue, g, &other.slug).unwrap().id, other.id);
}

#[test]
fn a_hash_that_is_taken_gets_more_digits() {
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    let g = catalogue.upsert_groups(&[group("/g", 1)]).unwrap()[0].id;
    let holder = catalogue.upsert_streams(g, &[stream("holder", 1, None)]).unwrap().rows.remove(0);
    let forms: Vec<String> = candidates("a/b").take(3).collect();
    catalogue
        .write(|tx| {
            let mut slugs = tx.open_table(SLUGS)?;
            for form in &forms[..2] {
                slugs.insert((g.0, form.as_str()), holder.id.0)?;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(catalogue.upsert_streams(g, &[stream("a/b", 1, None)]).unwrap().rows[0].slug, forms[2]);
}

#[test]
fn listings_move_times_outwards_only_and_known_ones_write_nothing() {
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    let g = catalogue.upsert_groups(&[group("/g", 1)]).unwrap()[0].id;
    let first = catalogue.upsert_streams(g, &[stream("s", 0, Some(50))]).unwrap();
    assert_eq!((first.new.len(), first.replaced.len()), (1, 0));
    let later = catalogue.upsert_streams(g, &[stream("s", 7, Some(90))]).unwrap();
    assert_eq!((later.new.len(), later.replaced.len()), (0, 0));
    let row = &later.rows[0].stream;
    assert_eq!((row.created.0, row.first_event, row.last_event), (7, Some(Timestamp(50)), Some(Timestamp(90))));
    let before = commits(&catalogue);
    for known in [stream("s", 7, Some(60)), stream("s", 0, None), stream("s", 6, Some(1000))] {
        let again = catalogue.upsert_streams(g, &[known]).unwrap();
        assert_eq!(again.rows, later.rows);
        assert!(again.new.is_empty());
    }
    catalogue.upsert_groups(&[group("/g", 1), group("/g", 0)]).unwrap();
    assert_eq!(commits(&catalogue), before);
}

#[test]
fn a_stream_made_again_is_another_one() {
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    let g = catalogue.upsert_groups(&[group("/g", 1)]).unwrap()[0].id;
    let old = catalogue.upsert_streams(g, &[stream("s", 5, None)]).unwrap().rows.remove(0);
    let change = Change { id: old.id.0, complete: true, ..Change::default() };
    catalogue.commit(&[change]).unwrap();
    assert_eq!(catalogue.complete_streams(g, |_| true).unwrap().len(), 1);
    let again = catalogue.upsert_streams(g, &[stream("s", 6, None), stream("s", 6, None)]).unwrap();
    let new = &again.rows[0];
    assert_eq!(again.replaced, [(old.id, new.id)]);
    assert_eq!(again.new, [new.id]);
    assert_eq!((new.slug.as_str(), new.seq, new.extent.complete), ("s", old.seq, false));
    assert!(catalogue.stream(old.id).unwrap().unwrap().row.gone);
    assert_eq!(stream_named(&catalogue, g, "s").unwrap().id, new.id);
    assert_eq!(catalogue.streams_after(g, 0, 10).unwrap().len(), 1);
    assert!(catalogue.complete_streams(g, |_| true).unwrap().is_empty());

    catalogue.forget_stream(new.id).unwrap();
    catalogue.forget_stream(new.id).unwrap();
    let back = catalogue.upsert_streams(g, &[stream("s", 6, None)]).unwrap();
    assert_eq!((back.rows[0].id, back.new.clone(), back.rows[0].gone), (new.id, vec![new.id], false));
    catalogue.forget_stream(new.id).unwrap();
    let third = catalogue.upsert_streams(g, &[stream("s", 0, None)]).unwrap();
    assert_ne!(third.rows[0].id, new.id, "a name alone doesn't prove that it is the deleted one");
    assert_eq!(third.rows[0].slug, "s");
}

#[test]
fn groups_are_found_replaced_and_forgotten() {
    let fixture = Fixture::new();
    let catalogue = fixture.open();
    let rows = catalogue.upsert_groups(&[group("/aws/x", 1), group("aws-x", 1)]).unwrap();
    assert!(rows[0].id.0 >= FIRST_ID);
    assert_eq!(group_named(&catalogue, "aws-x").unwrap().group.name, "/aws/x");
    assert_eq!(group_named(&catalogue, &slug_with_hash("/aws/x")).unwrap().id, rows[0].id);
    assert_eq!(group_named(&catalogue, &rows[1].slug).unwrap().id, rows[1].id);
    assert_eq!(catalogue.group_by_name("aws-x").unwrap().unwrap().id, rows[1].id);
    let new = catalogue.upsert_groups(&[group("/aws/x", 2)]).unwrap().remove(0);
    assert_ne!(new.id, rows[0].id);
    assert_eq!(new.slug, rows[0].slug);
    assert_eq!(catalogue.group_by_name("/aws/x").unwrap().unwrap().id, new.id);
    assert_eq!(catalogue.groups_after(0, 10).unwrap().len(), 2);
    assert_eq!(catalogue.groups_after(1, 10).unwrap().len(), 1);
    catalogue.set_walked(new.id, Timestamp(77)).unwrap();
    let vouch = Vouch { from: Timestamp(1), to: Timestamp(2), by_service: true };
    let before = commits(&catalogue);
    catalogue.set_vouch(new.id, vouch);
    assert_eq!(catalogue.group(new.id).unwrap().unwrap().vouch, Some(vouch));
    assert_eq!(commits(&catalogue), before);
    catalogue.commit(&[]).unwrap();
    drop(catalogue);
    let catalogue = fixture.open();
    let row = catalogue.group(new.id).unwrap().unwrap();
    assert_eq!((row.vouch, row.walked_at), (Some(vouch), Some(Timestamp(77))));
    catalogue.forget_group(new.id).unwrap();
    assert_eq!(catalogue.group_by_name("/aws/x").unwrap(), None);
    assert!(catalogue.group(new.id).unwrap().is_some());
    assert_eq!(catalogue.forget_group(GroupId(9999)).unwrap_err().kind, StoreErrorKind::Missing);
    assert_eq!(catalogue.forget_stream(StreamId(9999)).unwrap_err().kind, StoreErrorKind::Missing);
    assert_eq!(
        catalogue.upsert_streams(GroupId(1), &[stream("s", 1, None)]).unwrap_err().kind,
        StoreErrorKind::Missing
    );
}

#[test]
fn ids_are_never_used_twice() {
    let fixture = Fixture::new();
    let mut seen = std::collections::HashSet::new();
    for round in 1..4 {
        let catalogue = fixture.open();
        let g = catalogue.upsert_groups(&[group("/g", round)]).unwrap().remove(0);
        assert!(seen.insert(g.id.0));
        for row in catalogue.upsert_streams(g.id, &[stream("a", round, None), stream("b", round, None)]).unwrap().rows {
            assert!(seen.insert(row.id.0));
            catalogue.forget_stream(row.id).unwrap();
        }
    }
}

#[test]
fn a_catalogue_that_was_never_finished_is_made_anew() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path.with_extension("new"), b"half a database").unwrap();
    fixture.open().upsert_groups(&[group("/g", 1)]).unwrap();
    assert!(!fixture.path.with_extension("new").exists());
    assert_eq!(fixture.open().groups_after(0, 10).unwrap().len(), 1);
}

#[test]
fn a_second_opening_is_refused() {
    let fixture = Fixture::new();
    let _first = fixture.open();
    let second = Catalogue::open(file_opener(&fixture.path).unwrap(), Box::new(|_| {}));
    assert_eq!(second.err().unwrap().kind, StoreErrorKind::Refused);
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let disk = crate::store::disk::crash::CrashDisk::default();
    let path = PathBuf::from("/c/catalogue.redb");
    let Opened::Ready(catalogue) = Catalogue::open(crash::opener(&disk, &path), Box::new(|_| {})).unwrap() else {
        panic!()
    };
    let g = catalogue.upsert_groups(&[group("/g", 1)]).unwrap()[0].id;
    disk.fill(true);
    let mut stored = 0;
    let error = loop {
        let names: Vec<_> = (0..500).map(|n| stream(&format!("{stored}-{n}-{}", "x".repeat(300)), 1, None)).collect();
        match catalogue.upsert_streams(g, &names) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100);
    };
    assert_eq!(error.kind, StoreErrorKind::NoSpace, "{error}");
    disk.fill(false);
    assert_eq!(catalogue.streams_after(g, 0, usize::MAX).unwrap().len(), stored * 500);
    catalogue.upsert_streams(g, &[stream("more", 1, None)]).unwrap();
    assert_eq!(catalogue.streams_after(g, 0, usize::MAX).unwrap().len(), stored * 500 + 1);
}
