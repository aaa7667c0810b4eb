//! What is left when all is over, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nettailor_proto::v1::{Job, Stage, StageState};
use nettailor_tests::harm::eventually;
use nettailor_tests::script::{Note, What};
use nettailor_tests::{Cluster, watch};

use crate::scene::Scene;

/// By task, everything but times, workers and attempts.
pub(crate) type EndState = BTreeMap<String, Ending>;

/// How a task ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Its jobs: equal ones count once, as a submission that got no answer may have been taken in.
    jobs: BTreeSet<(String, u32, Vec<[String; 4]>)>,
    /// Version and digest of its models.
    models: BTreeSet<(u64, String)>,
}

/// Waits until nothing is left to do and nothing is held; all jobs with their stages.
pub(crate) async fn at_rest(scene: &Scene) -> anyhow::Result<Vec<Job>> {
    let address = scene.cluster.address();
    let jobs = eventually("the end of all jobs", Duration::from_millis(100), async || {
        let jobs = watch::list(&address).await?;
        Ok(jobs
            .iter()
            .all(|job| watch::is_final(job.state()))
            .then_some(jobs))
    })
    .await?;
    eventually("free slots", Duration::from_millis(50), async || {
        let workers = watch::workers(&address).await?;
        Ok(workers.iter().all(|worker| worker.slots_used == 0).then_some(()))
    })
    .await?;
    eventually(
        "attempts' folders to be gone",
        Duration::from_millis(50),
        async || Ok((attempt_folders(&scene.cluster)? == 0).then_some(())),
    )
    .await?;
    let mut whole = Vec::new();
    for job in jobs {
        whole.push(watch::get(&address, &job.id).await?);
    }
    Ok(whole)
}

/// Folders of attempts on all nodes.
fn attempt_folders(cluster: &Cluster) -> anyhow::Result<usize> {
    let mut count = 0;
    for cache in fs::read_dir(cluster.folder())? {
        let cache = cache?.path();
        let name = cache.file_name().map(|name| name.to_string_lossy().into_owned());
        if let Some(worker) = name.as_deref().and_then(|name| name.strip_prefix("cache-")) {
            count += fs::read_dir(cache.join("attempts").join(worker))?.count();
        }
    }
    Ok(count)
}

/// The end state that these jobs and the registry show.
pub(crate) fn end_state(cluster: &Cluster, jobs: &[Job]) -> anyhow::Result<EndState> {
    let mut end = EndState::new();
    for job in jobs {
        let stage = |stage: &Stage| {
            let state = stage.state().as_str_name().to_owned();
            [
                stage.kind.clone(),
                stage.key.clone(),
                state,
                stage.summary.clone(),
            ]
        };
        let stages = job.stages.iter().map(stage).collect();
        let jobs = &mut end.entry(job.task.clone()).or_default().jobs;
        jobs.insert((job.state().as_str_name().to_owned(), job.model_version, stages));
    }
    let models = cluster.cli_json(&["registry", "list", "--all-versions"])?;
    for model in models.as_array().context("a list of models")? {
        let task = model["task"].as_str().context("a task")?;
        let (version, digest) = (model["version"].as_u64(), model["digest"].as_str());
        let model = (
            version.context("a version")?,
            digest.context("a digest")?.to_owned(),
        );
        end.entry(task.to_owned()).or_default().models.insert(model);
    }
    Ok(end)
}

/// Finished stages as they were first seen: each key with the attempt that finished it.
#[derive(Debug, Default)]
pub(crate) struct Finished(BTreeMap<String, u32>);

impl Finished {
    /// Takes down what is finished now. Fails where a stage was finished before by another attempt.
    pub(crate) fn look_at(&mut self, jobs: &[Job]) -> anyhow::Result<()> {
        for stage in jobs.iter().flat_map(|job| &job.stages) {
            let before = match stage.state() {
                StageState::Done => *self.0.entry(stage.key.clone()).or_insert(stage.attempt),
                _ => self.0.get(&stage.key).copied().unwrap_or(stage.attempt),
            };
            ensure!(
                before == stage.attempt,
                "finished by attempt {before} and run again: {stage:?}"
            );
            let undone = self.0.contains_key(&stage.key) && stage.state() != StageState::Done;
            ensure!(!undone, "finished and not finished any more: {stage:?}");
        }
        Ok(())
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Compares with what the trainers noted: the attempt that finished a stage is the last that began, and an earlier one
    /// that also came to its end did so under an agent that was killed before it could say so.
    pub(crate) fn agree_with(&self, notes: &[Note], killed_agents: &BTreeSet<u32>) -> anyhow::Result<()> {
        for (key, finisher) in &self.0 {
            let of_stage: Vec<&Note> = notes.iter().filter(|note| note.is_of(key)).collect();
            let ended = |number: u32| {
                let of_rank_0 = of_stage.iter().filter(move |note| {
                    note.what == What::Ended && note.rank == 0 && note.attempt().1 == number
                });
                of_rank_0.count()
            };
            ensure!(
                ended(*finisher) == 1,
                "{key} was finished by attempt {finisher}: {of_stage:?}"
            );
            let last = of_stage.iter().map(|note| note.attempt().1).max();
            ensure!(last == Some(*finisher), "{key} was begun again: {of_stage:?}");
            for number in (1..*finisher).filter(|number| ended(*number) > 0) {
                let mut ranks = of_stage.iter().filter(|note| note.attempt().1 == number);
                let excused = ranks.any(|note| killed_agents.contains(&note.agent));
                ensure!(
                    excused,
                    "{key} was repeated after attempt {number} had ended: {of_stage:?}"
                );
            }
        }
        Ok(())
    }
}

/// Fails where an attempt whose ranks all began was given up. One that a rank never heard of is no loss.
pub(crate) fn all_survived(notes: &[Note]) -> anyhow::Result<()> {
    let attempts: BTreeSet<(&str, u32)> = notes
        .iter()
        .map(|note| (note.attempt.as_str(), note.world_size))
        .collect();
    for (attempt, ranks) in attempts {
        let noted = |what: What| {
            let of_attempt = notes.iter().filter(|note| note.attempt == attempt);
            of_attempt.filter(move |note| note.what == what).count()
        };
        let (begun, ended) = (noted(What::Begun), noted(What::Ended));
        let whole = begun == ranks as usize;
        ensure!(
            !whole || ended == begun,
            "{attempt}: of {begun} ranks {ended} came to their end"
        );
    }
    Ok(())
}

/// The notes about a stage of a task, by kind.
pub(crate) fn notes_of<'a>(notes: &'a [Note], seed: u64, stage: &str) -> Vec<&'a Note> {
    let of_stage = |note: &&Note| note.seed == seed && note.stage == stage;
    notes.iter().filter(of_stage).collect()
}

/// Numbers of the attempts that began, each once for every time that its rank 0 did.
pub(crate) fn attempts_begun(notes: &[&Note]) -> Vec<u32> {
    let begun = notes
        .iter()
        .filter(|note| note.what == What::Begun && note.rank == 0);
    begun.map(|note| note.attempt().1).collect()
}
