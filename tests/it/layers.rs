//! The house's walls: which room may name which. Arrows point down only.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// (room, what it may import of the crate). Leaves are open to all.
const MAY: &[(&str, &[&str])] = &[
    ("mount", &["tree"]),
    ("tree", &["fetch", "store"]),
    ("fetch", &["store", "source"]),
    ("store", &[]),
    ("source", &[]),
    ("report", &["source"]),
    ("daemon", &["cli", "config", "mount", "tree", "fetch", "store", "source", "check", "verify"]),
    ("check", &["source", "store"]),
    ("verify", &["fetch", "store"]),
    ("config", &["cli", "mount", "tree", "fetch", "store", "source"]),
    ("cli", &["config", "fetch", "store"]),
];
const LEAVES: &[&str] = &["sync", "model", "error", "clock", "patience", "render", "report"];

/// (crate, where alone it may be named).
const KEPT_IN: &[(&str, &[&str])] =
    &[("fuser", &["src/mount/"]), ("aws_", &["src/source/cloudwatch/"]), ("redb", &["src/store/catalogue"])];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn room(relative: &str) -> String {
    let inside = relative.strip_prefix("src/").unwrap();
    inside.split(['/', '.']).next().unwrap().to_string()
}

/// Words that follow `crate::` in `code`.
fn imports(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).flat_map(|rest| {
        let braced = rest.strip_prefix('{').and_then(|r| r.split('}').next());
        let names: Vec<&str> = match braced {
            Some(list) => list.split(',').map(|n| n.trim().split("::").next().unwrap_or("")).collect(),
            None => vec![rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")],
        };
        names
    })
}

#[test]
fn rooms_import_downwards_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    assert!(files.len() > 40, "the sources were not found");
    let rooms: Vec<&str> = MAY.iter().map(|(room, _)| *room).chain(LEAVES.iter().copied()).collect();
    let mut wrong = Vec::new();
    for path in files {
        let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
        let (own, code) = (room(&relative), code(&path));
        for (name, homes) in KEPT_IN {
            let named = code.contains(&format!("{name}::")) || (name.ends_with('_') && code.contains(name));
            if named && !homes.iter().any(|home| relative.starts_with(home)) {
                wrong.push(format!("{relative} names {name}"));
            }
        }
        let Some((_, may)) = MAY.iter().find(|(room, _)| *room == own) else { continue };
        for import in imports(&code).filter(|import| rooms.contains(import)) {
            if import != own && !LEAVES.contains(&import) && !may.contains(&import) {
                wrong.push(format!("{relative} imports {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "a room reaches past its floor:\n{}", wrong.join("\n"));
}

/// The floors of `fetch`: (folder or file, what it may name beside itself, the ground and what streams and the service are). Each activity
/// stands by itself but for these.
const ACTIVITIES: &[(&str, &[&str])] = &[
    ("download", &[]),
    ("freshness", &[]),
    ("repair", &[]),
    ("listing", &[]),
    ("follow", &["freshness"]),
    ("tail", &["follow"]),
    ("readahead", &["download", "listing"]),
    ("open", &["download", "freshness", "readahead"]),
    // Its first half is a part of the facade.
    ("verify", &["freshness", "listing"]),
];

#[test]
fn activities_of_fetch_know_streams_and_the_service_and_each_other_as_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src/fetch"), &mut files);
    let place = |path: &Path| {
        let inside = path.strip_prefix(root.join("src/fetch")).unwrap().to_str().unwrap().to_string();
        inside.split(['/', '.']).next().unwrap().to_string()
    };
    let mut wrong = Vec::new();
    for path in
        files.iter().filter(|path| !path.ends_with("tests.rs") && !path.components().any(|c| c.as_os_str() == "tests"))
    {
        let own = place(path);
        let ground: &[&str] = match own.as_str() {
            "mod" | "scripted" => continue,
            "service" | "settings" => &["settings"],
            _ => &["settings", "shared", "service", "stream"],
        };
        let code = code(path);
        let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or("");
        let may = ACTIVITIES.iter().find(|(activity, _)| *activity == own).map_or(&[][..], |(_, may)| *may);
        for rest in code.split("crate::fetch::").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            // What begins with a capital is the facade's, for those above.
            let is_file = name.chars().next().is_some_and(char::is_lowercase);
            if is_file && name != own && !ground.contains(&name.as_str()) && !may.contains(&name.as_str()) {
                wrong.push(format!("{} names {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "an activity reaches past its floor:\n{}", wrong.join("\n"));
}

/// A file's module path: `src/fetch/stream/mod.rs` is `fetch`, `stream`.
fn module(relative: &str) -> Vec<String> {
    let inside = relative.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap();
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    inside.split('/').map(str::to_owned).collect()
}

/// Paths that code names from the crate's root: each is a module, or something in one.
fn named(code: &str, own: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = &code[..at];
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let (mut rest, mut base) = (&code[at..], own.to_vec());
            if root == "crate::" {
                (rest, base) = (&rest[root.len()..], Vec::new());
            }
            while let Some(outer) = rest.strip_prefix("super::") {
                rest = outer;
                base.pop();
            }
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            loop {
                let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
                rest = &rest[word.len()..];
                if word.is_empty() {
                    break;
                }
                base.push(word);
                let Some(inner) = rest.strip_prefix("::") else { break };
                rest = inner;
            }
            match rest.strip_prefix('{').and_then(|rest| rest.split(';').next()) {
                Some(list) => found.extend(list.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(|word| {
                    let mut path = base.clone();
                    path.push(word.to_owned());
                    path
                })),
                None => found.push(base),
            }
        }
    }
    found
}

#[test]
fn no_file_names_one_that_stands_on_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let relative = |path: &Path| path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
    let is_test = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    let files: Vec<(String, String)> = files
        .iter()
        .map(|path| (relative(path), code(path)))
        .filter(|(path, _)| !is_test(path))
        // Tests at a file's end may name what they like.
        .map(|(path, code)| (path, code.split("#[cfg(test)]\nmod ").next().unwrap_or("").to_owned()))
        .collect();
    let numbers: HashMap<Vec<String>, usize> =
        files.iter().enumerate().map(|(n, (path, _))| (module(path), n)).collect();
    let names: Vec<BTreeSet<usize>> = files
        .iter()
        .enumerate()
        .map(|(own, (path, code))| {
            let file_of = |path: Vec<String>| (1..=path.len()).rev().find_map(|n| numbers.get(&path[..n]).copied());
            named(code, &module(path)).into_iter().filter_map(file_of).filter(|other| *other != own).collect()
        })
        .collect();
    // What names nothing that is left is taken away, again and again: a circle stays.
    let mut left: BTreeSet<usize> = (0..files.len()).collect();
    loop {
        let free: Vec<usize> = left.iter().copied().filter(|file| names[*file].is_disjoint(&left)).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|file| !free.contains(file));
    }
    // And what nothing names that is left only stands on one.
    loop {
        let named: BTreeSet<usize> = left.iter().flat_map(|file| &names[*file]).copied().collect();
        let before = left.len();
        left.retain(|file| named.contains(file));
        if left.len() == before {
            break;
        }
    }
    let tied: Vec<&str> = left.iter().map(|file| files[*file].0.as_str()).collect();
    assert!(tied.is_empty(), "files that name each other in a circle, or stand between two:\n{}", tied.join("\n"));
}
