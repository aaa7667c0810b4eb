//! Three steps of training: every tensor that may change, after the first and the third, and the logits at the end.

use nettailor_collective::Solo;
use nettailor_domain::architecture::{Architecture, Gradient};
use nettailor_trainer::model::{Mode, Network, Role, Statistics};
use nettailor_trainer::step::{
    Cohort, ExchangeSettings, Learner, LearnerSettings, Moment, Part, Pressure, SgdSettings, StudentLearner,
};
use tch::Tensor;

use crate::case::Case;
use crate::complexity::reference_complexity;
use crate::forward::{STILL, run};
use crate::hash_init;
use crate::reference::{Ledger, Tolerance, integers};
use crate::subjects::SUBJECTS;

const MOMENTUM: f64 = 0.1;
/// The reference runs each block twice in a step: its running statistics move twice towards the same values.
const TWICE: f64 = 1.0 - (1.0 - MOMENTUM) * (1.0 - MOMENTUM);

fn statistic(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

fn learner<'a>(
    case: &Case,
    complexity: &'a dyn Fn(&Architecture) -> (f64, Gradient),
    gang: &'a Solo,
) -> StudentLearner<'a> {
    let twice = Statistics::Batch { momentum: TWICE };
    let pressure = Pressure {
        gamma1_ramp: 0.0,
        score_rate: 1.0,
        mode: Mode {
            universal: twice,
            task: twice,
        },
    };
    let sgd = SgdSettings {
        momentum: case.setting("momentum"),
        weight_decay: case.setting("weight_decay"),
    };
    let settings = LearnerSettings {
        sgd,
        ema: 0.0,
        exchange: ExchangeSettings::default(),
    };
    StudentLearner::new(case.student(), case.loss(complexity), pressure, settings, gang).unwrap()
}

/// How often the reference runs the batch norm that a statistic belongs to in one step: it counts the passes.
fn passes(case: &Case, name: &str) -> i64 {
    let (norm, _) = name.rsplit_once('.').unwrap();
    case.expected[&format!("step1.{norm}.num_batches_tracked")]
        .as_i64()
        .unwrap()
}

/// Statistics of what the reference runs once too: the stem, and the wide network's end.
fn run_once(case: &Case, network: &Network) -> Vec<(Tensor, Tensor)> {
    let statistics = network.variables.iter().filter(|v| v.role == Role::Statistic);
    let once = statistics.filter(|v| passes(case, &case.subject.student_name(&v.name)) == 1);
    once.map(|v| (v.tensor.shallow_clone(), v.tensor.copy()))
        .collect()
}

/// The counters say what the test rests on: blocks run twice, the stem and the end once, removed blocks never.
fn check_counters(case: &Case, ledger: &mut Ledger<'_>, network: &Network) {
    for name in case
        .shapes
        .keys()
        .filter(|name| name.ends_with(".num_batches_tracked"))
    {
        let mean = name.replace("num_batches_tracked", "running_mean");
        let ours = network
            .variables
            .iter()
            .any(|v| case.subject.student_name(&v.name) == mean);
        let expected = match (name.split('.').next().unwrap(), ours) {
            (_, false) => 0,
            ("layers", true) => 2,
            (_, true) => 1,
        };
        assert_eq!(
            *ledger.entry(&format!("step1.{name}")),
            expected,
            "{}: {name}",
            case.subject.case
        );
    }
}

/// Compares every tensor that may change.
fn check(case: &Case, ledger: &mut Ledger<'_>, step: u32, network: &Network, of: impl Fn(&str) -> Tolerance) {
    let mut removed: Vec<&String> = case.shapes.keys().collect();
    for variable in network.variables.iter() {
        let name = case.subject.student_name(&variable.name);
        removed.retain(|other| **other != name);
        if variable.role != Role::Frozen {
            ledger.tensor(&format!("step{step}.{name}"), &variable.tensor, of(&name));
        }
    }
    for (index, layer) in network.architecture.layers.iter().enumerate() {
        let name = format!("layers.{index}.alphas_params");
        removed.retain(|other| **other != name);
        let scores: Vec<f32> = layer.blocks.iter().map(|block| block.score).collect();
        ledger.tensor(
            &format!("step{step}.{name}"),
            &Tensor::from_slice(&scores),
            of(&name),
        );
    }
    // What was removed is not part of our network; in the reference it is, and stays as it was.
    let changeable =
        |name: &&&String| statistic(name) || (name.contains(".proxies.") && !name.contains("num_batches"));
    for name in removed.iter().filter(changeable) {
        let initial = hash_init::tensor(name, &integers(&case.shapes[*name]), 0);
        ledger.tensor(&format!("step{step}.{name}"), &initial, Tolerance::Largest(1e-6));
    }
}

#[test]
fn three_steps() {
    for subject in SUBJECTS {
        let case = Case::open(subject);
        let allowed = subject.tolerances;
        let complexity = reference_complexity(&case.costs);
        let gang = Solo::new();
        let mut learner = learner(&case, &complexity, &gang);
        let teacher = case.teacher();
        let taught = run(&teacher, &case, Mode::EVALUATE);
        let mut ledger = case.ledger("steps");
        check_counters(&case, &mut ledger, learner.network());
        let at = Moment {
            learning_rate: case.setting("lr"),
            progress: 0.0,
        };
        let steps = if allowed.third_step.is_some() { 3 } else { 1 };
        for step in 1..=steps {
            let name = format!("step{step}");
            let forward = run(learner.network(), &case, STILL);
            case.check_hints(&mut ledger, &name, &forward, &taught);
            let once = run_once(&case, learner.network());
            let losses = Cohort::new(Some(&teacher), vec![&mut learner])
                .step(Part::whole(&case.images, &case.labels), at)
                .unwrap();
            case.check_losses(&mut ledger, &name, losses);
            for (mut tensor, before) in once {
                let moved = &before + (&tensor - &before) * (MOMENTUM / TWICE);
                tensor.copy_(&moved);
            }
            if step == 1 {
                check(&case, &mut ledger, step, learner.network(), |name| {
                    if statistic(name) {
                        allowed.training
                    } else {
                        allowed.first_step
                    }
                });
            }
        }
        let Some(tolerance) = allowed.third_step else {
            println!("{}", ledger.finish(&["step1."]));
            continue;
        };
        check(&case, &mut ledger, 3, learner.network(), |_| tolerance);
        let evaluated = run(learner.network(), &case, Mode::EVALUATE);
        ledger.tensor("final_eval.logits", &evaluated.logits, tolerance);
        println!("{}", ledger.finish(&["step1.", "step3.", "final_eval."]));
    }
}
