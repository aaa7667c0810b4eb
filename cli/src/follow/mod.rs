//! Following jobs to their end: what changed in lines, what moves in bars.
//!
//! One [`watch`] per job sends what it sees through a channel; the loop here shows it ([`display`]) and knows when every
//! job is final, when the time is up, and when somebody wants to stop.

mod bars;
mod display;
mod lines;
pub(crate) mod text;
mod watch;

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::Error;
use crate::output::Console;
use crate::views::{JobState, JobView};
use display::Display;
use watch::Update;

/// Updates read ahead of the display. They only pile up while the terminal is stopped; then the watchers wait.
const PENDING: usize = 64;

/// How much is shown while waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// States, progress, everything.
    Progress,
    /// Nothing but trouble.
    Nothing,
}

/// How following ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Every job is final.
    Final,
    /// Somebody wanted to stop.
    Stopped,
}

/// Follows `jobs` until all are final, `stop` resolves, or `timeout` has passed. The jobs as last seen, however it ends.
///
/// Watchers come back by themselves when the coordinator was away, and give up with [`Error::Lost`].
pub(crate) async fn follow(
    client: &Client,
    jobs: Vec<JobView>,
    console: &Console,
    show: Show,
    timeout: Option<Duration>,
    stop: impl Future<Output = ()>,
) -> (Vec<JobView>, Result<Ended, Error>) {
    let mut board = jobs;
    let ended = watch_all(client, &mut board, console, show, timeout, stop).await;
    (board, ended)
}

async fn watch_all(
    client: &Client,
    board: &mut [JobView],
    console: &Console,
    show: Show,
    timeout: Option<Duration>,
    stop: impl Future<Output = ()>,
) -> Result<Ended, Error> {
    let mut display = Display::new(console, show, board);
    let (send, mut updates) = mpsc::channel(PENDING);
    let mut watchers = JoinSet::new();
    for (index, job) in board.iter().enumerate() {
        watchers.spawn(watch::watch(client.clone(), index, job.id.clone(), send.clone()));
    }
    drop(send);
    // Without a limit, a day stands in that never comes.
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let expired = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(expired, stop);
    loop {
        tokio::select! {
            update = updates.recv() => match update {
                Some((index, update)) => apply(board, &mut display, index, update)?,
                // Every watcher has seen its job end.
                None => return Ok(Ended::Final),
            },
            () = &mut stop => return Ok(Ended::Stopped),
            () = &mut expired => {
                return Err(Error::TimedOut { waited: timeout.unwrap_or_default(), jobs: open(board) });
            }
        }
    }
}

fn apply(board: &mut [JobView], display: &mut Display, index: usize, update: Update) -> Result<(), Error> {
    match update {
        Update::Job(job) => {
            display.job(index, &job);
            board[index] = *job;
        }
        Update::Progress { stage, progress } => display.progress(index, &stage, &progress, Instant::now()),
        Update::Away(error) => display.away(&error),
        Update::Back => display.back(),
        Update::GaveUp { waited, source } => return Err(Error::Lost { waited, source }),
        Update::Refused(source) => {
            let action = format!("watch job {}", board[index].id);
            return Err(Error::Refused { action, source });
        }
    }
    Ok(())
}

/// The ids of those that have not ended.
pub(crate) fn open(jobs: &[JobView]) -> Vec<String> {
    let open = jobs.iter().filter(|job| !job.state.is_final());
    open.map(|job| job.id.clone()).collect()
}

/// The verdict over jobs that have ended.
pub(crate) fn verdict(jobs: &[JobView]) -> Result<(), Error> {
    let ended = |state| {
        let jobs = jobs.iter().filter(move |job| job.state == state);
        jobs.map(|job| format!("job {} (task {}) {}", job.id, job.task, job.ending()))
            .collect::<Vec<_>>()
    };
    let (failed, cancelled) = (ended(JobState::Failed), ended(JobState::Cancelled));
    if !failed.is_empty() {
        let first = jobs.iter().find(|job| job.state == JobState::Failed);
        Err(Error::JobsFailed {
            endings: failed,
            logs: first.map(JobView::logs_command).unwrap_or_default(),
        })
    } else if !cancelled.is_empty() {
        Err(Error::JobsCancelled(cancelled))
    } else {
        Ok(())
    }
}

/// Resolves when the user, or whoever runs this process, wants it to end: Ctrl-C, SIGTERM. Counts from the call on.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    // Where a handler cannot be set, the signal ends the process, which is what it asks for.
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok());
    async {
        let waiting = signals
            .into_iter()
            .flatten()
            .map(|mut signals| Box::pin(async move { signals.recv().await }));
        let waiting: Vec<_> = waiting.collect();
        if waiting.is_empty() {
            std::future::pending::<()>().await;
        }
        futures::future::select_all(waiting).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::fixtures::job;
    use nettailor_proto::exit::Exit;

    #[test]
    fn a_failure_weighs_more_than_a_cancellation() {
        let exit = |states: &[JobState]| {
            let jobs: Vec<JobView> = states.iter().map(|&state| JobView { state, ..job() }).collect();
            verdict(&jobs).err().map_or(Exit::Ok, |error| error.exit())
        };
        use JobState::*;
        assert_eq!(exit(&[Succeeded, Succeeded]), Exit::Ok);
        assert_eq!(exit(&[Succeeded, Cancelled]), Exit::Cancelled);
        assert_eq!(exit(&[Cancelled, Failed]), Exit::Failed);
    }
}
