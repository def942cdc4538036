//! What a `tail` command line asks for, by a strict grammar: any doubt is `None`, and the whole file is fetched.

use crate::fetch::Last;

/// The command line of a process, and the one part of its environment that changes how options are read.
#[derive(Clone, Debug, Default)]
pub struct CommandLine {
    /// `argv`, the program's own name first.
    pub arguments: Vec<String>,
    /// POSIXLY_CORRECT (or _POSIX2_VERSION) is set: options end at the first file.
    pub posixly_correct: bool,
}

/// What the end of a file is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailRequest {
    /// How much.
    pub(crate) last: Last,
    /// It opens the file again by name (`-F`, `--follow=name`, `--retry`).
    pub(crate) reopens: bool,
}

const MOST_LINES: u64 = 50_000;
const MOST_BYTES: u64 = 4 << 20;

/// What this command line asks for if it is a `tail` that shows the last lines or bytes of files; `program` is the executable's
/// file name.
pub(crate) fn tail_request(program: &str, line: &CommandLine) -> Option<TailRequest> {
    let mut arguments = line.arguments.as_slice();
    let base = |argument: &String| argument.rsplit('/').next().unwrap_or("").to_string();
    if program != "tail" && base(arguments.first()?) != "tail" {
        arguments = &arguments[1..];
    }
    if base(arguments.first()?) != "tail" {
        return None;
    }
    parse(&arguments[1..], line.posixly_correct).filter(|request| match request.last {
        Last::Lines(n) => n <= MOST_LINES,
        Last::Bytes(n) => n <= MOST_BYTES,
    })
}

fn parse(arguments: &[String], posixly_correct: bool) -> Option<TailRequest> {
    let mut request = TailRequest { last: Last::Lines(10), reopens: false };
    let (mut files, mut options_over) = (0, false);
    let mut rest = arguments.iter().enumerate();
    while let Some((at, argument)) = rest.next() {
        if options_over || argument == "-" {
            files += 1;
        } else if argument == "--" {
            options_over = true;
        } else if argument.starts_with('+') {
            return None;
        } else if let Some(long) = argument.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v.to_string())));
            match name {
                "lines" => request.last = Last::Lines(count(&value.or_else(|| Some(rest.next()?.1.clone()))?)?),
                "bytes" => request.last = Last::Bytes(count(&value.or_else(|| Some(rest.next()?.1.clone()))?)?),
                "follow" => match value.as_deref() {
                    None | Some("descriptor") => {}
                    Some("name") => request.reopens = true,
                    Some(_) => return None,
                },
                "retry" if value.is_none() => request.reopens = true,
                "quiet" | "silent" | "verbose" if value.is_none() => {}
                "sleep-interval" | "pid" | "max-unchanged-stats" => {
                    if value.is_none() {
                        rest.next()?;
                    }
                }
                _ => return None,
            }
        } else if let Some(cluster) = argument.strip_prefix('-') {
            if cluster.starts_with(|c: char| c.is_ascii_digit()) {
                // The obsolete form is only read as such in the first place and with little beside it.
                if at != 0 || arguments.len() > 3 {
                    return None;
                }
                request.last = obsolete(cluster)?;
            } else {
                short(cluster, &mut request, || rest.next().map(|(_, v)| v.clone()))?;
            }
        } else {
            files += 1;
            options_over = posixly_correct;
        }
    }
    (files > 0).then_some(request)
}

/// `-5`, `-5c`, `-5lf`, ….
fn obsolete(cluster: &str) -> Option<Last> {
    let letters = cluster.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = cluster[..cluster.len() - letters.len()].parse().ok()?;
    let (last, letters) = match letters.as_bytes().first() {
        Some(b'c') => (Last::Bytes(number), &letters[1..]),
        Some(b'b') => (Last::Bytes(number.checked_mul(512)?), &letters[1..]),
        Some(b'l') => (Last::Lines(number), &letters[1..]),
        _ => (Last::Lines(number), letters),
    };
    matches!(letters, "" | "f").then_some(last)
}

fn short(cluster: &str, request: &mut TailRequest, mut next: impl FnMut() -> Option<String>) -> Option<()> {
    for (at, letter) in cluster.char_indices() {
        match letter {
            'F' => request.reopens = true,
            'f' | 'q' | 'v' => {}
            'n' | 'c' | 's' => {
                let attached = &cluster[at + 1..];
                let value = if attached.is_empty() { next()? } else { attached.to_string() };
                match letter {
                    'n' => request.last = Last::Lines(count(&value)?),
                    'c' => request.last = Last::Bytes(count(&value)?),
                    _ => {}
                }
                return Some(());
            }
            _ => return None,
        }
    }
    Some(())
}

/// An optional `-`, digits, and a unit.
fn count(value: &str) -> Option<u64> {
    let value = value.strip_prefix('-').unwrap_or(value);
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = value[..value.len() - unit.len()].parse().ok()?;
    number.checked_mul(match unit {
        "" => 1,
        "b" => 512,
        "k" | "K" | "KiB" => 1024,
        "kB" | "KB" => 1000,
        "m" | "M" | "MiB" => 1 << 20,
        "MB" => 1_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &str) -> Option<Last> {
        let (posixly_correct, line) = line.strip_prefix("POSIX ").map_or((false, line), |l| (true, l));
        let arguments = line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        let program = arguments[0].rsplit('/').next().unwrap().to_string();
        tail_request(&program, &CommandLine { arguments, posixly_correct }).map(|r| r.last)
    }

    #[test]
    fn the_last_lines_or_bytes() {
        assert_eq!(ask("tail f"), Some(Last::Lines(10)));
        assert_eq!(ask("tail -n 20 -f f"), Some(Last::Lines(20)));
        assert_eq!(ask("tail -fn20 f"), Some(Last::Lines(20)));
        assert_eq!(ask("tail -F -s 0.1 f"), Some(Last::Lines(10)));
        assert_eq!(ask("tail -c 2k f"), Some(Last::Bytes(2048)));
        assert_eq!(ask("tail --bytes=1MB f"), Some(Last::Bytes(1_000_000)));
        assert_eq!(ask("tail --lines -5 --follow=name --retry f"), Some(Last::Lines(5)));
        assert_eq!(ask("tail -5 f"), Some(Last::Lines(5)));
        assert_eq!(ask("tail -5f f"), Some(Last::Lines(5)));
        assert_eq!(ask("tail -n 3 -c 4 f"), Some(Last::Bytes(4)));
        assert_eq!(ask("busybox tail -n 3 f"), Some(Last::Lines(3)));
        assert_eq!(ask("coreutils tail -n 3 f"), Some(Last::Lines(3)));
        assert_eq!(ask("tail f -n 3"), Some(Last::Lines(3)));
        assert_eq!(ask("POSIX tail f -n 3"), Some(Last::Lines(10)));
    }

    #[test]
    fn any_doubt_is_no() {
        for line in [
            "tail",
            "tail -n +5 f",
            "tail +5 f",
            "tail -z f",
            "tail --line=5 f",
            "tail -n 5x f",
            "tail -n f",
            "cat f",
            "busybox cat f",
            "tail -n 50001 f",
            "tail -c 5M f",
            "tail f -5",
            "tail --follow=x f",
            "tail -n 99999999999999999999 f",
        ] {
            assert_eq!(ask(line), None, "{line}");
        }
    }

    #[test]
    fn knows_who_opens_again() {
        let reopens = |line: &str| {
            let arguments = line.split_whitespace().map(str::to_string).collect();
            tail_request("tail", &CommandLine { arguments, posixly_correct: false }).unwrap().reopens
        };
        assert!(reopens("tail -F f"));
        assert!(reopens("tail --follow=name f"));
        assert!(reopens("tail -f --retry f"));
        assert!(!reopens("tail -f f"));
    }
}
