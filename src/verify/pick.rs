//! Which streams are meant. Pure.

use crate::store::names::{exact_encode, slug_with_hash};
use globset::{Glob, GlobMatcher};

/// Patterns over `group/stream`. `*` matches `/` too; a name that is also a pattern (`[$LATEST]`) means itself as well.
pub(super) struct Globs(Vec<(String, Option<GlobMatcher>)>);

impl Globs {
    /// What is no pattern can still be a name.
    pub(super) fn new(globs: &[String]) -> Globs {
        let compile = |text: &String| (text.clone(), Glob::new(text).ok().map(|glob| glob.compile_matcher()));
        Globs(globs.iter().map(compile).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a stream is meant; (exact name, slug) of its group and of itself.
    pub(super) fn choose(&self, group: (&str, &str), stream: (&str, &str)) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let shown = |(exact, slug): (&str, &str)| [slug.to_owned(), slug_with_hash(exact), exact_encode(exact)];
        let mut names = vec![format!("{}/{}", group.0, stream.0)];
        for group in shown(group) {
            for stream in shown(stream) {
                names.push(format!("{group}/{stream}.log"));
            }
        }
        self.0.iter().any(|(text, glob)| {
            names.iter().any(|name| name == text || glob.as_ref().is_some_and(|glob| glob.is_match(name)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(glob: &str) -> bool {
        Globs::new(&[glob.to_owned()]).choose(
            ("/aws/lambda/checkout", "aws-lambda-checkout"),
            ("2026/11/23/[$LATEST]3f2a", "2026-11-23-latest-3f2a"),
        )
    }

    #[test]
    fn names_of_either_kind_are_matched() {
        for glob in [
            "/aws/lambda/checkout/2026/11/23/[$LATEST]3f2a",
            "/aws/lambda/*",
            "*/2026/11/23/*",
            "aws-lambda-checkout/2026-11-23-latest-3f2a.log",
            "aws-lambda-*/2026-11-2?-*.log",
            "%2Faws%2Flambda%2Fcheckout/2026%2F11%2F23%2F[$LATEST]3f2a.log",
            "*",
        ] {
            assert!(chosen(glob), "{glob}");
        }
        for glob in ["/aws/lambda", "aws-lambda-checkout", "*payments*", "2026*"] {
            assert!(!chosen(glob), "{glob}");
        }
        assert!(Globs::new(&[]).choose(("g", "g"), ("s", "s")));
    }
}
