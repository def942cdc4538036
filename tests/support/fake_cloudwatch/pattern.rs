//! Filter patterns of plain terms, as the service reads them.
//!
//! All plain terms must be there, none of the `-` ones, and any of the `?` ones, which are ignored beside any other term. A term
//! is a case-sensitive substring; `"…"` is one with spaces. JSON, space-delimited and regular-expression patterns are refused here.

/// A pattern, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pattern {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

impl Pattern {
    /// Reads a pattern; the error is the service's sentence.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        let mut pattern = Pattern::default();
        if text.chars().count() > 1024 {
            return Err(
                "1 validation error detected: Value at 'filterPattern' failed to satisfy constraint: Member must \
                        have length less than or equal to 1024"
                    .into(),
            );
        }
        if text.trim_start().starts_with(['{', '[']) {
            return Err("Invalid filter pattern: JSON and space-delimited patterns are not read here".into());
        }
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let (kind, body) = match first {
                '-' => (&mut pattern.none, &rest[1..]),
                '?' => (&mut pattern.any, &rest[1..]),
                _ => (&mut pattern.all, rest),
            };
            let term = if let Some(quoted) = body.strip_prefix('"') {
                let end = quoted.find('"').ok_or("Invalid filter pattern: unclosed quote")?;
                rest = &quoted[end + 1..];
                &quoted[..end]
            } else {
                let end = body.find(char::is_whitespace).unwrap_or(body.len());
                rest = &body[end..];
                let term = &body[..end];
                if let Some(bad) = term.chars().find(|c| !c.is_alphanumeric() && *c != '_') {
                    return Err(format!("Invalid character(s) in term '{bad}'"));
                }
                term
            };
            if !term.is_empty() {
                kind.push(term.into());
            }
            rest = rest.trim_start();
        }
        if !pattern.all.is_empty() || !pattern.none.is_empty() {
            pattern.any.clear();
        }
        Ok(pattern)
    }

    /// Whether everything matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.any.is_empty() && self.none.is_empty()
    }

    /// Whether a message matches.
    pub(crate) fn matches(&self, message: &str) -> bool {
        self.all.iter().all(|term| message.contains(term.as_str()))
            && !self.none.iter().any(|term| message.contains(term.as_str()))
            && (self.any.is_empty() || self.any.iter().any(|term| message.contains(term.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_as_recorded() {
        let matches = |pattern: &str, message: &str| Pattern::parse(pattern).unwrap().matches(message);
        assert!(matches("ERROR", "TERROR") && !matches("ERROR", "error"));
        assert!(matches("a b", "b and a") && !matches("a b", "only a"));
        assert!(matches("?a ?b", "b") && !matches("?a ?b", "c"));
        assert!(!matches("?ERROR ?ARGUMENTS REQUEST", "ERROR") && matches("?ERROR -REQUEST", "else"));
        assert!(matches("\"a phrase\"", "in a phrase here") && !matches("\"a phrase\"", "a  phrase"));
        assert!(matches("-a", "b") && !matches("-a", "a"));
        assert!(Pattern::parse("\"open").is_err() && Pattern::parse("%(").is_err());
        assert!(Pattern::parse("").unwrap().is_empty());
    }
}
