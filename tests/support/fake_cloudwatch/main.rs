//! The fake CloudWatch Logs server on its own. Prints `listening http://127.0.0.1:PORT` once it answers.

// The tests use more of it than the server alone does.
#[allow(dead_code, unused_imports)]
#[path = "mod.rs"]
mod fake_cloudwatch;

use clap::Parser;
use fake_cloudwatch::{Fake, Plan, Populate};
use std::io::Write;
use std::path::PathBuf;

/// A server that speaks CloudWatch Logs' protocol, for tests and for trying things out
#[derive(Parser)]
struct Cli {
    /// Port on 127.0.0.1; 0 is a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Latency of every call
    #[arg(long, default_value = "0ms")]
    latency: humantime::Duration,
    /// Quotas of this region, or none
    #[arg(long, default_value = "none")]
    region_quotas: String,
    /// Seed of random decisions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Groups and streams to start with, as JSON
    #[arg(long, value_name = "FILE.json")]
    populate: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cli = Cli::parse();
    let mut plan = Plan { seed: cli.seed, latency_ms: cli.latency.as_millis() as u64, ..Plan::default() };
    if cli.region_quotas != "none" {
        plan.region.clone_from(&cli.region_quotas);
        plan.quotas.region = Some(cli.region_quotas);
    }
    let populate: Option<Populate> = match &cli.populate {
        Some(path) => Some(serde_json::from_slice(&std::fs::read(path)?)?),
        None => None,
    };
    let fake = Fake::start_on(plan, cli.port)?;
    if let Some(spec) = &populate {
        fake.populate(spec);
    }
    println!("listening {}", fake.url());
    std::io::stdout().flush()?;
    fake.run();
    Ok(())
}
