//! An agent that follows a script.

use nettailor_artifacts::ArtifactStore;
use nettailor_domain::architecture::{Architecture, Selection};
use nettailor_domain::ids::Attempt;
use nettailor_domain::session::{Offer, Order};
use nettailor_domain::stage::{StageKind, StageOutcome, StageResult};
use nettailor_domain::units::Accuracy;
use nettailor_proto::convert::session::{FromAgent, FromCoordinator, Hello};
use nettailor_proto::status;
use nettailor_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::site::{Site, next};

pub(crate) struct Agent {
    send: mpsc::Sender<v1::AgentMessage>,
    incoming: Streaming<v1::CoordinatorMessage>,
    store: ArtifactStore,
}

impl Agent {
    /// Opens a session of one slot; `attempts` are those it says it still has.
    pub(crate) async fn connect(site: &Site, name: &str, attempts: Vec<Attempt>) -> Self {
        let agent = Self::greet(site, name, attempts).await;
        agent.say(FromAgent::Ready).await;
        agent
    }

    /// The same up to the Welcome.
    pub(crate) async fn greet(site: &Site, name: &str, attempts: Vec<Attempt>) -> Self {
        let hello = Hello {
            worker: name.parse().unwrap(),
            offer: Offer {
                slots: 1,
                threads_per_slot: 1,
                device: "cpu".into(),
                cached: vec![],
                attempts,
                version: "test".into(),
                draining: false,
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
        assert!(heartbeat.as_millis() > 0);
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

    /// Reports an attempt as done and waits for the acknowledgement.
    pub(crate) async fn finish(&mut self, order: &Order) {
        let result = Box::new(self.result(order).await);
        self.say(FromAgent::Finished {
            attempt: order.attempt,
            result,
        })
        .await;
        let heard = self.hear().await.unwrap();
        assert_eq!(heard, Some(FromCoordinator::Acknowledged(order.attempt)));
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
        let accuracy = |correct| Accuracy { correct, total: 1000 };
        let outcome = match order.spec.kind() {
            StageKind::Teacher => StageOutcome::Teacher {
                held_out: accuracy(980),
            },
            StageKind::Student => StageOutcome::Student {
                architecture: Architecture::new(&backbone, 3),
                held_out: accuracy(970),
                expected_complexity: 0.4,
            },
            StageKind::Candidate(k) => {
                let architecture = Architecture::new(&backbone, 3);
                let counts = architecture.counts(2, order.spec.reading.image_size);
                StageOutcome::Candidate {
                    k,
                    architecture,
                    counts,
                    held_out: accuracy(979),
                }
            }
            StageKind::Select => StageOutcome::Select {
                selection: Selection {
                    k: 2,
                    threshold: 0.975,
                    qualified: true,
                },
                teacher_test: accuracy(981),
                test: accuracy(978),
            },
        };
        let weights = match order.spec.kind() {
            StageKind::Select => None,
            kind => Some(self.store.put_bytes(format!("{kind} weights")).await.unwrap()),
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
