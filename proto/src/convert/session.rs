//! What an agent and the coordinator say to each other, as plain types.

use std::time::Duration;

use nettailor_domain::ids::{Attempt, WorkerId};
use nettailor_domain::session::{Offer, Order};
use nettailor_domain::stage::StageResult;
use nettailor_domain::trainer::{Failure, FailureClass, Progress};

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
    /// How far an attempt is.
    Progress {
        /// Which.
        attempt: Attempt,
        /// How far.
        progress: Progress,
    },
    /// What an attempt wrote to its log.
    Log {
        /// Which.
        attempt: Attempt,
        /// When, milliseconds since 1970 by the worker's clock.
        time_ms: u64,
        /// Lines without line ends.
        lines: Vec<String>,
    },
    /// An attempt is done, its artifacts are in the store. Repeated until acknowledged.
    Finished {
        /// Which.
        attempt: Attempt,
        /// What it found.
        result: Box<StageResult>,
    },
    /// An attempt ended without a result. Repeated until acknowledged.
    Failed {
        /// Which.
        attempt: Attempt,
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
    /// Run an attempt.
    Assign(Box<Order>),
    /// End an attempt.
    Stop {
        /// Which.
        attempt: Attempt,
        /// Why, in words.
        reason: String,
    },
    /// The report of this attempt is durable, or was rejected: forget it.
    Acknowledged(Attempt),
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
                attempt: required(report.attempt, "attempt")?,
                progress: required(report.progress, "progress")?,
            },
            Message::Log(log) => Self::Log {
                attempt: required(log.attempt, "attempt")?,
                time_ms: log.time_ms,
                lines: log.lines,
            },
            Message::Finished(report) => Self::Finished {
                attempt: required(report.attempt, "attempt")?,
                result: from_json(&report.result_json, "result_json")?,
            },
            Message::Failed(report) => {
                let class = v1::FailureClass::try_from(report.failure_class)
                    .map_err(|error| Error::invalid("failure_class", error))?;
                let class = class.try_into()?;
                let attempt = required(report.attempt, "attempt")?;
                Self::Failed {
                    attempt,
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
            FromAgent::Progress { attempt, progress } => Message::Progress(v1::AttemptProgress {
                attempt: Some(attempt.into()),
                progress: Some(progress.into()),
            }),
            FromAgent::Log {
                attempt,
                time_ms,
                lines,
            } => Message::Log(v1::AttemptLog {
                attempt: Some(attempt.into()),
                time_ms,
                lines,
            }),
            FromAgent::Finished { attempt, result } => Message::Finished(v1::AttemptFinished {
                attempt: Some(attempt.into()),
                result_json: to_json(&result),
            }),
            FromAgent::Failed { attempt, failure } => Message::Failed(v1::AttemptFailed {
                attempt: Some(attempt.into()),
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

impl TryFrom<v1::Hello> for Hello {
    type Error = Error;
    fn try_from(message: v1::Hello) -> Result<Self, Error> {
        if message.slots == 0 {
            return Err(Error::invalid("slots", "a worker offers at least one"));
        }
        Ok(Self {
            worker: parse(&message.worker, "worker")?,
            offer: Offer {
                slots: message.slots,
                threads_per_slot: message.threads_per_slot,
                device: message.device,
                cached: parse_all(&message.cached, "cached")?,
                attempts: all(message.attempts, "attempts")?,
                version: message.version,
                draining: message.draining,
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
            attempts: offer.attempts.into_iter().map(Into::into).collect(),
            version: offer.version,
            draining: offer.draining,
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
            Message::Stop(stop) => Self::Stop {
                attempt: required(stop.attempt, "attempt")?,
                reason: stop.reason,
            },
            Message::Acknowledged(attempt) => Self::Acknowledged(attempt.try_into()?),
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
            FromCoordinator::Stop { attempt, reason } => Message::Stop(v1::Stop {
                attempt: Some(attempt.into()),
                reason,
            }),
            FromCoordinator::Acknowledged(attempt) => Message::Acknowledged(attempt.into()),
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
        Ok(Self {
            attempt: required(message.attempt, "attempt")?,
            spec: from_json(&message.spec_json, "spec_json")?,
            backbone: optional(message.backbone, "backbone")?,
            data: required(message.data, "data")?,
            parents: all(message.parents, "parents")?,
            selection,
            description: message.description,
        })
    }
}

impl From<Order> for v1::Assign {
    fn from(order: Order) -> Self {
        Self {
            attempt: Some(order.attempt.into()),
            spec_json: to_json(&order.spec),
            backbone: order.backbone.map(Into::into),
            data: Some(order.data.into()),
            parents: order.parents.into_iter().map(Into::into).collect(),
            selection_json: order
                .selection
                .map(|selection| to_json(&selection))
                .unwrap_or_default(),
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

impl TryFrom<v1::AttemptId> for Attempt {
    type Error = Error;
    fn try_from(message: v1::AttemptId) -> Result<Self, Error> {
        if message.number == 0 {
            return Err(Error::missing("number"));
        }
        Ok(Self {
            stage: parse(&message.stage_key, "stage_key")?,
            number: message.number,
        })
    }
}

impl From<Attempt> for v1::AttemptId {
    fn from(attempt: Attempt) -> Self {
        Self {
            stage_key: attempt.stage.to_string(),
            number: attempt.number,
        }
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
