//! From a tasks file to the registry, and what a second submission costs.

use nettailor_proto::v1::{JobState, StageState};
use nettailor_tests::cluster::{textures_from_source, textures_task};
use nettailor_tests::{Cluster, watch};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_reaches_the_registry_and_is_never_computed_twice() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    cluster.start_worker("one")?;
    cluster.start_worker("two")?;
    let file = textures_task(&cluster, "textures", "")?;

    let submitted = cluster.cli(&["submit", &file, "--follow"])?;
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let first = watch::list(&cluster.address()).await?.remove(0);
    let first = watch::get(&cluster.address(), &first.id).await?;
    assert_eq!(first.state(), JobState::Succeeded, "{first:?}");
    assert_eq!(
        first.stages_run, 5,
        "teacher, student, two candidates, select: {first:?}"
    );

    let model = cluster.cli_json(&["registry", "get", "textures"])?;
    assert_eq!(model["version"], 1);
    assert!(
        model["active_flops"].as_u64() < model["backbone_flops"].as_u64(),
        "{model}"
    );
    let found = cluster.cli_json(&["registry", "search", "--task", "text", "--limit", "1"])?;
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    let logs = cluster.cli(&["jobs", "logs", &first.id, "--stage", "teacher"])?;
    assert!(logs.code == Some(0) && !logs.stdout.is_empty(), "{logs:?}");

    // The same file again: done at once, nothing run, no second version.
    let again = cluster.submit(&file)?;
    let again = watch::until_final(&cluster.address(), &again[0]).await?;
    assert_eq!(
        (again.state(), again.stages_run, again.model_version),
        (JobState::Succeeded, 0, 1),
        "{again:?}"
    );

    // Another gamma1: the teacher is kept, everything after it is run.
    let changed = textures_task(&cluster, "textures", "student: {gamma1: 0.6}")?;
    let changed = cluster.submit(&changed)?;
    let changed = watch::until_final(&cluster.address(), &changed[0]).await?;
    assert_eq!(
        (changed.state(), changed.stages_run),
        (JobState::Succeeded, 4),
        "{changed:?}"
    );
    assert_eq!(
        watch::stage(&changed, "teacher").key,
        watch::stage(&first, "teacher").key
    );
    assert_eq!(changed.model_version, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backbone_of_ones_own_serves_every_task_that_names_it() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    cluster.start_worker("one")?;
    cluster.start_worker("two")?;
    let halving = "candidates: {k: [0, 2, 4, 6], search: halving, training: {epochs: 5}}";
    let file = textures_from_source(&cluster, "searched", halving)?;
    let searched = cluster.submit(&file)?.remove(0);
    let searched = watch::until_final(&cluster.address(), &searched).await?;
    assert_eq!(
        (searched.state(), searched.stages_run),
        (JobState::Succeeded, 5),
        "source, teacher, student, search, select: {searched:?}"
    );
    let frontier = cluster.cli_json(&["registry", "frontier", "searched", "--svg", "frontier.svg"])?;
    let points = frontier["points"].as_array().expect("a list");
    let chosen = points.iter().filter(|point| point["chosen"] == true).count();
    assert!((1..=4).contains(&points.len()) && chosen == 1, "{frontier}");
    assert!(std::fs::read_to_string(cluster.folder().join("frontier.svg"))?.contains("<svg"));
    let model = cluster.cli_json(&["registry", "get", "searched"])?;
    assert!(model["latency"]["batch_1_ms"].as_f64() > Some(0.0), "{model}");

    // Another task of the same backbone: it is not made again, nor is the teacher of the same images.
    let file = textures_from_source(&cluster, "plain", "")?;
    let plain = cluster.submit(&file)?.remove(0);
    let plain = watch::until_final(&cluster.address(), &plain).await?;
    assert_eq!(
        (plain.state(), plain.stages_run),
        (JobState::Succeeded, 3),
        "two candidates, select: {plain:?}"
    );
    for kind in ["source", "teacher", "student"] {
        assert_eq!(watch::stage(&plain, kind).key, watch::stage(&searched, kind).key);
    }
    let other = cluster.cli_json(&["registry", "get", "plain"])?;
    assert_eq!(other["backbone_digest"], model["backbone_digest"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_of_the_same_file_make_the_same_model_to_the_last_bit() -> anyhow::Result<()> {
    let mut digests = Vec::new();
    // In which order the candidates are trained, and by whom, must not matter.
    for workers in [&["one"][..], &["one", "two"]] {
        let mut cluster = Cluster::start()?;
        for worker in workers {
            cluster.start_worker(worker)?;
        }
        let file = textures_task(&cluster, "textures", "")?;
        let id = cluster.submit(&file)?.remove(0);
        let job = watch::until_final(&cluster.address(), &id).await?;
        assert_eq!(job.state(), JobState::Succeeded, "{job:?}");
        let model = cluster.cli_json(&["registry", "get", "textures"])?;
        digests.push((model["digest"].clone(), model["weights"]["digest"].clone()));
    }
    assert!(
        digests[0].0.is_string() && digests[0].1.is_string(),
        "{digests:?}"
    );
    assert_eq!(digests[0], digests[1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_its_trainer_and_frees_the_worker() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    cluster.start_worker("one")?;
    // Far more epochs than anybody waits for: it can only end by being cancelled.
    let file = textures_task(&cluster, "long", "teacher: {epochs: 10000}")?;
    let id = cluster.submit(&file)?.remove(0);
    watch::until_training(&cluster.address(), &id, "teacher").await?;

    let cancelled = cluster.cli(&["jobs", "cancel", &id, "--yes", "--reason", "no longer wanted"])?;
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    let job = watch::get(&cluster.address(), &id).await?;
    assert_eq!(job.state(), JobState::Cancelled);
    assert!(job.reason.contains("no longer wanted"), "{job:?}");
    assert_eq!(cluster.cli(&["jobs", "watch", &id])?.code, Some(4));

    // The only slot is free again: another task runs to its end.
    let file = textures_task(&cluster, "short", "")?;
    let id = cluster.submit(&file)?.remove(0);
    let job = watch::until_final(&cluster.address(), &id).await?;
    assert_eq!(job.state(), JobState::Succeeded, "{job:?}");
    assert!(
        job.stages.iter().all(|stage| stage.state() == StageState::Done),
        "{job:?}"
    );
    Ok(())
}
