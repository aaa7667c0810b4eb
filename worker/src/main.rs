//! `nettailor-worker`: the agent as a program.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use nettailor_proto::exit::Exit;
use nettailor_worker::{Agent, Error, Options};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;
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
    log: EnvFilter,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = Runtime::new()
        .context("the async runtime cannot start")
        .and_then(|runtime| {
            let ended = runtime.block_on(run(cli));
            // A file system that is away may hold a thread for ever; nothing waits for it.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("nettailor-worker: {error:#}");
            error.downcast_ref().map_or(Exit::Failed, Error::exit).into()
        }
    }
}

async fn run(Cli { options, log }: Cli) -> anyhow::Result<()> {
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(log)
        .with_ansi(colour)
        .with_writer(std::io::stderr)
        .init();
    if let Err(error) = raise_open_files() {
        warn!("the number of open files stays as it is: {error}");
    }
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

/// Allows as many open files as the system does, here and in trainers: blobs, pipes and data of many slots are more than the
/// usual limit.
fn raise_open_files() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
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
