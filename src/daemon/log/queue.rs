//! The thread that writes the log, and the queue before it.
//!
//! A terminal that was stopped (Ctrl-S), a collector that reads no more or a disk that stands still may hold a write up for ever. A request
//! that has something to say must not wait for that: lines go into a bounded queue, and what finds it full is counted and lost. (The
//! appender of tracing does the same, but prints to standard output when it can't end in time, and may hang there.)

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Lines that may wait.
const LINES: usize = 1_024;

/// What the thread is given to do.
enum Item {
    Line(String),
    /// All before it is written: dropped then.
    Flush(SyncSender<()>),
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    items: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the thread, which hands each line to `write`.
    pub(super) fn start(write: impl FnMut(&str) + Send + 'static) -> io::Result<Queue> {
        let (items, received) = sync_channel(LINES);
        let queue = Queue { items, lost: Arc::default() };
        let lost = queue.lost.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || run(&received, &lost, write))?;
        Ok(queue)
    }

    /// Never waits.
    pub(super) fn push(&self, line: String) {
        if self.items.try_send(Item::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was pushed before is written, but no longer than `time`.
    pub(super) fn flush(&self, time: Duration) {
        let (done, written) = sync_channel(0);
        // A queue that is full won't be empty in time either.
        if self.items.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(time);
        }
    }
}

fn run(items: &Receiver<Item>, lost: &AtomicU64, mut write: impl FnMut(&str)) {
    while let Ok(item) = items.recv() {
        match item {
            Item::Line(line) => write(&line),
            Item::Flush(done) => drop(done),
        }
        let lines = lost.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!("{lines} lines lost: the log could not be written as fast as it grew");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn nothing_waits_for_a_target_that_stands_still() {
        let (go_on, stands_still) = channel::<()>();
        let (written, lines) = channel();
        let queue = Queue::start(move |line| {
            let _ = stands_still.recv();
            let _ = written.send(line.to_owned());
        });
        let queue = queue.unwrap();
        for i in 0..LINES + 10 {
            queue.push(format!("line {i}"));
        }
        queue.flush(Duration::from_millis(1));
        // One line may be with the thread already.
        let lost = queue.lost.load(Ordering::Relaxed);
        assert!((9..=10).contains(&lost), "{lost}");
        drop(go_on);
        assert_eq!(lines.recv().unwrap(), "line 0");
        queue.flush(Duration::from_secs(10));
        assert_eq!(lines.try_iter().count() as u64, LINES as u64 + 9 - lost);
    }
}
