//! Streams between agents and the coordinator: one for each session.

use std::collections::BTreeMap;
use std::time::Duration;

use nettailor_domain::ids::Seat;
use nettailor_domain::session::{Address, Offer, Order};
use nettailor_domain::stage::{Checkpoint, StageResult};
use nettailor_domain::trainer::{Failure, Progress};
use nettailor_engine::Request;
use nettailor_scheduler::event::{Event, SessionNumber};

use crate::Verdict;
use crate::chance::mix;
use crate::edge::Lookup;
use crate::world::{Happening, World};

/// How long an end is not noticed that nobody told of.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// One session's stream.
pub(crate) struct Link {
    pub(crate) agent: usize,
    /// The agent's process, by number.
    pub(crate) process: u32,
    /// The coordinator's.
    coordinator: u32,
    pub(crate) up: Lane,
    pub(crate) down: Lane,
    /// What was said and is being looked up in the artifact store.
    pub(crate) lookups: BTreeMap<u64, Lookup>,
}

/// One way of a stream: what is said arrives in order or not at all.
#[derive(Default)]
pub(crate) struct Lane {
    /// When the latest message arrives.
    last: Duration,
    /// What arrives later is lost.
    cut: Option<Duration>,
    sent: u64,
}

/// What an agent says.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    Ready(Offer),
    Heartbeat,
    Draining,
    Progress(Seat, Progress),
    Log(Seat),
    Meeting(Seat, Address),
    Checkpointed(Seat, Checkpoint),
    Finished(Seat, Option<Box<StageResult>>),
    Failed(Seat, Failure),
    /// The agent's process is gone.
    End,
}

/// What an agent is told.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    Assign(Box<Order>),
    Meet(Seat),
    Stop(Seat),
    Acknowledge(Seat),
    Close,
}

impl Lane {
    fn arrival(&mut self, now: Duration, delay: Duration) -> Duration {
        self.last = self.last.max(now + delay);
        self.sent += 1;
        self.last
    }

    /// What is on its way and what follows arrives not before this.
    pub(crate) fn hold_up(&mut self, until: Duration) {
        self.last = self.last.max(until);
    }

    pub(crate) fn cut(&mut self, at: Duration) {
        self.cut = Some(self.cut.map_or(at, |cut| cut.min(at)));
    }

    fn is_cut(&self, now: Duration) -> bool {
        self.cut.is_some_and(|cut| now > cut)
    }
}

impl World {
    /// Opens a session for an agent; its first message is on its way.
    pub(crate) fn open_link(&mut self, agent: usize, offer: Offer) -> SessionNumber {
        self.sessions += 1;
        let link = Link {
            agent,
            process: self.agents[agent].process,
            coordinator: self.process,
            up: Lane::default(),
            down: Lane::default(),
            lookups: BTreeMap::new(),
        };
        self.links.insert(self.sessions, link);
        self.say(self.sessions, Up::Ready(offer));
        self.sessions
    }

    /// An agent says something in a session.
    pub(crate) fn say(&mut self, session: SessionNumber, message: Up) {
        let (seed, latency, now) = (self.seed, self.latency, self.now);
        let Some(link) = self.links.get_mut(&session) else {
            return;
        };
        let delay = delay(&[seed, session, 0, link.up.sent], latency);
        let at = link.up.arrival(now, delay);
        self.at(at, Happening::Up(session, message));
    }

    /// The coordinator says something in a session.
    pub(crate) fn tell(&mut self, session: SessionNumber, message: Down) {
        let (seed, latency, now) = (self.seed, self.latency, self.now);
        let Some(link) = self.links.get_mut(&session) else {
            return;
        };
        let delay = delay(&[seed, session, 1, link.down.sent], latency);
        let at = link.down.arrival(now, delay);
        self.at(at, Happening::Down(session, message));
    }

    /// A stream breaks after some time, and both ends notice.
    pub(crate) fn break_link(&mut self, session: SessionNumber, after: Duration, noticed: Duration) {
        let at = self.now + after;
        if let Some(link) = self.links.get_mut(&session) {
            link.up.cut(at);
            link.down.cut(at);
            self.fire("a stream broke");
            self.at(at + noticed, Happening::Broken(session));
            self.at(at + noticed / 2, Happening::Ended(session));
        }
    }

    /// A stream goes silent from now on, one way or both; each end notices after some time.
    pub(crate) fn mute_link(&mut self, session: SessionNumber, up: bool, down: bool) {
        let now = self.now;
        if let Some(link) = self.links.get_mut(&session) {
            if up {
                link.up.cut(now);
            }
            if down {
                link.down.cut(now);
            }
            self.fire(if up && down {
                "a stream fell silent"
            } else {
                "a stream fell silent one way"
            });
            self.at(now + KEEPALIVE, Happening::Broken(session));
            self.at(now + KEEPALIVE, Happening::Ended(session));
        }
    }

    /// The stream of a session, unless the coordinator's process that had it is gone.
    pub(crate) fn live_link(&self, session: SessionNumber) -> Option<&Link> {
        let link = self.links.get(&session);
        link.filter(|link| link.coordinator == self.process)
    }

    /// A message of an agent arrives.
    pub(crate) fn arrives(&mut self, session: SessionNumber, message: Up) -> Verdict {
        let Some(link) = self.live_link(session) else {
            return Ok(());
        };
        if link.up.is_cut(self.now) {
            self.fire("a message was lost");
            return Ok(());
        }
        if self.agents[link.agent]
            .session
            .is_some_and(|open| open != session)
        {
            self.fire("an old session spoke");
        }
        self.hear(session, message)
    }

    /// A message of the coordinator arrives. What is said in another session than the one that the agent has is lost.
    pub(crate) fn reaches(&mut self, session: SessionNumber, message: Down) -> Verdict {
        let Some(link) = self.links.get(&session) else {
            return Ok(());
        };
        let (agent, process) = (link.agent, link.process);
        let listens = self.agents[agent].process == process && self.agents[agent].session == Some(session);
        if link.down.is_cut(self.now) || !listens {
            self.fire("an order was lost");
            return Ok(());
        }
        self.told(agent, message)
    }

    /// The coordinator notices that a stream is at its end.
    pub(crate) fn broken(&mut self, session: SessionNumber) -> Verdict {
        let Some(link) = self.live_link(session) else {
            return Ok(());
        };
        let worker = self.agents[link.agent].name.clone();
        self.request(Request::Agent(Event::WorkerDisconnected { worker, session }))
    }
}

fn delay(of: &[u64], latency: u32) -> Duration {
    Duration::from_millis(1 + mix(of) % u64::from(latency.max(1)))
}
