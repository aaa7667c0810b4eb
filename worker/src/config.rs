//! What an agent is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nettailor_domain::ids::WorkerId;
use nettailor_domain::labels::{Label, Labels};

use crate::ambient;

/// Settings of an agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// URL of the coordinator: `http://host:port`.
    pub coordinator: String,
    /// Unique among the coordinator's workers.
    pub name: WorkerId,
    /// Trainers at a time, at least 1.
    pub slots: u32,
    /// CPU threads of each trainer, at least 1.
    pub threads_per_slot: u32,
    /// Folder of the blob cache; agents of one node may share it.
    pub cache_dir: PathBuf,
    /// Bytes of blobs and decoded data kept there.
    pub cache_bytes: u64,
    /// The trainer's program.
    pub trainer: PathBuf,
    /// Where to answer probes.
    pub http: Option<SocketAddr>,
    /// GPUs by the names that CUDA knows them by; each trainer gets one of them. On the CPU without any.
    pub gpus: Vec<String>,
    /// Host by which other workers reach the trainers here; the address towards the coordinator if none is given.
    pub advertise: Option<String>,
    /// What jobs may ask for.
    pub labels: Labels,
    /// Folder where trainers note which images they train on; nothing is noted without one.
    pub sample_ledger: Option<PathBuf>,
    /// What running attempts are given to finish once the agent is asked to leave.
    pub drain: Duration,
    /// What a trainer is given between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
}

impl Config {
    /// Bytes of blobs kept, unless told otherwise: dozens of data sets and hundreds of networks.
    pub const CACHE_BYTES: u64 = 20 << 30;
    /// Drain time, unless told otherwise.
    pub const DRAIN: Duration = Duration::from_secs(30);
    /// Time from SIGTERM to SIGKILL.
    pub const STOP_GRACE: Duration = Duration::from_secs(5);

    /// An agent of this machine with everything as usual: named after the host, all cores shared among `slots` trainers,
    /// the trainer's program beside the running one.
    pub fn local(coordinator: String, cache_dir: PathBuf, slots: u32) -> Self {
        Self {
            coordinator,
            name: ambient::host_name(),
            slots,
            threads_per_slot: threads_per_slot(slots),
            cache_dir,
            cache_bytes: Self::CACHE_BYTES,
            trainer: ambient::beside_this_program("nettailor-trainer"),
            http: None,
            gpus: ambient::gpus(),
            advertise: None,
            labels: Labels::default(),
            sample_ledger: None,
            drain: Self::DRAIN,
            stop_grace: Self::STOP_GRACE,
        }
    }
}

/// Settings of an agent as options of a command.
#[derive(Debug, Args)]
pub struct Options {
    /// The coordinator, e.g. http://localhost:7400
    #[arg(
        long,
        value_name = "URL",
        env = "NETTAILOR_COORDINATOR",
        default_value = "http://127.0.0.1:7400"
    )]
    coordinator: String,
    /// Name of this agent, unique among the coordinator's workers [default: the host's name]
    #[arg(long, env = "NETTAILOR_WORKER_NAME")]
    name: Option<WorkerId>,
    /// Trainers to run at a time
    #[arg(long, value_name = "N", env = "NETTAILOR_SLOTS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// CPU threads of each trainer [default: cores / slots]
    #[arg(long, value_name = "N", env = "NETTAILOR_THREADS", value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Folder of the blob cache; agents on one machine may share it
    #[arg(
        long,
        value_name = "DIR",
        env = "NETTAILOR_CACHE",
        default_value = ".nettailor/cache"
    )]
    cache: PathBuf,
    /// Gibibytes of blobs and decoded data to keep in the cache
    #[arg(long, value_name = "GIB", env = "NETTAILOR_CACHE_GIB", default_value_t = Config::CACHE_BYTES >> 30,
          value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    cache_gib: u64,
    /// The trainer's program [default: nettailor-trainer beside this program]
    #[arg(long, value_name = "PATH", env = "NETTAILOR_TRAINER")]
    trainer: Option<PathBuf>,
    /// Answer probes (/livez, /readyz) here, e.g. 0.0.0.0:7402
    #[arg(long, value_name = "ADDRESS", env = "NETTAILOR_WORKER_HTTP")]
    http: Option<SocketAddr>,
    /// GPUs of this node for the trainers, each of which gets the one that the fewest others use: 0,1 or UUIDs [default:
    /// those that CUDA_VISIBLE_DEVICES names, or all]
    #[arg(long, value_name = "LIST", env = "NETTAILOR_GPUS", value_delimiter = ',')]
    gpus: Option<Vec<String>>,
    /// Host by which other workers reach the trainers here, for stages that several workers share [default: this
    /// machine's address towards the coordinator]
    #[arg(long, value_name = "HOST", env = "NETTAILOR_ADVERTISE")]
    advertise: Option<String>,
    /// What tasks may ask for with `resources: {labels: ...}`, e.g. gpu=h100; may be repeated
    #[arg(
        long = "label",
        value_name = "NAME=VALUE",
        env = "NETTAILOR_LABELS",
        value_delimiter = ','
    )]
    labels: Vec<Label>,
    /// Note in files of this folder which images every rank trains on, step by step (see docs/gangs.md)
    #[arg(long, value_name = "DIR", env = "NETTAILOR_SAMPLE_LEDGER")]
    sample_ledger: Option<PathBuf>,
    /// After SIGTERM or Ctrl-C: seconds that running stages have to finish before they are given back
    #[arg(long, value_name = "SECONDS", env = "NETTAILOR_DRAIN_SECONDS", default_value_t = Config::DRAIN.as_secs())]
    drain_seconds: u64,
}

impl From<Options> for Config {
    fn from(options: Options) -> Self {
        let usual = Self::local(options.coordinator, options.cache, options.slots);
        Self {
            name: options.name.unwrap_or(usual.name),
            threads_per_slot: options.threads.unwrap_or(usual.threads_per_slot),
            cache_bytes: options.cache_gib << 30,
            trainer: options.trainer.unwrap_or(usual.trainer),
            http: options.http,
            gpus: options.gpus.unwrap_or(usual.gpus),
            advertise: options.advertise,
            labels: options
                .labels
                .into_iter()
                .map(|Label(name, value)| (name, value))
                .collect(),
            sample_ledger: options.sample_ledger,
            drain: Duration::from_secs(options.drain_seconds),
            ..usual
        }
    }
}

fn threads_per_slot(slots: u32) -> u32 {
    u32::try_from(ambient::cores())
        .unwrap_or(1)
        .checked_div(slots)
        .unwrap_or(1)
        .max(1)
}
