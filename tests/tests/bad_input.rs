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
fn bad_data_of_every_format_are_refused_with_their_place() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let refused = |data: &str, said: &[&str]| -> anyhow::Result<()> {
        let text = format!("version: 1\nbackbone: lite0\ntasks:\n  - {{name: a, data: {{{data}}}}}\n");
        fs::write(folder.path().join("tasks.yaml"), text)?;
        let output = process::run("nettailor-cli", folder.path(), &["validate", "tasks.yaml"])?;
        assert_refused(&output, 2, said);
        Ok(())
    };
    for folder_name in [
        "nothing",
        "coco/annotations",
        "cifar",
        "mnist",
        "hub",
        "both/train/a",
    ] {
        fs::create_dir_all(folder.path().join(folder_name))?;
    }
    let files: [(&str, &[u8]); 9] = [
        ("table.csv", b"path,label\nno.png,a\n"),
        ("coco/annotations/x_train.json", b"{\"images\": 1}"),
        ("cifar/data_batch_1.bin", b"short"),
        ("cifar/batches.meta.txt", b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n"),
        ("mnist/train-images-idx3-ubyte", b"\0\0\x08\x01"),
        ("mnist/train-labels-idx1-ubyte", b""),
        ("hub/train.parquet", b"no parquet"),
        ("both/train/a/1.png", b""),
        ("both/manifest.csv", b""),
    ];
    for (name, content) in files {
        fs::write(folder.path().join(name), content)?;
    }
    refused("path: nothing", &["nothing: no known format", "manifest.csv"])?;
    refused("path: both", &["may be `folder` or `csv`"])?;
    refused("path: both, format: tar", &["tasks.yaml:4:", "`decathlon`"])?;
    refused("path: both, format: folder", &["found 1 class(es)", "at least 2"])?;
    refused("path: table.csv", &["table.csv", "`no.png`, line 2"])?;
    refused("path: coco", &["x_train.json", "JSON with `images`"])?;
    refused("path: cifar", &["data_batch_1.bin, byte 5", "cut short"])?;
    refused("path: mnist", &["train-images-idx3-ubyte, byte 0", "0x00000803"])?;
    refused("path: hub", &["train.parquet", "a Parquet file"])?;
    refused(
        "path: 'ftp://host/data'",
        &["ftp://host/data", "begins with file"],
    )?;
    Ok(())
}

#[test]
fn inspecting_names_broken_images_and_draws_the_others() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    dataset::textures(&folder.path().join("textures"), 8, 1)?;
    let inspect = [
        "dataset",
        "inspect",
        "textures",
        "--sheet",
        "sheet.png",
        "-o",
        "json",
    ];
    let whole = process::run("nettailor-cli", folder.path(), &inspect)?;
    assert_eq!(whole.code, Some(0), "{whole:?}");
    let seen: serde_json::Value = serde_json::from_str(&whole.stdout)?;
    assert_eq!(seen["splits"], serde_json::json!({ "test": 6, "train": 24 }));
    assert_eq!(seen["sizes"]["median"], serde_json::json!([32, 32]));
    assert!(fs::read(folder.path().join("sheet.png"))?.starts_with(b"\x89PNG"));

    fs::write(
        folder.path().join("textures/train/rows/broken.png"),
        b"no picture",
    )?;
    let broken = process::run("nettailor-cli", folder.path(), &inspect)?;
    assert_refused(&broken, 2, &["1 image cannot be read", "on_unreadable: skip"]);
    let seen: serde_json::Value = serde_json::from_str(&broken.stdout)?;
    assert_eq!(seen["broken"][0]["name"], "train/rows/broken.png");
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
