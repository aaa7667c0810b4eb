//! `nettailor-coordinator`: the coordinator as a process of its own.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use nettailor_artifacts::Incarnation;
use nettailor_coordinator::{Config, Coordinator, Error, Rebuilt};
use nettailor_proto::exit::Exit;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;
use url::Url;

/// Schedules tailoring jobs on workers and keeps the registry of tailored networks.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where gRPC is served, to workers and clients.
    #[arg(long, env = "NETTAILOR_LISTEN", default_value = "127.0.0.1:7400")]
    listen: SocketAddr,
    /// Where /livez and /readyz are answered.
    #[arg(long, env = "NETTAILOR_HTTP", default_value = "127.0.0.1:7401")]
    http: SocketAddr,
    /// Directory of jobs and registry; made if it is not there.
    #[arg(
        long,
        global = true,
        env = "NETTAILOR_STATE",
        default_value = ".nettailor/coordinator"
    )]
    state: PathBuf,
    /// Artifact store, as workers reach it, too: a URL (file:///...) or a folder [default: artifacts in the state directory].
    #[arg(long, global = true, env = "NETTAILOR_ARTIFACTS", value_name = "URL", value_parser = nettailor_artifacts::location)]
    artifacts: Option<Url>,
    /// What is logged, to stderr: error, warn, info, debug, or per module.
    #[arg(
        long,
        global = true,
        env = "NETTAILOR_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    log: EnvFilter,
}

/// What is done in place of serving.
#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the database of a state directory that was lost or damaged again, from the journal in the artifact store.
    Rebuild {
        /// Whose journal, where there are several.
        #[arg(long, value_name = "ID")]
        incarnation: Option<Incarnation>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("nettailor-coordinator: {error:#}");
            error.downcast_ref().map_or(Exit::Failed, Error::exit).into()
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(args.log)
        .with_writer(io::stderr)
        .with_target(false);
    if io::stderr().is_terminal() {
        log.init()
    } else {
        log.with_ansi(false).init()
    }
    let mut config = Config::local(args.state);
    (config.listen, config.http, config.artifacts) = (args.listen, Some(args.http), args.artifacts);
    let runtime = tokio::runtime::Runtime::new().context("the async runtime cannot start")?;
    match args.command {
        None => runtime.block_on(serve(config)),
        Some(Command::Rebuild { incarnation }) => runtime.block_on(rebuild(config, incarnation)),
    }
}

async fn rebuild(config: Config, incarnation: Option<Incarnation>) -> anyhow::Result<()> {
    let Rebuilt {
        incarnation,
        commits,
        rows,
        set_aside,
    } = Coordinator::rebuild(config, incarnation).await?;
    let aside = set_aside.map(|path| path.display().to_string());
    info!(%incarnation, commits, rows, set_aside = aside, "rebuilt: the coordinator can be started");
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let running = Coordinator::start(config).await?;
    let asked = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        asked.cancel();
    });
    Ok(running.run(shutdown).await?)
}
