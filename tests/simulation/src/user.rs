//! Users: they submit, cancel, and look at what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use nettailor_domain::ids::JobId;
use nettailor_domain::stage::StageKind;
use nettailor_domain::task::ResourceSettings;
use nettailor_domain::trainer::FailureClass;
use nettailor_engine::{Answer, Refused, Request};
use nettailor_scheduler::view::{JobPhase, JobView};

use crate::Verdict;
use crate::tasks;
use crate::world::World;

/// What users know of a job that they asked for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    bad: bool,
    /// The coordinator has said that it exists.
    acknowledged: bool,
    /// Its end was asked for.
    cancelled: bool,
}

/// All jobs that were asked for.
pub(crate) type Jobs = BTreeMap<JobId, Asked>;

impl World {
    pub(crate) fn submit(&mut self, variant: u32, how: u32) -> Verdict {
        // With faults, no number of them ends a job, for the history is not to depend on how they fall; without, one does.
        let resources = ResourceSettings {
            max_attempts: if self.faults { 1000 } else { 1 },
            stage_minutes: if self.hangs { 1 } else { 600 },
            checkpoint_seconds: 0,
            ..ResourceSettings::default()
        };
        let count = if how.is_multiple_of(5) { 2 } else { 1 };
        let mut submissions = Vec::new();
        for variant in variant..variant + count {
            let id = format!("j{:03}", self.jobs.len());
            let submission = tasks::variation(variant, &id, resources.clone());
            let asked = Asked {
                bad: tasks::is_bad(variant),
                ..Asked::default()
            };
            self.jobs.insert(submission.job.clone(), asked);
            submissions.push(submission);
        }
        self.request(Request::Submit(submissions))
    }

    pub(crate) fn cancel(&mut self, which: u32) -> Verdict {
        let Some((job, asked)) = self.some_job(which) else {
            return Ok(());
        };
        asked.cancelled = true;
        let job = job.as_str().to_owned();
        let reason = "enough".into();
        self.request(Request::Cancel { job, reason })
    }

    pub(crate) fn pause(&mut self, which: u32, time: Duration) -> Verdict {
        let reason = "lunch".into();
        self.ask(which, |job| Request::Pause { job, reason, time })
    }

    pub(crate) fn resume(&mut self, which: u32) -> Verdict {
        self.ask(which, |job| Request::Resume { job })
    }

    pub(crate) fn update(&mut self, which: u32, how: u32) -> Verdict {
        let priority = Some([-1, 0, 1][how as usize % 3]);
        self.ask(which, |job| Request::Update {
            job,
            priority,
            deadline: None,
        })
    }

    pub(crate) fn retry(&mut self, which: u32, how: u32) -> Verdict {
        let fresh: JobId = format!("j{:03}", self.jobs.len()).parse().expect("an id");
        let Some((job, asked)) = self.some_job(which) else {
            return Ok(());
        };
        let (job, bad) = (job.as_str().to_owned(), asked.bad);
        let asked = Asked {
            bad,
            ..Asked::default()
        };
        self.jobs.insert(fresh.clone(), asked);
        self.request(Request::Retry {
            jobs: vec![(job, fresh)],
            failed_only: how.is_multiple_of(2),
            from: how.is_multiple_of(3).then_some(StageKind::Student),
        })
    }

    pub(crate) fn cordon(&mut self, index: usize, drain: bool) -> Verdict {
        self.cordoned.insert(index);
        self.request(Request::Cordon {
            worker: self.agents[index].name.clone(),
            reason: "repair".into(),
            drain,
        })
    }

    pub(crate) fn uncordon(&mut self, index: usize) -> Verdict {
        let worker = self.agents[index].name.clone();
        self.request(Request::Uncordon { worker })
    }

    /// Something is asked of one of the jobs.
    fn ask(&mut self, which: u32, what: impl FnOnce(String) -> Request) -> Verdict {
        let job = self.some_job(which).map(|(job, _)| job.as_str().to_owned());
        job.map_or(Ok(()), |job| self.request(what(job)))
    }

    fn some_job(&mut self, which: u32) -> Option<(&JobId, &mut Asked)> {
        let count = self.jobs.len();
        self.jobs.iter_mut().nth(which as usize % count.max(1))
    }

    /// An answer comes in.
    pub(crate) fn answered(&mut self, answer: Result<Answer, Refused>) {
        if let Ok(Answer::Submitted(jobs)) = answer {
            for job in jobs {
                if let Some(asked) = self.jobs.get_mut(&job) {
                    asked.acknowledged = true;
                }
            }
        }
    }

    /// Whether all jobs are over and nothing takes a slot.
    pub(crate) fn is_over(&self) -> bool {
        let Some(coordinator) = &self.coordinator else {
            return false;
        };
        let scheduler = &coordinator.engine.state().scheduler;
        let over = |job: JobView| job.phase.is_final();
        scheduler.jobs().all(over) && scheduler.workers().all(|worker| worker.slots_used == 0)
    }

    /// Now that all is calm, every job must have ended as it should.
    pub(crate) fn look_back(&mut self) -> Verdict {
        let Some(coordinator) = &self.coordinator else {
            return Err("P3: the coordinator is not there".into());
        };
        let scheduler = &coordinator.engine.state().scheduler;
        for view in scheduler.workers() {
            if view.slots_used > 0 {
                let running = view.running;
                return Err(format!("P4: {} still holds slots: {running:?}", view.id));
            }
        }
        let mut cancelled_late = false;
        for (id, asked) in &self.jobs {
            let Some(job) = scheduler.job(id) else {
                if asked.acknowledged {
                    return Err(format!("P1: job {id} was acknowledged and is gone"));
                }
                continue;
            };
            let (reason, class) = (&job.reason, job.failure_class);
            if reason.is_empty() {
                return Err(format!("P3: job {id} stands where it stands for no reason"));
            }
            cancelled_late |= asked.cancelled && job.phase == JobPhase::Succeeded;
            match job.phase {
                JobPhase::Queued | JobPhase::Running | JobPhase::Paused => {
                    return Err(format!("P3: job {id} is not over: {job:?}"));
                }
                JobPhase::Succeeded if asked.bad => {
                    return Err(format!("P6: job {id} cannot succeed and did"));
                }
                JobPhase::Cancelled if !asked.cancelled => {
                    return Err(format!("P8: job {id} was cancelled by nobody: {reason}"));
                }
                JobPhase::Failed if asked.bad && class != Some(FailureClass::Input) => {
                    return Err(format!("P6: job {id} failed as {class:?}: {reason}"));
                }
                JobPhase::Failed if !asked.bad => {
                    return Err(format!(
                        "P5: job {id} failed through no fault of its own: {reason}"
                    ));
                }
                JobPhase::Succeeded | JobPhase::Cancelled | JobPhase::Failed => {}
            }
        }
        if cancelled_late {
            self.fire("a job was over before it was cancelled");
        }
        Ok(())
    }
}
