//! What an agent and the coordinator say to each other, as plain types.

use std::time::Duration;

use nettailor_domain::ids::{Attempt, Seat, WorkerId};
use nettailor_domain::session::{Address, Offer, Order};
use nettailor_domain::stage::{Checkpoint, StageResult};
use nettailor_domain::trainer::{Failure, FailureClass, Progress};

use super::common::{labels, pairs};
use super::{Error, all, from_json, optional, parse, parse_all, required, to_json};
use crate::v1::{self, agent_message, coordinator_message};

/// What an agent says.
#[derive(Debug, Clone, PartialEq)]
pub enum FromAgent {
    /// First message: who it is and what it offers.
    Hello(Hello),
    /// Second message: it can use the artifact store that it was told.
    Ready,
    /// It is alive.
    Heartbeat,
    /// How far a rank is.
    Progress {
        /// Which.
        seat: Seat,
        /// How far.
        progress: Progress,
    },
    /// What a rank wrote to its log.
    Log {
        /// Which.
        seat: Seat,
        /// When, milliseconds since 1970 by the worker's clock.
        time_ms: u64,
        /// Lines without line ends.
        lines: Vec<String>,
    },
    /// Rank 0 waits for the others. Repeated in every new session while it runs.
    Meeting {
        /// Of rank 0.
        seat: Seat,
        /// Where the other workers reach it.
        address: Address,
    },
    /// Rank 0 has left a checkpoint, which is in the store. Not acknowledged: one that gets lost costs the work up to the
    /// next.
    Checkpointed {
        /// Of rank 0.
        seat: Seat,
        /// What it left.
        checkpoint: Checkpoint,
    },
    /// A rank is done; rank 0's artifacts are in the store. Repeated until acknowledged.
    Finished {
        /// Which.
        seat: Seat,
        /// What was found; from rank 0, and from no other.
        result: Option<Box<StageResult>>,
    },
    /// A rank ended without being done. Repeated until acknowledged.
    Failed {
        /// Which.
        seat: Seat,
        /// Why.
        failure: Failure,
    },
    /// It takes no new work and leaves when its attempts have ended.
    Draining {
        /// Why, in words.
        reason: String,
    },
}

/// Who an agent is and what it offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its unique name.
    pub worker: WorkerId,
    /// What it offers: at least one slot.
    pub offer: Offer,
}

/// What the coordinator says.
#[derive(Debug, Clone, PartialEq)]
pub enum FromCoordinator {
    /// First message.
    Welcome {
        /// URL of the artifact store that the agent reads and writes.
        artifacts_url: String,
        /// A heartbeat is due this often.
        heartbeat: Duration,
    },
    /// Run a rank of an attempt.
    Assign(Box<Order>),
    /// To ranks other than 0: where rank 0 waits for them. May come more than once.
    Meet {
        /// Which rank is told.
        seat: Seat,
        /// Where.
        address: Address,
    },
    /// End a rank.
    Stop {
        /// Which.
        seat: Seat,
        /// Why, in words.
        reason: String,
    },
    /// The report of this seat's end is durable, or was rejected: forget it.
    Acknowledged(Seat),
}

impl TryFrom<v1::AgentMessage> for FromAgent {
    type Error = Error;
    fn try_from(message: v1::AgentMessage) -> Result<Self, Error> {
        use agent_message::Message;
        Ok(match message.message.ok_or_else(|| Error::missing("message"))? {
            Message::Hello(hello) => Self::Hello(hello.try_into()?),
            Message::Ready(v1::Ready {}) => Self::Ready,
            Message::Heartbeat(v1::Heartbeat {}) => Self::Heartbeat,
            Message::Progress(report) => Self::Progress {
                seat: required(report.seat, "seat")?,
                progress: required(report.progress, "progress")?,
            },
            Message::Log(log) => Self::Log {
                seat: required(log.seat, "seat")?,
                time_ms: log.time_ms,
                lines: log.lines,
            },
            Message::Meeting(meeting) => Self::Meeting {
                seat: rank_0(meeting.seat)?,
                address: parse(&meeting.address, "address")?,
            },
            Message::Checkpointed(left) => Self::Checkpointed {
                seat: rank_0(left.seat)?,
                checkpoint: Checkpoint {
                    artifact: required(left.checkpoint, "checkpoint")?,
                    epoch: left.epoch,
                    step: left.step,
                },
            },
            Message::Finished(report) => {
                let seat: Seat = required(report.seat, "seat")?;
                let result = match (seat.rank, report.result_json.as_slice()) {
                    (0, json) => Some(from_json(json, "result_json")?),
                    (_, []) => None,
                    (rank, _) => {
                        let reason = format!("it comes from rank 0, not from rank {rank}");
                        return Err(Error::invalid("result_json", reason));
                    }
                };
                Self::Finished { seat, result }
            }
            Message::Failed(report) => {
                let class = v1::FailureClass::try_from(report.failure_class)
                    .map_err(|error| Error::invalid("failure_class", error))?;
                let class = class.try_into()?;
                Self::Failed {
                    seat: required(report.seat, "seat")?,
                    failure: Failure {
                        class,
                        message: report.message,
                    },
                }
            }
            Message::Draining(v1::Draining { reason }) => Self::Draining { reason },
        })
    }
}

impl From<FromAgent> for v1::AgentMessage {
    fn from(said: FromAgent) -> Self {
        use agent_message::Message;
        let message = match said {
            FromAgent::Hello(hello) => Message::Hello(hello.into()),
            FromAgent::Ready => Message::Ready(v1::Ready {}),
            FromAgent::Heartbeat => Message::Heartbeat(v1::Heartbeat {}),
            FromAgent::Progress { seat, progress } => Message::Progress(v1::SeatProgress {
                seat: Some(seat.into()),
                progress: Some(progress.into()),
            }),
            FromAgent::Log { seat, time_ms, lines } => Message::Log(v1::SeatLog {
                seat: Some(seat.into()),
                time_ms,
                lines,
            }),
            FromAgent::Meeting { seat, address } => Message::Meeting(v1::Meeting {
                seat: Some(seat.into()),
                address: address.to_string(),
            }),
            FromAgent::Checkpointed { seat, checkpoint } => Message::Checkpointed(v1::Checkpointed {
                seat: Some(seat.into()),
                checkpoint: Some(checkpoint.artifact.into()),
                epoch: checkpoint.epoch,
                step: checkpoint.step,
            }),
            FromAgent::Finished { seat, result } => Message::Finished(v1::SeatFinished {
                seat: Some(seat.into()),
                result_json: result.map(|result| to_json(&result)).unwrap_or_default(),
            }),
            FromAgent::Failed { seat, failure } => Message::Failed(v1::SeatFailed {
                seat: Some(seat.into()),
                failure_class: v1::FailureClass::from(failure.class).into(),
                message: failure.message,
            }),
            FromAgent::Draining { reason } => Message::Draining(v1::Draining { reason }),
        };
        Self {
            message: Some(message),
        }
    }
}

/// Most slots of a worker: what is told to all of them at once has to fit into what a session may queue.
const MOST_SLOTS: u32 = 256;

impl TryFrom<v1::Hello> for Hello {
    type Error = Error;
    fn try_from(message: v1::Hello) -> Result<Self, Error> {
        if message.slots == 0 {
            return Err(Error::invalid("slots", "a worker offers at least one"));
        }
        if message.slots > MOST_SLOTS {
            return Err(Error::invalid(
                "slots",
                format!("a worker offers at most {MOST_SLOTS}"),
            ));
        }
        Ok(Self {
            worker: parse(&message.worker, "worker")?,
            offer: Offer {
                slots: message.slots,
                threads_per_slot: message.threads_per_slot,
                device: message.device,
                cached: parse_all(&message.cached, "cached")?,
                seats: all(message.seats, "seats")?,
                version: message.version,
                draining: message.draining,
                labels: labels(message.labels)?,
            },
        })
    }
}

impl From<Hello> for v1::Hello {
    fn from(Hello { worker, offer }: Hello) -> Self {
        Self {
            worker: worker.into(),
            slots: offer.slots,
            threads_per_slot: offer.threads_per_slot,
            device: offer.device,
            cached: offer.cached.iter().map(ToString::to_string).collect(),
            seats: offer.seats.into_iter().map(Into::into).collect(),
            version: offer.version,
            draining: offer.draining,
            labels: pairs(&offer.labels),
        }
    }
}

impl TryFrom<v1::CoordinatorMessage> for FromCoordinator {
    type Error = Error;
    fn try_from(message: v1::CoordinatorMessage) -> Result<Self, Error> {
        use coordinator_message::Message;
        Ok(match message.message.ok_or_else(|| Error::missing("message"))? {
            Message::Welcome(v1::Welcome { heartbeat_ms: 0, .. }) => {
                return Err(Error::missing("heartbeat_ms"));
            }
            Message::Welcome(welcome) => Self::Welcome {
                artifacts_url: welcome.artifacts_url,
                heartbeat: Duration::from_millis(welcome.heartbeat_ms.into()),
            },
            Message::Assign(assign) => Self::Assign(Box::new(assign.try_into()?)),
            Message::Meet(meet) => Self::Meet {
                seat: required(meet.seat, "seat")?,
                address: parse(&meet.address, "address")?,
            },
            Message::Stop(stop) => Self::Stop {
                seat: required(stop.seat, "seat")?,
                reason: stop.reason,
            },
            Message::Acknowledged(seat) => Self::Acknowledged(seat.try_into()?),
        })
    }
}

impl From<FromCoordinator> for v1::CoordinatorMessage {
    fn from(said: FromCoordinator) -> Self {
        use coordinator_message::Message;
        let message = match said {
            FromCoordinator::Welcome {
                artifacts_url,
                heartbeat,
            } => Message::Welcome(v1::Welcome {
                artifacts_url,
                heartbeat_ms: u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX),
            }),
            FromCoordinator::Assign(order) => Message::Assign((*order).into()),
            FromCoordinator::Meet { seat, address } => Message::Meet(v1::Meet {
                seat: Some(seat.into()),
                address: address.to_string(),
            }),
            FromCoordinator::Stop { seat, reason } => Message::Stop(v1::Stop {
                seat: Some(seat.into()),
                reason,
            }),
            FromCoordinator::Acknowledged(seat) => Message::Acknowledged(seat.into()),
        };
        Self {
            message: Some(message),
        }
    }
}

impl TryFrom<v1::Assign> for Order {
    type Error = Error;
    fn try_from(message: v1::Assign) -> Result<Self, Error> {
        let selection = match message.selection_json.as_slice() {
            [] => None,
            json => Some(from_json(json, "selection_json")?),
        };
        let seat: Seat = required(message.seat, "seat")?;
        if seat.rank >= message.world_size {
            let reason = format!("there is no rank {} among so many", seat.rank);
            return Err(Error::invalid("world_size", reason));
        }
        Ok(Self {
            seat,
            world_size: message.world_size,
            spec: from_json(&message.spec_json, "spec_json")?,
            backbone: optional(message.backbone, "backbone")?,
            data: required(message.data, "data")?,
            parents: all(message.parents, "parents")?,
            selection,
            checkpoint: optional(message.checkpoint, "checkpoint")?,
            checkpoint_seconds: message.checkpoint_seconds,
            description: message.description,
        })
    }
}

impl From<Order> for v1::Assign {
    fn from(order: Order) -> Self {
        Self {
            seat: Some(order.seat.into()),
            world_size: order.world_size,
            spec_json: to_json(&order.spec),
            backbone: order.backbone.map(Into::into),
            data: Some(order.data.into()),
            parents: order.parents.into_iter().map(Into::into).collect(),
            selection_json: order
                .selection
                .map(|selection| to_json(&selection))
                .unwrap_or_default(),
            checkpoint: order.checkpoint.map(Into::into),
            checkpoint_seconds: order.checkpoint_seconds,
            description: order.description,
        }
    }
}

/// The message's own `weights` count; those in its result are the same.
impl TryFrom<v1::Parent> for StageResult {
    type Error = Error;
    fn try_from(message: v1::Parent) -> Result<Self, Error> {
        let result: StageResult = from_json(&message.result_json, "result_json")?;
        Ok(Self {
            weights: Some(required(message.weights, "weights")?),
            ..result
        })
    }
}

impl From<StageResult> for v1::Parent {
    fn from(result: StageResult) -> Self {
        Self {
            result_json: to_json(&result),
            weights: result.weights.map(Into::into),
        }
    }
}

impl TryFrom<v1::Seat> for Seat {
    type Error = Error;
    fn try_from(message: v1::Seat) -> Result<Self, Error> {
        if message.attempt == 0 {
            return Err(Error::missing("attempt"));
        }
        Ok(Self {
            attempt: Attempt {
                stage: parse(&message.stage_key, "stage_key")?,
                number: message.attempt,
            },
            rank: message.rank,
        })
    }
}

impl From<Seat> for v1::Seat {
    fn from(seat: Seat) -> Self {
        Self {
            stage_key: seat.attempt.stage.to_string(),
            attempt: seat.attempt.number,
            rank: seat.rank,
        }
    }
}

/// The seat of something that only rank 0 says.
fn rank_0(message: Option<v1::Seat>) -> Result<Seat, Error> {
    let seat: Seat = required(message, "seat")?;
    match seat.rank {
        0 => Ok(seat),
        rank => Err(Error::invalid(
            "seat.rank",
            format!("rank 0 says this, not rank {rank}"),
        )),
    }
}

impl TryFrom<v1::FailureClass> for FailureClass {
    type Error = Error;
    fn try_from(class: v1::FailureClass) -> Result<Self, Error> {
        Ok(match class {
            v1::FailureClass::Unspecified => return Err(Error::missing("failure_class")),
            v1::FailureClass::Input => Self::Input,
            v1::FailureClass::Resources => Self::Resources,
            v1::FailureClass::Internal => Self::Internal,
            v1::FailureClass::Lost => Self::Lost,
            v1::FailureClass::Deadline => Self::Deadline,
        })
    }
}

impl From<FailureClass> for v1::FailureClass {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Input => Self::Input,
            FailureClass::Resources => Self::Resources,
            FailureClass::Internal => Self::Internal,
            FailureClass::Lost => Self::Lost,
            FailureClass::Deadline => Self::Deadline,
        }
    }
}
