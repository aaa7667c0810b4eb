//! `run`, and what it leaves for `--local`.

use crate::bench::Bench;

#[test]
fn a_run_ends_in_a_report_pictures_and_a_registry() {
    let bench = Bench::new();
    let first = bench.cli(&["run", "tasks.yaml", "--workers", "2", "--svg-dir", "pictures"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    for part in [
        "shapes@1",
        "97.80 / 97.90 %",
        "10/16 + ",
        "= 1 tailored network ",
        "13.0 MiB",
    ] {
        assert!(
            first.stdout.contains(part),
            "`{part}` is missing from\n{}",
            first.stdout
        );
    }
    for part in [
        "shapes: teacher done",
        "shapes: candidate(6) done",
        "shapes: succeeded, shapes@1 (5 stages run)",
    ] {
        assert!(
            first.stderr.contains(part),
            "`{part}` is missing from\n{}",
            first.stderr
        );
    }
    let picture = std::fs::read_to_string(bench.path("pictures/shapes.svg")).expect("a picture");
    assert!(picture.contains("<svg"), "{picture}");

    // The same file again, and another reader of the same state.
    let again = bench.json(&["run", "tasks.yaml"]);
    assert_eq!(again[0]["stages_run"], 0, "{again}");
    assert_eq!(again[0]["state"], "succeeded");
    let models = bench.json(&["registry", "list", "--local"]);
    assert_eq!(models.as_array().map(Vec::len), Some(1), "{models}");
    assert_eq!(
        (&models[0]["task"], &models[0]["k"]),
        (&"shapes".into(), &6.into()),
        "{models}"
    );
    assert_eq!(
        bench.json(&["registry", "search", "--local", "--min-accuracy", "97.9"])[0]["version"],
        1
    );
    assert_eq!(
        bench.json(&["registry", "search", "--local", "--max-flops", "1k"]),
        serde_json::json!([])
    );
    let report = bench.json(&["registry", "report", "--local", "shapes"]);
    assert!(report["tasks"][0]["job_seconds"].as_f64().is_some(), "{report}");
    assert_eq!(
        bench.cli(&["registry", "list", "--local", "-o", "name"]).stdout,
        "shapes@1\n"
    );
}

#[test]
fn a_source_and_a_search_run_in_one_process() {
    let bench = Bench::new();
    let tasks = std::fs::read_to_string(bench.path("tasks.yaml")).expect("the file");
    let tasks = tasks
        .replace(
            "weights: lite0.safetensors",
            "source: {data: {path: images, image_size: 32}}",
        )
        .replace("k: [2, 6]", "k: [2, 6], search: halving");
    bench.write("tasks.yaml", tasks);
    let checked = bench.cli(&["validate", "tasks.yaml"]);
    assert!(checked.stdout.contains("k = 2, 6, halving"), "{checked:?}");
    let line = "lite0 is pre-trained on images first: 4 images (48 B), 2 classes, 60 epochs";
    assert!(checked.stderr.contains(line), "{checked:?}");

    let run = bench.cli(&["run", "tasks.yaml"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for part in [
        line,
        "shapes: source done",
        "shapes: search done",
        "held-out 90.00 %",
        "candidate(6) of 2: held-out 97.80 %",
        "shapes: succeeded, shapes@1 (5 stages run)",
    ] {
        assert!(
            run.stderr.contains(part),
            "`{part}` is missing from\n{}",
            run.stderr
        );
    }
    let frontier = bench.cli(&["registry", "frontier", "shapes", "--local", "--svg", "front.svg"]);
    assert!(frontier.stdout.contains("  chosen\n"), "{frontier:?}");
    let picture = std::fs::read_to_string(bench.path("front.svg")).expect("a picture");
    assert!(picture.contains("<svg"), "{picture}");
    let points = &bench.json(&["registry", "frontier", "shapes", "--local"])["points"];
    assert_eq!(
        (&points[1]["k"], &points[1]["chosen"]),
        (&6.into(), &true.into()),
        "{points}"
    );
    let model = bench.json(&["registry", "get", "shapes", "--local"]);
    assert_eq!(model["stage_keys"].as_array().map(Vec::len), Some(5), "{model}");
    assert_eq!(model["digest"].as_str().map(str::len), Some(64), "{model}");
}

#[test]
fn a_failed_stage_decides_the_exit_code_and_is_told() {
    let bench = Bench::new();
    bench.fail("teacher", "3 images cannot be read: broken.png");
    let output = bench.cli(&["run", "tasks.yaml"]);
    output.refused(1, &["error:", "task shapes", "broken.png", "jobs logs"]);
    let jobs = bench.json(&["jobs", "list", "--local", "--state", "failed"]);
    assert_eq!(jobs.as_array().map(Vec::len), Some(1), "{jobs}");
    let id = jobs[0]["id"].as_str().expect("an id");
    let logs = bench.cli(&["jobs", "logs", id, "--local", "--stage", "teacher"]);
    assert!(logs.stdout.contains("teacher is being trained"), "{logs:?}");
}

#[test]
fn an_interrupted_run_goes_on_where_it_stopped() {
    let bench = Bench::new();
    bench.hold("student");
    let mut run = bench.start(&["run", "tasks.yaml"]);
    run.wait_for("shapes: student: training, epoch 1/3");
    run.interrupt();
    run.wait_for("finished stages are not repeated");
    assert_eq!(run.end().code(), Some(4));

    bench.release("student");
    let jobs = bench.json(&["run", "tasks.yaml"]);
    assert_eq!(jobs[0]["stages_run"], 4, "the teacher is kept: {jobs}");
    let states = bench.json(&["jobs", "list", "--local"]);
    let states: Vec<&serde_json::Value> = states
        .as_array()
        .expect("a list")
        .iter()
        .map(|job| &job["state"])
        .collect();
    assert_eq!(states, ["succeeded", "cancelled"]);
}

#[test]
fn a_missing_trainer_is_said_and_leaves_nothing_behind() {
    let bench = Bench::new();
    bench
        .cli(&["run", "tasks.yaml", "--trainer", "nowhere"])
        .refused(2, &["nowhere", "--trainer"]);
    assert_eq!(bench.json(&["jobs", "list", "--local"]), serde_json::json!([]));
}

#[test]
fn two_runs_do_not_share_a_state_directory() {
    let bench = Bench::new();
    bench.hold("teacher");
    let run = bench.start(&["run", "tasks.yaml"]);
    run.wait_for("shapes: teacher: training");
    bench.cli(&["run", "tasks.yaml"]).refused(8, &["in use"]);
    bench.cli(&["jobs", "list", "--local"]).refused(8, &["in use"]);
}

#[test]
fn backbones_can_be_imported_without_a_coordinator() {
    let bench = Bench::new();
    let imported = bench.json(&[
        "backbone",
        "import",
        "lite0.safetensors",
        "--arch",
        "lite0",
        "--local=there",
    ]);
    assert_eq!(
        (&imported["arch"], &imported["source"]),
        (&"lite0".into(), &"lite0.safetensors".into())
    );
    assert_eq!(bench.json(&["backbone", "list", "--local=there"])[0], imported);

    // A tasks file without weights finds it.
    let tasks = std::fs::read_to_string(bench.path("tasks.yaml")).expect("the file");
    bench.write(
        "tasks.yaml",
        tasks.replace("{arch: lite0, weights: lite0.safetensors}", "lite0"),
    );
    let jobs = bench.json(&["run", "tasks.yaml", "--state", "there"]);
    assert_eq!(jobs[0]["state"], "succeeded", "{jobs}");
    bench
        .cli(&["run", "tasks.yaml", "--state", "elsewhere"])
        .refused(3, &["lite0", "backbone import"]);
}
