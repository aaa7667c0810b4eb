//! What `scripts/bench/train.py` measures of this crate. Weights and images are random; shapes are a real network's.
//!
//! ```text
//! bench_train step SIDE BATCH THREADS fp32|bf16    the student's step of resnet34 (K = 3, 10 classes)
//! ```
//! It reads numbers of repetitions from standard input, one a line, and answers each with the seconds they took. At the
//! end of the input it prints its peak resident memory in MiB.

#![allow(clippy::print_stdout, reason = "an example's output")]

use std::collections::HashMap;
use std::io::BufRead as _;

use anyhow::{Context as _, bail};
use nettailor_collective::Solo;
use nettailor_domain::architecture::{Architecture, BlockCosts, ComplexityForm};
use nettailor_domain::backbone::{Backbone, BackboneName};
use nettailor_domain::task::{BnMode, Precision, StudentSettings};
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Init, Mode, Network, Origin, Role};
use nettailor_trainer::runtime::{self, Clock};
use nettailor_trainer::step::{Cohort, Learner as _, Moment, Pressure, StudentLearner, StudentLoss};
use nettailor_trainer::weights::Weights;
use tch::{Kind, Tensor};

const CLASSES: u32 = 10;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, side, batch, threads, precision] = arguments.as_slice() else {
        bail!("see the top of examples/bench_train.rs")
    };
    let number = |text: &String| {
        text.parse::<u32>()
            .with_context(|| format!("{text} is not a number"))
    };
    let (side, batch, threads) = (number(side)?, number(batch)?, number(threads)?);
    let device = runtime::prepare(threads as usize);
    let precision = match precision.as_str() {
        "fp32" => Precision::Fp32,
        "bf16" => Precision::Bf16,
        _ => bail!("precision is fp32 or bf16"),
    };
    let layout = Layout::on(device).with(precision);
    match what.as_str() {
        "step" => step(layout, side, batch),
        _ => bail!("there is no benchmark {what}"),
    }
}

/// Answers the driver: seconds of as many repetitions as it asks for, then the peak of memory.
fn serve(mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    once()?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let count: u32 = line?.parse()?;
        let clock = Clock::start();
        for _ in 0..count {
            once()?;
        }
        println!("{}", clock.elapsed().as_secs_f64());
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = peak.context("no VmHWM")?.trim().trim_end_matches(" kB").parse()?;
    println!("{}", kib / 1024.0);
    Ok(())
}

fn step(layout: Layout, side: u32, batch: u32) -> anyhow::Result<()> {
    let backbone = BackboneName::Resnet34.describe();
    let (images, labels) = inputs(layout, side, batch)?;
    let weights = random(&backbone, 0)?;
    let network = |architecture| Network::new(architecture, &weights, recipe(layout, side));
    let teacher = network(Architecture::backbone_only(&backbone))?.deployed()?;
    let student = network(Architecture::new(&backbone, 3))?;
    let costs = BlockCosts::counted(&student.architecture, &backbone, side, |cost| cost.flops as f64);
    let complexity = |a: &Architecture| a.expected_complexity(ComplexityForm::Product, &costs);
    let settings = StudentSettings::default();
    let loss = StudentLoss::new(&settings, 0.0, &complexity);
    let pressure = Pressure {
        gamma1_ramp: 0.0,
        score_rate: 0.1,
        mode: Mode::TRAIN,
    };
    let gang = Solo::new();
    let mut learner = StudentLearner::new(student, loss, pressure, (&settings.training).into(), &gang)?;
    let mut cohort = Cohort::new(Some(&teacher), vec![&mut learner]);
    let at = Moment {
        learning_rate: 1e-3,
        progress: 0.5,
    };
    serve(|| {
        cohort.step(&images, &labels, at)?;
        Ok(())
    })
}

fn recipe(layout: Layout, input: u32) -> Recipe {
    Recipe {
        universal: Role::Frozen,
        bn_mode: BnMode::Task,
        origin: Origin::Fresh { seed: 0 },
        classes: CLASSES,
        input,
        layout,
    }
}

/// A batch `[n, 3, side, side]` of noise with labels.
fn inputs(layout: Layout, side: u32, batch: u32) -> anyhow::Result<(Tensor, Tensor)> {
    let size = [i64::from(batch), 3, i64::from(side), i64::from(side)];
    let images =
        layout.ordered(&Tensor::randn(size, (Kind::Float, layout.device)).f_to_kind(layout.kind())?)?;
    let labels = Tensor::randint(i64::from(CLASSES), [size[0]], (Kind::Int64, layout.device));
    Ok((images, labels))
}

/// The backbone's tensors: convolutions that keep the scale of their input, neutral batch norms.
fn random(backbone: &Backbone, seed: u64) -> anyhow::Result<Weights> {
    let mut tensors = HashMap::new();
    for spec in backbone.tensors() {
        let shape: Vec<i64> = spec.shape.iter().map(|n| *n as i64).collect();
        let count: usize = spec.shape.iter().product();
        let init = match spec.name.rsplit('.').next() {
            Some("weight") if shape.len() == 4 => {
                Init::Normal((count as f32 / shape[0] as f32).recip().sqrt())
            }
            Some("weight" | "running_var") => Init::Constant(1.0),
            _ => Init::Constant(0.0),
        };
        let values = Tensor::f_from_slice(&init.values(seed, &spec.name, count))?.f_view(&shape[..])?;
        tensors.insert(spec.name, values);
    }
    Ok(Weights::from_tensors(tensors, "random weights"))
}
