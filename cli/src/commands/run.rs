//! `run FILE`: coordinator, workers and client in this one process.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::pin::pin;

use clap::ValueHint;

use crate::args::Global;
use crate::client::{Client, Terms};
use crate::embedded::{Crew, Embedded, STATE_DIR};
use crate::error::Error;
use crate::follow::{self, Ended, Show};
use crate::output::Console;
use crate::quantity::plural;
use crate::views::{JobState, JobView};
use crate::{ambient, report, submission};

/// Cores for each worker, unless told otherwise: below this, one trainer with all cores makes the best use of memory.
const CORES_PER_WORKER: usize = 4;

/// Jobs that a run which did not end well may have left behind; far more than a tasks file has.
const LEFT_BEHIND: usize = 10_000;

/// Jobs, artifacts and models stay in the state directory: a second run repeats no finished stage, and
/// `registry list --local` shows what came out. Ctrl-C stops the trainers; the same command then goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Tasks file
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Workers in this process [default: one for every 4 cores]
    #[arg(long, value_name = "N")]
    workers: Option<NonZero<u32>>,
    /// Trainers of each worker at a time
    #[arg(long, value_name = "N", default_value = "1")]
    slots: NonZero<u32>,
    /// CPU threads of each trainer [default: cores / (workers * slots)]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<u32>>,
    /// The trainer's program [default: nettailor-trainer beside this program]
    #[arg(long, value_name = "PATH", env = "NETTAILOR_TRAINER", value_hint = ValueHint::ExecutablePath)]
    trainer: Option<PathBuf>,
    /// Where state and artifacts are kept; jobs that an earlier run left open there are ended
    #[arg(long, value_name = "DIR", default_value = STATE_DIR, value_hint = ValueHint::DirPath)]
    state: PathBuf,
    /// Write a picture of each network into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    svg_dir: Option<PathBuf>,
}

impl Args {
    /// The state directory, to open it again.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    fn crew(&self, cores: usize) -> Crew {
        let default =
            NonZero::new(u32::try_from(cores / CORES_PER_WORKER).unwrap_or(1)).unwrap_or(NonZero::<u32>::MIN);
        let (workers, slots) = (self.workers.unwrap_or(default).get(), self.slots.get());
        let share = u32::try_from(cores).unwrap_or(u32::MAX) / workers.saturating_mul(slots);
        Crew {
            workers,
            slots,
            threads: self.threads.map_or(share.max(1), NonZero::get),
            trainer: self.trainer.clone(),
        }
    }
}

pub(crate) async fn run(args: Args, global: &Global, console: &Console) -> Result<(), Error> {
    if global.local.is_some() {
        return Err(Error::Usage(
            "`run` has a state directory of its own: use --state DIR".to_owned(),
        ));
    }
    let checked = submission::check(&args.file, console).await?;
    let crew = args.crew(ambient::cores());
    // It would wait for ever: nobody else will offer slots.
    let slots = crew.workers.saturating_mul(crew.slots);
    let mut tasks = checked.summaries().into_iter();
    if let Some(task) = tasks.find(|task| task.workers.min() > slots) {
        return Err(Error::Usage(format!(
            "task `{}` asks for {} workers at a time, and this run has {}: use --workers {}",
            task.task,
            task.workers,
            plural(slots, "slot"),
            task.workers.min().div_ceil(crew.slots)
        )));
    }
    let mut embedded = Embedded::open(&args.state).await?;
    let result = work(&args, crew, checked, &mut embedded, console).await;
    // A second Ctrl-C does not wait for an orderly end: dropping kills the trainers, and the state is kept all the same.
    tokio::select! {
        closed = embedded.close() => result.and_then(|()| closed.map_err(Error::from)),
        () = follow::interrupted() => result,
    }
}

async fn work(
    args: &Args,
    crew: Crew,
    checked: submission::Checked,
    embedded: &mut Embedded,
    console: &Console,
) -> Result<(), Error> {
    let client = Client::connect(embedded.url()).await?;
    let mut interrupted = pin!(follow::interrupted());
    clear(&client, console).await?;
    // Before anything is submitted, so that a missing trainer leaves nothing behind.
    embedded.hire(&crew)?;
    let backbone = checked.weights().map(|weights| weights.artifact);
    // Nobody else is here to share with.
    let terms = Terms::default();
    let jobs = tokio::select! {
        jobs = submission::submit(&client, checked, &terms, console) => jobs?,
        () = &mut interrupted => return Err(Error::Interrupted),
    };
    console.note(format_args!(
        "{}; {}, each with {} of {}; state in {}",
        plural(jobs.len(), "job"),
        plural(crew.workers, "worker"),
        plural(crew.slots, "trainer"),
        plural(crew.threads, "thread"),
        args.state.display()
    ));
    let stop = async {
        tokio::select! {
            () = &mut interrupted => None,
            failure = embedded.failure() => Some(failure),
        }
    };
    let mut failure = None;
    let stop = async { failure = stop.await };
    let (jobs, ended) = follow::follow(&client, jobs, console, Show::Progress, None, stop).await;
    if !matches!(ended, Ok(Ended::Final)) && !console.for_people() {
        console.list(&jobs, "no jobs")?;
    }
    match (ended?, failure) {
        (Ended::Final, _) => {
            report::conclude(&client, &jobs, backbone, console, args.svg_dir.as_deref()).await
        }
        (Ended::Stopped, Some(failure)) => Err(failure.into()),
        (Ended::Stopped, None) => {
            console.note("stopping the trainers");
            cancel(&client, &jobs, "the run was interrupted").await?;
            Err(Error::Interrupted)
        }
    }
}

/// Ends what a run that was killed left behind: nobody waits for it, and what it finished is kept.
async fn clear(client: &Client, console: &Console) -> Result<(), Error> {
    let open = [JobState::Queued, JobState::Running, JobState::Paused];
    let open = client.list_jobs(None, &open, LEFT_BEHIND).await?;
    if !open.is_empty() {
        console.note(format_args!(
            "ending {} that an earlier run left; finished stages are kept",
            plural(open.len(), "job")
        ));
        cancel(client, &open, "left behind by an earlier run").await?;
    }
    Ok(())
}

async fn cancel(client: &Client, jobs: &[JobView], reason: &str) -> Result<(), Error> {
    for job in jobs.iter().filter(|job| !job.state.is_final()) {
        client.cancel(&job.id, reason).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn crew(line: &str, cores: usize) -> [u32; 3] {
        let words = ["run", "tasks.yaml"].into_iter().chain(line.split_whitespace());
        let crew = Line::parse_from(words).args.crew(cores);
        [crew.workers, crew.slots, crew.threads]
    }

    #[test]
    fn cores_are_shared_among_trainers() {
        assert_eq!(crew("", 1), [1, 1, 1]);
        assert_eq!(crew("", 2), [1, 1, 2]);
        assert_eq!(crew("", 16), [4, 1, 4]);
        assert_eq!(crew("--workers 2", 2), [2, 1, 1]);
        assert_eq!(crew("--workers 2 --slots 2", 2), [2, 2, 1]);
        assert_eq!(crew("--workers 1 --threads 3", 2), [1, 1, 3]);
    }
}
