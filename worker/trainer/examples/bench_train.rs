//! What `scripts/bench/train.py` measures of this crate. Weights and images are random; shapes are a real network's.
//!
//! ```text
//! bench_train step SIDE BATCH THREADS fp32|bf16            the student's step of resnet34 (K = 3, 10 classes)
//! bench_train forward whole|tailored ARCH SIDE BATCH THREADS   deployed, with 5 main blocks kept where tailored
//! bench_train input SIDE BATCH THREADS FOLDER              an epoch of 4,000 PNGs, packed in FOLDER, made into batches
//! ```
//! It says `ready`, followed by multiply-accumulates of one image (`forward`) or steps of an epoch (`input`). Then it reads
//! numbers of repetitions from standard input, one a line, and answers each with the seconds they took. At the end of the
//! input it prints its peak resident memory in MiB.

#![allow(clippy::print_stdout, reason = "an example's output")]

use std::collections::HashMap;
use std::io::BufRead as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use nettailor_collective::Solo;
use nettailor_domain::architecture::{Architecture, BlockCosts, ComplexityForm};
use nettailor_domain::backbone::{Backbone, BackboneName};
use nettailor_domain::task::{BnMode, DataSettings, Hints, Precision, StudentSettings};
use nettailor_trainer::data::Dataset;
use nettailor_trainer::device::{Images, Layout};
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Init, Mode, Network, Origin, Role};
use nettailor_trainer::runtime::{self, Clock};
use nettailor_trainer::step::{Cohort, Learner as _, Moment, Part, Pressure, StudentLearner, StudentLoss};
use nettailor_trainer::weights::{self, Weights};
use tch::{Kind, Tensor};

const CLASSES: u32 = 10;

/// Layers of the tailored networks that keep their main block: those that change the size, and one more.
const KEPT: &[(BackboneName, [usize; 5])] = &[
    (BackboneName::Resnet34, [1, 4, 8, 11, 14]),
    (BackboneName::Lite0, [2, 4, 6, 9, 12]),
];
const IMAGES: usize = 4000;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| {
        text.parse::<u32>()
            .with_context(|| format!("{text} is not a number"))
    };
    let layout = |threads: &str| -> anyhow::Result<Layout> {
        Ok(Layout::on(runtime::prepare(number(threads)? as usize)))
    };
    match arguments.as_slice() {
        ["step", side, batch, threads, precision] => {
            let precision = match *precision {
                "fp32" => Precision::Fp32,
                "bf16" => Precision::Bf16,
                other => bail!("there is no precision {other}"),
            };
            step(layout(threads)?.with(precision), number(side)?, number(batch)?)
        }
        ["forward", form, arch, side, batch, threads] => {
            let arch: BackboneName = arch.parse()?;
            let kept = match *form {
                "whole" => None,
                "tailored" => KEPT.iter().find(|(name, _)| *name == arch).map(|(_, kept)| kept),
                other => bail!("there is no form {other}"),
            };
            forward(layout(threads)?, arch, kept, number(side)?, number(batch)?)
        }
        ["input", side, batch, threads, folder] => input(
            layout(threads)?,
            number(side)?,
            number(batch)? as usize,
            Path::new(folder),
        ),
        _ => bail!("see the top of examples/bench_train.rs"),
    }
}

/// Answers the driver: seconds of as many repetitions as it asks for, then the peak of memory.
fn serve(about: u64, mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    once()?;
    println!("ready {about}");
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
    // What a plain implementation has to run every block twice for.
    let settings = StudentSettings {
        hints: Hints::Local,
        ..StudentSettings::default()
    };
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
    serve(0, || {
        cohort.step(Part::whole(&images, &labels), at)?;
        Ok(())
    })
}

fn forward(
    layout: Layout,
    arch: BackboneName,
    kept: Option<&[usize; 5]>,
    side: u32,
    batch: u32,
) -> anyhow::Result<()> {
    let backbone = arch.describe();
    let architecture = match kept {
        None => Architecture::backbone_only(&backbone),
        Some(kept) => tailored(&backbone, kept)?,
    };
    let flops = architecture.counts(CLASSES, side).active_flops;
    let network = Network::new(architecture, &random(&backbone, 0)?, recipe(layout, side))?.deployed()?;
    let (images, _) = inputs(layout, side, batch)?;
    serve(flops, || {
        tch::no_grad(|| network.forward(&images, Mode::EVALUATE))?;
        Ok(())
    })
}

/// As training leaves it: where a main block stays it has nearly all attention, elsewhere two proxies share it.
fn tailored(backbone: &Backbone, kept: &[usize]) -> anyhow::Result<Architecture> {
    let mut architecture = Architecture::new(backbone, 3);
    for (layer, number) in architecture.layers.iter_mut().zip(1..) {
        let scores = if kept.contains(&number) {
            [4.0, -2.0, -2.0, -2.0]
        } else {
            [-4.0, 2.0, 1.0, -2.0]
        };
        for (block, score) in layer.blocks.iter_mut().zip(scores) {
            block.score = score;
        }
    }
    Ok(architecture.prune(backbone.layers() - kept.len(), 0.05)?)
}

fn input(layout: Layout, side: u32, batch: usize, folder: &Path) -> anyhow::Result<()> {
    let archive = folder.join("images.tar");
    if !archive.exists() {
        write_archive(&archive, side)?;
    }
    let reading = serde_json::json!({
        "path": "", "image_size": side, "augment": { "crop_padding": side / 8, "horizontal_flip": true },
    });
    let reading: DataSettings = serde_json::from_value(reading)?;
    let classes: Vec<String> = (0..CLASSES).map(|class| class.to_string()).collect();
    let data = weights::digest(&archive)?;
    let mut log = |text: &str| eprintln!("{text}");
    let dataset = Dataset::open(&archive, data, &reading, &classes, 0, folder, &mut log)?;
    let images = Images::new(layout, &BackboneName::Resnet34.describe().normalisation)?;
    let mut epoch = 0;
    serve(dataset.train_steps(batch) as u64, || {
        for batch in dataset.train_batches(epoch, batch) {
            let batch = batch?;
            let _input = images.batch(&batch.pixels, batch.size)?;
        }
        epoch += 1;
        Ok(())
    })
}

/// Images of smooth noise, a tar of PNGs.
fn write_archive(path: &Path, side: u32) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let mut archive = tar::Builder::new(std::fs::File::create(&partial)?);
    for number in 0..IMAGES {
        let name = format!("{}/{number:04}.png", number % CLASSES as usize);
        let small = Init::Normal(60.0).values(0, &name, 16 * 16 * 3);
        let small: Vec<u8> = small.iter().map(|z| (128.0 + z) as u8).collect();
        let small = image::RgbImage::from_raw(16, 16, small).context("16 x 16 x 3 values")?;
        let whole = image::imageops::resize(&small, side, side, image::imageops::FilterType::Triangle);
        let mut file = Vec::new();
        whole.write_to(&mut std::io::Cursor::new(&mut file), image::ImageFormat::Png)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(file.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, &name, file.as_slice())?;
    }
    archive.into_inner()?.sync_all()?;
    Ok(std::fs::rename(partial, path)?)
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
