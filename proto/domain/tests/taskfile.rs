//! Reading tasks files: what is accepted, and what exactly is said about what is not.

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::{BnMode, Hints, OnUnreadable, Schedule, Search, SourceSettings, TaskSpec};
use nettailor_domain::taskfile::{TasksFile, default_document, default_source, schema};
use proptest::prelude::*;

#[track_caller]
fn parse(text: &str) -> TasksFile {
    TasksFile::parse(text).unwrap_or_else(|problems| panic!("not accepted:\n{problems}"))
}

/// The problems of `text`, one a line.
#[track_caller]
fn problems(text: &str) -> Vec<String> {
    let problems = TasksFile::parse(text).expect_err("accepted");
    let lines: Vec<String> = problems.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), problems.len(), "one line each");
    lines
}

const SMALL: &str = "version: 1\nbackbone: lite0\ntasks:\n- name: digits\n  data: {path: digits}\n";

#[test]
fn the_smallest_file_has_every_default() {
    let file = parse(SMALL);
    assert_eq!(file.backbone.arch, BackboneName::Lite0);
    assert_eq!(file.backbone.weights, None);
    let bare: TaskSpec = serde_json::from_str(r#"{"name": "digits", "data": {"path": "digits"}}"#)
        .expect("complete by itself");
    assert_eq!(file.tasks, [bare]);
    let task = &file.tasks[0];
    assert_eq!((task.max_skip, task.tolerance_points, task.seed), (3, 0.5, 0));
    assert_eq!((task.student.gamma1, task.student.gamma2), (0.3, 10.0));
    assert_eq!(task.candidates.proxy_threshold, 0.05);
}

#[test]
fn sections_are_merged_key_by_key_and_lists_replaced() {
    let file = parse(
        "
version: 1
backbone: {arch: resnet18, weights: r18.pth}
defaults:
  data: {image_size: 64, augment: {crop_padding: 4}}
  student: {training: {epochs: 7}, hints: end_to_end, budget: 0.5}
  candidates: {k: [2, 4, 6]}
tasks:
- name: plain
  data: {path: a}
- name: own
  data: {path: b, augment: {horizontal_flip: true}, on_unreadable: skip}
  student: {training: {learning_rate: 0.05}, bn_mode: frozen, budget: ~}
  candidates: {k: [1]}
  teacher: {epochs: 6}
",
    );
    assert_eq!(file.backbone.weights.as_deref(), Some("r18.pth"));
    let [plain, own] = &file.tasks[..] else {
        panic!("two tasks")
    };
    assert_eq!((plain.data.image_size, own.data.image_size), (64, 64));
    assert_eq!(
        (own.data.augment.crop_padding, own.data.augment.horizontal_flip),
        (4, true)
    );
    assert_eq!(
        (plain.data.on_unreadable, own.data.on_unreadable),
        (OnUnreadable::Fail, OnUnreadable::Skip)
    );
    assert_eq!(
        (own.student.training.epochs, own.student.training.learning_rate),
        (7, 0.05)
    );
    assert_eq!(
        (own.student.training.batch_size, own.student.hints),
        (32, Hints::EndToEnd)
    );
    assert_eq!((plain.student.budget, own.student.budget), (Some(0.5), None));
    assert_eq!(
        (plain.student.bn_mode, own.student.bn_mode),
        (BnMode::Task, BnMode::Frozen)
    );
    assert_eq!(plain.candidates.k.as_deref(), Some(&[2, 4, 6][..]));
    assert_eq!(own.candidates.k.as_deref(), Some(&[1][..]));
    assert_eq!(
        (own.teacher.epochs, own.teacher.batch_size, plain.teacher.epochs),
        (6, 64, 20)
    );
}

#[test]
fn a_source_is_laid_over_its_own_defaults() {
    let text = "
version: 1
backbone: {arch: resnet18, source: {data: {path: s, image_size: 96}, training: {epochs: 3}}}
defaults: {data: {image_size: 64}, teacher: {epochs: 7}, seed: 5}
tasks: [{name: digits, data: {path: digits}}]
";
    let source = parse(text).backbone.source.expect("a source");
    let bare: SourceSettings =
        serde_json::from_str(r#"{"data": {"path": "s"}}"#).expect("complete by itself");
    assert_eq!((source.data.image_size, source.training.epochs), (96, 3));
    assert_eq!(
        (source.training.learning_rate, source.training.batch_size),
        (0.1, 64)
    );
    assert_eq!(
        (bare.training.epochs, bare.data.image_size, bare.seed),
        (60, 224, 0)
    );
    // What is said about tasks says nothing about it.
    let mut same = bare;
    (same.data.image_size, same.training.epochs) = (96, 3);
    assert_eq!(source, same);
}

#[test]
fn a_source_must_make_sense() {
    let with = |backbone: &str| SMALL.replace("lite0", &format!("{{arch: lite0, {backbone}}}"));
    let cases = [
        (
            "weights: w.pth, source: {data: {path: s}}",
            "2:41: backbone.source: expected either `weights` or a `source` to train them on, found both",
        ),
        ("source: {}", "2:33: backbone.source: missing key `data`"),
        (
            "source: {data: {image_size: 64}}",
            "2:40: backbone.source.data: missing key `path`",
        ),
        (
            "source: images",
            "2:33: backbone.source: expected a mapping, found \"images\"",
        ),
        (
            "source: {data: {path: s}, training: {epochs: 0}}",
            "2:70: backbone.source.training.epochs: expected at least 1 (only candidates may go untrained), found 0",
        ),
        (
            "source: {data: {path: s}, training: {milestones: [0.8, 0.4]}}",
            "2:74: backbone.source.training.milestones: expected shares of the epochs between 0 and 1, ascending, \
             found [0.8, 0.4]",
        ),
        (
            "source: {data: {path: s, augment: {resized_crop: [1, 0.5]}}}",
            "2:74: backbone.source.data.augment.resized_crop: expected [least, most], shares of the area above 0 and \
             up to 1, found [1, 0.5]",
        ),
        (
            "source: {data: {path: s}, trainng: {epochs: 1}}",
            "2:51: backbone.source.trainng: unknown key; did you mean `training`?",
        ),
        (
            "source: {data: {path: s}, epochs: 1}",
            "2:51: backbone.source.epochs: unknown key; did you mean `training.epochs`?",
        ),
    ];
    for (backbone, expected) in cases {
        one(&with(backbone), expected);
    }
}

#[test]
fn what_may_be_none_at_all() {
    let task = &parse(&with(
        "max_skip: 0\n  candidates: {search: halving, training: {epochs: 0}}",
    ))
    .tasks[0];
    assert_eq!((task.max_skip, task.candidates.training.epochs), (0, 0));
    assert_eq!(task.candidates.search, Search::Halving);
    one(
        &with("max_skip: 17"),
        "6:13: tasks[0].max_skip: expected a whole number from 0 to 16, found 17",
    );
    let untrained = "expected at least 1 (only candidates may go untrained), found 0";
    one(
        &with("teacher: {epochs: 0}"),
        &format!("6:21: tasks[0].teacher.epochs: {untrained}"),
    );
    one(
        &with("student: {training: {epochs: 0}}"),
        &format!("6:32: tasks[0].student.training.epochs: {untrained}"),
    );
    one(
        &SMALL.replace("tasks:", "defaults: {teacher: {epochs: 0}}\ntasks:"),
        &format!("3:30: defaults.teacher.epochs: {untrained}"),
    );
}

#[test]
fn a_cosine_needs_no_milestones_and_ignores_those_it_has() {
    for milestones in ["", ", milestones: []", ", milestones: [0.5]"] {
        let file = parse(&with(&format!("teacher: {{schedule: cosine{milestones}}}")));
        assert_eq!(file.tasks[0].teacher.schedule, Schedule::Cosine);
    }
    one(
        &with("teacher: {schedule: linear}"),
        "6:23: tasks[0].teacher.schedule: expected `step` or `cosine`, found \"linear\"",
    );
}

#[test]
fn tasks_may_share_the_data_of_the_defaults() {
    let text =
        "version: 1\nbackbone: lite0\ndefaults: {data: {path: d}}\ntasks: [{name: a}, {name: b, seed: 1}]\n";
    assert!(parse(text).tasks.iter().all(|task| task.data.path == "d"));
    let without = text.replace("{path: d}", "{test: 0.1}");
    assert_eq!(
        problems(&without),
        [
            "4:9: tasks[0]: missing key `data`",
            "4:20: tasks[1]: missing key `data`"
        ]
    );
}

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

/// A change to the small file, and the one line it gives.
#[track_caller]
fn one(text: &str, expected: &str) {
    assert_eq!(problems(text), [expected], "{text}");
}

/// The small file with more settings of its task.
fn with(settings: &str) -> String {
    format!("{SMALL}  {settings}\n")
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
        "6:15: tasks[0].resources.gpus: unknown key: expected `max_attempts` or `stage_minutes`",
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
fn aliases_repeat_but_not_without_end() {
    let file = parse(
        "version: 1\nbackbone: lite0\ntasks:\n- name: a\n  data: &d {path: x, image_size: 32}\n- {name: b, data: *d}\n",
    );
    assert_eq!(file.tasks[0].data, file.tasks[1].data);

    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let last = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![last; 10].join(", "));
    }
    let lines = problems(&bomb);
    assert!(
        lines.len() == 1 && lines[0].contains("aliases repeat more than 1000000 values"),
        "{lines:?}"
    );
    // Each line is shallow, and nests what the one before it named.
    let mut tower = String::from("a0: &a0 []\n");
    for level in 1..200 {
        tower += &format!("a{level}: &a{level} [[[[[[*a{}]]]]]]\n", level - 1);
    }
    one(
        &tower,
        "7:15: expected at most 32 levels of lists and mappings, found more",
    );
    one(
        "a: &a [*a]\n",
        "1:8: an alias cannot stand inside what it repeats",
    );
}

#[test]
fn numbers_may_be_written_as_people_write_them() {
    let file = parse(&with(
        "teacher: {epochs: 1e1, learning_rate: 1, batch_size: 0x10}",
    ));
    let teacher = &file.tasks[0].teacher;
    assert_eq!(
        (teacher.epochs, teacher.learning_rate, teacher.batch_size),
        (10, 1.0, 16)
    );
    let text = SMALL.replace("name: digits", "name: \"0123\"");
    assert_eq!(parse(&text).tasks[0].name.as_str(), "0123");
    assert_eq!(
        parse(&format!("\u{feff}{SMALL}")).tasks.len(),
        1,
        "a byte-order mark is no content"
    );
    assert_eq!(parse(&SMALL.replace('\n', "\r\n")).tasks.len(), 1);
}

#[test]
fn fifty_thousand_tasks_are_read_in_time_that_grows_with_their_number() {
    let task = |i: usize| {
        format!("- {{name: t{i}, data: {{path: p{i}}}, student: {{gamma1: 0.2, training: {{epochs: 3}}}}}}\n")
    };
    let text: String = std::iter::once("version: 1\nbackbone: lite0\ntasks:\n".to_owned())
        .chain((0..50_000).map(task))
        .collect();
    let file = parse(&text);
    assert_eq!(file.tasks.len(), 50_000);
    assert_eq!(file.tasks[49_999].student.training.epochs, 3);
    let wrong = text.replace("gamma1", "gama1");
    assert_eq!(TasksFile::parse(&wrong).expect_err("misspelt").len(), 50_000);
}

#[test]
fn the_published_schema_is_the_derived_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/tasks.schema.json");
    let published =
        std::fs::read_to_string(path).expect("docs/schema/tasks.schema.json is in the repository");
    let derived = serde_json::to_string_pretty(&schema()).expect("plain data") + "\n";
    assert!(
        published == derived,
        "docs/schema/tasks.schema.json is not the derived schema; write it anew with\n\
         cargo run -p nettailor-domain --example schema > docs/schema/tasks.schema.json"
    );
}

#[test]
fn the_schema_itself_accepts_and_refuses() {
    let validator = jsonschema::draft202012::new(&schema()).expect("a schema");
    let document =
        |task: serde_json::Value| serde_json::json!({"version": 1, "backbone": "lite0", "tasks": [task]});
    let mut everything = default_document();
    everything["name"] = "full".into();
    everything["data"]["path"] = "p".into();
    assert!(
        validator.is_valid(&document(everything.clone())),
        "every default is valid where it stands"
    );
    everything["student"]["gamma1"] = (-1).into();
    assert!(!validator.is_valid(&document(everything)));
    assert!(
        !validator.is_valid(&document(serde_json::json!({"name": "a"}))),
        "no path"
    );
}

#[test]
fn the_guide_s_example_is_complete_and_states_the_defaults() {
    let guide = include_str!("../../../docs/task-file.md");
    let mut blocks = guide
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default());
    let first = parse(blocks.next().expect("a first example"));
    assert!(!first.tasks.is_empty());
    // The full example writes every default out: without its `defaults`, the tasks are the same.
    let full = blocks.next().expect("a full example");
    let (head, rest) = full.split_once("defaults:\n").expect("defaults");
    let (_, tasks) = rest.split_once("\ntasks:\n").expect("tasks");
    assert_eq!(parse(full), parse(&format!("{head}tasks:\n{tasks}")));
    // And leaves none out.
    fn leaves(value: &serde_json::Value, found: &mut Vec<String>) {
        for (key, inner) in value.as_object().into_iter().flatten() {
            found.push(key.clone());
            leaves(inner, found);
        }
    }
    let mut keys = Vec::new();
    leaves(&default_document(), &mut keys);
    leaves(&default_source(), &mut keys);
    for key in keys {
        assert!(
            rest.contains(&format!("{key}:")),
            "the full example does not show `{key}`"
        );
    }
    for other in blocks {
        parse(other);
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(version: 1\nbackbone: lite0\n)?[-a-z0-9:{}\\[\\]&*#!|>'\" \n\t.%@]{0,80}") {
        let _ = TasksFile::parse(&text);
    }

    #[test]
    fn one_changed_character_gives_a_place_inside_the_text(at in 0usize..70, by in prop::sample::select(&b"x{[:&*'\n-9"[..])) {
        let mut bytes = SMALL.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = by;
        let text = String::from_utf8(bytes).expect("ASCII");
        if let Err(problems) = TasksFile::parse(&text) {
            for problem in &problems {
                prop_assert!((1..=text.lines().count() + 1).contains(&problem.at.line), "{}", problem);
            }
        }
    }
}
