//! Watching one job, across restarts of its coordinator.

use std::time::Duration;

use futures::StreamExt as _;
use nettailor_domain::trainer::Progress;
use nettailor_proto::status::{self, Code};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::SendError;
use tokio::time::Instant;

use crate::client::{Client, JobEvent};
use crate::views::JobView;

/// A coordinator may take this long to come back: a restart that replays its state is allowed five minutes.
const PATIENCE: Duration = Duration::from_secs(330);
/// First pause before trying again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a watcher has to say about its job.
#[derive(Debug)]
pub(super) enum Update {
    /// The job after a change.
    Job(Box<JobView>),
    /// A report of a running stage.
    Progress {
        /// The stage's kind.
        stage: String,
        /// How far it is.
        progress: Progress,
    },
    /// The coordinator does not answer; it is tried again.
    Away(status::Error),
    /// The coordinator answers again.
    Back,
    /// The coordinator has been away for too long.
    GaveUp {
        /// How long it was tried.
        waited: Duration,
        /// The last failure.
        source: status::Error,
    },
    /// The coordinator answers, but will not tell.
    Refused(status::Error),
}

/// Sends what happens to job `id`, marked with `index`, until it is final or `out` is closed.
pub(super) async fn watch(client: Client, index: usize, id: String, out: Sender<(usize, Update)>) {
    // A closed channel means that nobody follows any more.
    let _ = Watcher {
        index,
        out,
        away_since: None,
    }
    .run(&client, &id)
    .await;
}

struct Watcher {
    index: usize,
    out: Sender<(usize, Update)>,
    away_since: Option<Instant>,
}

type Closed = SendError<(usize, Update)>;

impl Watcher {
    async fn run(&mut self, client: &Client, id: &str) -> Result<(), Closed> {
        let mut pause = FIRST_PAUSE;
        loop {
            let (source, heard) = match self.once(client, id).await? {
                Once::Final => return Ok(()),
                Once::Broken { source, heard } => (source, heard),
            };
            if !matches!(source.code, Code::Unavailable) {
                return self.send(Update::Refused(source)).await;
            }
            if heard {
                pause = FIRST_PAUSE;
            }
            let since = match self.away_since {
                Some(since) => since,
                None => {
                    self.send(Update::Away(source.clone())).await?;
                    *self.away_since.insert(Instant::now())
                }
            };
            let waited = since.elapsed();
            if waited > PATIENCE {
                return self.send(Update::GaveUp { waited, source }).await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One stream, to its end.
    async fn once(&mut self, client: &Client, id: &str) -> Result<Once, Closed> {
        let mut heard = false;
        let stream = match client.watch(id).await {
            Ok(stream) => stream,
            Err(source) => return Ok(Once::Broken { source, heard }),
        };
        tokio::pin!(stream);
        while let Some(event) = stream.next().await {
            let event = match event {
                Ok(event) => event,
                Err(source) => return Ok(Once::Broken { source, heard }),
            };
            heard = true;
            if self.away_since.take().is_some() {
                self.send(Update::Back).await?;
            }
            match event {
                JobEvent::Job(job) => {
                    let done = job.state.is_final();
                    self.send(Update::Job(job)).await?;
                    if done {
                        return Ok(Once::Final);
                    }
                }
                JobEvent::Progress { stage, progress } => {
                    self.send(Update::Progress { stage, progress }).await?;
                }
            }
        }
        let source = status::Error::new(Code::Unavailable, "the coordinator closed the stream");
        Ok(Once::Broken { source, heard })
    }

    async fn send(&self, update: Update) -> Result<(), Closed> {
        self.out.send((self.index, update)).await
    }
}

/// How a stream ended.
enum Once {
    Final,
    Broken {
        source: status::Error,
        /// Whether anything was received.
        heard: bool,
    },
}
