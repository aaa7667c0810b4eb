//! `nettailor-coordinator`: the coordinator as a process of its own.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use nettailor_artifacts::Incarnation;
use nettailor_coordinator::{Config, Coordinator, Error, Rebuilt};
use nettailor_domain::session::{GRACE, REATTACH, WORKER_SILENCE};
use nettailor_proto::exit::Exit;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
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
    /// Seconds of silence after which a worker is disconnected; four heartbeats fit in. More on networks that drop out.
    #[arg(long, env = "NETTAILOR_SILENCE_SECONDS", value_name = "SECONDS", value_parser = seconds,
          default_value_t = Seconds(WORKER_SILENCE))]
    silence_seconds: Seconds,
    /// Seconds that a disconnected worker has to come back before its work is given to others.
    #[arg(long, env = "NETTAILOR_REATTACH_SECONDS", value_name = "SECONDS", value_parser = seconds,
          default_value_t = Seconds(REATTACH))]
    reattach_seconds: Seconds,
    /// The same after a start of the coordinator, or where it lost most of its workers at once.
    #[arg(long, env = "NETTAILOR_GRACE_SECONDS", value_name = "SECONDS", value_parser = seconds,
          default_value_t = Seconds(GRACE))]
    grace_seconds: Seconds,
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

/// A duration, written in seconds.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_secs_f64().fmt(f)
    }
}

/// Reads a number of seconds: a tenth of one at least, an hour at most.
fn seconds(text: &str) -> Result<Seconds, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.1..=3600.0).contains(&number) => Ok(Seconds(Duration::from_secs_f64(number))),
        _ => Err("expected a number of seconds from 0.1 to 3600".into()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let in_order = args.reattach_seconds < args.silence_seconds && args.silence_seconds < args.grace_seconds;
    if !in_order {
        let limits =
            "--reattach-seconds must be less than --silence-seconds, and that less than --grace-seconds";
        Args::command().error(ErrorKind::ValueValidation, limits).exit();
    }
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
    config.scheduler.silence = args.silence_seconds.0;
    config.scheduler.reattach = args.reattach_seconds.0;
    config.scheduler.restore_grace = args.grace_seconds.0;
    if let Err(error) = raise_open_files() {
        warn!("the number of open files stays as it is: {error}");
    }
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

/// Allows as many open files as the system does: each worker and client is one, and a thousand are more than the usual limit.
fn raise_open_files() -> nix::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_numbers_within_reason() {
        assert_eq!(seconds("0.5"), Ok(Seconds(Duration::from_millis(500))));
        assert_eq!(Seconds(WORKER_SILENCE).to_string().parse(), Ok(4.0));
        for wrong in ["", "4s", "0", "-1", "NaN", "inf", "3601"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
