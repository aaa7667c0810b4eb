//! An agent that follows a script.

use std::time::Duration;

use nettailor_artifacts::ArtifactStore;
use nettailor_domain::architecture::{Architecture, Selection};
use nettailor_domain::ids::Seat;
use nettailor_domain::session::{Offer, Order};
use nettailor_domain::stage::{FrontierPoint, Latency, StageKind, StageOutcome, StageResult, Tailored};
use nettailor_domain::units::Accuracy;
use nettailor_proto::convert::session::{FromAgent, FromCoordinator, Hello};
use nettailor_proto::status;
use nettailor_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::site::{Site, next};

/// How often an agent is asked to show that it lives, unless the coordinator is told otherwise.
const HEARTBEAT: Duration = Duration::from_secs(1);

pub(crate) struct Agent {
    send: mpsc::Sender<v1::AgentMessage>,
    incoming: Streaming<v1::CoordinatorMessage>,
    store: ArtifactStore,
}

impl Agent {
    /// Opens a session of one slot; `seats` are those it says it still has.
    pub(crate) async fn connect(site: &Site, name: &str, seats: Vec<Seat>) -> Self {
        let agent = Self::greet(site, name, seats).await;
        agent.say(FromAgent::Ready).await;
        // As long as the agent is there, but no longer.
        let send = agent.send.downgrade();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                let Some(send) = send.upgrade() else { return };
                if send.send(FromAgent::Heartbeat.into()).await.is_err() {
                    return;
                }
            }
        });
        agent
    }

    /// The same up to the Welcome.
    pub(crate) async fn greet(site: &Site, name: &str, seats: Vec<Seat>) -> Self {
        let hello = Hello {
            worker: name.parse().unwrap(),
            offer: Offer {
                slots: 1,
                threads_per_slot: 1,
                device: "cpu".into(),
                cached: vec![],
                seats,
                version: "test".into(),
                draining: false,
                labels: Default::default(),
            },
        };
        let (send, outgoing) = mpsc::channel(16);
        send.send(FromAgent::Hello(hello).into()).await.unwrap();
        let mut incoming = site
            .workers()
            .session(ReceiverStream::new(outgoing))
            .await
            .unwrap()
            .into_inner();
        let welcome = next(&mut incoming).await.unwrap().unwrap().try_into().unwrap();
        let FromCoordinator::Welcome {
            artifacts_url,
            heartbeat,
        } = welcome
        else {
            panic!("{welcome:?}")
        };
        assert_eq!(heartbeat, HEARTBEAT);
        let store = ArtifactStore::open(&artifacts_url.parse().unwrap()).unwrap();
        Self {
            send,
            incoming,
            store,
        }
    }

    pub(crate) async fn say(&self, said: FromAgent) {
        self.send(said.into()).await;
    }

    /// Says something as it stands.
    pub(crate) async fn send(&self, message: v1::AgentMessage) {
        self.send.send(message).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Result<Option<FromCoordinator>, status::Error> {
        Ok(next(&mut self.incoming)
            .await?
            .map(|message| message.try_into().unwrap()))
    }

    pub(crate) async fn order(&mut self) -> Order {
        match self.hear().await.unwrap() {
            Some(FromCoordinator::Assign(order)) => *order,
            other => panic!("an assignment was expected: {other:?}"),
        }
    }

    /// Reports a rank as done and waits for the acknowledgement.
    pub(crate) async fn finish(&mut self, order: &Order) {
        let result = match order.seat.rank {
            0 => Some(Box::new(self.result(order).await)),
            _ => None,
        };
        self.say(FromAgent::Finished {
            seat: order.seat,
            result,
        })
        .await;
        let heard = self.hear().await.unwrap();
        assert_eq!(heard, Some(FromCoordinator::Acknowledged(order.seat)));
    }

    /// Does everything until `count` stages are done.
    pub(crate) async fn work(&mut self, count: usize) {
        for _ in 0..count {
            let order = self.order().await;
            self.finish(&order).await;
        }
    }

    /// What a trainer could have found; weights are in the store.
    pub(crate) async fn result(&self, order: &Order) -> StageResult {
        let backbone = order.spec.arch.describe();
        let outcome = match order.spec.kind() {
            StageKind::Teacher => StageOutcome::Teacher {
                held_out: accuracy(980),
            },
            StageKind::Student => StageOutcome::Student {
                architecture: Architecture::new(&backbone, 3),
                held_out: accuracy(970),
                expected_complexity: 0.4,
            },
            StageKind::Source => StageOutcome::Source {
                held_out: accuracy(900),
            },
            StageKind::Candidate(k) => StageOutcome::Candidate(tailored(order, k)),
            StageKind::Search => StageOutcome::Search {
                frontier: vec![tailored(order, 2).point],
                infeasible: vec![],
                selection: selection(),
                tailored: tailored(order, 2),
            },
            StageKind::Select => StageOutcome::Select {
                selection: selection(),
                teacher_test: accuracy(981),
                test: accuracy(978),
                teacher_latency: latency(4.0),
                latency: latency(2.5),
            },
        };
        let weights = match outcome.leaves_weights() {
            false => None,
            true => {
                let kind = order.spec.kind();
                Some(self.store.put_bytes(format!("{kind} weights")).await.unwrap())
            }
        };
        StageResult {
            outcome,
            weights,
            samples: [800, 200, 100],
            unreadable: 0,
            seconds: 1.5,
        }
    }
}

fn accuracy(correct: u64) -> Accuracy {
    Accuracy { correct, total: 1000 }
}

fn selection() -> Selection {
    Selection {
        k: 2,
        threshold: 0.975,
        qualified: true,
    }
}

fn latency(batch_1_ms: f64) -> Latency {
    Latency {
        batch_1_ms,
        batch_32_ms: 20.0 * batch_1_ms,
    }
}

fn tailored(order: &Order, k: usize) -> Tailored {
    let architecture = Architecture::new(&order.spec.arch.describe(), 3);
    let point = FrontierPoint {
        k,
        counts: architecture.counts(2, order.spec.reading.image_size),
        held_out: accuracy(979),
        epochs: 3.0,
    };
    Tailored { point, architecture }
}
