//! What keeps a stage or a worker where it is, with numbers. For stages in line it asks what `dispatch` asks.

use std::collections::BTreeMap;
use std::time::Duration;

use nettailor_domain::explain::{Binding, Holder};
use nettailor_domain::ids::{StageKey, WorkerId};
use nettailor_domain::labels::Labels;

use crate::line::{Need, Ticket};
use crate::pool::Slots;
use crate::scheduler::Scheduler;
use crate::stage::{Running, Stage, State, Wait};
use crate::worker::{Link, Worker};

/// Most holders of slots that are named.
const NAMED: usize = 5;

impl Scheduler {
    /// What keeps a stage where it is.
    pub(crate) fn binding(&self, stage: &Stage) -> Binding {
        match &stage.state {
            State::Done(_) | State::Failed(_) => Binding::Over,
            State::Running(running) => self.running_binding(running),
            State::Pending(pending) => match (&pending.wait, &pending.setback) {
                (Wait::Idle, _) => Binding::Unasked,
                (Wait::Parents, _) => {
                    let parents = stage.parents.iter().map(|key| &self.stages[key]);
                    let missing = parents.filter(|parent| !parent.is_done());
                    Binding::Parents {
                        stages: missing.map(|parent| parent.kind).collect(),
                    }
                }
                (Wait::Slots(ticket), _) => match self.waiting_binding(stage.key, ticket) {
                    Binding::Slots {
                        need,
                        labels,
                        free,
                        connected,
                        ..
                    } => Binding::Slots {
                        need,
                        free,
                        connected,
                        holders: self.holders_of(&labels),
                        labels,
                    },
                    other => other,
                },
                (Wait::SetAside(at), _) => Binding::SetAside {
                    until_ms: self.wall(*at),
                    losses: stage.losses,
                },
                (Wait::BackOff(at), setback) => {
                    let failure = setback.as_ref().map(|setback| setback.failure.clone());
                    let (class, message) = failure.map_or_else(
                        || (nettailor_domain::trainer::FailureClass::Lost, String::new()),
                        |failure| (failure.class, failure.message),
                    );
                    Binding::BackOff {
                        until_ms: self.wall(*at),
                        class,
                        message,
                    }
                }
            },
        }
    }

    fn running_binding(&self, running: &Running) -> Binding {
        let workers: Vec<WorkerId> = running.workers().cloned().collect();
        let away = running.ranks.iter().filter(|rank| !rank.done).find_map(|rank| {
            match self.workers.get(&rank.worker)?.link {
                Link::Disconnected { until, .. } => Some((rank.worker.clone(), until)),
                Link::Ready(_) | Link::Draining(_) => None,
            }
        });
        match away {
            Some((worker, until)) => Binding::Away {
                worker,
                until_ms: self.wall_listened(until),
            },
            None if running.ending.is_some() => Binding::Stopping { workers },
            None => Binding::Runs {
                workers,
                since_ms: running.started_ms,
            },
        }
    }

    /// What keeps a stage in line. Who has the slots is left out: that takes a look at all of them.
    pub(crate) fn waiting_binding(&self, key: StageKey, ticket: &Ticket) -> Binding {
        let Need { labels, least } = &ticket.need;
        if let Some(account) = self.accounts.get(&ticket.user)
            && let Some(limit) = account.record.limit
            && !account.may_have(*least)
        {
            return Binding::Limit {
                user: ticket.user.clone(),
                in_use: account.in_use,
                limit,
                need: *least,
            };
        }
        if self.pools.sum(Slots::All, &Labels::default()) == 0 {
            let there = |worker: &&Worker| worker.session().is_some();
            let unavailable = self.workers.values().filter(there).count();
            return Binding::NoWorker {
                unavailable: u32::try_from(unavailable).unwrap_or(u32::MAX),
            };
        }
        let connected = self.pools.most(Slots::All, labels, None);
        let free = self.pools.most(Slots::Free, labels, None);
        let front = self.front().filter(|front| self.is_impatient(*front));
        let kept = front.filter(|front| *front != key);
        let kept = kept.and_then(|front| Some((front, &self.stages[&front].ticket()?.need.labels)));
        match kept {
            Some((front, kept))
                if free >= *least && self.pools.most(Slots::Free, labels, Some(kept)) < *least =>
            {
                Binding::Kept {
                    other: self.description(front),
                }
            }
            _ => Binding::Slots {
                need: *least,
                labels: labels.clone(),
                free,
                connected,
                holders: Vec::new(),
            },
        }
    }

    /// Who has the slots of workers with these labels, those first that are expected to end first.
    fn holders_of(&self, labels: &Labels) -> Vec<Holder> {
        let workers = self.workers.values();
        let workers = workers.filter(|worker| worker.takes_work() && labels.are_in(&worker.make.labels));
        let mut slots: BTreeMap<StageKey, u32> = BTreeMap::new();
        for seat in workers.flat_map(|worker| worker.held.keys()) {
            *slots.entry(seat.attempt.stage).or_default() += 1;
        }
        let mut holders: Vec<(Option<Duration>, Holder)> = slots
            .into_iter()
            .map(|(key, slots)| {
                let until = self.expected_end(key);
                let job = self.stages.get(&key).and_then(|stage| stage.users.first());
                let holder = Holder {
                    what: match self.stages.contains_key(&key) {
                        true => self.description(key),
                        false => "an unknown stage".to_owned(),
                    },
                    job: job.map(|turn| self.job_at(turn.place.sequence).record.id.clone()),
                    slots,
                    until_ms: until.map(|until| self.wall(until)),
                };
                (until, holder)
            })
            .collect();
        holders.sort_by(|(a, first), (b, second)| {
            let known = |until: &Option<Duration>| until.unwrap_or(Duration::MAX);
            (known(a), &first.what).cmp(&(known(b), &second.what))
        });
        holders
            .into_iter()
            .take(NAMED)
            .map(|(_, holder)| holder)
            .collect()
    }

    /// When a running stage is expected to end: as its trainer says, or as others of its sort did.
    pub(crate) fn expected_end(&self, key: StageKey) -> Option<Duration> {
        let stage = self.stages.get(&key)?;
        let running = stage.running()?;
        running.expected.or_else(|| {
            let arch = self.planned_by(key).arch;
            let (median, _) = self.durations.median(stage.kind, arch)?;
            // Seconds are what trainers say.
            let median = Duration::try_from_secs_f64(median).ok()?;
            Some(running.started.saturating_add(median))
        })
    }

    /// What keeps a worker where it is.
    pub(crate) fn worker_binding(&self, name: &WorkerId, worker: &Worker) -> Binding {
        let used = worker.used();
        if let Link::Disconnected { until, .. } = worker.link {
            return Binding::Away {
                worker: name.clone(),
                until_ms: self.wall_listened(until),
            };
        }
        let admission = self.admissions.get(name);
        if let Some(cordon) = admission.and_then(|admission| admission.cordon.clone()) {
            return Binding::Cordoned {
                reason: cordon.reason,
                draining: cordon.drain,
                used,
            };
        }
        if let Some((at, stages)) =
            admission.and_then(|admission| Some((admission.set_aside?, admission.strikes.len())))
        {
            return Binding::Struck {
                until_ms: self.wall(at),
                stages: u32::try_from(stages).unwrap_or(u32::MAX),
            };
        }
        match worker.link {
            Link::Draining(_) => Binding::Leaving { used },
            Link::Ready(_) | Link::Disconnected { .. } => Binding::Open {
                slots: worker.slots,
                used,
            },
        }
    }

    /// A listened time as milliseconds since 1970, for display: if all is listened to from now on.
    fn wall_listened(&self, at: Duration) -> u64 {
        let left = at.saturating_sub(self.now.listened);
        self.wall(self.now.elapsed.saturating_add(left))
    }

    /// An elapsed time as milliseconds since 1970, for display.
    pub(crate) fn wall(&self, at: Duration) -> u64 {
        let now = self.now.elapsed;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if at >= now {
            self.now.wall_ms.saturating_add(ms(at - now))
        } else {
            self.now.wall_ms.saturating_sub(ms(now - at))
        }
    }
}
