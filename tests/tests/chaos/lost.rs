//! The state directory is lost: everything is made again from the artifact store.

use std::fs;

use anyhow::ensure;
use nettailor_tests::process;

use crate::end;
use crate::scene::Scene;

/// What the CLI says of everything, as it prints it.
fn listings(scene: &Scene) -> anyhow::Result<Vec<String>> {
    let asked: [&[&str]; 3] = [
        &["jobs", "list", "-o", "json"],
        &["registry", "list", "-o", "json"],
        &["users", "list", "-o", "json"],
    ];
    let print = |args: &&[&str]| {
        let output = scene.cluster.cli(args)?;
        ensure!(output.code == Some(0), "{args:?} failed: {output:?}");
        Ok(output.stdout)
    };
    asked.iter().map(print).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_state_directory_is_made_again_to_the_byte() -> anyhow::Result<()> {
    let mut scene = Scene::start()?;
    scene.direct(1, vec![])?;
    scene.hire("a", 2)?;
    let ids = scene.submit(&["name: one", "name: two, seed: 1", "name: three, workers: 2"])?;
    end::at_rest(&scene).await?;
    // Nobody works on what comes now: it looks the same before and after.
    scene.cluster.worker_mut("a")?.kill()?;
    scene.submit(&["name: four, seed: 4", "name: five, seed: 5"])?;
    for args in [
        &["jobs", "pause", "five", "--reason", "until tomorrow"][..],
        &["jobs", "set", "four", "--priority", "7"],
        &["users", "set", "alice", "--weight", "3", "--limit", "5"],
        &["jobs", "retry", &ids[0], "--from-stage", "select"],
    ] {
        let output = scene.cluster.cli(args)?;
        ensure!(output.code == Some(0), "{args:?} failed: {output:?}");
    }
    // Each of these was answered, so each is in the journal.
    scene.cluster.kill_coordinator()?;
    let folder = scene.cluster.folder().to_owned();
    scene.cluster.start_coordinator()?;
    let before = listings(&scene)?;
    ensure!(before[0].matches("\"id\"").count() == 6, "{}", before[0]);
    scene.cluster.kill_coordinator()?;
    fs::remove_dir_all(folder.join("state"))?;

    let (state, artifacts) = (folder.join("state"), folder.join("artifacts"));
    let (state, artifacts) = (state.to_string_lossy(), artifacts.to_string_lossy());
    let place = ["--state", &state, "--artifacts", &artifacts];
    let rebuild = [&["rebuild"], &place[..]].concat();
    let output = process::run("nettailor-coordinator", &folder, &rebuild)?;
    ensure!(output.code == Some(0), "rebuild failed: {output:?}");
    scene.cluster.start_coordinator()?;
    let after = listings(&scene)?;
    ensure!(before == after, "before: {before:#?}\nafter: {after:#?}");

    // And it works: what was left is done.
    scene.hire("b", 2)?;
    let output = scene.cluster.cli(&["jobs", "resume", "five"])?;
    ensure!(output.code == Some(0), "{output:?}");
    let jobs = end::at_rest(&scene).await?;
    ensure!(
        jobs.len() == 6 && jobs.iter().all(|job| job.model_version > 0),
        "{jobs:?}"
    );
    Ok(())
}
