//! How often names that nothing is known of are asked for.
//!
//! Each such question costs a call of a quota that listings need, too. So of one folder a user asks a few at a time and a few a second; one
//! more waits a moment for its turn, and is then answered from what is known.

use super::inode::{Ino, lock};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Questions at a time.
const AT_A_TIME: usize = 4;
/// Questions that may come at once after a while without any.
const BURST: u32 = 20;
/// One more in each of these.
const EACH: Duration = Duration::from_millis(250);
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);
/// Folders and users remembered. (The unwrap is of a constant: the compiler proves it.)
const MOST: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct Questions(Mutex<LruCache<(Ino, u32), Line>>);

#[derive(Debug)]
struct Line {
    places: Arc<Semaphore>,
    /// When the burst will have been made up for.
    even: Instant,
}

impl Default for Questions {
    fn default() -> Questions {
        Questions(Mutex::new(LruCache::new(MOST)))
    }
}

impl Questions {
    /// Waits for the turn of `user` to ask for a name in `folder`, and holds it; `None` if that takes too long.
    pub(crate) async fn turn(&self, folder: Ino, user: u32) -> Option<OwnedSemaphorePermit> {
        let now = Instant::now();
        let (places, at) = {
            let mut lines = lock(&self.0);
            let line = lines
                .get_or_insert_mut((folder, user), || Line { places: Arc::new(Semaphore::new(AT_A_TIME)), even: now });
            let even = line.even.max(now) + EACH;
            let at = even.checked_sub(EACH * BURST).unwrap_or(now);
            if at > now + PATIENCE {
                return None;
            }
            line.even = even;
            (line.places.clone(), at)
        };
        tokio::time::sleep_until(at).await;
        // The semaphore is never closed.
        timeout_at(now + PATIENCE, places.acquire_owned()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: Ino = Ino(64);

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_some_a_second_and_of_too_many_most_are_refused() {
        let questions = Questions::default();
        let began = Instant::now();
        for _ in 0..BURST + 8 {
            assert!(questions.turn(FOLDER, 1).await.is_some(), "one after the other all have their turn");
        }
        assert_eq!(began.elapsed(), EACH * 8);
        let many = (0..100).map(|_| questions.turn(FOLDER, 1));
        let passed = futures_util::future::join_all(many).await.into_iter().flatten().count();
        assert_eq!(passed, 4, "in a second");
        assert!(questions.turn(FOLDER, 2).await.is_some(), "another user's");
        assert!(questions.turn(Ino(65), 1).await.is_some(), "another folder's");
    }

    #[tokio::test(start_paused = true)]
    async fn some_at_a_time() {
        let questions = Questions::default();
        let mut held = Vec::new();
        for _ in 0..AT_A_TIME {
            held.push(questions.turn(FOLDER, 1).await.unwrap());
        }
        assert!(questions.turn(FOLDER, 1).await.is_none());
        held.pop();
        assert!(questions.turn(FOLDER, 1).await.is_some());
    }
}
