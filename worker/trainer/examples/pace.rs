//! Images per second of a teacher's and a student's step on random images.
//!
//! ```text
//! cargo run --release -p nettailor-trainer --example pace -- teacher|student BACKBONE.safetensors THREADS SIDE BATCH STEPS
//! ```

#![allow(clippy::print_stdout, reason = "an example's output")]

use anyhow::{Context as _, bail};
use nettailor_collective::Solo;
use nettailor_domain::architecture::{Architecture, BlockCosts, ComplexityForm, CostVector};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::Hints;
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Mode, Network, Origin, Role};
use nettailor_trainer::runtime::{self, Clock};
use nettailor_trainer::step::{
    Learner, LearnerSettings, Moment, SgdSettings, StudentLearner, StudentLoss, TeacherLearner,
};
use nettailor_trainer::weights::Weights;
use tch::{Device, Kind, Tensor};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [which, backbone, numbers @ ..] = arguments.as_slice() else {
        bail!("see the top of examples/pace.rs")
    };
    let numbers = numbers
        .iter()
        .map(|n| n.parse())
        .collect::<Result<Vec<u32>, _>>()
        .context("not a number")?;
    let [threads, side, batch, steps] = numbers[..] else {
        bail!("see the top of examples/pace.rs")
    };
    runtime::prepare(threads as usize);
    let weights = Weights::read(backbone.as_ref())?;
    let layout = Layout::on(Device::Cpu);
    let images = Tensor::randn(
        [i64::from(batch), 3, i64::from(side), i64::from(side)],
        (Kind::Float, Device::Cpu),
    );
    let images = layout.ordered(&images)?;
    let labels = Tensor::randint(10, [i64::from(batch)], (Kind::Int64, Device::Cpu));
    let backbone = BackboneName::Lite0.describe();
    let recipe = |universal| Recipe {
        universal,
        origin: Origin::Fresh { seed: 0 },
        classes: 10,
        input: side,
        layout,
    };
    let teacher = |role| Network::new(Architecture::backbone_only(&backbone), &weights, recipe(role));
    let sgd = SgdSettings {
        momentum: 0.9,
        weight_decay: 5e-4,
    };
    let gang = Solo::new();
    let pace = |learner: &mut dyn Learner| -> anyhow::Result<()> {
        let at = Moment {
            learning_rate: 1e-3,
            progress: 0.5,
        };
        learner.step(&images, &labels, at)?;
        let mut fastest = f64::INFINITY;
        let whole = Clock::start();
        for _ in 0..steps {
            let clock = Clock::start();
            learner.step(&images, &labels, at)?;
            fastest = fastest.min(clock.elapsed().as_secs_f64());
        }
        let mean = whole.elapsed().as_secs_f64() / f64::from(steps);
        let count = f64::from(batch);
        println!(
            "{which}: mean {:.1}/s, best {:.1}/s",
            count / mean,
            count / fastest
        );
        Ok(())
    };
    if which == "teacher" {
        return pace(&mut TeacherLearner::new(teacher(Role::Trained)?, sgd, &gang));
    }
    let network = Network::new(Architecture::new(&backbone, 3), &weights, recipe(Role::Frozen))?;
    let costs = BlockCosts::new(&network.architecture, &backbone, side, CostVector::Flops);
    let complexity = |a: &Architecture| a.expected_complexity(ComplexityForm::Product, &costs);
    let loss = StudentLoss {
        gamma1: 0.3,
        gamma2: 10.0,
        hints: Hints::Local,
        complexity: &complexity,
        budget: None,
    };
    let settings = LearnerSettings {
        loss,
        gamma1_ramp: 0.0,
        score_rate: 0.1,
        sgd,
        mode: Mode::TRAIN,
    };
    pace(&mut StudentLearner::new(
        network,
        // Folded, as in the product.
        Some(teacher(Role::Frozen)?.folded()?),
        settings,
        &gang,
    ))
}
