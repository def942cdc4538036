//! Fills a cache that no mount uses: every stream that was listed is given one line and counts as read to its end.
//!
//! Benches need a hundred thousand cached streams; reading them through a mount would measure something else for an hour.

use clap::Parser;
use cwlogs_mount::model::{LogEvent, Timestamp};
use cwlogs_mount::store::{Append, Store};
use std::path::PathBuf;
use std::time::SystemTime;

/// Streams that one commit fills.
const TOGETHER: usize = 5000;

/// Fills a cache whose groups were listed, as if every stream had been read
#[derive(Parser)]
struct Cli {
    /// The cache folder
    cache: PathBuf,
    /// Text of the line that each stream is given
    #[arg(long, default_value = "2026-11-24T10:00:00.000Z INFO one line, as long as one line is")]
    line: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cli = Cli::parse();
    let store = Store::open(&cli.cache)?;
    let now = Timestamp::from_system_time(SystemTime::now());
    let mut filled = 0;
    for group in store.groups_after(0, usize::MAX)? {
        let mut after = 0;
        loop {
            let rows = store.streams_after(group.id, after, TOGETHER)?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            let batch = rows.iter().map(|row| {
                let timestamp = row.stream.last_event.unwrap_or(row.stream.created);
                let ingestion_time = row.stream.last_ingestion.unwrap_or(timestamp);
                Append {
                    stream: Some(row.id),
                    events: vec![LogEvent { timestamp, ingestion_time, message: cli.line.clone() }],
                    complete: true,
                    settled_to: Some(now),
                    settled_by_service: true,
                    doubted: None,
                    read_to: Some(now),
                }
            });
            filled += rows.len();
            store.append(batch.collect()).await?;
        }
    }
    println!("{filled}");
    Ok(())
}
