//! An agent that follows a script.

use std::time::Duration;

use nettailor_artifacts::ArtifactStore;
use nettailor_domain::ids::Seat;
use nettailor_domain::session::{Offer, Order};
use nettailor_domain::stage::StageResult;
use nettailor_proto::convert::session::{FromAgent, FromCoordinator, Hello};
use nettailor_proto::status;
use nettailor_proto::v1;
use nettailor_scheduler::testing;
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
        let mut result = testing::result(order);
        if let Some(weights) = &mut result.weights {
            let kind = order.spec.kind();
            *weights = self.store.put_bytes(format!("{kind} weights")).await.unwrap();
        }
        result
    }
}
