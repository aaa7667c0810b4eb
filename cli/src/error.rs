//! What can go wrong in a command: the class of each error, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nettailor_proto::convert;
use nettailor_proto::exit::Exit;
use nettailor_proto::status::{self, Code};

use crate::inputs::dataset;
use crate::{embedded, quantity, submission};

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The address cannot be one.
    #[error("`{url}` is no coordinator address; expected a URL like http://127.0.0.1:7400")]
    Address {
        /// As given.
        url: String,
        /// Why.
        #[source]
        source: Option<tonic::transport::Error>,
    },
    /// Nothing answers there.
    #[error("no coordinator answers at {url}")]
    Unreachable {
        /// As given.
        url: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// Something else answers there.
    #[error("what answers at {url} is no coordinator: it does not speak gRPC")]
    NoCoordinator {
        /// As given.
        url: String,
    },
    /// The coordinator did not do what it was asked.
    #[error("cannot {action}")]
    Refused {
        /// What was asked.
        action: String,
        /// Why not.
        #[source]
        source: status::Error,
    },
    /// The coordinator's answer makes no sense here.
    #[error("cannot {action}: the answer is not understood; is the coordinator of another version?")]
    Answer {
        /// What was asked.
        action: String,
        /// What is wrong with the answer.
        #[source]
        source: convert::Error,
    },
    /// The tasks file or what it names is wrong, or could not be sent.
    #[error(transparent)]
    Submission(#[from] submission::Error),
    /// The coordinator or the workers of this process.
    #[error(transparent)]
    Embedded(Box<embedded::Error>),
    /// A followed connection was lost and did not come back.
    #[error("the coordinator has not answered for {}", quantity::seconds(.waited.as_secs_f64()))]
    Lost {
        /// How long it was tried.
        waited: Duration,
        /// The last failure.
        #[source]
        source: status::Error,
    },
    /// Jobs that were waited for failed.
    #[error("{}", .endings.join("\n       "))]
    JobsFailed {
        /// How each ended.
        endings: Vec<String>,
        /// The command, without the program's name, that shows the log of the first one's failed stage.
        logs: String,
    },
    /// Jobs that were waited for were cancelled.
    #[error("{}", .0.join("\n       "))]
    JobsCancelled(Vec<String>),
    /// Waiting took longer than allowed.
    #[error("not finished after {}: {}", quantity::seconds(.waited.as_secs_f64()), .jobs.join(", "))]
    TimedOut {
        /// The limit.
        waited: Duration,
        /// Ids of the jobs that go on.
        jobs: Vec<String>,
    },
    /// The user stopped watching.
    #[error("stopped watching")]
    Detached {
        /// Ids of the jobs that go on.
        jobs: Vec<String>,
    },
    /// The user ended a run.
    #[error("interrupted")]
    Interrupted,
    /// A job that was to be cancelled had already ended otherwise.
    #[error("job {id} has already {state}")]
    AlreadyEnded {
        /// The job.
        id: String,
        /// How it ended.
        state: String,
    },
    /// Nobody confirmed.
    #[error("{question}: not confirmed")]
    NotConfirmed {
        /// What was asked.
        question: String,
        /// Whether there was anybody to ask.
        asked: bool,
    },
    /// There is neither a job nor a worker of this name.
    #[error("`{name}` is neither a job nor a worker")]
    Nobody {
        /// As given.
        name: String,
    },
    /// The command line contradicts itself in a way that clap cannot see.
    #[error("{0}")]
    Usage(String),
    /// A backbone file that cannot be imported.
    #[error("cannot import {}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: crate::inputs::weights::Error,
    },
    /// Data that cannot be read.
    #[error(transparent)]
    Data(#[from] dataset::Error),
    /// Images that cannot be decoded; they have been named.
    #[error("{} cannot be read", quantity::plural(*.images, "image"))]
    Broken {
        /// How many.
        images: usize,
    },
    /// A file that was asked for cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// stdout is closed or broken.
    #[error("cannot write to stdout")]
    Stdout(#[source] io::Error),
    /// The process cannot do something that every process can.
    #[error("cannot {action}")]
    System {
        /// What.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<embedded::Error> for Error {
    fn from(error: embedded::Error) -> Self {
        Self::Embedded(Box::new(error))
    }
}

impl Error {
    /// The exit code that goes with it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Address { .. }
            | Self::NotConfirmed { asked: false, .. }
            | Self::Usage(_)
            | Self::Import { .. }
            | Self::Data(_)
            | Self::Broken { .. } => Exit::Usage,
            Self::Unreachable { .. }
            | Self::NoCoordinator { .. }
            | Self::Lost { .. }
            | Self::Answer { .. } => Exit::Unavailable,
            Self::Nobody { .. } => Exit::NotFound,
            Self::Refused { source, .. } => source.code.into(),
            Self::Submission(error) => error.exit(),
            Self::Embedded(error) => error.exit(),
            Self::JobsFailed { .. } | Self::Write { .. } | Self::System { .. } => Exit::Failed,
            Self::JobsCancelled(_)
            | Self::Detached { .. }
            | Self::Interrupted
            | Self::NotConfirmed { asked: true, .. } => Exit::Cancelled,
            Self::TimedOut { .. } => Exit::TimedOut,
            Self::AlreadyEnded { .. } => Exit::Conflict,
            // The reader of a pipe has seen enough.
            Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Self::Stdout(_) => Exit::Failed,
        }
    }

    /// Whether a call broke off, or was not understood, so that it is worth asking who answers there.
    pub(crate) fn is_strange(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if matches!(source.code, Code::Unavailable | Code::Incompatible))
    }

    /// What to do about it, where that can be said; `again` begins a command that asks the same coordinator.
    pub(crate) fn hint(&self, again: &str) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => {
                "start one with `nettailor-coordinator`, name it with --coordinator or NETTAILOR_COORDINATOR, or work \
                 without one: `run FILE`, `--local`"
                    .into()
            }
            Self::NoCoordinator { .. } => {
                "7400 is the usual port of a coordinator; its HTTP port, 7401, has nothing but probes".into()
            }
            Self::Nobody { .. } => format!("`{again} jobs list` and `{again} workers list` show what there is"),
            Self::Refused { source, .. } => return code_hint(source.code, again),
            Self::Submission(error) => return error.hint(again),
            Self::Embedded(error) => return error.hint(),
            Self::Lost { .. } => format!("jobs go on without a watcher: `{again} jobs list` once it is back"),
            Self::JobsFailed { logs, .. } => format!("see `{again} {logs}`; submitting again repeats no finished stage"),
            Self::Detached { jobs } if jobs.is_empty() => return None,
            Self::TimedOut { jobs, .. } | Self::Detached { jobs } => {
                format!("the jobs go on; come back with `{again} jobs watch {}`", jobs.join(" "))
            }
            Self::Interrupted => "the same command goes on where this one stopped: finished stages are not repeated".into(),
            Self::NotConfirmed { asked: false, .. } => "there is no terminal to ask on: pass --yes".into(),
            Self::Import { .. } => {
                "give the file as its publisher distributes it (.safetensors, .pth or .pt) and the matching --arch".into()
            }
            Self::Broken { .. } => {
                "repair or remove them, or let training leave them out with `data: {on_unreadable: skip}`".into()
            }
            _ => return None,
        })
    }
}

fn code_hint(code: Code, again: &str) -> Option<String> {
    Some(match code {
        Code::JobNotFound => format!("`{again} jobs list` shows the jobs there are"),
        Code::AmbiguousJob => "give more of the id".into(),
        Code::WorkerNotFound => format!("`{again} workers list` shows the workers there are"),
        Code::ModelNotFound => format!("`{again} registry list --all-versions` shows the models there are"),
        Code::BackboneUnknown => format!(
            "import it with `{again} backbone import FILE --arch ARCH`, or name its file in the tasks file: \
             `backbone: {{arch, weights}}`"
        ),
        Code::StorageFull => {
            "make room where the coordinator keeps its state and artifacts, then try again".into()
        }
        Code::Unavailable => "try again in a moment".into(),
        Code::Incompatible => "use a CLI and a coordinator of the same version".into(),
        Code::Internal => "this is a defect of the coordinator; its log says more".into(),
        _ => return None,
    })
}
