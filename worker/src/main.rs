//! `nettailor-worker`: the agent as a program.

use std::io::IsTerminal;

use anyhow::Context;
use clap::Parser;
use nettailor_worker::{Agent, Options};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Offers this machine to a NetTailor coordinator.
///
/// SIGTERM or Ctrl-C drains: nothing new is started, running stages may finish. A second one ends at once.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// What to log, e.g. info or nettailor_worker=debug
    #[arg(long, value_name = "FILTER", env = "NETTAILOR_LOG", default_value = "info")]
    log: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { options, log } = Cli::parse();
    let log = EnvFilter::try_new(&log).with_context(|| format!("`{log}` is no log filter"))?;
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(log)
        .with_ansi(colour)
        .with_writer(std::io::stderr)
        .init();
    let agent = Agent::new(options.into())?;
    let mut signals = Signals::new().context("cannot listen to signals")?;
    let shutdown = CancellationToken::new();
    let agent = agent.run(shutdown.clone());
    tokio::pin!(agent);
    tokio::select! {
        ended = &mut agent => return Ok(ended?),
        name = signals.next() => info!("{name}: leaving; once more ends at once"),
    }
    shutdown.cancel();
    tokio::select! {
        ended = agent => Ok(ended?),
        name = signals.next() => {
            warn!("{name} again: ending at once");
            Ok(())
        }
    }
}

/// The signals that ask a program to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one. Cancel-safe.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
