//! One attempt from its order to its report: inputs made local, a trainer run, weights uploaded.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, try_join_all, try_join4};
use nettailor_artifacts::{ArtifactStore, Error as StoreError};
use nettailor_domain::session::{Address, Order};
use nettailor_domain::stage::{self, Artifact, StageResult};
use nettailor_domain::trainer::{
    self, Assignment, BackboneFile, Failure, FailureClass, Finished, ParentInput, Progress, TrainerCommand,
    TrainerEvent, WEIGHTS_FILE,
};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::ambient;
use crate::cache::{BlobCache, PinnedBlob};
use crate::gpus::Gpus;
use crate::ledger::{Heard, Report, Running, lost};
use crate::reports::Reports;
use crate::trainer_process::{Line, TrainerProcess};

/// Last log lines that a broken trainer's report quotes.
const TAIL_LINES: usize = 12;
/// A trainer that has said its last word has this long to end.
const LINGER: Duration = Duration::from_secs(10);
/// Longest pause after the first failed upload; then twice as long each time, up to [`LONGEST_UPLOAD_PAUSE`].
const UPLOAD_PAUSE: Duration = Duration::from_secs(1);
/// A store that comes back after hours has the weights within this time.
const LONGEST_UPLOAD_PAUSE: Duration = Duration::from_secs(60);

/// What all attempts of an agent share.
#[derive(Debug)]
pub(crate) struct Node {
    /// The trainer's program.
    pub(crate) trainer: PathBuf,
    /// CPU threads of a trainer.
    pub(crate) threads: usize,
    /// From SIGTERM to SIGKILL.
    pub(crate) stop_grace: Duration,
    /// Where the inputs lie.
    pub(crate) cache: Arc<BlobCache>,
    /// For the attempts' folders; this agent's alone.
    pub(crate) attempts_dir: PathBuf,
    /// How attempts ended, until the coordinator has heard of it.
    pub(crate) reports: Reports,
    /// Trainers at a time. The coordinator counts too; here it only spaces out an end and the next start.
    pub(crate) slots: Semaphore,
    /// What the trainers compute on, if not the CPU.
    pub(crate) gpus: Gpus,
    /// Host by which other workers reach the trainers here, if it was given.
    pub(crate) advertise: Option<String>,
    /// Host and port of the coordinator.
    pub(crate) coordinator: (String, u16),
    /// Where trainers note which images they train on, if they do.
    pub(crate) sample_ledger: Option<PathBuf>,
}

impl Node {
    /// Where other workers reach `port` of this node.
    async fn address(&self, port: u16) -> Result<Address, Failure> {
        let unknown = |what: String| {
            move |error: std::io::Error| Failure {
                class: FailureClass::Resources,
                message: format!("cannot find {what}: {error}; name this node's address with --advertise"),
            }
        };
        let address = match &self.advertise {
            // All ranks must mean the same by it, and a host knows itself by another address than others do.
            Some(host) => ambient::address_of(host)
                .await
                .map_err(unknown(format!("an address of {host}")))?,
            None => {
                let (host, port) = &self.coordinator;
                let what = format!("this node's address towards the coordinator {host}:{port}");
                ambient::address_towards(host, *port)
                    .await
                    .map_err(unknown(what))?
            }
        };
        let host = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        format!("{host}:{port}").parse().map_err(|error| Failure {
            class: FailureClass::Resources,
            message: format!("this node's address cannot be used; name it with --advertise: {error}"),
        })
    }
}

/// Runs an attempt and enters its end in the ledger. The attempt's folder is gone by then, and its end is on the disk.
pub(crate) async fn run(node: Arc<Node>, store: Arc<ArtifactStore>, order: Order, mut running: Running) {
    let seat = running.seat();
    info!(%seat, "starting {}", order.description);
    let report = execute(&node, &store, order, &mut running).await;
    match &report {
        Ok(result) => info!(%seat, seconds = result.seconds, "finished"),
        Err(failure) => warn!(%seat, class = ?failure.class, "failed: {failure}"),
    }
    // Without it the agent's own death would cost what is said and not heard.
    if let Err(error) = node.reports.keep(seat, &report).await {
        warn!(%seat, "the report cannot be kept: {error}");
    }
    running.end(report);
}

async fn execute(node: &Node, store: &ArtifactStore, order: Order, running: &mut Running) -> Report {
    let _slot = or_stopped(running, async {
        node.slots
            .acquire()
            .await
            .map_err(|closed| lost(closed.to_string()))
    });
    let _slot = _slot.await?;
    let begun = ambient::now();
    running.progress(phase("fetching inputs"));
    let inputs = or_stopped(running, Inputs::gather(node, store, order)).await?;
    let gpu = node.gpus.take();
    let gpu = gpu.as_ref().map(|gpu| gpu.name.as_str());
    let process =
        TrainerProcess::spawn(&node.trainer, &inputs.assignment, node.threads, gpu).map_err(|error| {
            let message = format!("cannot start the trainer {}: {error}", node.trainer.display());
            Failure {
                class: FailureClass::Resources,
                message,
            }
        })?;
    let finished = supervise(process, node, store, running).await?;
    let file = inputs.folder.path().join(WEIGHTS_FILE);
    // Of a gang, rank 0 leaves what all have.
    let weights = if finished.outcome.leaves_weights() && running.seat().rank == 0 {
        Some(keep_weights(node, store, &file, running).await?)
    } else {
        None
    };
    Ok(Box::new(StageResult {
        outcome: finished.outcome,
        weights,
        samples: finished.samples,
        unreadable: finished.unreadable,
        seconds: (ambient::now() - begun).as_secs_f64(),
    }))
}

/// Does `work` unless the attempt is stopped meanwhile.
async fn or_stopped<T>(
    running: &mut Running,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        reason = running.stopped() => Err(stopped(&reason)),
        done = work => done,
    }
}

/// The coordinator wanted the end, or the agent leaves: never the task's fault.
fn stopped(reason: &str) -> Failure {
    lost(format!("stopped: {reason}"))
}

/// Everything that must lie on disk while the trainer runs.
struct Inputs {
    folder: TempDir,
    assignment: PathBuf,
    _pinned: Vec<PinnedBlob>,
}

impl Inputs {
    async fn gather(node: &Node, store: &ArtifactStore, order: Order) -> Result<Self, Failure> {
        let fetch = async |artifact: Artifact| {
            let blob = node.cache.get(artifact, store).await;
            blob.map_err(|error| resources(&error))
        };
        let backbone = async {
            match order.backbone {
                Some(artifact) => fetch(artifact).await.map(Some),
                None => Ok(None),
            }
        };
        let parents = order.parents.iter().map(async |parent| {
            let missing = || Failure {
                class: FailureClass::Internal,
                message: "the assignment names a parent without weights".to_owned(),
            };
            fetch(parent.weights.ok_or_else(missing)?).await
        });
        let checkpoint = async {
            match order.checkpoint {
                Some(artifact) => match node.cache.get(artifact, store).await {
                    Ok(blob) => Ok(Some(blob)),
                    // There is nothing to go on from: that is what the coordinator makes of this class.
                    Err(error) if error.is_missing() => Err(Failure {
                        class: FailureClass::Internal,
                        message: format!("the checkpoint to go on from is gone: {}", in_full(&error)),
                    }),
                    Err(error) => Err(resources(&error)),
                },
                None => Ok(None),
            }
        };
        let (backbone, data, parents, checkpoint) =
            try_join4(backbone, fetch(order.data), try_join_all(parents), checkpoint).await?;
        let folder = tempfile::Builder::new()
            .prefix(&format!("{}-", order.seat.to_string().replace(['#', '/'], "-")))
            .tempdir_in(&node.attempts_dir)
            .map_err(|error| unusable(&node.attempts_dir, &error))?;
        let weights = order.backbone.zip(backbone.as_ref());
        let assignment = Assignment {
            spec: order.spec,
            backbone: weights.map(|(artifact, blob)| BackboneFile {
                path: blob.path().to_owned(),
                digest: artifact.digest,
            }),
            data: data.path().to_owned(),
            parents: order
                .parents
                .into_iter()
                .zip(&parents)
                .map(|(result, blob)| ParentInput {
                    result,
                    weights: blob.path().to_owned(),
                })
                .collect(),
            selection: order.selection,
            cache_dir: node.cache.decoded_dir(),
            output_dir: folder.path().to_owned(),
            threads: node.threads,
            rank: order.seat.rank,
            world_size: order.world_size,
            gang: order.seat.attempt.to_string(),
            checkpoint: checkpoint.as_ref().map(|blob| blob.path().to_owned()),
            checkpoint_seconds: order.checkpoint_seconds,
            sample_ledger: node.sample_ledger.clone(),
        };
        let file = folder.path().join("assignment.json");
        let json = serde_json::to_vec_pretty(&assignment).map_err(|error| Failure {
            class: FailureClass::Internal,
            message: format!("cannot write the assignment as JSON: {error}"),
        })?;
        tokio::fs::write(&file, json)
            .await
            .map_err(|error| unusable(&file, &error))?;
        Ok(Self {
            folder,
            assignment: file,
            _pinned: [data]
                .into_iter()
                .chain(backbone)
                .chain(parents)
                .chain(checkpoint)
                .collect(),
        })
    }
}

/// Hears a trainer to its end.
async fn supervise(
    mut process: TrainerProcess,
    node: &Node,
    store: &ArtifactStore,
    running: &mut Running,
) -> Result<Finished, Failure> {
    // One upload at a time: of checkpoints that come faster the newest waits.
    let mut upload: Option<BoxFuture<'_, Option<stage::Checkpoint>>> = None;
    let mut newest: Option<trainer::Checkpoint> = None;
    let mut tail = VecDeque::with_capacity(TAIL_LINES);
    let mut verdict = None;
    let mut stop_reason = None;
    let mut kill_at: Option<Instant> = None;
    loop {
        tokio::select! {
            line = process.next_line() => match line {
                None => break,
                Some(Line::Log(line)) => {
                    debug!(seat = %running.seat(), "{line}");
                    if tail.len() == TAIL_LINES {
                        tail.pop_front();
                    }
                    tail.push_back(line.clone());
                    running.log(ambient::wall_ms(), line);
                }
                Some(Line::Event(event)) => match *event {
                    TrainerEvent::Progress(progress) => running.progress(progress),
                    // The first is what counts.
                    TrainerEvent::Finished(finished) => verdict = verdict.or(Some(Ok(finished))),
                    TrainerEvent::Failed(failure) => verdict = verdict.or(Some(Err(failure))),
                    TrainerEvent::Meeting { port } => match node.address(port).await {
                        Ok(address) => running.meeting(address),
                        Err(failure) => {
                            process.kill();
                            verdict = Some(Err(failure));
                        }
                    },
                    TrainerEvent::Checkpoint(left) => newest = Some(left),
                },
            },
            kept = settled(&mut upload) => {
                upload = None;
                if let Some(kept) = kept {
                    running.checkpointed(kept);
                }
            }
            heard = running.heard() => match heard {
                Heard::Met(address) => {
                    let address = address.to_string();
                    if let Err(error) = process.tell(&TrainerCommand::Meet { address }).await {
                        warn!(seat = %running.seat(), "cannot tell the trainer where its gang meets: {error}");
                    }
                }
                Heard::Stopped(reason) => {
                process.terminate();
                kill_at = Some(ambient::now() + node.stop_grace);
                stop_reason = Some(reason);
                }
            },
            () = at(kill_at) => {
                process.kill();
                kill_at = None;
            }
        }
        // The coordinator removes what it has heard of, and so must hear of every one: while it is away the newest waits.
        if upload.is_none()
            && !running.owes_checkpoint()
            && let Some(left) = newest.take()
        {
            upload = Some(keep_checkpoint(store, left).boxed());
        }
        if verdict.is_some() && stop_reason.is_none() && kill_at.is_none() {
            kill_at = Some(ambient::now() + LINGER);
        }
    }
    // What it left last is worth most where it did not come to an end.
    if upload.is_some()
        && !matches!(verdict, Some(Ok(_)))
        && let Ok(Some(kept)) = tokio::time::timeout(LINGER, settled(&mut upload)).await
    {
        running.checkpointed(kept);
    }
    match (stop_reason, verdict) {
        // What it said before it was stopped may be why the others were.
        (_, Some(Err(failure))) if failure.class != FailureClass::Lost => Err(failure),
        (Some(reason), _) => Err(stopped(&reason)),
        (None, Some(verdict)) => verdict,
        (None, None) => Err(broke_off(&process, tail)),
    }
}

/// The outcome of an upload; pending without one.
async fn settled<T>(upload: &mut Option<BoxFuture<'_, T>>) -> T {
    match upload {
        Some(upload) => upload.await,
        None => std::future::pending().await,
    }
}

/// Uploads a checkpoint. One that cannot be kept is no loss but of time: the next one may. It is not taken into the cache, where
/// those that nobody will read again would push out what many do.
async fn keep_checkpoint(store: &ArtifactStore, left: trainer::Checkpoint) -> Option<stage::Checkpoint> {
    match store.put_file(&left.file).await {
        Ok(artifact) => Some(stage::Checkpoint {
            artifact,
            epoch: left.epoch,
            step: left.step,
        }),
        Err(error) => {
            warn!("cannot keep a checkpoint: {}", in_full(&error));
            None
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn broke_off(process: &TrainerProcess, tail: VecDeque<String>) -> Failure {
    let how = process.how_it_ended();
    let message = match Vec::from(tail).join("\n") {
        last if last.is_empty() => format!("the trainer ended without a result and without a word: {how}"),
        last => format!("the trainer ended without a result: {how}; it last said:\n{last}"),
    };
    Failure {
        class: FailureClass::Internal,
        message,
    }
}

fn phase(phase: &str) -> Progress {
    Progress {
        phase: phase.to_owned(),
        ..Progress::default()
    }
}

/// Uploads the weights, and keeps them in the cache: the next stage will want them. Hours of training are not given up
/// because the artifact store is full or away: it is tried until it works or the attempt is stopped, at the latest when
/// the stage's time is over.
async fn keep_weights(
    node: &Node,
    store: &ArtifactStore,
    file: &Path,
    running: &mut Running,
) -> Result<Artifact, Failure> {
    if !file.exists() {
        let message = format!("the trainer reported success but left no {WEIGHTS_FILE}");
        return Err(Failure {
            class: FailureClass::Internal,
            message,
        });
    }
    let mut pause = UPLOAD_PAUSE;
    let artifact = loop {
        running.progress(phase("uploading weights"));
        let error = match or_stopped(running, async { Ok(store.put_file(file).await) }).await? {
            Ok(artifact) => break artifact,
            Err(error @ (StoreError::Full { .. } | StoreError::Store { .. })) => in_full(&error),
            // Not the store's: the file cannot be read.
            Err(error) => return Err(resources(&error)),
        };
        let wait = ambient::jittered(pause);
        let line = format!(
            "cannot upload the weights, trying again in {:.1} s: {error}",
            wait.as_secs_f64()
        );
        warn!(seat = %running.seat(), "{line}");
        running.log(ambient::wall_ms(), line);
        running.progress(phase("waiting for the artifact store"));
        or_stopped(running, async {
            tokio::time::sleep(wait).await;
            Ok(())
        })
        .await?;
        pause = (2 * pause).min(LONGEST_UPLOAD_PAUSE);
    };
    if let Err(error) = node.cache.adopt(artifact, file).await {
        warn!("cannot keep the weights in the cache: {}", in_full(&error));
    }
    Ok(artifact)
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("cannot write {}: {error}", path.display());
    Failure {
        class: FailureClass::Resources,
        message,
    }
}

fn resources(error: &dyn StdError) -> Failure {
    Failure {
        class: FailureClass::Resources,
        message: in_full(error),
    }
}

/// An error with its causes, on one line.
pub(crate) fn in_full(error: &dyn StdError) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
