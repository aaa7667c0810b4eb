//! Disks that are full: nothing acknowledged is lost, the error says what to do, and work goes on once there is room.

use std::path::Path;

use nettailor_tests::cluster::{Cluster, textures_task};
use nettailor_tests::volume::Volume;

/// The exit code that says: try again later.
const UNAVAILABLE: Option<i32> = Some(6);

#[test]
fn a_full_artifact_store_refuses_uploads_and_takes_them_once_there_is_room() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(volume) = Volume::mount(&folder.path().join("volume"), 64)? else {
        return Ok(());
    };
    let cluster = Cluster::launch(
        volume.launcher(),
        Path::new("state"),
        &volume.path().join("artifacts"),
    )?;
    let file = textures_task(&cluster, "a", "")?;
    volume.fill()?;
    let refused = cluster.cli(&["submit", &file])?;
    assert_eq!(refused.code, UNAVAILABLE, "{refused:?}");
    assert!(refused.stderr.contains("no space is left"), "{refused:?}");
    assert_eq!(cluster.cli_json(&["jobs", "list"])?, serde_json::json!([]));

    volume.free()?;
    assert_eq!(cluster.submit(&file)?.len(), 1);
    Ok(())
}

#[test]
fn a_full_state_directory_stops_the_coordinator_before_it_promises_what_it_cannot_keep() -> anyhow::Result<()>
{
    let folder = tempfile::tempdir()?;
    let Some(volume) = Volume::mount(&folder.path().join("volume"), 16)? else {
        return Ok(());
    };
    let mut cluster = Cluster::launch(
        volume.launcher(),
        &volume.path().join("state"),
        Path::new("artifacts"),
    )?;
    let mut acknowledged = Vec::new();
    for number in 0..2 {
        let name = format!("before-{number}");
        acknowledged.extend(cluster.submit(&textures_task(&cluster, &name, "")?)?);
    }
    volume.fill()?;
    // The database may have room in what it already holds; that ends.
    let refused = loop {
        let name = format!("after-{}", acknowledged.len());
        let output = cluster.cli(&["submit", &textures_task(&cluster, &name, "")?, "-o", "name"])?;
        if output.code != Some(0) {
            break output;
        }
        acknowledged.extend(output.stdout.lines().map(str::to_owned));
    };
    assert_eq!(refused.code, UNAVAILABLE, "{refused:?}");
    assert_eq!(cluster.coordinator_end()?, Some(1));

    volume.free()?;
    cluster.start_coordinator()?;
    let jobs = cluster.cli_json(&["jobs", "list", "--limit", "10000"])?;
    let mut listed: Vec<&str> = jobs
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|job| job["id"].as_str())
        .collect();
    listed.sort_unstable();
    acknowledged.sort_unstable();
    for id in &acknowledged {
        assert!(listed.contains(&id.as_str()), "{id} was acknowledged and is lost");
    }
    Ok(())
}
