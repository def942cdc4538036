//! How often names that nothing is known of are asked for.
//!
//! Each such question costs a call of a quota that listings need, too. So of one folder a user asks a few at a time, and a few a second
//! for names that don't exist; a name that is there is for free. One more waits a moment for its turn. What gets none is answered by the
//! folder's listing, which serves all of them: a name that wasn't asked for may be there, and is never denied unseen.

use super::inode::Ino;
use crate::error::Error;
use crate::sync::lock;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Questions at a time.
const AT_A_TIME: usize = 4;
/// Names not found that may come at once after a while without any.
const BURST: u32 = 20;
/// One more in each of these.
const EACH: Duration = Duration::from_millis(250);
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(1);
/// Folders and users remembered. (The unwrap is of a constant: the compiler proves it.)
const MOST: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct Questions(Mutex<LruCache<(Ino, u32), Arc<Line>>>);

/// A user's questions of a folder.
#[derive(Debug)]
struct Line {
    places: Arc<Semaphore>,
    /// When the burst will have been made up for.
    even: Mutex<Instant>,
}

/// Leave to ask for one name; the next one has it when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
    line: Arc<Line>,
}

impl Default for Questions {
    fn default() -> Questions {
        Questions(Mutex::new(LruCache::new(MOST)))
    }
}

impl Questions {
    /// Waits for the turn of `user` to ask for a name in `folder`; `None` if that takes too long.
    pub(crate) async fn turn(&self, folder: Ino, user: u32) -> Option<Turn> {
        let patience = Instant::now() + PATIENCE;
        let line = {
            let fresh =
                || Arc::new(Line { places: Arc::new(Semaphore::new(AT_A_TIME)), even: Mutex::new(Instant::now()) });
            Arc::clone(lock(&self.0).get_or_insert((folder, user), fresh))
        };
        // The semaphore is never closed.
        let place = timeout_at(patience, Arc::clone(&line.places).acquire_owned()).await.ok()?.ok()?;
        let at = line.take(patience)?;
        let turn = Turn { _place: place, line };
        tokio::time::sleep_until(at).await;
        Some(turn)
    }
}

impl Line {
    /// When the next question may go out, if that is by `patience`; it counts as one for a name that isn't there.
    fn take(&self, patience: Instant) -> Option<Instant> {
        let now = Instant::now();
        let mut even = lock(&self.even);
        let next = (*even).max(now) + EACH;
        let at = next.checked_sub(EACH * BURST).unwrap_or(now);
        (at <= patience).then(|| *even = next)?;
        Some(at)
    }
}

impl Turn {
    /// The answer, unchanged: what was found doesn't count.
    pub(crate) fn answered<Row>(self, answer: Result<Option<Row>, Error>) -> Result<Option<Row>, Error> {
        if matches!(answer, Ok(Some(_))) {
            let mut even = lock(&self.line.even);
            *even = even.checked_sub(EACH).unwrap_or(*even);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: Ino = Ino(64);

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_some_a_second_and_of_too_many_most_get_no_turn() {
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
    async fn names_that_are_there_are_for_free() {
        let questions = Questions::default();
        let began = Instant::now();
        for _ in 0..10 * BURST {
            let turn = questions.turn(FOLDER, 1).await.unwrap();
            turn.answered(Ok(Some(()))).unwrap();
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
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
