//! The driver: the one thread that owns the state and the store.
//!
//! Commands come through a bounded channel. A round takes what is queued, lets every command change the state, commits
//! what changed in one flush, and only then carries out effects and sends answers, in the order of the commands. So an
//! answer never speaks of what is not durable, and a hundred concurrent submissions cost one flush. Commands only
//! compute; the store's commit is the one thing that blocks here, and no asynchronous task waits on this thread but for
//! an answer.

use std::time::Duration;

use nettailor_scheduler::Rejected;
use nettailor_scheduler::effect::Effect;
use nettailor_scheduler::event::{Event, Now};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ambient::Clock;
use crate::outlet::Outlet;
use crate::state::State;
use crate::store::{self, Row, Store};

/// Commands that wait for the driver. Each is a message of a worker or a request of a client, which waits for room: a
/// busy driver slows its callers down and needs no more memory.
pub(crate) const QUEUED_COMMANDS: usize = 1024;
/// Commands of one round. Bounds how long the first one waits for the flush.
const ROUND: usize = 256;
/// Longest time between two rounds: half of what a round may count as listened, so that one that comes a little late does not
/// look like a stall.
const LULL: Duration = Duration::from_millis(125);

/// A change or a question, and then the answer.
pub(crate) type Command = Box<dyn FnOnce(&mut Turn<'_>) -> Answer + Send>;
/// Sends an answer; called once everything it speaks of is durable.
pub(crate) type Answer = Box<dyn FnOnce() + Send>;

/// What a command may do.
pub(crate) struct Turn<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) outlet: &'a Outlet,
    /// Time of this round.
    pub(crate) now: Now,
    rows: &'a mut Vec<Row>,
    after: &'a mut Vec<After>,
}

enum After {
    Effect(Effect),
    Answer(Answer),
}

impl Turn<'_> {
    /// Takes in an event: its records will be committed, then its effects carried out.
    pub(crate) fn apply(&mut self, event: Event) -> Result<(), Rejected> {
        let transition = self.state.scheduler.apply(event, self.now)?;
        self.rows.extend(transition.records.into_iter().map(Row::Record));
        self.after
            .extend(transition.effects.into_iter().map(After::Effect));
        Ok(())
    }

    /// Keeps a row that is not the scheduler's.
    pub(crate) fn keep(&mut self, row: Row) {
        self.rows.push(row);
    }
}

/// The driver.
pub(crate) struct Driver {
    pub(crate) state: State,
    pub(crate) store: Box<dyn Store>,
    pub(crate) outlet: Outlet,
    pub(crate) clock: Clock,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// Ends the driver after the round in hand.
    pub(crate) stop: CancellationToken,
}

impl Driver {
    /// Works until it is stopped or a commit fails. After a failed commit the state in memory is ahead of what is kept:
    /// nothing may be answered from it, so the process has to stop; whoever waits for an answer learns that none comes.
    pub(crate) fn run(mut self) -> Result<(), store::Error> {
        // For waiting with a time limit only; its own, so that it outlives the runtime that serves.
        let waiting = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let waiting = waiting.expect("a runtime without I/O needs nothing that could be missing");
        let mut queued = Vec::with_capacity(ROUND);
        while waiting.block_on(self.next(&mut queued)) {
            self.round(queued.drain(..))?;
        }
        Ok(())
    }

    /// Waits for commands or the time of the next tick. Says whether to go on.
    async fn next(&mut self, queued: &mut Vec<Command>) -> bool {
        let wait = match self.state.scheduler.next_wakeup() {
            Some(at) => at.saturating_sub(self.clock.elapsed()).min(LULL),
            None => LULL,
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            received = tokio::time::timeout(wait, self.commands.recv_many(queued, ROUND)) => received != Ok(0),
        }
    }

    fn round(&mut self, commands: impl Iterator<Item = Command>) -> Result<(), store::Error> {
        let (mut rows, mut after) = (Vec::new(), Vec::new());
        let now = self.clock.round();
        let mut turn = Turn {
            state: &mut self.state,
            outlet: &self.outlet,
            now,
            rows: &mut rows,
            after: &mut after,
        };
        for command in commands {
            let answer = command(&mut turn);
            turn.after.push(After::Answer(answer));
        }
        if turn
            .state
            .scheduler
            .next_wakeup()
            .is_some_and(|at| at <= now.elapsed)
        {
            turn.apply(Event::Tick)
                .expect("only submissions and cancellations can be refused");
        }
        if !rows.is_empty() {
            self.store.commit(&rows)?;
            self.state.forget_progress(&rows);
            self.outlet.publish(rows);
        }
        for step in after {
            match step {
                After::Effect(effect) => self.outlet.carry_out(effect, &self.state),
                After::Answer(answer) => answer(),
            }
        }
        Ok(())
    }
}
