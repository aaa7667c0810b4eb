//! What the scripts of `scripts/bench/` and the GPU bundle measure of this crate. Weights and images are random; shapes are a
//! real network's.
//!
//! ```text
//! bench_train step teacher|student SIDE BATCH THREADS fp32|bf16    of resnet34 (K = 3, 10 classes)
//! bench_train ranks gang|apart RANKS SIDE BATCH THREADS            the teacher's step, the batch shared out to processes
//! bench_train forward whole|tailored ARCH SIDE BATCH THREADS       deployed, with 5 main blocks kept where tailored
//! bench_train input SIDE BATCH THREADS FOLDER                      an epoch of 4,000 PNGs, packed in FOLDER, made into batches
//! bench_train parity gpu|any SIDE BATCH THREADS                    the student's step on the CPU and on the GPU, compared
//! bench_train nccl                                                  NCCL's conformance, one rank on GPU 0
//! ```
//! It computes on a GPU where it finds one. It says `ready`, followed by multiply-accumulates of one image (`forward`) or
//! steps of an epoch (`input`). Then it reads numbers of repetitions from standard input, one a line, and answers each with
//! the seconds they took. At the end of the input it prints its peak resident memory in MiB. `parity` and `nccl` ask nothing:
//! they print what they found, and fail where it is not what it should be.

#![allow(clippy::print_stdout, reason = "an example's output")]

mod learners;
mod random;
mod ranks;

use std::io::BufRead as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use nettailor_collective::{Solo, alone_over_nccl, conformance};
use nettailor_domain::architecture::Architecture;
use nettailor_domain::backbone::{Backbone, BackboneName};
use nettailor_domain::task::{DataSettings, Precision};
use nettailor_trainer::data::Dataset;
use nettailor_trainer::device::{Images, Layout};
use nettailor_trainer::model::{Init, Mode, Network, Role};
use nettailor_trainer::runtime::{self, Clock};
use nettailor_trainer::weights;

use learners::Work;
use random::{inputs, recipe};
use ranks::{Other, Rank, Together};

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
        ["step", who, side, batch, threads, precision] => {
            let precision = match *precision {
                "fp32" => Precision::Fp32,
                "bf16" => Precision::Bf16,
                other => bail!("there is no precision {other}"),
            };
            let (side, batch) = (number(side)?, number(batch)?);
            let layout = layout(threads)?.with(precision);
            let work = Work::new(layout, side, batch, batch)?;
            match *who {
                "teacher" => learners::teacher(layout, side, &work, &Solo::new(), &mut []),
                "student" => learners::student_steps(layout, side, &work, &Solo::new()),
                other => bail!("there is no learner {other}"),
            }
        }
        ["ranks", together, ranks, side, batch, threads, place @ ..] => {
            let (number_of, address) = match place {
                [] => (0, None),
                [rank, address] => (number(rank)?, Some(*address)),
                _ => bail!("a rank is told its number and an address"),
            };
            let rank = Rank {
                rank: number_of,
                ranks: number(ranks)?,
                batch: number(batch)?,
                side: number(side)?,
                together: match *together {
                    "gang" => Together::Gang,
                    "apart" => Together::Apart,
                    other => bail!("there is no way {other}"),
                },
            };
            ranks::run(layout(threads)?, &rank, &arguments[..6], address)
        }
        ["nccl"] => {
            let device = runtime::prepare(1);
            anyhow::ensure!(
                device != tch::Device::Cpu,
                "there is no GPU, or no CUDA half of libtorch"
            );
            let join = |_| alone_over_nccl(0).unwrap_or_else(|error| panic!("{error}"));
            conformance::check(1, join);
            conformance::check_leave(1, join);
            println!("NCCL conforms, one rank");
            Ok(())
        }
        ["parity", place @ ("gpu" | "any"), side, batch, threads] => {
            let layout = layout(threads)?;
            let found = layout.device != tch::Device::Cpu || *place == "any";
            anyhow::ensure!(found, "there is no GPU, or no CUDA half of libtorch");
            learners::parity(layout, number(side)?, number(batch)?, &Solo::new())
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
        _ => bail!("see the top of examples/bench_train/main.rs"),
    }
}

/// Answers the driver: seconds of as many repetitions as it asks for, then the peak of memory. `others` do the same.
fn serve(
    about: u64,
    others: &mut [Other],
    mut once: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    once()?;
    settle();
    others.iter_mut().try_for_each(Other::wait)?;
    println!("ready {about}");
    for line in std::io::stdin().lock().lines() {
        let count: u32 = line?.parse()?;
        let clock = Clock::start();
        others.iter_mut().try_for_each(|other| other.tell(count))?;
        for _ in 0..count {
            once()?;
        }
        settle();
        others.iter_mut().try_for_each(Other::wait)?;
        println!("{}", clock.elapsed().as_secs_f64());
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = peak.context("no VmHWM")?.trim().trim_end_matches(" kB").parse()?;
    println!("{}", kib / 1024.0);
    Ok(())
}

/// Waits for what a GPU still has to do.
fn settle() {
    if tch::Cuda::is_available() {
        tch::Cuda::synchronize(0);
    }
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
    let network = Network::new(
        architecture,
        &random::weights(&backbone, 0)?,
        recipe(layout, side, Role::Frozen),
    )?
    .deployed()?;
    let (images, _) = inputs(layout, side, batch)?;
    serve(flops, &mut [], || {
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
    serve(dataset.train_steps(batch) as u64, &mut [], || {
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
