//! `nettailor-load`: measures a coordinator. Prints one line of JSON.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use nettailor_load::measures;
use nettailor_load::site::Site;
use serde_json::{Value, json};

/// What stands for backbone, data and weights where nobody reads them.
const BLOB_BYTES: usize = 64;

/// Simulates workers and clients, and prints as JSON how long the coordinator kept them waiting. It should be a fresh one.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// The coordinator
    #[arg(long, global = true, default_value = "http://127.0.0.1:7400")]
    coordinator: String,
    /// Gives up after so many seconds
    #[arg(long, global = true, default_value_t = 1800)]
    limit_seconds: u64,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Stages a second, with every end durable before it is acknowledged
    Throughput(measures::Drain),
    /// The same over many queues, to the last admission
    Drain(measures::Drain),
    /// One large file, and single tasks on idle workers
    Submit(measures::Submit),
    /// Reports from workers to followers
    Progress(measures::Progress),
    /// Listing jobs
    List(measures::List),
    /// What is resident
    Memory(measures::Memory),
    /// From a worker's death to its stage's next start
    Lost(measures::Lost),
    /// From a coordinator's death to its successor with all workers. Prints `kill` when the time has come
    Restart(measures::Restart),
    /// Two jobs with the same inputs on a real agent. Prints `warm` between them
    Warm(measures::Warm),
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new().context("the async runtime cannot start")?;
    let measured = runtime.block_on(async {
        let measured = tokio::time::timeout(Duration::from_secs(args.limit_seconds), measure(&args)).await;
        measured.with_context(|| format!("not done after {} s", args.limit_seconds))?
    })?;
    say(&measured.to_string())?;
    // Thousands of connections are the system's to close.
    runtime.shutdown_background();
    Ok(())
}

async fn measure(args: &Args) -> anyhow::Result<Value> {
    let blob_bytes = match args.measure {
        Measure::Warm(asked) => asked.mib << 20,
        _ => BLOB_BYTES,
    };
    let site = Site::connect(&args.coordinator, blob_bytes).await?;
    Ok(match args.measure {
        Measure::Throughput(asked) | Measure::Drain(asked) => json!(measures::drain(&site, asked).await?),
        Measure::Submit(asked) => json!(measures::submit(&site, asked).await?),
        Measure::Progress(asked) => json!(measures::progress(&site, asked).await?),
        Measure::List(asked) => json!(measures::list(&site, asked).await?),
        Measure::Memory(asked) => json!(measures::memory(&site, asked).await?),
        Measure::Lost(asked) => json!(measures::lost(&site, asked).await?),
        Measure::Warm(_) => json!(measures::warm(&site, || say("warm")).await?),
        Measure::Restart(asked) => json!(measures::restart(&site, asked, || say("kill")).await?),
    })
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}
