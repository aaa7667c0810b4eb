//! Mistakes: all of them, at once, with the exit code that scripts decide by.

use crate::bench::Bench;

#[test]
fn a_tasks_file_is_checked_without_a_coordinator() {
    let bench = Bench::new();
    let found = bench.json(&["validate", "tasks.yaml"]);
    assert_eq!(
        (&found[0]["task"], &found[0]["images"], &found[0]["test_images"]),
        (&"shapes".into(), &2.into(), &2.into())
    );
    assert_eq!(found[0]["candidates"], serde_json::json!([2, 6]));

    bench.write(
        "wrong.yaml",
        "version: 1\nbackbone: lite9\ntasks:\n  - {name: a, data: {path: images}, studnet: {}}\n",
    );
    bench
        .cli(&["validate", "wrong.yaml"])
        .refused(2, &["wrong.yaml:2:", "lite0", "wrong.yaml:4:", "did you mean"]);
    bench
        .cli(&["validate", "nothing.yaml"])
        .refused(2, &["nothing.yaml"]);
}

#[test]
fn everything_that_a_file_names_is_looked_at() {
    let bench = Bench::new();
    let text = "version: 1\nbackbone: {arch: resnet18, weights: lite0.safetensors}\ntasks:\n  - {name: a, data: {path: nowhere}}\n  - {name: b, data: {path: images/train}}\n  - {name: c, data: {path: images/train/black}}\n";
    bench.write("wrong.yaml", text);
    for command in ["validate", "submit", "run"] {
        bench
            .cli(&[command, "wrong.yaml"])
            .refused(2, &["nowhere", "images/train/black", "resnet18", "lite0"]);
    }
}

#[test]
fn an_absent_coordinator_is_said() {
    let bench = Bench::new();
    let nobody = "http://127.0.0.1:1";
    for command in [
        &["jobs", "list"][..],
        &["submit", "tasks.yaml"],
        &["registry", "list"],
        &["workers", "list"],
    ] {
        bench
            .cli(&[&["--coordinator", nobody], command].concat())
            .refused(6, &[nobody, "nettailor-coordinator"]);
    }
    bench
        .cli(&["jobs", "list", "--coordinator", "https://127.0.0.1:1"])
        .refused(2, &["https://127.0.0.1:1", "expected a URL like http://"]);
    bench
        .cli(&["jobs", "list", "--coordinator", "nowhere"])
        .refused(2, &["nowhere", "http://"]);
}

#[test]
fn usage_is_wrong_before_anything_is_done() {
    let bench = Bench::new();
    bench
        .cli(&["submit", "tasks.yaml", "--local"])
        .refused(2, &["run FILE"]);
    bench
        .cli(&["submit", "tasks.yaml", "--timeout", "1m"])
        .refused(2, &["--wait"]);
    bench
        .cli(&["registry", "search", "--min-accuracy", "0.9"])
        .refused(2, &["90"]);
    bench
        .cli(&["registry", "list", "--local=nothing"])
        .refused(3, &["nothing"]);
    bench
        .cli(&["backbone", "import", "tasks.yaml", "--arch", "lite0", "--local"])
        .refused(2, &["tasks.yaml"]);
    assert!(bench.cli(&["schema"]).stdout.contains("\"$schema\""));
    assert!(
        bench
            .cli(&["completions", "zsh"])
            .stdout
            .contains("nettailor-cli")
    );
}
