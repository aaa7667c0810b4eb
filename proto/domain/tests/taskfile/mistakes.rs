//! What is not accepted, and what is said about it.

use crate::{SMALL, one, problems, with};

#[test]
fn ten_mistakes_are_ten_lines() {
    let text = "\
version: 2
backbone: resnet19
defaults:
  student:
    gama1: 0.5
    training: {epochs: many}
tasks:
- name: Digits
  data: {path: digits, image_size: 8}
  student: {hints: locale}
- name: mnist
  seed: 1
  seed: 2
  data: {image_size: 64}
  epochs: 6
  teacher: {milestones: [0.8, 0.4]}
- name: mnist
  data: {path: m}
";
    assert_eq!(
        problems(text),
        [
            "1:10: version: expected `1`, found 2",
            "2:11: backbone: expected `lite0`, `resnet18`, `resnet34`, `resnet50` or `wrn26` or a mapping, \
             found \"resnet19\"; did you mean `resnet18`?",
            "5:5: defaults.student.gama1: unknown key; did you mean `gamma1`?",
            "6:24: defaults.student.training.epochs: expected a whole number from 0 to 10000, found \"many\"",
            "8:9: tasks[0].name: expected 1 to 63 characters out of a-z, 0-9, `-`, `_` and `.`, the first a letter or \
             digit, found \"Digits\"",
            "9:36: tasks[0].data.image_size: expected a whole number from 16 to 1024, found 8",
            "10:20: tasks[0].student.hints: expected `local` or `end_to_end`, found \"locale\"; did you mean `local`?",
            "13:3: tasks[1].seed: key given twice, the first time on line 12",
            "14:9: tasks[1].data: missing key `path`",
            "15:3: tasks[1].epochs: unknown key; did you mean `teacher.epochs`?",
            "16:25: tasks[1].teacher.milestones: expected shares of the epochs between 0 and 1, ascending, found [0.8, 0.4]",
            "17:9: tasks[2].name: expected a name of its own, found \"mnist\", which tasks[1] has",
        ]
    );
}

#[test]
fn unknown_keys_are_traced_to_what_was_meant() {
    one(
        &SMALL.replace("tasks", "task"),
        "3:1: task: unknown key; did you mean `tasks`?",
    );
    one(
        &SMALL.replace("path", "Path"),
        "5:10: tasks[0].data.Path: unknown key; did you mean `path`?",
    );
    one(
        &with("gamma1: 0.1"),
        "6:3: tasks[0].gamma1: unknown key; did you mean `student.gamma1`?",
    );
    one(
        &with("student: {epochs: 3}"),
        "6:13: tasks[0].student.epochs: unknown key; did you mean `training.epochs`?",
    );
    one(
        &with("candidates: {tolerance_points: 1}"),
        "6:16: tasks[0].candidates.tolerance_points: unknown key; did you mean `tasks[0].tolerance_points`?",
    );
    one(
        &with("resources: {gpus: 1}"),
        "6:15: tasks[0].resources.gpus: unknown key: expected `max_attempts`, `stage_minutes`, \
         `checkpoint_seconds`, `priority`, `deadline_minutes` or `labels`",
    );
    one(
        &format!("x: &x {{seed: 1}}\n{}", SMALL),
        "1:1: x: unknown key: expected `version`, `backbone`, `defaults` or `tasks`",
    );
    let text = with("<<: {seed: 1}");
    one(
        &text,
        "6:3: tasks[0].<<: merge keys are not read: put what tasks share under `defaults`",
    );
    let text = SMALL.replace("lite0", "{arch: lite0, weight: w.pth}");
    one(
        &text,
        "2:25: backbone.weight: unknown key; did you mean `weights`?",
    );
}

#[test]
fn wrong_values_say_what_was_expected() {
    let cases = [
        (
            "teacher:",
            "6:10: tasks[0].teacher: expected a mapping, found nothing",
        ),
        (
            "teacher: 6",
            "6:12: tasks[0].teacher: expected a mapping, found 6",
        ),
        (
            "seed: -1",
            "6:9: tasks[0].seed: expected a whole number from 0 to 9007199254740991, found -1",
        ),
        (
            "seed: 1.5",
            "6:9: tasks[0].seed: expected a whole number from 0 to 9007199254740991, found 1.5",
        ),
        (
            "seed: 18446744073709551615",
            "6:9: tasks[0].seed: expected a whole number from 0 to 9007199254740991, found 18446744073709551615",
        ),
        (
            "tolerance_points: .nan",
            "6:21: tasks[0].tolerance_points: expected a finite number, found NaN",
        ),
        (
            "tolerance_points: -.inf",
            "6:21: tasks[0].tolerance_points: expected a finite number, found -inf",
        ),
        (
            "tolerance_points: \"1\"",
            "6:21: tasks[0].tolerance_points: expected a number from 0.0 to 100.0, found \"1\"",
        ),
        (
            "student: {bn_mode: 3}",
            "6:22: tasks[0].student.bn_mode: expected `task`, `frozen` or `affine`, found 3",
        ),
        (
            "student: {hints: end-to-end}",
            "6:20: tasks[0].student.hints: expected `local` or `end_to_end`, found \"end-to-end\"; \
             did you mean `end_to_end`?",
        ),
        (
            "candidates: {k: 3}",
            "6:19: tasks[0].candidates.k: expected a list of whole numbers, found 3",
        ),
        (
            "candidates: {k: [1, x]}",
            "6:23: tasks[0].candidates.k[1]: expected a whole number of at least 0, found \"x\"",
        ),
        (
            "candidates: {k: []}",
            "6:19: tasks[0].candidates.k: expected at least one number of main blocks to remove, found an empty list",
        ),
        (
            "candidates: {k: [1, 17]}",
            "6:23: tasks[0].candidates.k[1]: expected at most 16, the main blocks of lite0, found 17",
        ),
        (
            "teacher: {milestones: [0.5, 1.5]}",
            "6:25: tasks[0].teacher.milestones: expected shares of the epochs between 0 and 1, ascending, found [0.5, 1.5]",
        ),
    ];
    for (settings, expected) in cases {
        one(&with(settings), expected);
    }
    let data = |more: &str| SMALL.replace("path: digits", &format!("path: digits, {more}"));
    one(
        &data("augment: {resized_crop: [1, 0.5]}"),
        "5:48: tasks[0].data.augment.resized_crop: expected [least, most], shares of the area above 0 and up to 1, \
         found [1, 0.5]",
    );
    one(
        &data("augment: {resized_crop: [0.5]}"),
        "5:48: tasks[0].data.augment.resized_crop: expected a list of 2 numbers, found [0.5]",
    );
    one(
        &data("normalise: {mean: [0, 0, 0], std: [1, 0, 1]}"),
        "5:58: tasks[0].data.normalise.std: expected standard deviations above 0, found [1, 0, 1]",
    );
    one(
        &data("normalise: {mean: [0, 0, 0]}"),
        "5:35: tasks[0].data.normalise: missing key `std`",
    );
    one(
        &SMALL.replace("path: digits", "path: ''"),
        "5:16: tasks[0].data.path: expected a text that is not empty, found \"\"",
    );
    let empty = "version: 1\nbackbone: {arch: lite0}\ntasks: []\n";
    one(
        empty,
        "3:8: tasks: expected a list of at least one of mappings, found an empty list",
    );
    one("[1, 2]", "1:1: expected a mapping, found [1, 2]");
}

#[test]
fn what_is_no_yaml_says_where() {
    let nothing = "1:1: expected a mapping with the keys `version`, `backbone` and `tasks`, found nothing";
    for empty in ["", "\n\n", "# only a remark\n", "---\n", "~\n"] {
        one(empty, nothing);
    }
    one(
        &SMALL.replace("  data", "\tdata"),
        "5:1: expected spaces, found a tab: indent with spaces only",
    );
    one(
        &format!("{SMALL}---\n{SMALL}"),
        "6:1: expected one document, found the start of another: use one file for each",
    );
    for broken in [
        "version: 1\n backbone: lite0\n",
        "tasks: [1, 2\n",
        "a: 'b\n",
        "a: b: c\n",
        "a: *nobody\n",
        "\0",
    ] {
        let lines = problems(broken);
        assert!(
            lines.len() == 1 && lines[0].contains("not readable as YAML: "),
            "{broken:?}: {lines:?}"
        );
    }
    one(
        "? [a, b]\n: c\n",
        "1:3: expected a text as a key, found a list or a mapping",
    );
    one(
        &with("seed: !!int many"),
        "6:9: `many` is not of the type that its tag says",
    );
    let deep = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
    assert!(
        problems(&deep)[0].contains("expected at most 32 levels"),
        "{:?}",
        problems(&deep)
    );
}

#[test]
fn a_number_of_workers_must_be_one() {
    let form = "expected a whole number from 1 to 64 or a text like `2..4`";
    for (workers, found) in [
        ("0", "0"),
        ("65", "65"),
        ("1.5", "1.5"),
        ("many", "\"many\""),
        ("2..", "\"2..\""),
        ("\"4\"", "\"4\""),
        ("[2, 4]", "[2, 4]"),
        ("~", "nothing"),
    ] {
        one(
            &with(&format!("workers: {workers}")),
            &format!("6:12: tasks[0].workers: {form}, found {found}"),
        );
    }
    for range in ["4..2", "0..2", "2..65", "1..99999999999"] {
        one(
            &with(&format!("workers: {range}")),
            &format!(
                "6:12: tasks[0].workers: expected least..most with 1 <= least <= most <= 64, found \"{range}\""
            ),
        );
    }
}

#[test]
fn every_worker_has_images_of_every_batch() {
    let too_many = |place: &str, most: u32, [part, batch]: [u32; 2], stage: &str, workers: &str| {
        format!(
            "{place}: expected at most {most}: every worker takes at least {part} of the {batch} images of each batch of \
             {stage}, found {workers}"
        )
    };
    one(
        &with("workers: 17"),
        &too_many("6:12: tasks[0].workers", 16, [2, 32], "student.training", "17"),
    );
    one(
        &with("workers: 33\n  sync_bn: true"),
        &too_many("6:12: tasks[0].workers", 32, [1, 32], "student.training", "33"),
    );
    one(
        &with("workers: 1..8\n  candidates: {training: {batch_size: 4}}"),
        &too_many(
            "6:12: tasks[0].workers",
            2,
            [2, 4],
            "candidates.training",
            "\"1..8\"",
        ),
    );
    // One's batch, the other's workers.
    let shared = SMALL.replace("tasks:", "defaults: {workers: 3}\ntasks:");
    one(
        &format!("{shared}  teacher: {{batch_size: 2}}\n"),
        &too_many("3:21: defaults.workers", 1, [2, 2], "teacher", "3"),
    );
    let source = "{arch: lite0, source: {data: {path: s}, training: {batch_size: 1}}}";
    one(
        &with("workers: 2").replace("lite0", source),
        &too_many(
            "6:12: tasks[0].workers",
            1,
            [2, 1],
            "backbone.source.training",
            "2",
        ),
    );
}
