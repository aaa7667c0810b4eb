//! The driver: two threads, of which one owns the state and the other the store.
//!
//! Commands come through a bounded channel. The first thread takes what is queued and lets every command change the state, one
//! after the other; what that gives — changes to keep, effects, answers — makes a batch. The second commits batches, all that
//! wait as one, in one flush, and only then carries out effects and sends answers, in the order of the commands. So an answer
//! never speaks of what is not durable, a hundred concurrent submissions cost one flush, and while the disk is at it the next
//! batch grows. What was committed goes on to the [`journal`](crate::journal), whose task is behind by about a second; answers
//! that are promises wait for it on their own, so that nothing else does. Whatever is told later is made when the command is applied: the second thread never sees the state, which is
//! ahead of it.

use std::sync::mpsc as threads;
use std::time::Duration;

use nettailor_engine::{Answer, Applied, Batch, Committer, Engine, Error, Refused, Request, State, Store};
use nettailor_scheduler::event::Now;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ambient::Clock;
use crate::journal::Journal;
use crate::outlet::{Notice, Outlet};

/// Commands that wait for the driver. Each is a message of a worker or a request of a client, which waits for room: a
/// busy driver slows its callers down and needs no more memory.
pub(crate) const QUEUED_COMMANDS: usize = 4096;
/// Commands of one batch. Bounds what waits in memory for the flush.
const BATCH: usize = 4096;
/// Commands between two looks at the clock: as many as take a few milliseconds.
const ROUND: usize = 64;
/// Longest time between two rounds: half of what a round may count as listened, so that one that comes a little late does not
/// look like a stall.
const LULL: Duration = Duration::from_millis(125);

/// A change or a question.
#[allow(
    clippy::large_enum_variant,
    reason = "a command is made, moved to the driver and consumed"
)]
pub(crate) enum Command {
    /// Change the state, and say what came of it.
    Change(Request, Respond),
    /// Look at the state.
    Look(Look),
}

/// Makes an answer of what came of a request, while the state is as the request left it.
pub(crate) type Respond = Box<dyn FnOnce(Result<Answer, Refused>, &State, &Outlet) -> Release + Send>;
/// Makes an answer of the state.
pub(crate) type Look = Box<dyn FnOnce(&State, &Outlet) -> Release + Send>;
/// Sends an answer; called once everything it speaks of is durable.
pub(crate) type Release = Box<dyn FnOnce() + Send>;

/// What waits for a commit.
pub(crate) enum After {
    Notice(Notice),
    Release(Release),
    /// The journal, too.
    Acknowledge(Release),
}

/// The driver.
pub(crate) struct Driver {
    pub(crate) engine: Engine,
    pub(crate) store: Box<dyn Store>,
    /// Number of the latest commit that went into the journal.
    pub(crate) journalled: u64,
    pub(crate) journal: Journal,
    pub(crate) outlet: Outlet,
    pub(crate) clock: Clock,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// Ends the driver after what it has taken in.
    pub(crate) stop: CancellationToken,
}

impl Driver {
    /// Works until it is stopped or a commit fails. After a failed commit the state in memory is ahead of what is kept:
    /// nothing may be answered from it, so the process has to stop; whoever waits for an answer learns that none comes.
    pub(crate) fn run(self) -> Result<(), Error> {
        let Self {
            engine,
            store,
            journalled,
            journal,
            outlet,
            clock,
            commands,
            stop,
        } = self;
        // One batch may wait while another is written.
        let (batches, waiting) = threads::sync_channel(1);
        let teller = outlet.clone();
        // Nothing is taken in any more once nothing can be kept.
        let ended = stop.clone().drop_guard();
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || {
                let _ended = ended;
                write(Committer::after(store, journalled), &journal, &teller, &waiting)
            });
            let applying = Applying {
                engine,
                outlet,
                clock,
                commands,
                stop,
            };
            applying.run(&batches);
            drop(batches);
            writing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// The thread that owns the state.
struct Applying {
    engine: Engine,
    outlet: Outlet,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
}

impl Applying {
    /// Makes batches until it is stopped or nobody takes them.
    fn run(mut self, batches: &threads::SyncSender<Batch<After>>) {
        // For waiting with a time limit only; its own, so that it outlives the runtime that serves.
        let waiting = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let waiting = waiting.expect("a runtime without I/O needs nothing that could be missing");
        let mut queued = Vec::with_capacity(BATCH);
        while waiting.block_on(self.next(&mut queued)) {
            let batch = self.batch(&mut queued);
            if batch.changes.is_empty() && batch.after.is_empty() {
                continue;
            }
            if batches.send(batch).is_err() {
                return;
            }
        }
    }

    /// Waits for commands or the time of the next tick. Says whether to go on.
    async fn next(&mut self, queued: &mut Vec<Command>) -> bool {
        let wait = self
            .engine
            .next_wakeup()
            .saturating_sub(self.clock.elapsed())
            .min(LULL);
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            received = tokio::time::timeout(wait, self.commands.recv_many(queued, BATCH)) => received != Ok(0),
        }
    }

    fn batch(&mut self, queued: &mut Vec<Command>) -> Batch<After> {
        let mut batch = Batch::default();
        let mut commands = queued.drain(..).peekable();
        loop {
            let now = self.clock.round();
            for command in commands.by_ref().take(ROUND) {
                match command {
                    Command::Change(request, respond) => {
                        let promise = request.is_acknowledged();
                        let answer = self.apply(request, now, &mut batch);
                        let promise = promise && answer.is_ok();
                        let release = respond(answer, self.engine.state(), &self.outlet);
                        batch.after.push(match promise {
                            true => After::Acknowledge(release),
                            false => After::Release(release),
                        });
                    }
                    Command::Look(look) => {
                        let release = look(self.engine.state(), &self.outlet);
                        batch.after.push(After::Release(release));
                    }
                }
            }
            if self.engine.next_wakeup() <= now.elapsed {
                self.apply(Request::Tick, now, &mut batch)
                    .expect("time is not refused");
            }
            if commands.peek().is_none() {
                return batch;
            }
        }
    }

    fn apply(&mut self, request: Request, now: Now, batch: &mut Batch<After>) -> Result<Answer, Refused> {
        let Applied {
            changes,
            effects,
            answer,
        } = self.engine.apply(request, now);
        let notices = self.outlet.prepare(&changes, effects, self.engine.state());
        batch.changes.extend(changes);
        batch.after.extend(notices.into_iter().map(After::Notice));
        answer
    }
}

/// Commits batches until there are no more or the store fails.
fn write(
    mut committer: Committer,
    journal: &Journal,
    outlet: &Outlet,
    waiting: &threads::Receiver<Batch<After>>,
) -> Result<(), Error> {
    while let Ok(first) = waiting.recv() {
        let batches = std::iter::once(first).chain(waiting.try_iter()).collect();
        let merged = committer.merge(batches);
        committer.keep(&merged.changes)?;
        if let Some(number) = merged.number {
            let urgent = merged
                .after
                .iter()
                .any(|step| matches!(step, After::Acknowledge(_)));
            journal.append(number, &merged.changes, urgent);
        }
        for step in merged.after {
            match step {
                // A state made from the journal must not name what is gone.
                After::Notice(notice @ Notice::Discard(_)) => {
                    let outlet = outlet.clone();
                    journal.once_written(move || outlet.tell(notice));
                }
                After::Notice(notice) => outlet.tell(notice),
                After::Release(release) => release(),
                After::Acknowledge(release) => journal.acknowledge(release),
            }
        }
    }
    Ok(())
}
