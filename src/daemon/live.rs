//! `--check --live`: whether a mount's daemon answers, for probes.
//!
//! What asks a mount may wait for ever where its daemon stands still, and no signal ends that wait once the daemon has read the question
//! (`request_wait_answer` in the kernel's fs/fuse/dev.c). So a child asks, and is abandoned if it takes too long.

use super::Failure;
use crate::model::printable;
use crate::mount::unmount;
use serde_json::Value;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_millis(4_500);

/// Paths that are told one by one; all together fit into a pipe before the parent reads it.
const MOST_TOLD: usize = 20;

/// Has a child of this program ask the mount at `mountpoint`, and passes on what it says; an error if the daemon doesn't answer, or if
/// `fresh` is asked for and something is shown from the copy alone.
pub fn check_live(mountpoint: &Path, fresh: bool) -> Result<(), Failure> {
    let shown = printable(&mountpoint.to_string_lossy());
    let failed = |what: String| Failure::new(format!("{shown}: {what}"));
    let program = std::env::current_exe().map_err(|error| failed(format!("can't be asked: {error}")))?;
    let mut command = Command::new(program);
    command.args(["--check", "--live", "--live-child"]).args(fresh.then_some("--fresh")).arg(mountpoint);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| failed(format!("can't be asked: {error}")))?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let ended = child.try_wait().map_err(|error| failed(format!("can't be asked: {error}")))?;
        if let Some(status) = ended {
            let text = |pipe: Option<&mut dyn Read>| {
                let mut text = String::new();
                // What can't be read isn't told; the status is.
                let _ = pipe.map(|pipe| pipe.take(1 << 20).read_to_string(&mut text));
                text
            };
            let said = text(child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read));
            // A reader that is gone is no failure of the mount.
            let _ = std::io::stdout().write_all(said.as_bytes());
            let why = text(child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read));
            let why = why.trim().trim_start_matches("cwlogs-mount: ").to_owned();
            return if status.success() { Ok(()) } else { Err(Failure::new(why)) };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // It may not even be killed.
    let _ = child.kill();
    Err(failed(
        "is mounted, but whoever serves it doesn't answer within 5 s; `cwlogs-mount --unmount` takes it away"
            .to_owned(),
    ))
}

/// Asks the mount at `mountpoint`: in the child.
pub fn ask(mountpoint: &Path, fresh: bool) -> Result<(), Failure> {
    let shown = printable(&mountpoint.to_string_lossy());
    let failed = |what: String| Failure::new(format!("{shown}: {what}"));
    let place = unmount::resolve(mountpoint).map_err(Failure::new)?;
    if !unmount::is_mounted(&place) {
        return Err(failed(
            "no cwlogs-mount is mounted there; mount it (`cwlogs-mount --check` says what would keep it from that)"
                .into(),
        ));
    }
    let text = std::fs::read_to_string(place.join(".cwlogs/status.json"))
        .map_err(|error| failed(format!("the daemon doesn't answer: {error}; unmount it and mount again")))?;
    let status: Value =
        serde_json::from_str(&text).map_err(|error| failed(format!("its status can't be understood: {error}")))?;
    let of_mount = |key: &str| status["mount"][key].to_string().trim_matches('"').to_owned();
    println!("ok      answers: process {}, mounted since {}", of_mount("pid"), of_mount("since"));
    let stale = status["shownFromCopy"].as_array().map(Vec::as_slice).unwrap_or_default();
    for copy in stale.iter().take(MOST_TOLD) {
        let text = |key: &str| printable(copy[key].as_str().unwrap_or_default());
        println!("stale   {} since {}: {}; {}", text("path"), text("since"), text("cause"), text("advice"));
    }
    if let Some(more) = stale.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
        println!("stale   {more} more; .cwlogs/status names all");
    }
    if fresh && !stale.is_empty() {
        return Err(failed(format!("{} of what is shown comes from the local copy alone", stale.len())));
    }
    Ok(())
}
