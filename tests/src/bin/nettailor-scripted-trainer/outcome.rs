//! What a scripted stage finds: of its kind's form, with numbers that follow from the last state.

use nettailor_domain::architecture::{Architecture, select};
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::{FrontierPoint, Infeasible, Latency, StageOutcome, StageWork, Tailored};
use nettailor_domain::task::{CandidateSettings, StudentSettings};
use nettailor_domain::trainer::{Assignment, Failure, FailureClass, Finished};
use nettailor_domain::units::Accuracy;

/// The result of a stage that came to `state`.
pub(crate) fn finished(assignment: &Assignment, state: Digest) -> Result<Finished, Failure> {
    let chance = Chance(state);
    let outcome = match &assignment.spec.work {
        StageWork::Source { .. } => StageOutcome::Source {
            held_out: chance.accuracy("source"),
        },
        StageWork::Teacher { .. } => StageOutcome::Teacher {
            held_out: chance.accuracy("teacher"),
        },
        StageWork::Student { max_skip, .. } => StageOutcome::Student {
            architecture: trained(assignment, *max_skip, &chance),
            held_out: chance.accuracy("student"),
            expected_complexity: chance.share("complexity"),
        },
        StageWork::Candidate { k, settings, student } => {
            match tailored(assignment, *k, settings, student, &chance)? {
                Ok(tailored) => StageOutcome::Candidate(tailored),
                Err(infeasible) => StageOutcome::Infeasible(infeasible),
            }
        }
        StageWork::Search {
            ladder,
            tolerance,
            settings,
            student,
        } => search(assignment, ladder, *tolerance, settings, student, &chance)?,
        StageWork::Select { .. } => StageOutcome::Select {
            selection: assignment
                .selection
                .ok_or_else(|| wrong("no selection was given"))?,
            teacher_test: chance.accuracy("teacher's test"),
            test: chance.accuracy("test"),
            teacher_latency: chance.latency("teacher's latency"),
            latency: chance.latency("latency"),
        },
    };
    Ok(Finished {
        outcome,
        samples: [8, 2, 2],
        unreadable: 0,
    })
}

/// The student's architecture, its scores moved a little.
fn trained(assignment: &Assignment, max_skip: usize, chance: &Chance) -> Architecture {
    let mut architecture = Architecture::new(&assignment.spec.arch.describe(), max_skip);
    for (index, layer) in architecture.layers.iter_mut().enumerate() {
        for (position, block) in layer.blocks.iter_mut().enumerate() {
            block.score += chance.share(&format!("score {index} {position}")) as f32;
        }
    }
    architecture
}

fn tailored(
    assignment: &Assignment,
    k: usize,
    settings: &CandidateSettings,
    student: &StudentSettings,
    chance: &Chance,
) -> Result<Result<Tailored, Infeasible>, Failure> {
    let parent = assignment.parents.get(1).map(|parent| &parent.result.outcome);
    let Some(StageOutcome::Student { architecture, .. }) = parent else {
        return Err(wrong("the second parent is no student"));
    };
    let architecture = match architecture.prune(k, settings.proxy_threshold) {
        Ok(architecture) => architecture,
        Err(error) => {
            let reason = error.to_string();
            return Ok(Err(Infeasible { k, reason }));
        }
    };
    let classes = u32::try_from(assignment.spec.classes.len()).map_err(|_| wrong("too many classes"))?;
    let image_size = assignment.spec.reading.image_size;
    Ok(Ok(Tailored {
        point: FrontierPoint {
            k,
            counts: architecture.counts_under(student.bn_mode, classes, image_size),
            held_out: chance.accuracy(&format!("candidate({k})")),
            epochs: settings.training.epochs.into(),
        },
        architecture,
    }))
}

fn search(
    assignment: &Assignment,
    ladder: &[usize],
    tolerance: f64,
    settings: &CandidateSettings,
    student: &StudentSettings,
    chance: &Chance,
) -> Result<StageOutcome, Failure> {
    let (mut found, mut infeasible) = (Vec::new(), Vec::new());
    for k in ladder {
        match tailored(assignment, *k, settings, student, chance)? {
            Ok(tailored) => found.push(tailored),
            Err(rung) => infeasible.push(rung),
        }
    }
    let teacher = assignment.parents.first().map(|parent| &parent.result.outcome);
    let Some(StageOutcome::Teacher { held_out }) = teacher else {
        return Err(wrong("the first parent is no teacher"));
    };
    let frontier: Vec<FrontierPoint> = found.iter().map(|tailored| tailored.point).collect();
    let scores: Vec<_> = frontier.iter().map(FrontierPoint::score).collect();
    let selection = select(&scores, *held_out, tolerance);
    let chosen = |k| {
        found
            .into_iter()
            .find(|tailored: &Tailored| tailored.point.k == k)
    };
    let (selection, tailored) = selection
        .and_then(|selection| Some((selection, chosen(selection.k)?)))
        .ok_or_else(|| wrong("no rung of the ladder leaves a network"))?;
    Ok(StageOutcome::Search {
        frontier,
        infeasible,
        selection,
        tailored,
    })
}

/// Numbers that anybody draws alike from the same state.
struct Chance(Digest);

impl Chance {
    /// A number from 0 to below 1.
    fn share(&self, what: &str) -> f64 {
        let digest = Digest::of(format!("{} {what}", self.0).as_bytes()).to_string();
        let drawn = u32::from_str_radix(&digest[..6], 16).expect("a digest is written in hexadecimal digits");
        f64::from(drawn) / f64::from(1 << 24)
    }

    fn accuracy(&self, what: &str) -> Accuracy {
        Accuracy {
            correct: 900 + (100.0 * self.share(what)) as u64,
            total: 1000,
        }
    }

    fn latency(&self, what: &str) -> Latency {
        let batch_1_ms = 1.0 + self.share(what);
        Latency {
            batch_1_ms,
            batch_32_ms: 20.0 * batch_1_ms,
        }
    }
}

fn wrong(message: &str) -> Failure {
    Failure {
        class: FailureClass::Internal,
        message: message.to_owned(),
    }
}
