//! The coordinator's edge: results and checkpoints count once they were found in the artifact store, which takes its time and
//! lets them overtake each other.

use std::time::Duration;

use nettailor_domain::ids::Seat;
use nettailor_domain::stage::{Checkpoint, StageResult};
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_engine::{Request, Speaker};
use nettailor_scheduler::event::{Event, SessionNumber};

use crate::Verdict;
use crate::chance::mix;
use crate::link::Up;
use crate::world::{Happening, World};

/// What is being looked up.
#[derive(Debug, Clone)]
pub(crate) enum Lookup {
    Checkpoint(Seat, Checkpoint),
    Result(Seat, Box<StageResult>),
}

impl World {
    /// Takes in what an agent said, as `grpc/workers.rs` does.
    pub(crate) fn hear(&mut self, session: SessionNumber, message: Up) -> Verdict {
        let worker = self.agents[self.links[&session].agent].name.clone();
        let by = Speaker {
            worker: worker.clone(),
            session,
        };
        let event = match message {
            Up::Ready(offer) => {
                if !offer.seats.is_empty() {
                    self.fire("a worker came back with what it runs");
                }
                Event::WorkerConnected {
                    worker,
                    session,
                    offer,
                }
            }
            Up::Heartbeat => Event::Heartbeat { worker, session },
            Up::Draining => Event::WorkerDraining { worker, session },
            Up::End => Event::WorkerDisconnected { worker, session },
            Up::Progress(seat, progress) => return self.request(Request::Progress { by, seat, progress }),
            Up::Log(seat) => return self.request(Request::Log { by, seat }),
            Up::Meeting(seat, address) => Event::Meeting {
                worker,
                session,
                seat,
                address,
            },
            Up::Checkpointed(seat, checkpoint) => {
                self.look_up(session, Lookup::Checkpoint(seat, checkpoint));
                return Ok(());
            }
            Up::Finished(seat, Some(result)) => {
                let waits = self.waiting(
                    session,
                    |lookup| matches!(lookup, Lookup::Result(other, _) if *other == seat),
                );
                let Some(id) = waits.first() else {
                    self.look_up(session, Lookup::Result(seat, result));
                    return Ok(());
                };
                // Within a session an agent repeats a result only when it is told to stop.
                self.forget(session, *id);
                let message = "stopped while its result waited to be checked".into();
                let class = FailureClass::Lost;
                return self.failed(by, seat, Failure { class, message });
            }
            Up::Finished(seat, result) => Event::SeatFinished {
                worker,
                session,
                seat,
                result,
            },
            Up::Failed(seat, failure) => {
                // The checkpoint it left before counts only while it is current.
                let waits = self.waiting(
                    session,
                    |lookup| matches!(lookup, Lookup::Checkpoint(other, _) if *other == seat),
                );
                for id in waits {
                    self.looked_up(session, id)?;
                }
                return self.failed(by, seat, failure);
            }
        };
        self.request(Request::Agent(event))
    }

    fn failed(&mut self, by: Speaker, seat: Seat, failure: Failure) -> Verdict {
        let Speaker { worker, session } = by;
        self.request(Request::Agent(Event::SeatFailed {
            worker,
            session,
            seat,
            failure,
        }))
    }

    /// Lookups of a session, the oldest first.
    fn waiting(&self, session: SessionNumber, is: impl Fn(&Lookup) -> bool) -> Vec<u64> {
        let lookups = self.links.get(&session).map(|link| &link.lookups);
        let waiting = lookups.into_iter().flatten().filter(|(_, lookup)| is(lookup));
        waiting.map(|(id, _)| *id).collect()
    }

    fn forget(&mut self, session: SessionNumber, id: u64) -> Option<Lookup> {
        self.links.get_mut(&session)?.lookups.remove(&id)
    }

    fn look_up(&mut self, session: SessionNumber, lookup: Lookup) {
        self.lookups += 1;
        let id = self.lookups;
        let takes = Duration::from_millis(1 + mix(&[self.seed, 2, id]) % (4 * u64::from(self.latency)));
        let at = (self.now + takes).max(self.store_away);
        if self.store_away > self.now {
            self.fire("the artifact store was away");
        }
        if let Some(link) = self.links.get_mut(&session) {
            link.lookups.insert(id, lookup);
            self.at(at, Happening::Looked(session, id));
        }
    }

    /// The artifact store has answered.
    pub(crate) fn looked_up(&mut self, session: SessionNumber, id: u64) -> Verdict {
        if self.live_link(session).is_none() {
            return Ok(());
        }
        let overtaken = self.waiting(session, |lookup| matches!(lookup, Lookup::Checkpoint(..)));
        let Some(lookup) = self.forget(session, id) else {
            return Ok(());
        };
        let worker = self.agents[self.links[&session].agent].name.clone();
        let event = match lookup {
            Lookup::Checkpoint(seat, checkpoint) => {
                if overtaken.first().is_some_and(|first| *first < id) {
                    self.fire("a checkpoint overtook another");
                }
                if self.unfounded > 0 {
                    self.unfounded -= 1;
                    self.fire("a checkpoint was not found");
                    return Ok(());
                }
                Event::Checkpointed {
                    worker,
                    session,
                    seat,
                    checkpoint,
                }
            }
            Lookup::Result(seat, result) => Event::SeatFinished {
                worker,
                session,
                seat,
                result: Some(result),
            },
        };
        self.request(Request::Agent(event))
    }
}
