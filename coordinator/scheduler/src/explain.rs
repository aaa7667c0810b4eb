//! Explanations: what binds, in words, with a place in line, a time, and what could be done.

use std::collections::{HashMap, VecDeque};

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::explain::{Binding, Eta, Explanation, Holder};
use nettailor_domain::ids::{JobId, StageKey, WorkerId};
use nettailor_domain::stage::StageKind;

use crate::error::Rejected;
use crate::job::Job;
use crate::reasons::phase;
use crate::record::JobState;
use crate::scheduler::Scheduler;
use crate::stage::{Stage, State};
use crate::view::{StagePhase, WorkerPhase};
use crate::words::{class, cordoned, count, gang, time_of_day, why};

/// So many stages of a sort are remembered.
const REMEMBERED: usize = 16;

/// How long the latest stages of a sort took, seconds.
#[derive(Debug, Default)]
pub(crate) struct Durations(HashMap<(String, BackboneName), VecDeque<f64>>);

impl Durations {
    pub(crate) fn add(&mut self, kind: StageKind, arch: BackboneName, seconds: f64) {
        let latest = self.0.entry((sort(kind), arch)).or_default();
        latest.push_back(seconds);
        if latest.len() > REMEMBERED {
            latest.pop_front();
        }
    }

    /// Their median, and how many it is of.
    pub(crate) fn median(&self, kind: StageKind, arch: BackboneName) -> Option<(f64, usize)> {
        let latest = self.0.get(&(sort(kind), arch))?;
        let mut sorted: Vec<f64> = latest.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        Some((*sorted.get(sorted.len() / 2)?, sorted.len()))
    }
}

/// Candidates of all sizes are of one sort.
fn sort(kind: StageKind) -> String {
    match kind {
        StageKind::Candidate(_) => "candidate".to_owned(),
        other => other.to_string(),
    }
}

impl Scheduler {
    /// Why a job stands where it stands, or this stage of it. What happened to it last is to be filled in.
    ///
    /// # Errors
    /// There is no such job, or it has no such stage.
    pub fn explain_job(
        &self,
        id: &JobId,
        kind: Option<StageKind>,
    ) -> Result<(Explanation, Option<StageKey>), Rejected> {
        let sequence = self.sequences.get(id);
        let job = self.job_at(*sequence.ok_or_else(|| Rejected::UnknownJob(id.clone()))?);
        let stages = || job.record.stages.iter().map(|key| &self.stages[key]);
        if let Some(kind) = kind {
            let stage = stages().find(|stage| stage.kind == kind);
            let stage = stage.ok_or_else(|| Rejected::NoSuchStage {
                job: id.clone(),
                stage: kind,
                kinds: stages()
                    .map(|stage| stage.kind.to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
            return Ok((self.explain_stage(job, stage), Some(stage.key)));
        }
        if let (JobState::Active, None) = (&job.status.state, &job.status.paused) {
            let at = |wanted: StagePhase| stages().find(|stage| phase(stage) == wanted);
            let stage = at(StagePhase::Queued)
                .or_else(|| at(StagePhase::Running))
                .or_else(|| stages().find(|stage| !stage.is_done()));
            if let Some(stage) = stage {
                return Ok((self.explain_stage(job, stage), Some(stage.key)));
            }
        }
        Ok((self.explain_whole(job), None))
    }

    /// A job that is paused or over.
    fn explain_whole(&self, job: &Job) -> Explanation {
        let id = &job.record.id;
        let view = self.job(id);
        let reason = view.map(|view| view.reason).unwrap_or_default();
        let (state, binding, action) = match (&job.status.state, &job.status.paused) {
            (JobState::Active, Some(pause)) => (
                "paused",
                Binding::Paused {
                    until_ms: self.wall(pause.until),
                    reason: pause.reason.clone(),
                },
                format!("resume it: nettailor-cli jobs resume {id}"),
            ),
            (JobState::Active, None) => ("running", Binding::Over, String::new()),
            (JobState::Succeeded { .. }, _) => (
                "succeeded",
                Binding::Over,
                format!("look at it: nettailor-cli registry get {}", job.record.task.name),
            ),
            (JobState::Failed { .. }, _) => (
                "failed",
                Binding::Over,
                format!("look at nettailor-cli jobs logs {id}; then nettailor-cli jobs retry {id}"),
            ),
            (JobState::Cancelled { .. }, _) => (
                "cancelled",
                Binding::Over,
                format!("do its work after all: nettailor-cli jobs retry {id}"),
            ),
        };
        Explanation {
            subject: format!("job {id}"),
            state: state.to_owned(),
            binding,
            reason: sentence(&reason),
            position: None,
            eta: None,
            decided_ms: self.decided_ms,
            action,
            events: Vec::new(),
        }
    }

    fn explain_stage(&self, job: &Job, stage: &Stage) -> Explanation {
        let binding = self.binding(stage);
        let reason = match &binding {
            Binding::Over | Binding::Unasked => sentence(&self.stage_reason(stage, &self.capacity())),
            binding => in_words(binding),
        };
        Explanation {
            subject: format!("{} of job {}", stage.kind, job.record.id),
            state: word(phase(stage)).to_owned(),
            reason,
            position: stage.ticket().map(|ticket| self.line.position(ticket)),
            eta: self.eta(stage, &binding),
            decided_ms: self.decided_ms,
            action: action(&binding, &job.record.id),
            binding,
            events: Vec::new(),
        }
    }

    /// When a running stage is expected to end, or one in line to start.
    fn eta(&self, stage: &Stage, binding: &Binding) -> Option<Eta> {
        let arch = self.planned_by(stage.key).arch;
        match (&stage.state, binding) {
            (State::Running(running), Binding::Runs { .. }) => {
                let at_ms = self.expected_end(stage.key).map(|at| self.wall(at));
                let basis = if running.expected.is_some() {
                    "as its trainer says, from its pace".to_owned()
                } else {
                    self.basis(stage.kind, arch)
                };
                Some(Eta { at_ms, basis })
            }
            (
                _,
                Binding::Slots {
                    need,
                    free,
                    connected,
                    holders,
                    ..
                },
            ) if connected >= need => {
                let first = stage.ticket().map(|ticket| self.line.position(ticket));
                let first = first.is_some_and(|place| place.own == 1 && place.user == 1);
                if !first {
                    let basis = "stages before it go first, and how long they take is not known".to_owned();
                    return Some(Eta { at_ms: None, basis });
                }
                let mut missing = need.saturating_sub(*free);
                let mut at_ms = None;
                for Holder { slots, until_ms, .. } in holders {
                    if missing == 0 {
                        break;
                    }
                    missing = missing.saturating_sub(*slots);
                    at_ms = *until_ms;
                }
                let basis = match at_ms.filter(|_| missing == 0) {
                    Some(_) => "when those are expected to end that hold the slots".to_owned(),
                    None => "how long those take that hold the slots is not known yet".to_owned(),
                };
                let at_ms = at_ms.filter(|_| missing == 0);
                Some(Eta { at_ms, basis })
            }
            _ => None,
        }
    }

    fn basis(&self, kind: StageKind, arch: BackboneName) -> String {
        let sort = sort(kind);
        match self.durations.median(kind, arch) {
            Some((seconds, 1)) => {
                format!("as long as the one {sort} of {arch} before it took: {seconds:.0} s")
            }
            Some((seconds, number)) => {
                format!("median of the last {number} stages of its sort ({sort} of {arch}): {seconds:.0} s")
            }
            None => format!("no {sort} of {arch} has finished yet"),
        }
    }

    /// Why a worker stands where it stands. What happened to it last is to be filled in.
    ///
    /// # Errors
    /// Nothing is known of such a worker.
    pub fn explain_worker(&self, name: &WorkerId) -> Result<Explanation, Rejected> {
        let worker = self.workers.get(name);
        let cordon = || self.admissions.get(name)?.cordon.clone();
        let (state, binding) = match (worker, cordon()) {
            (Some(worker), _) => {
                let (phase, _) = self.worker_phase(name, worker);
                (worker_word(phase), self.worker_binding(name, worker))
            }
            (None, Some(cordon)) => {
                let binding = Binding::Cordoned {
                    reason: cordon.reason,
                    draining: cordon.drain,
                    used: 0,
                };
                ("cordoned", binding)
            }
            (None, None) => return Err(Rejected::UnknownWorker(name.clone())),
        };
        let [needed, there] = worker.map_or([0; 2], |worker| worker.placed_bytes);
        let mut reason = in_words(&binding);
        if needed > 0 {
            let share = 100.0 * there as f64 / needed as f64;
            let saved = crate::words::bytes(there);
            reason.push_str(&format!(
                " Of the inputs of what was placed on it {share:.0} % were there already: {saved} were not fetched."
            ));
        }
        Ok(Explanation {
            subject: format!("worker {name}"),
            state: state.to_owned(),
            reason,
            position: None,
            eta: None,
            decided_ms: self.decided_ms,
            action: worker_action(&binding, name),
            binding,
            events: Vec::new(),
        })
    }
}

fn word(phase: StagePhase) -> &'static str {
    match phase {
        StagePhase::Waiting => "waiting",
        StagePhase::Queued => "queued",
        StagePhase::Running => "running",
        StagePhase::Done => "done",
        StagePhase::Failed => "failed",
        StagePhase::Idle => "idle",
    }
}

fn worker_word(phase: WorkerPhase) -> &'static str {
    match phase {
        WorkerPhase::Ready => "ready",
        WorkerPhase::Draining => "draining",
        WorkerPhase::Disconnected => "disconnected",
        WorkerPhase::Cordoned => "cordoned",
        WorkerPhase::SetAside => "set aside",
    }
}

/// A text as a sentence.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    let text: String = first.into_iter().flatten().chain(letters).collect();
    let end = if text.ends_with('.') || text.is_empty() {
        ""
    } else {
        "."
    };
    format!("{text}{end}")
}

/// What binds, in words: the one place that makes sentences of it.
fn in_words(binding: &Binding) -> String {
    let at = |ms: u64| time_of_day(ms);
    match binding {
        Binding::Over => "It is over.".to_owned(),
        Binding::Unasked => "No live job asks for it.".to_owned(),
        Binding::Runs { workers, since_ms } => {
            format!("It runs on {} since {}.", gang(workers), at(*since_ms))
        }
        Binding::Away { worker, until_ms } => format!(
            "{worker} is not heard of. What it ran may go on: it is waited for until {}, then its work is done elsewhere.",
            at(*until_ms)
        ),
        Binding::Stopping { workers } => {
            format!("It was told to stop on {} and has not ended yet.", gang(workers))
        }
        Binding::NoWorker { unavailable: 0 } => "No worker is connected.".to_owned(),
        Binding::NoWorker { unavailable } => format!(
            "No worker takes new work: {} connected and draining, cordoned or set aside.",
            are(*unavailable, "worker")
        ),
        Binding::Slots {
            need,
            labels,
            free,
            connected,
            holders,
        } => {
            let with = if labels.is_empty() {
                String::new()
            } else {
                format!(" with label {labels}")
            };
            let needs = format!("It needs {}{with}", count(*need, "slot"));
            if connected < need {
                return format!(
                    "{needs}; {} connected, on workers of one device.",
                    are(*connected, "slot")
                );
            }
            let held: Vec<String> = holders.iter().map(holder).collect();
            let held = if held.is_empty() {
                String::new()
            } else {
                format!(" Held: {}.", held.join("; "))
            };
            format!("{needs}; {free} free of {connected} connected.{held}")
        }
        Binding::Kept { other } => format!(
            "Slots are free, and kept for {other}, which needs more of them and was passed over long enough."
        ),
        Binding::Turn { before } => format!("{before} goes first."),
        Binding::Limit {
            user,
            in_use,
            limit,
            need,
        } => format!(
            "{user} has {in_use} of at most {}; this needs {need} more.",
            count(*limit, "slot")
        ),
        Binding::Parents { stages } => {
            let stages: Vec<String> = stages.iter().map(ToString::to_string).collect();
            format!("It waits for {}.", stages.join(", "))
        }
        Binding::BackOff {
            until_ms,
            class: kind,
            message,
        } => format!(
            "It is tried again at {}, after it failed ({}): {message}",
            at(*until_ms),
            class(*kind)
        ),
        Binding::SetAside { until_ms, losses } => format!(
            "It lost {losses} workers in a row and may be what ends them: it is left alone until {}.",
            at(*until_ms)
        ),
        Binding::Paused { until_ms, reason } => {
            format!("It is paused until {}: {}.", at(*until_ms), why(reason))
        }
        Binding::Open { slots, used } => format!("It takes work: {used} of {} busy.", count(*slots, "slot")),
        Binding::Cordoned {
            reason,
            draining,
            used,
        } => {
            let what = cordoned(*draining, reason);
            let held = count(*used, "rank");
            format!("It was {what}. It gets no new work; {held} left.")
        }
        Binding::Struck { until_ms, stages } => format!(
            "{} broke on it one after the other: it is left alone until {}, then it is tried with one.",
            count(*stages, "stage"),
            at(*until_ms)
        ),
        Binding::Leaving { used } => {
            format!(
                "It leaves when what runs on it has ended: {} left.",
                count(*used, "rank")
            )
        }
    }
}

fn are(number: u32, noun: &str) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", count(number, noun))
}

fn holder(holder: &Holder) -> String {
    let until = match holder.until_ms {
        Some(ms) => format!("until about {}", time_of_day(ms)),
        None => "for a time that is not known yet".to_owned(),
    };
    let job = holder
        .job
        .as_ref()
        .map_or_else(String::new, |job| format!(" (job {job})"));
    format!("{} by {}{job} {until}", holder.slots, holder.what)
}

/// What could be done about a stage.
fn action(binding: &Binding, job: &JobId) -> String {
    match binding {
        Binding::NoWorker { unavailable: 0 } => {
            "start a worker: nettailor-worker --coordinator URL".to_owned()
        }
        Binding::NoWorker { .. } => "take one back into use: nettailor-cli workers uncordon NAME".to_owned(),
        Binding::Slots { labels, .. } if labels.is_empty() => {
            "start another worker, or raise the job's priority: nettailor-cli jobs set".to_owned()
        }
        Binding::Slots { labels, .. } => {
            let labels: Vec<String> = labels
                .iter()
                .map(|(name, value)| format!("--label {name}={value}"))
                .collect();
            format!("start a worker with {}", labels.join(" "))
        }
        Binding::Limit { user, .. } => {
            format!("raise the limit: nettailor-cli users set {user} --limit N")
        }
        Binding::Kept { .. } => "start another worker".to_owned(),
        Binding::BackOff { .. } | Binding::SetAside { .. } => {
            format!("look at what it wrote: nettailor-cli jobs logs {job}")
        }
        Binding::Away { worker, .. } => format!("look at {worker}: is it up, and is the network?"),
        Binding::Paused { .. } => format!("resume it: nettailor-cli jobs resume {job}"),
        _ => String::new(),
    }
}

/// What could be done about a worker.
fn worker_action(binding: &Binding, name: &WorkerId) -> String {
    match binding {
        Binding::Cordoned { .. } | Binding::Struck { .. } => {
            format!("take it back into use: nettailor-cli workers uncordon {name}")
        }
        Binding::Away { .. } => "look whether it is up, and whether the network is".to_owned(),
        _ => String::new(),
    }
}
