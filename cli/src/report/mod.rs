//! Tailored networks beside the fine-tuned ones they replace: accuracy, cost, and what has to be stored.

mod stored;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use nettailor_domain::architecture::Architecture;
use nettailor_domain::ids::{Digest, JobId};
use nettailor_domain::model::ModelRecord;
use nettailor_domain::stage::Artifact;
use nettailor_domain::units::human;
use serde::Serialize;

use crate::client::Client;
use crate::error::Error;
use crate::follow;
use crate::output::{Column, Console, Detail, Row, Sheet, table};
use crate::picture::{architecture_svg, frontier_svg};
use crate::quantity::{milliseconds, seconds, share};
use crate::views::{AccuracyView, JobState, JobView, ModelView};
use stored::Stored;

/// Everything that is said about some models together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// One entry per model.
    pub(crate) tasks: Vec<TaskReport>,
    /// All models together.
    pub(crate) stored: Stored,
}

/// One model with what is not its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TaskReport {
    #[serde(flatten)]
    pub(crate) model: ModelView,
    /// Parameters of the fine-tuned backbone with its classifier and statistics.
    pub(crate) finetuned_params: u64,
    /// From the submission to the end of the job that published it; null where the job is not known.
    pub(crate) job_seconds: Option<f64>,
    /// Wall time of the attempts that finished its stages, by kind; all candidates together. Empty where the job is not
    /// known.
    pub(crate) stage_seconds: BTreeMap<String, f64>,
}

/// Wall times of a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Took {
    /// From its submission to its end.
    seconds: f64,
    /// Of its stages, by kind.
    stages: BTreeMap<String, f64>,
}

impl Took {
    /// Of a job that has ended.
    fn of(job: &JobView) -> Option<Self> {
        let mut stages = BTreeMap::new();
        for stage in &job.stages {
            let kind = stage.kind.split('(').next().unwrap_or_default();
            *stages.entry(kind.to_owned()).or_insert(0.0) += stage.seconds.unwrap_or(0.0);
        }
        Some(Self {
            seconds: job.seconds?,
            stages,
        })
    }
}

impl TaskReport {
    fn of(model: &ModelRecord, took: Option<&Took>) -> Self {
        let backbone = model.architecture.backbone.describe();
        // More classes than u32 cannot be: each is a folder.
        let classes = u32::try_from(model.classes.len()).unwrap_or(u32::MAX);
        let finetuned = Architecture::backbone_only(&backbone).counts(classes, model.image_size);
        Self {
            model: model.into(),
            finetuned_params: finetuned.active_params,
            job_seconds: took.map(|took| took.seconds),
            stage_seconds: took.map(|took| took.stages.clone()).unwrap_or_default(),
        }
    }
}

impl Report {
    /// Sets `models` side by side. `took` holds the wall times of jobs, `sizes` the bytes of backbones' files, as far as
    /// they are known.
    pub(crate) fn of(
        models: &[ModelRecord],
        took: &HashMap<JobId, Took>,
        sizes: &HashMap<Digest, u64>,
    ) -> Self {
        let task = |model: &ModelRecord| TaskReport::of(model, took.get(&model.lineage.job));
        let tasks: Vec<TaskReport> = models.iter().map(task).collect();
        let stored = Stored::of(models, &tasks, sizes);
        Self { tasks, stored }
    }
}

impl Row for TaskReport {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("MODEL", Self::name),
        Column::number("TEACHER HELD-OUT/TEST", |task| {
            both(task.model.teacher_held_out, task.model.teacher_test)
        }),
        Column::number("TAILORED HELD-OUT/TEST", |task| {
            both(task.model.held_out, task.model.test)
        }),
        Column::number("ACTIVE PARAMS", |task| {
            of(task.model.active_params, task.model.backbone_params)
        }),
        Column::number("ACTIVE FLOPS", |task| {
            of(task.model.active_flops, task.model.backbone_flops)
        }),
        Column::number("TASK PARAMS", |task| {
            of(task.model.task_params, task.model.backbone_params)
        }),
        Column::new("BLOCKS KEPT", |task| task.model.kept()),
        Column::number("TRAINED", |task| seconds(task.model.training_seconds as f64)),
        Column::number("TOOK", |task| {
            task.job_seconds.map_or_else(|| "-".to_owned(), seconds)
        }),
        Column::number("LATENCY/TEACHER'S, 1 IMAGE", |task: &Self| {
            latencies(
                task.model.latency.batch_1_ms,
                task.model.teacher_latency.batch_1_ms,
            )
        })
        .wide(),
        Column::number("32 IMAGES", |task: &Self| {
            latencies(
                task.model.latency.batch_32_ms,
                task.model.teacher_latency.batch_32_ms,
            )
        })
        .wide(),
    ];

    fn name(&self) -> String {
        self.model.name()
    }
}

/// `97.91 / 98.05 %`.
fn both(held_out: AccuracyView, test: AccuracyView) -> String {
    format!("{:.2} / {}", 100.0 * held_out.fraction, test.percent())
}

/// `2.50 / 4.00 ms`.
fn latencies(network: f64, teacher: f64) -> String {
    format!("{network:.2} / {}", milliseconds(teacher))
}

/// A count and its share of the backbone's.
fn of(part: u64, whole: u64) -> String {
    format!("{} ({})", human(part), share(part, whole))
}

impl Detail for Report {
    fn names(&self) -> Vec<String> {
        self.tasks.iter().map(Row::name).collect()
    }

    fn describe(&self, sheet: &Sheet) -> String {
        if self.tasks.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "{}\n{}",
            table(&self.tasks, sheet),
            table(&self.stored.lines(), sheet)
        );
        for task in self.tasks.iter().filter(|task| !task.model.qualified) {
            let missed = format!("{:.2} %", 100.0 * task.model.threshold);
            text += &format!(
                "\n{}: no candidate reached {missed} held out; the most accurate was taken\n",
                task.name()
            );
        }
        text
    }
}

/// Prints the report of `models`; draws each into `svg_dir`.
pub(crate) async fn print(
    client: &Client,
    models: Vec<ModelRecord>,
    backbone: Option<Artifact>,
    console: &Console,
    svg_dir: Option<&Path>,
) -> Result<(), Error> {
    write_pictures(&models, console, svg_dir)?;
    let mut sizes: HashMap<Digest, u64> = client
        .backbones()
        .await?
        .iter()
        .map(|backbone| (backbone.weights.digest, backbone.weights.bytes))
        .collect();
    sizes.extend(backbone.map(|artifact| (artifact.digest, artifact.bytes)));
    let mut took = HashMap::new();
    for model in &models {
        let job = &model.lineage.job;
        // A registry may hold models of jobs that the coordinator does not know any more.
        if let Some(times) = client.job(job.as_str()).await.ok().as_ref().and_then(Took::of) {
            took.insert(job.clone(), times);
        }
    }
    console.detail(&Report::of(&models, &took, &sizes))
}

/// What is said once jobs have ended: to people, the report of their models; to programs, the jobs. Then the verdict.
pub(crate) async fn conclude(
    client: &Client,
    jobs: &[JobView],
    backbone: Option<Artifact>,
    console: &Console,
    svg_dir: Option<&Path>,
) -> Result<(), Error> {
    let programs = !console.for_people();
    if programs {
        console.list(jobs, "no jobs")?;
        if svg_dir.is_none() {
            return follow::verdict(jobs);
        }
    }
    let mut models = Vec::new();
    for job in jobs.iter().filter(|job| job.state == JobState::Succeeded) {
        if let Ok(task) = job.task.parse() {
            models.push(client.model(&task, job.model_version).await?);
        }
    }
    if programs {
        write_pictures(&models, console, svg_dir)?;
    } else {
        print(client, models, backbone, console, svg_dir).await?;
    }
    follow::verdict(jobs)
}

fn write_pictures(models: &[ModelRecord], console: &Console, folder: Option<&Path>) -> Result<(), Error> {
    let Some(folder) = folder else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|source| Error::Write {
        path: folder.to_owned(),
        source,
    })?;
    for model in models {
        // By the task's name alone, so that a script finds it again, unless there are several versions.
        let several = models.iter().filter(|other| other.task == model.task).count() > 1;
        let name = if several {
            format!("{}@{}.svg", model.task, model.version)
        } else {
            format!("{}.svg", model.task)
        };
        let path = folder.join(name);
        write_picture(model, &path)?;
        console.note(format_args!("picture: {}", path.display()));
    }
    Ok(())
}

/// Draws a model into a file.
pub(crate) fn write_picture(model: &ModelRecord, path: &Path) -> Result<(), Error> {
    write(&architecture_svg(model), path)
}

/// Draws the frontier among whose points a model was chosen into a file.
pub(crate) fn write_frontier(model: &ModelRecord, path: &Path) -> Result<(), Error> {
    write(&frontier_svg(model), path)
}

fn write(picture: &str, path: &Path) -> Result<(), Error> {
    std::fs::write(path, picture).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
