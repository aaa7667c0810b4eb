//! One simulated worker: sessions one after the other, what it runs across them.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nettailor_domain::ids::Seat;
use nettailor_proto::limits::MAX_MESSAGE_BYTES;
use nettailor_proto::v1;
use nettailor_proto::v1::agent_message::Message as Said;
use nettailor_proto::v1::coordinator_message::Message as Heard;
use nettailor_proto::v1::workers_client::WorkersClient;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;

use super::{Command, Conduct, Seen, Settings, What};
use crate::ambient;
use crate::results::Results;

/// As in the real agent (`worker/src/agent.rs`, `worker/src/session.rs`).
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(1);
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const OUTBOUND: usize = 8;

pub(super) struct Agent {
    number: usize,
    name: String,
    settings: Settings,
    endpoint: Endpoint,
    results: Arc<Mutex<Results>>,
    commands: mpsc::UnboundedReceiver<Command>,
    seen: mpsc::UnboundedSender<Seen>,
    /// What runs, with the result that it will have.
    running: BTreeMap<Seat, Vec<u8>>,
    /// What has ended and is not yet acknowledged.
    reports: BTreeMap<Seat, Report>,
    /// To be said in the session that is up.
    outbox: VecDeque<Said>,
}

#[derive(Clone)]
enum Report {
    Finished(Vec<u8>),
    Lost,
}

/// A session that is up.
struct Session {
    send: mpsc::Sender<v1::AgentMessage>,
    incoming: Streaming<v1::CoordinatorMessage>,
    heartbeat: Duration,
}

impl Agent {
    pub(super) fn new(
        number: usize,
        name: String,
        settings: Settings,
        endpoint: Endpoint,
        results: Arc<Mutex<Results>>,
        commands: mpsc::UnboundedReceiver<Command>,
        seen: mpsc::UnboundedSender<Seen>,
    ) -> Self {
        Self {
            number,
            name,
            settings,
            endpoint,
            results,
            commands,
            seen,
            running: BTreeMap::new(),
            reports: BTreeMap::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Serves the coordinator for ever.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let opened = timeout(OPEN_TIMEOUT, self.open()).await;
            let lost = match opened.context("no welcome came in time").flatten() {
                Ok(session) => {
                    pause = FIRST_PAUSE;
                    self.tell(What::Attached);
                    match self.talk(session).await {
                        Ok(never) => match never {},
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.tell(What::Parted(format!("{lost:#}")));
            tokio::time::sleep(ambient::jittered(pause)).await;
            pause = (2 * pause).min(MAX_PAUSE);
        }
    }

    async fn open(&self) -> anyhow::Result<Session> {
        let channel = self.endpoint.connect().await?;
        let mut client = WorkersClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let (send, outgoing) = mpsc::channel(OUTBOUND);
        let hello = v1::Hello {
            worker: self.name.clone(),
            slots: self.settings.slots,
            threads_per_slot: 1,
            device: "cpu".to_owned(),
            cached: vec![],
            seats: self
                .running
                .keys()
                .chain(self.reports.keys())
                .map(|seat| (*seat).into())
                .collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: false,
            labels: Default::default(),
        };
        send.send(message(Said::Hello(hello))).await?;
        let mut incoming = client.session(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = incoming.message().await?.and_then(|first| first.message);
        let Some(Heard::Welcome(welcome)) = first else {
            bail!("a welcome was expected: {first:?}");
        };
        send.send(message(Said::Ready(v1::Ready {}))).await?;
        Ok(Session {
            send,
            incoming,
            heartbeat: Duration::from_millis(welcome.heartbeat_ms.into()),
        })
    }

    async fn talk(&mut self, session: Session) -> anyhow::Result<Infallible> {
        let Session {
            send,
            mut incoming,
            heartbeat,
        } = session;
        self.outbox.clear();
        for (seat, report) in self.reports.clone() {
            self.say(seat, report);
        }
        let mut heartbeats = interval(heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A thousand workers that started together must not beat together.
        heartbeats.reset_at(Instant::now() + ambient::jittered(heartbeat));
        loop {
            tokio::select! {
                heard = incoming.message() => self.hear(heard?.context("the coordinator ended the session")?)?,
                room = send.reserve(), if !self.outbox.is_empty() => {
                    let room = room.context("the stream is closed")?;
                    if let Some(said) = self.outbox.pop_front() {
                        room.send(message(said));
                    }
                }
                _ = heartbeats.tick() => self.outbox.push_back(Said::Heartbeat(v1::Heartbeat {})),
                Some(command) = self.commands.recv() => self.obey(command),
            }
        }
    }

    fn hear(&mut self, heard: v1::CoordinatorMessage) -> anyhow::Result<()> {
        match heard.message.context("an empty message")? {
            Heard::Assign(assign) => self.start(assign)?,
            Heard::Acknowledged(seat) => {
                let seat = seat.try_into()?;
                self.reports.remove(&seat);
                self.tell(What::Acknowledged(seat));
            }
            Heard::Stop(stop) => {
                let seat = stop.seat.context("a stop of nothing")?.try_into()?;
                self.running.remove(&seat);
                self.tell(What::Stopped(seat));
                let report = self.reports.get(&seat).cloned().unwrap_or(Report::Lost);
                self.end(seat, report);
            }
            Heard::Meet(_) | Heard::Welcome(_) => {}
        }
        Ok(())
    }

    fn start(&mut self, assign: v1::Assign) -> anyhow::Result<()> {
        let seat: Seat = assign
            .seat
            .clone()
            .context("an assignment without a seat")?
            .try_into()?;
        if self.running.contains_key(&seat) {
            return Ok(());
        }
        if let Some(report) = self.reports.get(&seat).cloned() {
            self.say(seat, report);
            return Ok(());
        }
        let results = self.results.lock();
        let (kind, result) = results.unwrap_or_else(PoisonError::into_inner).of(&assign)?;
        self.tell(What::Assigned {
            seat,
            kind,
            description: assign.description,
        });
        // The result of a gang is its rank 0's.
        let result = if seat.rank == 0 { result } else { vec![] };
        let hold = match self.settings.conduct {
            Conduct::AtOnce => false,
            Conduct::Hold => true,
            Conduct::HoldFirst => seat.attempt.number == 1,
        };
        if hold {
            self.running.insert(seat, result);
        } else {
            self.end(seat, Report::Finished(result));
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Finish => {
                for (seat, result) in std::mem::take(&mut self.running) {
                    self.end(seat, Report::Finished(result));
                }
            }
            Command::Progress(report) => self.outbox.push_back(Said::Progress(*report)),
        }
    }

    fn end(&mut self, seat: Seat, report: Report) {
        self.reports.insert(seat, report.clone());
        self.say(seat, report);
    }

    fn say(&mut self, seat: Seat, report: Report) {
        let seat = Some(seat.into());
        self.outbox.push_back(match report {
            Report::Finished(result_json) => Said::Finished(v1::SeatFinished { seat, result_json }),
            Report::Lost => Said::Failed(v1::SeatFailed {
                seat,
                failure_class: v1::FailureClass::Lost.into(),
                message: "stopped".to_owned(),
            }),
        });
    }

    fn tell(&self, what: What) {
        let (at, worker) = (ambient::now(), self.number);
        // Whoever measured may be done.
        let _ = self.seen.send(Seen { at, worker, what });
    }
}

fn message(said: Said) -> v1::AgentMessage {
    v1::AgentMessage { message: Some(said) }
}
