//! Tailors one task in this process, without coordinator or agent: for tuning and profiling.
//!
//! ```text
//! cargo run --release -p nettailor-trainer --example tailor -- \
//!     BACKBONE.safetensors ARCHIVE.tar CLASSES OUT_DIR THREADS TASKS.yaml NAME
//! ```
//! CLASSES is a comma-separated list in label order; NAME a task of the tasks file. Stages that OUT_DIR already holds are
//! not run again. It ends before `select`: settings are tuned on held-out images, never on the test split.

#![allow(clippy::print_stdout, reason = "an example's output")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nettailor_collective::Solo;
use nettailor_domain::architecture::{Selection, select};
use nettailor_domain::stage::{
    FrontierPoint, Infeasible, PlannedStage, StageOutcome, StageResult, StageWork, Tailored, plan,
};
use nettailor_domain::task::{BackboneInput, DataInput, TaskInputs};
use nettailor_domain::taskfile::TasksFile;
use nettailor_domain::trainer::{
    Assignment, BackboneFile, ParentInput, Progress, TrainerEvent, WEIGHTS_FILE,
};
use nettailor_trainer::runtime::{self, Clock};
use nettailor_trainer::{stages, weights};

struct Files {
    backbone: PathBuf,
    archive: PathBuf,
    out: PathBuf,
    threads: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, archive, classes, out, threads, tasks, name] = arguments.as_slice() else {
        bail!("usage: tailor BACKBONE.safetensors ARCHIVE.tar CLASSES OUT_DIR THREADS TASKS.yaml NAME");
    };
    let files = Files {
        backbone: backbone.into(),
        archive: archive.into(),
        out: out.into(),
        threads: threads.parse().context("THREADS is a number")?,
    };
    let device = runtime::prepare(files.threads);
    let TasksFile { backbone, tasks } = TasksFile::parse(&std::fs::read_to_string(tasks)?)?;
    let task = tasks.iter().find(|task| task.name.as_str() == name);
    let task = task.with_context(|| format!("no task {name}"))?;
    let inputs = TaskInputs {
        backbone: BackboneInput::Weights(weights::digest(&files.backbone)?),
        data: DataInput {
            archive: weights::digest(&files.archive)?,
            classes: classes.split(',').map(str::to_owned).collect(),
        },
    };
    let mut done: Vec<(PlannedStage, StageResult)> = Vec::new();
    for stage in plan(backbone.arch, task, &inputs) {
        if let StageWork::Select { tolerance } = stage.spec.work {
            println!("chosen: {:?}", chosen(tolerance, &done)?);
            break;
        }
        let result = run(&files, device, &stage, &done)?;
        println!("{}", describe(&result));
        done.push((stage, result));
    }
    let total: f64 = done.iter().map(|(_, result)| result.seconds).sum();
    println!("{total:.1} s in all");
    Ok(())
}

/// The choice that `select` would measure.
fn chosen(tolerance: f64, done: &[(PlannedStage, StageResult)]) -> anyhow::Result<Selection> {
    let outcomes = || done.iter().map(|(_, result)| &result.outcome);
    let teacher = outcomes().find_map(|outcome| match outcome {
        StageOutcome::Teacher { held_out } => Some(*held_out),
        _ => None,
    });
    let teacher = teacher.context("no teacher")?;
    let scores: Vec<_> = outcomes()
        .flat_map(StageOutcome::frontier)
        .map(FrontierPoint::score)
        .collect();
    select(&scores, teacher, tolerance).context("every candidate is infeasible")
}

fn run(
    files: &Files,
    device: tch::Device,
    stage: &PlannedStage,
    done: &[(PlannedStage, StageResult)],
) -> anyhow::Result<StageResult> {
    let folder = |stage: &PlannedStage| files.out.join(stage.key.to_string());
    let kept = folder(stage).join("result.json");
    if kept.exists() {
        return Ok(serde_json::from_slice(&std::fs::read(kept)?)?);
    }
    std::fs::create_dir_all(folder(stage))?;
    let parents = done
        .iter()
        .filter(|(parent, _)| stage.parents.contains(&parent.key));
    let assignment = Assignment {
        spec: stage.spec.clone(),
        backbone: Some(BackboneFile {
            path: files.backbone.clone(),
            digest: weights::digest(&files.backbone)?,
        }),
        data: files.archive.clone(),
        parents: parents
            .map(|(parent, result)| ParentInput {
                result: result.clone(),
                weights: folder(parent).join(WEIGHTS_FILE),
            })
            .collect(),
        selection: None,
        cache_dir: files.out.join("cache"),
        output_dir: folder(stage),
        threads: files.threads,
        rank: 0,
        world_size: 1,
        gang: String::new(),
        checkpoint: None,
        checkpoint_seconds: u32::MAX,
        sample_ledger: None,
    };
    std::fs::create_dir_all(&assignment.cache_dir)?;
    write_json(&folder(stage).join("assignment.json"), &assignment)?;
    let clock = Clock::start();
    let mut last = Duration::ZERO;
    let mut sink = |event: &TrainerEvent| {
        if let TrainerEvent::Progress(progress) = event
            && (clock.elapsed() - last > Duration::from_secs(5) || progress.held_out.is_some())
        {
            last = clock.elapsed();
            eprintln!("  {}", line(progress));
        }
    };
    let finished = stages::run(&assignment, device, &Solo::new(), clock, &mut sink)?;
    let result = StageResult {
        outcome: finished.outcome,
        weights: None,
        samples: finished.samples,
        unreadable: finished.unreadable,
        seconds: clock.elapsed().as_secs_f64(),
    };
    write_json(&kept, &result)?;
    Ok(result)
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(std::fs::write(path, serde_json::to_vec_pretty(value)?)?)
}

fn line(p: &Progress) -> String {
    let held_out = p
        .held_out
        .map_or_else(String::new, |a| format!(" held out {:.2} %", 100.0 * a));
    format!(
        "{} {}/{} loss {:.4} ce {:.4} hint {:.4} E[C] {:.3} {:.0}/s{held_out}",
        p.phase,
        p.epoch,
        p.epochs,
        p.loss,
        p.cross_entropy,
        p.hint,
        p.expected_complexity,
        p.images_per_second
    )
}

fn place(point: &FrontierPoint) -> String {
    let share = |part: u64, whole: u64| 100.0 * part as f64 / whole as f64;
    let FrontierPoint {
        k,
        counts,
        held_out,
        epochs,
    } = point;
    format!(
        "candidate {k:2} held out {held_out} after {epochs} epochs, FLOPs {:.1} %, params {:.1} %, task params {}",
        share(counts.active_flops, counts.backbone.flops),
        share(counts.active_params, counts.backbone.params),
        counts.task_params,
    )
}

fn describe(result: &StageResult) -> String {
    let what = match &result.outcome {
        StageOutcome::Teacher { held_out } => format!("teacher      held out {held_out}"),
        StageOutcome::Student {
            architecture,
            held_out,
            expected_complexity,
        } => {
            let mains: Vec<String> = architecture
                .attention()
                .iter()
                .map(|layer| format!("{:.2}", layer[0]))
                .collect();
            format!(
                "student      held out {held_out}, E[C] {expected_complexity:.3}, mains {}",
                mains.join(" ")
            )
        }
        StageOutcome::Source { held_out } => format!("source       held out {held_out}"),
        StageOutcome::Candidate(Tailored { point, architecture }) => format!(
            "{}, mains {:?}, proxies {}",
            place(point),
            architecture.kept_mains(),
            architecture.kept_proxies()
        ),
        StageOutcome::Infeasible(Infeasible { k, reason }) => format!("candidate {k:2} infeasible: {reason}"),
        StageOutcome::Search {
            frontier,
            infeasible,
            selection,
            ..
        } => {
            let points = frontier.iter().map(place);
            let others = infeasible
                .iter()
                .map(|rung| format!("candidate {:2} infeasible", rung.k));
            let lines: Vec<String> = points.chain(others).collect();
            format!("search       {selection:?}\n{}", lines.join("\n"))
        }
        StageOutcome::Select { selection, .. } => format!("select       {selection:?}"),
    };
    format!("{what}; {:.1} s", result.seconds)
}
