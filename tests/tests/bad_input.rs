//! What is wrong is said at once, in words, with the right exit code.

use std::fs;

use nettailor_proto::v1::JobState;
use nettailor_tests::cluster::{lite0_weights, textures_task};
use nettailor_tests::process::{self, Process};
use nettailor_tests::{Cluster, dataset, watch};

/// The command must fail with this code and say all of this on stderr.
fn assert_refused(output: &process::Output, code: i32, said: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:?}");
    for text in said {
        assert!(
            output.stderr.contains(text),
            "`{text}` is missing from:\n{}",
            output.stderr
        );
    }
}

#[test]
fn mistakes_in_the_tasks_file_are_all_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let text = "version: 1\nbackbone: lite9\ntasks:\n  - name: a\n    data: {path: x, image_size: big}\n    studnet: {}\n";
    fs::write(folder.path().join("tasks.yaml"), text)?;
    let output = process::run("nettailor-cli", folder.path(), &["validate", "tasks.yaml"])?;
    assert_refused(
        &output,
        2,
        &[
            "tasks.yaml:2:",
            "lite0",
            "tasks.yaml:5:",
            "image_size",
            "tasks.yaml:6:",
            "student",
        ],
    );
    Ok(())
}

#[test]
fn missing_files_and_wrong_weights_are_refused_before_anything_runs() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    dataset::textures(&folder.path().join("textures"), 8, 1)?;
    let refused = |backbone: &str, data: &str, said: &[&str]| -> anyhow::Result<()> {
        let text =
            format!("version: 1\nbackbone: {backbone}\ntasks:\n  - {{name: a, data: {{path: {data}}}}}\n");
        fs::write(folder.path().join("tasks.yaml"), text)?;
        assert_refused(
            &process::run("nettailor-cli", folder.path(), &["validate", "tasks.yaml"])?,
            2,
            said,
        );
        Ok(())
    };
    let lite0 = lite0_weights()?.display().to_string();
    refused(
        &format!("{{arch: lite0, weights: {lite0}}}"),
        "nowhere",
        &["nowhere"],
    )?;
    refused(
        "{arch: lite0, weights: nothing.pth}",
        "textures",
        &["nothing.pth"],
    )?;
    refused(
        &format!("{{arch: resnet18, weights: {lite0}}}"),
        "textures",
        &["resnet18", "lite0"],
    )?;
    let torn = folder.path().join("torn.pth");
    fs::write(&torn, &fs::read(&lite0)?[..100_000])?;
    refused("{arch: lite0, weights: torn.pth}", "textures", &["torn.pth"])?;
    Ok(())
}

#[test]
fn an_absent_coordinator_and_a_taken_port_are_said() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let output = process::run(
        "nettailor-cli",
        folder.path(),
        &["--coordinator", "http://127.0.0.1:1", "jobs", "list"],
    )?;
    assert_refused(&output, 6, &["http://127.0.0.1:1"]);

    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let args = ["--listen", &address, "--http", "127.0.0.1:0", "--state", "state"];
    let mut coordinator = Process::start("nettailor-coordinator", folder.path(), &args)?;
    assert_eq!(coordinator.end()?.code(), Some(8));
    coordinator.wait_for(&address)?;

    let mut worker = Process::start("nettailor-worker", folder.path(), &["--http", &address])?;
    assert_eq!(worker.end()?.code(), Some(8));
    worker.wait_for(&address)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_images_fail_the_job_or_are_skipped_as_asked() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    cluster.start_worker("one")?;
    let strict = textures_task(&cluster, "strict", "")?;
    fs::write(
        cluster.folder().join("textures/train/rows/broken.png"),
        b"no picture",
    )?;

    let failed = cluster.cli(&["submit", &strict, "--wait"])?;
    assert_refused(&failed, 1, &["broken.png"]);
    let id = watch::list(&cluster.address()).await?.remove(0).id;
    let job = watch::get(&cluster.address(), &id).await?;
    assert_eq!(job.state(), JobState::Failed);
    assert_eq!(
        watch::stage(&job, "teacher").attempt,
        1,
        "bad input is not tried again: {job:?}"
    );

    let lenient = textures_task(&cluster, "lenient", "data: {path: textures, on_unreadable: skip}")?;
    let skipped = cluster.cli(&["submit", &lenient, "--wait"])?;
    assert_eq!(skipped.code, Some(0), "{skipped:?}");
    let id = watch::list(&cluster.address()).await?.remove(0).id;
    let job = watch::get(&cluster.address(), &id).await?;
    let teacher = watch::stage(&job, "teacher");
    assert!(
        teacher.summary.ends_with("1 unreadable image left out"),
        "{teacher:?}"
    );
    let logs = cluster.cli(&["jobs", "logs", &id, "--stage", "teacher"])?;
    assert!(logs.stdout.contains("broken.png"), "{logs:?}");
    Ok(())
}

#[test]
fn unknown_things_are_not_found() -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    assert_refused(
        &cluster.cli(&["jobs", "get", "nothing-abc"])?,
        3,
        &["nothing-abc"],
    );
    assert_refused(&cluster.cli(&["registry", "get", "nothing"])?, 3, &["nothing"]);
    Ok(())
}
