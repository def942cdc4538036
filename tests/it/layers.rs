//! The house's walls: which room may name which. Arrows point down only.

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
