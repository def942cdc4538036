//! Names as the mount shows them: slugs, hashes and percent-encoded exact names. Pure.
//!
//! A slug can't be turned back into its name and several names may share one, so the slug is the convenience. Two forms depend on
//! nothing but the exact name: the slug with 8 hex digits of the name's hash, which means the same on every machine and always, and the
//! percent-encoded exact name, which does where slugs aren't listed. What a name can mean is told by its look alone ([`form`]): a slug
//! is made of `a-z`, `0-9` and `-`, the `~` before a hash is never part of one, and an exact name that looks like a slug with a hash
//! is encoded.

use crate::model::steers;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Longest file name that the kernel takes, in bytes.
const NAME_MAX: usize = 255;
/// Longest slug, in bytes: room for `.jsonl` and some to spare below [`NAME_MAX`].
const SLUG_MAX: usize = 240;
/// The longest suffix that a stream's name gets, in bytes (`.jsonl`).
const SUFFIX_MAX: usize = 6;

/// The digits that a hash at the end of a slug may have (see [`candidates`]).
const HASHES: [usize; 3] = [8, 16, 32];

/// How listings name groups and streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// By slug: what a person types.
    #[default]
    Slug,
    /// By percent-encoded exact name: what a script can invert.
    Exact,
}

/// What a name can mean, whichever stream has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A slug. If it was given to no exact name, this may be one itself.
    Slug,
    /// A slug and a hash, and nothing else.
    Hashed,
    /// This exact name, and nothing else.
    Exact(String),
}

/// What `name` can mean where listings name things so; `None` if nothing is ever called so.
pub(crate) fn form(name: &str, names: Names) -> Option<Form> {
    if name.is_empty() || name.starts_with(['.', '@']) {
        None
    } else if is_hashed(name) {
        Some(Form::Hashed)
    } else if names == Names::Slug && is_slug(name) {
        Some(Form::Slug)
    } else {
        exact_decode(name).map(Form::Exact)
    }
}

/// The name that listings show for an exact name that has this slug; `suffix` is what it gets behind it. An encoded name that is too
/// long is listed by its slug with the hash, so that without slugs in listings names depend on nothing that was met before.
pub(crate) fn listed(names: Names, exact: &str, slug: &str, suffix: &str) -> String {
    if names == Names::Slug {
        return format!("{slug}{suffix}");
    }
    let encoded = exact_encode(exact);
    if encoded.len() + suffix.len() <= NAME_MAX {
        format!("{encoded}{suffix}")
    } else if slug.contains('~') {
        format!("{slug}{suffix}")
    } else {
        format!("{}{suffix}", slug_with_hash(exact))
    }
}

/// The longest piece between the dashes of a slug, with or without a hash; the last of several. The exact name has it, too, unless it
/// has capitals or letters there that aren't ASCII's.
pub(crate) fn longest_piece(slug: &str) -> &str {
    let bare = slug.rsplit_once('~').map_or(slug, |(bare, _)| bare);
    bare.split('-').max_by_key(|piece| piece.len()).unwrap_or(bare)
}

/// Whether a name can be a slug without a hash.
fn is_slug(name: &str) -> bool {
    let is_piece =
        |piece: &str| !piece.is_empty() && piece.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= SLUG_MAX && name.split('-').all(is_piece)
}

/// Whether a name can be a slug with a hash.
fn is_hashed(name: &str) -> bool {
    let is_hash = |digits: &str| HASHES.contains(&digits.len()) && digits.bytes().all(is_lower_hex);
    name.len() <= SLUG_MAX && name.rsplit_once('~').is_some_and(|(slug, digits)| is_slug(slug) && is_hash(digits))
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// The 64-bit hash that tells names apart. Part of names that scripts keep: never to be changed.
pub(crate) fn hash64(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// Eight hex digits of the exact name's hash.
pub fn hash8(name: &str) -> String {
    format!("{:08x}", hash64(name) >> 32)
}

/// The slug that a name gets if no other name has it: its hash if nothing of it can be shown, cut and with its hash if it's too long.
pub fn slug_of(name: &str) -> String {
    let slug = slug::slugify(name);
    if slug.is_empty() {
        hash8(name)
    } else if slug.len() > SLUG_MAX {
        with_suffix(&slug, &hash8(name))
    } else {
        slug
    }
}

/// The slug, `~` and [`hash8`]: found for every name, whichever has the bare slug.
pub fn slug_with_hash(name: &str) -> String {
    with_suffix(&bare(name), &hash8(name))
}

/// The names to try in turn for a newcomer: the slug, then with ever more digits of the hash. Endless.
pub(crate) fn candidates(name: &str) -> impl Iterator<Item = String> + '_ {
    let bare = bare(name);
    let long = format!("{:016x}", hash64(name));
    let more = {
        let (bare, long, name) = (bare.clone(), long.clone(), name.as_bytes());
        (1..).map(move |seed| with_suffix(&bare, &format!("{long}{:016x}", xxh3_64_with_seed(name, seed))))
    };
    [slug_of(name), slug_with_hash(name), with_suffix(&bare, &long)].into_iter().chain(more)
}

/// The first 32 bits of the hash that a name with a hash asks for; `None` if it isn't such a name.
pub(crate) fn hash_asked(slug: &str) -> Option<u32> {
    let (_, digits) = slug.rsplit_once('~')?;
    (digits.len() == 8 && digits.bytes().all(is_lower_hex)).then(|| u32::from_str_radix(digits, 16).ok())?
}

fn bare(name: &str) -> String {
    let slug = slug::slugify(name);
    if slug.is_empty() { hash8(name) } else { slug }
}

/// A slug is ASCII, so it may be cut anywhere.
fn with_suffix(slug: &str, digits: &str) -> String {
    let context = SLUG_MAX - 1 - digits.len();
    let cut = if slug.len() > context { slug[..context].trim_end_matches('-') } else { slug };
    format!("{cut}~{digits}")
}

/// The exact name as one path component: `%`, `/`, a leading `.` or `@`, and what steers a terminal or turns text round
/// ([`steers`]) are percent-encoded, by their UTF-8 bytes; so is the `~` of a name that looks like a slug with a hash.
pub fn exact_encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    let is_hashed = is_hashed(name);
    for (at, c) in name.char_indices() {
        if matches!(c, '%' | '/') || steers(c) || (at == 0 && matches!(c, '.' | '@')) || (is_hashed && c == '~') {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// The exact name that a path component means; a name without `%` means itself. `None` if a `%` isn't followed by two hex digits or
/// the bytes aren't UTF-8.
pub fn exact_decode(name: &str) -> Option<String> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            // Two hex digits are at most 255.
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Whether a name shown so, with the longest suffix that it may get, is short enough for the kernel.
pub fn fits(name: &str) -> bool {
    name.len() + SUFFIX_MAX <= NAME_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_of_a_lambda_stream() {
        let name = "2026/11/23/[$LATEST]3f2a";
        assert_eq!(slug_of(name), "2026-11-23-latest-3f2a");
        assert_eq!(slug_with_hash(name), format!("2026-11-23-latest-3f2a~{}", hash8(name)));
        assert_eq!(exact_encode(name), "2026%2F11%2F23%2F[$LATEST]3f2a");
    }

    #[test]
    fn the_hash_is_pinned() {
        assert_eq!(hash8(""), "2d068005");
        assert_eq!(hash64(""), 0x2d06_8005_38d3_94c2);
    }

    #[test]
    fn names_of_nothing_but_symbols_are_their_hash() {
        assert_eq!(slug_of("###"), hash8("###"));
        assert_eq!(slug_with_hash("###"), format!("{0}~{0}", hash8("###")));
    }

    #[test]
    fn dots_and_at_signs() {
        assert_eq!(exact_encode("."), "%2E");
        assert_eq!(exact_encode(".."), "%2E.");
        assert_eq!(exact_encode("@all"), "%40all");
        assert_eq!(exact_encode("a@.b"), "a@.b");
        assert_eq!(exact_encode("\u{7f}\n%"), "%7F%0A%25");
    }

    #[test]
    fn what_steers_a_terminal_or_turns_text_round_is_encoded() {
        assert_eq!(exact_encode("\u{80}\u{9b}31m\u{9f}"), "%C2%80%C2%9B31m%C2%9F");
        assert_eq!(exact_encode("\u{202e}txt\u{2066}\u{61c}"), "%E2%80%AEtxt%E2%81%A6%D8%9C");
        assert_eq!(exact_encode("a\u{2028}b\u{2029}"), "a%E2%80%A8b%E2%80%A9");
        assert_eq!(exact_encode("\u{a0}é日\u{200b}"), "\u{a0}é日\u{200b}");
        assert_eq!(exact_decode("\u{9b}\u{202e}").as_deref(), Some("\u{9b}\u{202e}"), "as it was written before");
    }

    #[test]
    fn decoding_is_strict() {
        assert_eq!(exact_decode("%2faws%2Fx").as_deref(), Some("/aws/x"));
        assert_eq!(exact_decode("plain.log").as_deref(), Some("plain.log"));
        for bad in ["%", "%2", "%zz", "%+1", "%ff", "a%C3"] {
            assert_eq!(exact_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn long_names_are_cut_with_their_hash() {
        let name = "é".repeat(512);
        assert!(slug_of(&name).ends_with(&format!("~{}", hash8(&name))));
        assert_eq!(slug_of(&name), slug_with_hash(&name));
        assert!(!fits(&"a".repeat(250)));
        assert!(fits(&"a".repeat(249)));
    }

    #[test]
    fn a_name_means_what_it_looks_like() {
        let exact = |name: &str| Some(Form::Exact(name.into()));
        assert_eq!(form("a-b", Names::Slug), Some(Form::Slug));
        assert_eq!(form("a-b", Names::Exact), exact("a-b"));
        for names in [Names::Slug, Names::Exact] {
            assert_eq!(form("a-b~0123abcd", names), Some(Form::Hashed));
            for name in ["HEAD", "a--b", "-a", "a-", "a.b", "a~b", "a~0123ABCD", "~0123abcd", "a~b~0123abcd", "a~012"] {
                assert_eq!(form(name, names), exact(name), "{name} is no slug");
            }
            assert_eq!(form("%61-b", names), exact("a-b"));
            assert_eq!(form(&"a".repeat(241), names), exact(&"a".repeat(241)), "longer than any slug");
            for nothing in ["", ".git", "@all", "100%"] {
                assert_eq!(form(nothing, names), None, "{nothing}");
            }
        }
        assert_eq!(exact_encode("a-b~0123abcd"), "a-b%7E0123abcd");
        assert_eq!(exact_encode("a~b"), "a~b");
    }

    #[test]
    fn listings_by_exact_name_depend_on_nothing_that_was_met_before() {
        let long = "/x".repeat(100);
        let hashed = format!("{}.log", slug_with_hash(&long));
        assert_eq!(listed(Names::Exact, &long, &slug_of(&long), ".log"), hashed);
        assert_eq!(listed(Names::Exact, &long, &slug_with_hash(&long), ".log"), hashed);
        assert_eq!(listed(Names::Slug, &long, &slug_of(&long), ".log"), format!("{}.log", slug_of(&long)));
        assert_eq!(listed(Names::Exact, "a/b", "a-b", ""), "a%2Fb");
        let fits = "a".repeat(251);
        assert_eq!(listed(Names::Exact, &fits, "slug", ".log"), format!("{fits}.log"));
        assert_ne!(listed(Names::Exact, &format!("{fits}a"), "slug", ".log"), format!("{fits}a.log"));
    }

    #[test]
    fn the_longest_piece_of_a_slug_is_in_the_name() {
        for (name, piece) in
            [("/aws/lambda/check_out", "lambda"), ("/a/bc/de", "de"), ("x", "x"), ("/svcs/Pay-2", "svcs"), ("a.b", "b")]
        {
            for slug in [slug_of(name), slug_with_hash(name)] {
                assert_eq!(longest_piece(&slug), piece);
            }
            assert!(name.contains(piece));
        }
    }

    /// A name of symbols around little else, so that few slugs come of many names.
    fn hostile() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[-./%~@ a1]{1,12}",
            "[ab](-[ab]){0,3}(~[0-9a-f]{8}){0,2}",
            "[a-z-]{1,4}~[0-9a-fA-F]{7,33}",
            "[%/é\u{202e}]{80,130}",
        ]
    }

    proptest! {
        #[test]
        fn the_names_that_never_vary_can_mean_nothing_else(name in hostile(), other in hostile()) {
            prop_assume!(!name.is_empty());
            let encoded = exact_encode(&name);
            prop_assert_eq!(form(&encoded, Names::Exact), Some(Form::Exact(name.clone())));
            if form(&encoded, Names::Slug) == Some(Form::Slug) {
                prop_assert_eq!(&slug_of(&name), &name);
            } else {
                prop_assert_eq!(form(&encoded, Names::Slug), Some(Form::Exact(name.clone())));
            }
            for slug in candidates(&name).skip(1).take(3) {
                prop_assert_eq!(form(&slug, Names::Slug), Some(Form::Hashed), "{}", slug);
                prop_assert_eq!(form(&slug, Names::Exact), Some(Form::Hashed), "{}", slug);
            }
            let bare = form(&slug_of(&name), Names::Slug);
            prop_assert!(matches!(bare, Some(Form::Slug | Form::Hashed)), "{:?}", bare);
            if !other.is_empty() && other != name {
                let of = |name: &str| listed(Names::Exact, name, &slug_of(name), ".log");
                prop_assert_ne!(of(&name), of(&other));
            }
        }

        #[test]
        fn encoding_round_trips(name in any::<String>()) {
            let shown = exact_encode(&name);
            let is_odd = |c: char| c == '/' || c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
            prop_assert!(!shown.contains(is_odd));
            prop_assert!(!shown.starts_with(['.', '@']));
            prop_assert_eq!(exact_decode(&shown), Some(name));
        }

        #[test]
        fn slugs_are_short_and_plain(name in "\\PC{0,600}") {
            let mut seen = std::collections::HashSet::new();
            for slug in candidates(&name).take(6) {
                prop_assert!(!slug.is_empty() && slug.len() <= SLUG_MAX);
                prop_assert!(fits(&slug));
                prop_assert!(slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'~'));
                seen.insert(slug);
            }
            prop_assert!(seen.len() >= 5);
            prop_assert_eq!(hash_asked(&slug_with_hash(&name)), Some((hash64(&name) >> 32) as u32));
        }
    }
}
