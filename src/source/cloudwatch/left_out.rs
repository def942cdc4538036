//! What is left out of answers because its name is no text, told now and then.

use crate::source::Call;
use crate::sync::lock;
use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Each name is told once in so long: an answer that is asked for each second would say it each second.
const INTERVAL: Duration = Duration::from_hours(1);
/// So many names are told in an interval; a group may have any number of them.
const MOST: usize = 50;

/// Names that were told lately.
pub(crate) struct LeftOut(Mutex<Told>);

struct Told {
    since: Instant,
    names: HashSet<(String, Vec<u8>)>,
}

impl LeftOut {
    pub(crate) fn new() -> LeftOut {
        LeftOut(Mutex::new(Told { since: Instant::now(), names: HashSet::new() }))
    }

    /// Tells which names an answer to `call`, about `group` (empty: about groups), held that are no text.
    pub(crate) fn tell(&self, call: Call, group: &str, names: Vec<Vec<u8>>) {
        for name in names.into_iter().filter(|name| self.is_news(group, name)) {
            let (call, name) = (call.name(), name.escape_ascii());
            if group.is_empty() {
                tracing::warn!("{call}: a log group is left out, since its name is no proper UTF-8: {name}");
            } else {
                tracing::warn!(
                    "{call}: a log stream of {group} is left out, since its name is no proper UTF-8: {name}"
                );
            }
        }
    }

    fn is_news(&self, group: &str, name: &[u8]) -> bool {
        // Each statement leaves it whole, so a panic elsewhere can't have left it broken.
        let mut told = lock(&self.0);
        if told.since.elapsed() >= INTERVAL {
            *told = Told { since: Instant::now(), names: HashSet::new() };
        }
        told.names.len() < MOST && told.names.insert((group.to_owned(), name.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_is_told_once_an_hour_and_only_so_many() {
        let left_out = LeftOut::new();
        assert!(left_out.is_news("g", b"a\xff") && !left_out.is_news("g", b"a\xff") && left_out.is_news("h", b"a\xff"));
        tokio::time::advance(INTERVAL).await;
        assert!(left_out.is_news("g", b"a\xff"));
        let told = (0..1000u32).filter(|i| left_out.is_news("g", &i.to_be_bytes())).count();
        assert_eq!(told, MOST - 1);
    }
}
