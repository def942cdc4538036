//! One question at a time: callers that ask the same while it is being asked share the answer, and a no is remembered a moment.
//!
//! A flight belongs to those that wait for it. It is polled by them, goes on while one of them is left, and ends with the last.

use crate::sync::lock;
use futures_util::future::{FutureExt, Shared, WeakShared};
use lru::LruCache;
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Mutex;
use tokio::time::Instant;

type Boxed<V> = Pin<Box<dyn Future<Output = V> + Send>>;

/// Questions being asked.
pub(crate) struct SingleFlight<K, V: Clone>(Mutex<HashMap<K, WeakShared<Boxed<V>>>>);

impl<K: Hash + Eq + Clone, V: Clone> SingleFlight<K, V> {
    /// None yet.
    pub(crate) fn new() -> Self {
        SingleFlight(Mutex::new(HashMap::new()))
    }

    /// The flight for `key`: the one under way, or what `start` makes.
    pub(crate) fn join(&self, key: K, start: impl FnOnce() -> Boxed<V>) -> Shared<Boxed<V>> {
        let mut flights = lock(&self.0);
        if let Some(flight) = flights.get(&key).and_then(WeakShared::upgrade).filter(|f| f.peek().is_none()) {
            return flight;
        }
        // Ended flights are swept as new ones begin, so the map stays within twice what is under way.
        if flights.len() >= 64 && flights.len().is_power_of_two() {
            flights.retain(|_, flight| flight.upgrade().is_some_and(|f| f.peek().is_none()));
        }
        let flight = start().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, weak);
        }
        flight
    }
}

/// What was found out, such as that a name doesn't exist, each until a time of its own.
pub(crate) struct Remembered<K: Hash + Eq>(Mutex<LruCache<K, Instant>>);

impl<K: Hash + Eq> Remembered<K> {
    /// Remembers at most `most`.
    pub(crate) fn new(most: NonZeroUsize) -> Self {
        Remembered(Mutex::new(LruCache::new(most)))
    }

    /// It holds until `until`.
    pub(crate) fn insert(&self, key: K, until: Instant) {
        lock(&self.0).put(key, until);
    }

    /// Whether it holds now.
    pub(crate) fn contains(&self, key: &K) -> bool {
        let mut lru = lock(&self.0);
        let live = lru.peek(key).is_some_and(|until| Instant::now() < *until);
        if !live {
            lru.pop(key);
        }
        live
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        lock(&self.0).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn callers_share_a_flight_and_the_last_one_ends_it() {
        let flights: SingleFlight<u8, usize> = SingleFlight::new();
        let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let join = |key| {
            let (begun, ended) = (Arc::clone(&begun), Arc::clone(&ended));
            flights.join(key, || {
                Box::pin(async move {
                    let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    ended.fetch_add(1, Ordering::SeqCst);
                    number
                })
            })
        };
        let (mut first, second) = (join(1), join(1));
        assert!(tokio::time::timeout(Duration::from_millis(10), &mut first).await.is_err());
        drop(first);
        assert_eq!(second.await, 1, "the one who polled left, the other takes over");
        assert_eq!(join(1).await, 2, "an answer is not kept");
        assert!(tokio::time::timeout(Duration::from_millis(10), join(2)).await.is_err());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst)), (3, 2));
        for key in 10..250 {
            drop(join(key));
        }
        assert!(flights.0.lock().unwrap().len() <= 128);
    }

    #[tokio::test(start_paused = true)]
    async fn a_no_is_forgotten_in_time() {
        let remembered = Remembered::new(NonZeroUsize::new(2).unwrap());
        remembered.insert("a", Instant::now() + Duration::from_secs(1));
        assert!(remembered.contains(&"a"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!remembered.contains(&"a"));
        for name in ["b", "c", "d"] {
            remembered.insert(name, Instant::now() + Duration::from_secs(1));
        }
        assert!(!remembered.contains(&"b") && remembered.contains(&"d"));
    }
}
