//! Stage `search`: the leanest candidate that is accurate enough, at a quarter of the ladder's training.
//!
//! All candidates start from the same student and learn in rounds, from the same batches under one forward pass of the
//! teacher. A round's learning rate falls to 0 along half a cosine, so that accuracies after it mean something. After each round the
//! leanest candidate that qualifies is settled: it and everything costlier needs no more training. Of the leaner ones
//! those nearest to the threshold go on, also such as were passed over before.

use nettailor_domain::architecture::{reaches, select};
use nettailor_domain::stage::{FrontierPoint, Infeasible, NothingLeft, StageOutcome, Tailored};
use nettailor_domain::task::{CandidateSettings, Schedule, StudentSettings, TrainingSettings};
use nettailor_domain::units::Accuracy;

use super::checkpoint::Position;
use super::{Error, Stage, candidate, student};
use crate::data::Split;
use crate::model::Network;
use crate::step::{self, Cohort, State, StudentLearner};

/// Rounds: share of the candidates that train, share of the epochs that they train for. For n candidates and e epochs:
/// n e (1/16 + 1/32 + 3/64 + 1/16 + 3/64) = n e / 4; one candidate gets 7/8 of the epochs at most.
const ROUNDS: [(f64, f64); 5] = [
    (1.0, 1.0 / 16.0),
    (1.0 / 2.0, 1.0 / 16.0),
    (3.0 / 8.0, 1.0 / 8.0),
    (1.0 / 4.0, 1.0 / 4.0),
    (1.0 / 8.0, 3.0 / 8.0),
];

/// A candidate in the race.
struct Runner<'a> {
    learner: StudentLearner<'a>,
    point: FrontierPoint,
    before: blake3::Hash,
    /// Steps that it was trained for.
    steps: u64,
}

pub(super) fn run(
    stage: &mut Stage<'_>,
    ladder: &[usize],
    tolerance: f64,
    settings: &CandidateSettings,
    losses: &StudentSettings,
) -> Result<StageOutcome, Error> {
    let teacher_held_out = stage.teacher_held_out()?;
    let losses = candidate::settled(losses);
    let (mut runners, infeasible) = line_up(stage, ladder, settings, &losses)?;
    if runners.is_empty() {
        return Err(NothingLeft(infeasible).into());
    }
    let teacher = student::taught(stage, &losses)?;
    let threshold = teacher_held_out.fraction() - tolerance;
    race(
        stage,
        &mut runners,
        teacher.as_ref(),
        threshold,
        &settings.training,
    )?;
    let frontier: Vec<FrontierPoint> = runners.iter().map(|runner| runner.point).collect();
    let scores: Vec<_> = frontier.iter().map(FrontierPoint::score).collect();
    let selection = select(&scores, teacher_held_out, tolerance).ok_or(Error::NoSelection)?;
    let winner = runners.into_iter().find(|runner| runner.point.k == selection.k);
    let Runner {
        learner,
        point,
        before,
        steps: _,
    } = winner.ok_or(Error::NoSelection)?;
    let network = learner.into_network();
    // Where all have diverged, the best of them has, too.
    if !network.variables.are_finite()? {
        return Err(step::Error::Diverged { loss: f64::NAN }.into());
    }
    student::keep(stage, &network, before)?;
    Ok(StageOutcome::Search {
        frontier,
        infeasible,
        selection,
        tailored: Tailored {
            point,
            architecture: network.architecture,
        },
    })
}

/// Every feasible candidate of the ladder before the first round, and the others.
fn line_up<'a>(
    stage: &mut Stage<'a>,
    ladder: &[usize],
    settings: &CandidateSettings,
    losses: &StudentSettings,
) -> Result<(Vec<Runner<'a>>, Vec<Infeasible>), Error> {
    let (mut runners, mut infeasible) = (Vec::new(), Vec::new());
    for &k in ladder {
        let network = match candidate::pruned(stage, k, settings, losses)? {
            Ok(network) => network,
            Err(reason) => {
                infeasible.push(reason);
                continue;
            }
        };
        let unmeasured = Accuracy { correct: 0, total: 0 };
        let point = stage.point(&network, k, losses, unmeasured, 0.0);
        let before = network.variables.frozen_digest()?;
        let (training, no_complexity) = (&settings.training, &candidate::no_complexity);
        runners.push(Runner {
            learner: student::learner(stage, network, losses, training, no_complexity)?,
            point,
            before,
            steps: 0,
        });
    }
    Ok((runners, infeasible))
}

/// All rounds, as far as anybody has something to win. What an earlier attempt left is the state after a round.
fn race(
    stage: &mut Stage<'_>,
    runners: &mut [Runner<'_>],
    teacher: Option<&Network>,
    threshold: f64,
    training: &TrainingSettings,
) -> Result<(), Error> {
    let per_epoch = stage.epoch_steps(training);
    let all = per_epoch * u64::from(training.epochs);
    let most = f64::from(training.epochs);
    let (mut before, mut behind) = (0, 0);
    if let Some((position, state)) = stage.checkpoints.take() {
        for (runner, point) in runners.iter_mut().zip(position.points) {
            runner.point = point;
            runner.steps = (point.epochs * per_epoch as f64).round() as u64;
            runner.learner.restore(&state.under(&runner.name()), 0)?;
        }
        (before, behind) = (position.step, position.rounds);
    }
    for (number, (share, length)) in (1..).zip(ROUNDS).skip(behind) {
        let points: Vec<FrontierPoint> = runners.iter().map(|runner| runner.point).collect();
        let places = (share * runners.len() as f64).ceil() as usize;
        let going = next(&points, threshold, places, most);
        if going.is_empty() {
            break;
        }
        // A round takes a step at least, and nobody more than was asked for.
        let left = going.iter().map(|index| all - runners[*index].steps).min();
        let steps = ((length * all as f64).round() as u64)
            .max(1)
            .min(left.unwrap_or(0));
        let round = TrainingSettings {
            schedule: Schedule::Cosine,
            ..training.clone()
        };
        let ks: Vec<usize> = going.iter().map(|index| points[*index].k).collect();
        let rounds = ROUNDS.len();
        eprintln!("round {number} of {rounds}: k = {ks:?} for {steps} steps");
        let members = runners.iter_mut().enumerate();
        let members = members.filter(|(index, _)| going.contains(index));
        let members = members.map(|(_, runner)| &mut runner.learner).collect();
        let mut cohort = Cohort::new(teacher, members);
        let held_out = match stage.train_part(before, steps, &mut cohort, &round) {
            // All that trained in this round: the others are worth what they were.
            Err(Error::Step(step::Error::Diverged { loss })) => {
                eprintln!("k = {ks:?} diverged (loss {loss}) and are worth nothing now");
                let total = stage.data.len(Split::HeldOut) as u64;
                vec![Accuracy { correct: 0, total }; ks.len()]
            }
            measured => measured?,
        };
        before += steps;
        for (index, held_out) in going.into_iter().zip(held_out) {
            let runner = &mut runners[index];
            runner.steps += steps;
            runner.point.held_out = held_out;
            runner.point.epochs = runner.steps as f64 / per_epoch as f64;
        }
        if number < ROUNDS.len() {
            let position = || Position {
                epoch: before.div_ceil(per_epoch) as u32,
                step: before,
                rounds: number,
                points: runners.iter().map(|runner| runner.point).collect(),
            };
            stage.checkpoint(|| state(runners), position)?;
        }
    }
    Ok(())
}

impl Runner<'_> {
    /// Of its part of the race's state.
    fn name(&self) -> String {
        self.point.k.to_string()
    }
}

/// Of all candidates.
fn state(runners: &[Runner<'_>]) -> Result<State, step::Error> {
    let mut state = State::default();
    for runner in runners {
        state.add(&runner.name(), runner.learner.state()?);
    }
    Ok(state)
}

/// Which candidates train next: of those leaner than the leanest that qualifies that have epochs left of `most`, at most
/// `places` with the highest accuracy, those that were never measured first. Ascending.
fn next(points: &[FrontierPoint], threshold: f64, places: usize, most: f64) -> Vec<usize> {
    let cost = |point: &FrontierPoint| point.score().cost;
    let measured = |point: &FrontierPoint| point.held_out.total > 0;
    let qualifies = |point: &&FrontierPoint| measured(point) && reaches(point.held_out, threshold);
    let settled = points.iter().filter(qualifies).map(cost).min();
    let mut open: Vec<usize> = (0..points.len())
        .filter(|index| settled.is_none_or(|settled| cost(&points[*index]) < settled))
        .filter(|index| !measured(&points[*index]) || points[*index].epochs < most)
        .collect();
    open.sort_by(|a, b| {
        let (a, b) = (&points[*a], &points[*b]);
        measured(a)
            .cmp(&measured(b))
            .then(b.held_out.fraction().total_cmp(&a.held_out.fraction()))
    });
    open.truncate(places);
    open.sort_unstable();
    open
}

#[cfg(test)]
mod tests {
    use super::*;
    use nettailor_domain::architecture::Counts;
    use nettailor_domain::units::Cost;

    /// Candidates of falling cost, each with its accuracy in percent and the epochs it was trained for.
    fn points(trained: &[(u64, i32)]) -> Vec<FrontierPoint> {
        let backbone = Cost {
            flops: 100,
            params: 100,
        };
        let point = |(k, &(correct, epochs)): (usize, &(u64, i32))| FrontierPoint {
            k,
            counts: Counts {
                task_params: 1,
                active_params: 100 - k as u64,
                active_flops: 100 - k as u64,
                backbone,
            },
            held_out: Accuracy { correct, total: 100 },
            epochs: f64::from(epochs),
        };
        trained.iter().enumerate().map(point).collect()
    }

    #[test]
    fn everybody_starts() {
        let mut points = points(&[(0, 0); 4]);
        points.iter_mut().for_each(|point| point.held_out.total = 0);
        assert_eq!(next(&points, 0.9, 4, 8.0), [0, 1, 2, 3]);
        // Also where nothing is to be trained: they are measured as they are.
        assert_eq!(next(&points, 0.9, 4, 0.0), [0, 1, 2, 3]);
    }

    #[test]
    fn without_one_that_qualifies_the_most_accurate_go_on() {
        let points = points(&[(80, 1), (85, 1), (70, 1), (60, 1)]);
        assert_eq!(next(&points, 0.9, 2, 8.0), [0, 1]);
        assert_eq!(next(&points, 0.9, 1, 8.0), [1]);
    }

    #[test]
    fn one_that_qualifies_settles_everything_costlier_and_brings_leaner_ones_back() {
        // The two leanest were passed over after one epoch.
        let points = points(&[(80, 2), (92, 2), (70, 1), (75, 1)]);
        assert_eq!(next(&points, 0.9, 1, 8.0), [3]);
        assert_eq!(next(&points, 0.9, 4, 8.0), [2, 3]);
    }

    #[test]
    fn the_race_is_over_when_the_leanest_qualifies() {
        assert_eq!(
            next(&points(&[(80, 2), (70, 2), (90, 2)]), 0.9, 3, 8.0),
            [0usize; 0]
        );
    }

    #[test]
    fn nobody_gets_more_epochs_than_were_asked_for() {
        assert_eq!(next(&points(&[(80, 8), (70, 7)]), 0.9, 2, 8.0), [1]);
        assert_eq!(next(&points(&[(80, 0), (70, 0)]), 0.9, 2, 0.0), [0usize; 0]);
    }

    #[test]
    fn rounds_cost_a_quarter_of_the_ladder() {
        let total: f64 = ROUNDS.iter().map(|(share, length)| share * length).sum();
        assert!((total - 0.25).abs() < 1e-12);
    }
}
