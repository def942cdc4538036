//! Where a debug build can be made to die: tests of the real daemon must hit the instants inside a commit, which last
//! microseconds and which a signal from outside meets by luck only. SIGKILL, so that nothing is flushed or unwound.
//! Compiled out of release builds.

/// An instant of a commit, in the order in which one passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// A stream's text is in its file, its index isn't.
    TextWritten,
    /// Both are in their files, neither is durable.
    IndexWritten,
    /// Text is durable.
    TextSynced,
    /// Text and index are durable; of other streams of the commit perhaps not.
    IndexSynced,
    /// All files are durable, the catalogue knows nothing of it.
    BeforeCatalogue,
    /// The catalogue knows, readers don't.
    BeforeShown,
    /// Before the files of a checkpoint's commit are written.
    Checkpoint,
    /// After a commit of a checkpoint.
    Checkpointed,
}

/// Dies here if `CWLOGS_KILL_AT` is this point's name and, behind a colon, how many times it is passed before (0 unless
/// given).
#[cfg(debug_assertions)]
pub(crate) fn reach(point: Point) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static TOLD: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let told = TOLD.get_or_init(|| {
        let told = std::env::var("CWLOGS_KILL_AT").ok()?;
        let (name, passes) = told.split_once(':').unwrap_or((&told, "0"));
        Some((name.to_owned(), AtomicU64::new(passes.parse().ok()?)))
    });
    let Some((name, passes)) = told else { return };
    if *name != format!("{point:?}")
        || passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    {
        return;
    }
    eprintln!("killed at {name}");
    // It can't fail: a process may always kill itself.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

/// Nothing, in release builds.
#[cfg(not(debug_assertions))]
pub(crate) fn reach(_: Point) {}
