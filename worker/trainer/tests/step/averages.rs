//! Learners over several steps: averages, and students that share a teacher.

use nettailor_collective::Solo;
use nettailor_domain::architecture::{Architecture, Gradient};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::StudentSettings;
use nettailor_trainer::model::Mode;
use nettailor_trainer::step::{
    Cohort, ExchangeSettings, Learner, LearnerSettings, Moment, Part, Pressure, SgdSettings, StudentLearner,
    StudentLoss,
};
use tch::Tensor;

use crate::setting::{Setting, everything, near, pruned};

const AT: Moment = Moment {
    learning_rate: 0.05,
    progress: 0.5,
};

fn none(a: &Architecture) -> (f64, Gradient) {
    (0.0, a.layers.iter().map(|l| vec![0.0; l.blocks.len()]).collect())
}

fn learner(setting: Setting, ema: f64, gang: &Solo) -> StudentLearner<'_> {
    let pressure = Pressure {
        gamma1_ramp: 0.0,
        score_rate: 0.1,
        mode: Mode::TRAIN,
    };
    let sgd = SgdSettings {
        momentum: 0.9,
        weight_decay: 5e-4,
    };
    let loss = StudentLoss::new(&setting.settings, 0.0, &none);
    StudentLearner::new(
        setting.student,
        loss,
        pressure,
        LearnerSettings {
            sgd,
            ema,
            exchange: ExchangeSettings::default(),
        },
        gang,
    )
    .unwrap()
}

/// The classifier's weights and the first score.
fn state(learner: &StudentLearner<'_>) -> (Tensor, f32) {
    let network = learner.network();
    let weight = &network.variables.named("classifier.weight").unwrap().tensor;
    (
        weight.detach_copy(),
        network.architecture.layers[1].blocks[1].score,
    )
}

fn fresh() -> Setting {
    Setting::with(BackboneName::Lite0, 4, everything, StudentSettings::default())
}

#[test]
fn averages_follow_every_step_and_give_back_what_they_replaced() {
    const DECAY: f64 = 0.5;
    let gang = Solo::new();
    let Setting {
        teacher,
        images,
        labels,
        ..
    } = fresh();
    let mut learner = learner(fresh(), DECAY, &gang);
    let (mut average, mut score) = state(&learner);
    for step in 1..=4 {
        let mut cohort = Cohort::new(Some(&teacher), vec![&mut learner]);
        cohort.step(Part::whole(&images, &labels), AT).unwrap();
        let (now, now_score) = state(&learner);
        let decay = DECAY.min((1.0 + f64::from(step)) / (10.0 + f64::from(step)));
        average = &average * decay + &now * (1.0 - decay);
        score = (decay * f64::from(score) + (1.0 - decay) * f64::from(now_score)) as f32;
    }
    let trained = state(&learner);
    Cohort::new(None, vec![&mut learner]).exchange_averages().unwrap();
    let averaged = state(&learner);
    near("average", &averaged.0, &average);
    assert!((averaged.1 - score).abs() < 1e-6);
    assert!(
        averaged.1 != trained.1,
        "the score did not move: the test shows nothing"
    );
    Cohort::new(None, vec![&mut learner]).exchange_averages().unwrap();
    assert!(state(&learner).0 == trained.0 && state(&learner).1 == trained.1);
    Cohort::new(None, vec![&mut learner]).keep_averages().unwrap();
    near("kept", &state(&learner).0, &average);
    Cohort::new(None, vec![&mut learner]).exchange_averages().unwrap();
    near("begun anew", &state(&learner).0, &average);
}

#[test]
fn without_averages_the_last_values_are_kept() {
    let gang = Solo::new();
    let setting = fresh();
    let mut learner = learner(fresh(), 0.0, &gang);
    let mut cohort = Cohort::new(Some(&setting.teacher), vec![&mut learner]);
    cohort.step(setting.part(), AT).unwrap();
    let before = state(&learner);
    Cohort::new(None, vec![&mut learner]).keep_averages().unwrap();
    assert!(state(&learner).0 == before.0);
}

#[test]
fn students_that_share_a_teacher_learn_as_if_alone() {
    let gang = Solo::new();
    let lean = || Setting::with(BackboneName::Lite0, 4, pruned, StudentSettings::default());
    let Setting {
        teacher,
        images,
        labels,
        ..
    } = fresh();
    let (mut first, mut second) = (learner(fresh(), 0.0, &gang), learner(lean(), 0.0, &gang));
    let (mut alone, mut lone) = (learner(fresh(), 0.0, &gang), learner(lean(), 0.0, &gang));
    for _ in 0..3 {
        let mut cohort = Cohort::new(Some(&teacher), vec![&mut first, &mut second]);
        let together = cohort.step(Part::whole(&images, &labels), AT).unwrap();
        let apart = [&mut alone, &mut lone].map(|one| {
            Cohort::new(Some(&teacher), vec![one])
                .step(Part::whole(&images, &labels), AT)
                .unwrap()
        });
        let mean = 0.5 * (apart[0].total + apart[1].total);
        assert!((together.total - mean).abs() < 1e-9 * mean.abs());
    }
    assert!(state(&first).0 == state(&alone).0 && state(&first).1 == state(&alone).1);
    assert!(state(&second).0 == state(&lone).0);
}

#[test]
fn a_student_that_diverges_leaves_the_others_to_learn_on() {
    let gang = Solo::new();
    let Setting {
        teacher,
        images,
        labels,
        ..
    } = fresh();
    let broken = || {
        let learner = learner(fresh(), 0.0, &gang);
        let mut classifier = learner
            .network()
            .variables
            .iter()
            .last()
            .unwrap()
            .tensor
            .shallow_clone();
        let _nan = tch::no_grad(|| classifier.f_fill_(f64::NAN)).unwrap();
        learner
    };
    let (mut one, mut other, mut alone) = (
        broken(),
        learner(fresh(), 0.0, &gang),
        learner(fresh(), 0.0, &gang),
    );
    let part = || Part::whole(&images, &labels);
    let mut cohort = Cohort::new(Some(&teacher), vec![&mut one, &mut other]);
    for _ in 0..2 {
        let together = cohort.step(part(), AT).unwrap();
        let apart = Cohort::new(Some(&teacher), vec![&mut alone])
            .step(part(), AT)
            .unwrap();
        assert_eq!(together, apart);
    }
    assert!(state(&other).0 == state(&alone).0);
    let (mut one, mut two) = (broken(), broken());
    let error = Cohort::new(Some(&teacher), vec![&mut one, &mut two])
        .step(part(), AT)
        .unwrap_err();
    assert!(
        matches!(error, nettailor_trainer::step::Error::Diverged { .. }),
        "{error}"
    );
}
