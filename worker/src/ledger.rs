//! What the agent runs and what it still owes the coordinator.
//!
//! Attempts write here, whichever session is up takes from here; between two sessions everything waits. Everything is
//! bounded: progress by keeping the latest of each attempt, log lines by [`MAX_LINES`] per attempt, reports by the slots
//! (the coordinator assigns nothing into a slot whose report it has not seen).

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nettailor_domain::ids::Seat;
use nettailor_domain::session::Address;
use nettailor_domain::stage::{Checkpoint, StageResult};
use nettailor_domain::trainer::{Failure, FailureClass, Progress};
use nettailor_proto::convert::session::FromAgent;
use tokio::sync::{Notify, oneshot, watch};

/// Log lines kept per attempt while they cannot be sent: the oldest go first.
const MAX_LINES: usize = 2000;
/// Log lines in one message: with lines of at most 4 KiB far below the largest message.
const BATCH_LINES: usize = 100;

/// How an attempt ended.
pub(crate) type Report = Result<Box<StageResult>, Failure>;

/// Shared by the session and all attempts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
    /// Something waits that should not wait for the next regular flush.
    urgent: Notify,
    outstanding: watch::Sender<Outstanding>,
}

#[derive(Debug, Default)]
struct State {
    draining: bool,
    /// With the means to reach each.
    running: BTreeMap<Seat, Line>,
    /// Where ranks 0 wait, and whether the session that is up now has said so.
    meetings: BTreeMap<Seat, (Address, bool)>,
    /// The newest checkpoint of each, until it is said.
    checkpoints: BTreeMap<Seat, Checkpoint>,
    reports: BTreeMap<Seat, Waiting>,
    progress: BTreeMap<Seat, Progress>,
    logs: BTreeMap<Seat, Lines>,
}

/// To an attempt that runs; each way serves once.
#[derive(Debug)]
struct Line {
    stop: Option<oneshot::Sender<String>>,
    meet: Option<oneshot::Sender<Address>>,
}

#[derive(Debug)]
struct Waiting {
    report: Report,
    /// In the session that is up now.
    sent: bool,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    /// When the first of them was written, milliseconds since 1970.
    since_ms: u64,
    dropped: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Outstanding {
    running: usize,
    reports: usize,
}

/// What became of the wish to start an attempt.
#[derive(Debug)]
pub(crate) enum Begin {
    /// It runs from now on.
    Started(Running),
    /// It runs already, or its report is on the way.
    Known,
    /// No attempt is started any more; its failure is on the way.
    Draining,
}

impl Ledger {
    /// Enters an attempt.
    pub(crate) fn begin(self: &Arc<Self>, seat: Seat) -> Begin {
        let mut state = self.state();
        if state.running.contains_key(&seat) || state.repeat(seat) {
            drop(state);
            self.urgent.notify_one();
            return Begin::Known;
        }
        if state.draining {
            drop(state);
            self.report(seat, Err(lost("this agent is leaving and starts nothing new")));
            return Begin::Draining;
        }
        let (stop, stopped) = oneshot::channel();
        let (meet, met) = oneshot::channel();
        let line = Line {
            stop: Some(stop),
            meet: Some(meet),
        };
        state.running.insert(seat, line);
        self.publish(&state);
        Begin::Started(Running {
            ledger: self.clone(),
            seat,
            stopped: Some(stopped),
            met: Some(met),
            ended: false,
        })
    }

    /// Reports an attempt that does not run here.
    pub(crate) fn report(&self, seat: Seat, report: Report) {
        let mut state = self.state();
        state.running.remove(&seat);
        state.progress.remove(&seat);
        state.meetings.remove(&seat);
        state.reports.insert(seat, Waiting { report, sent: false });
        self.publish(&state);
        drop(state);
        self.urgent.notify_one();
    }

    /// Asks an attempt to end. The report of one that has ended is sent again: the coordinator has not taken it in. One
    /// that is not known here is reported as lost, so that its slot becomes free.
    pub(crate) fn stop(&self, seat: Seat, reason: &str) {
        let mut state = self.state();
        if let Some(line) = state.running.get_mut(&seat) {
            // The attempt may end in this moment: then its report is on the way.
            let _ = line.stop.take().map(|stop| stop.send(reason.to_owned()));
        } else if state.repeat(seat) {
            drop(state);
            self.urgent.notify_one();
        } else {
            drop(state);
            self.report(seat, Err(lost("this agent does not run it")));
        }
    }

    /// Asks every attempt to end.
    pub(crate) fn stop_all(&self, reason: &str) {
        for line in self.state().running.values_mut() {
            let _ = line.stop.take().map(|stop| stop.send(reason.to_owned()));
        }
    }

    /// Tells a rank where its gang meets. It may have been told before, or have ended.
    pub(crate) fn meet(&self, seat: Seat, address: Address) {
        let mut state = self.state();
        let meet = state.running.get_mut(&seat).and_then(|line| line.meet.take());
        let _ = meet.map(|meet| meet.send(address));
    }

    /// From now on no attempt is started.
    pub(crate) fn drain(&self) {
        self.state().draining = true;
    }

    /// Whether no attempt is started any more.
    pub(crate) fn draining(&self) -> bool {
        self.state().draining
    }

    /// The coordinator has the report of `seat`, or does not want it.
    pub(crate) fn acknowledge(&self, seat: Seat) {
        let mut state = self.state();
        state.reports.remove(&seat);
        self.publish(&state);
    }

    /// Attempts that run or whose report is not acknowledged. All such reports are due again: call it once per session.
    pub(crate) fn open_session(&self) -> Vec<Seat> {
        let mut state = self.state();
        state
            .reports
            .values_mut()
            .for_each(|waiting| waiting.sent = false);
        state.meetings.values_mut().for_each(|(_, said)| *said = false);
        state
            .running
            .keys()
            .chain(state.reports.keys())
            .copied()
            .collect()
    }

    /// Everything to be said now: log lines, then progress, then reports, so that a report is its attempt's last word.
    pub(crate) fn take(&self) -> Vec<FromAgent> {
        let mut state = self.state();
        let mut messages = Vec::new();
        for (seat, logs) in std::mem::take(&mut state.logs) {
            logs.into_messages(seat, &mut messages);
        }
        for (seat, progress) in std::mem::take(&mut state.progress) {
            messages.push(FromAgent::Progress { seat, progress });
        }
        for (&seat, (address, said)) in state.meetings.iter_mut().filter(|(_, (_, said))| !said) {
            *said = true;
            let address = address.clone();
            messages.push(FromAgent::Meeting { seat, address });
        }
        for (seat, checkpoint) in std::mem::take(&mut state.checkpoints) {
            messages.push(FromAgent::Checkpointed { seat, checkpoint });
        }
        for (&seat, waiting) in state.reports.iter_mut().filter(|(_, waiting)| !waiting.sent) {
            waiting.sent = true;
            messages.push(match waiting.report.clone() {
                Ok(result) => FromAgent::Finished {
                    seat,
                    result: (seat.rank == 0).then_some(result),
                },
                Err(failure) => FromAgent::Failed { seat, failure },
            });
        }
        messages
    }

    /// Waits until something should be said at once. Cancel-safe.
    pub(crate) fn urgent(&self) -> impl Future<Output = ()> {
        self.urgent.notified()
    }

    /// Waits until no attempt runs. Cancel-safe.
    pub(crate) async fn idle(&self) {
        self.wait_until(|outstanding| outstanding.running == 0).await;
    }

    /// Waits until no attempt runs and every report is acknowledged. Cancel-safe.
    pub(crate) async fn settled(&self) {
        self.wait_until(|outstanding| *outstanding == Outstanding::default())
            .await;
    }

    async fn wait_until(&self, condition: impl FnMut(&Outstanding) -> bool) {
        // Cannot fail: the sender lives as long as this future's borrow.
        let _ = self.outstanding.subscribe().wait_for(condition).await;
    }

    fn publish(&self, state: &State) {
        let now = Outstanding {
            running: state.running.len(),
            reports: state.reports.len(),
        };
        self.outstanding.send_replace(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has the report of an attempt sent again; says whether there is one.
    fn repeat(&mut self, seat: Seat) -> bool {
        let waiting = self.reports.get_mut(&seat);
        waiting.map(|waiting| waiting.sent = false).is_some()
    }
}

impl Lines {
    fn push(&mut self, time_ms: u64, line: String) {
        if self.lines.is_empty() {
            self.since_ms = time_ms;
        }
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(line);
    }

    fn into_messages(self, seat: Seat, messages: &mut Vec<FromAgent>) {
        let time_ms = self.since_ms;
        let mut lines: Vec<String> = self.lines.into();
        if self.dropped > 0 {
            lines.insert(
                0,
                format!(
                    "({} older lines were dropped: they could not be sent in time)",
                    self.dropped
                ),
            );
        }
        let batches = lines.chunks(BATCH_LINES);
        messages.extend(batches.map(|lines| FromAgent::Log {
            seat,
            time_ms,
            lines: lines.to_vec(),
        }));
    }
}

/// What an attempt hears from the coordinator.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Where its gang meets.
    Met(Address),
    /// It is asked to end, and why.
    Stopped(String),
}

/// An attempt's own side of the ledger. Dropped without [`Running::end`], it reports that the attempt broke.
#[derive(Debug)]
pub(crate) struct Running {
    ledger: Arc<Ledger>,
    seat: Seat,
    stopped: Option<oneshot::Receiver<String>>,
    met: Option<oneshot::Receiver<Address>>,
    ended: bool,
}

impl Running {
    /// Which rank of which attempt.
    pub(crate) fn seat(&self) -> Seat {
        self.seat
    }

    /// Replaces what is known about the attempt's progress.
    pub(crate) fn progress(&self, progress: Progress) {
        self.ledger.state().progress.insert(self.seat, progress);
    }

    /// Adds a line to the attempt's log.
    pub(crate) fn log(&self, time_ms: u64, line: String) {
        let mut state = self.ledger.state();
        let logs = state.logs.entry(self.seat).or_default();
        logs.push(time_ms, line);
        let batch = logs.lines.len() == BATCH_LINES;
        drop(state);
        if batch {
            self.ledger.urgent.notify_one();
        }
    }

    /// Waits until the attempt is asked to end and says why; at most once, then for ever. Cancel-safe.
    pub(crate) async fn stopped(&mut self) -> String {
        once(&mut self.stopped).await
    }

    /// Waits until it is said where the gang meets, or that the attempt is to end; each at most once, then for ever.
    /// Cancel-safe.
    pub(crate) async fn heard(&mut self) -> Heard {
        let Self { stopped, met, .. } = self;
        tokio::select! {
            reason = once(stopped) => Heard::Stopped(reason),
            address = once(met) => Heard::Met(address),
        }
    }

    /// Says where this rank waits for the others of its gang, now and in every session to come.
    pub(crate) fn meeting(&self, address: Address) {
        self.ledger.state().meetings.insert(self.seat, (address, false));
        self.ledger.urgent.notify_one();
    }

    /// Says that a checkpoint is in the artifact store.
    pub(crate) fn checkpointed(&self, checkpoint: Checkpoint) {
        self.ledger.state().checkpoints.insert(self.seat, checkpoint);
        self.ledger.urgent.notify_one();
    }

    /// Whether a checkpoint is still to be said.
    pub(crate) fn owes_checkpoint(&self) -> bool {
        self.ledger.state().checkpoints.contains_key(&self.seat)
    }

    /// Ends the attempt.
    pub(crate) fn end(mut self, report: Report) {
        self.ended = true;
        self.ledger.report(self.seat, report);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let message =
                "the agent gave this attempt up without a reason (a mistake in the agent)".to_owned();
            self.ledger.report(
                self.seat,
                Err(Failure {
                    class: FailureClass::Internal,
                    message,
                }),
            );
        }
    }
}

/// What comes through a channel for one value; then nothing, for ever. Cancel-safe.
async fn once<T>(channel: &mut Option<oneshot::Receiver<T>>) -> T {
    if let Some(receiver) = channel {
        let value = receiver.await;
        *channel = None;
        if let Ok(value) = value {
            return value;
        }
    }
    std::future::pending().await
}

/// The attempt ended through no fault of its own.
pub(crate) fn lost(message: impl Into<String>) -> Failure {
    Failure {
        class: FailureClass::Lost,
        message: message.into(),
    }
}

#[cfg(test)]
mod tests;
