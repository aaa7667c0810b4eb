//! What is accepted, and what it becomes.

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::{
    BnMode, Hints, OnUnreadable, Schedule, Search, SourceSettings, TaskSpec, Workers,
};
use nettailor_domain::taskfile::TasksFile;
use proptest::prelude::*;

use crate::{SMALL, one, parse, problems, with};

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
  student: {training: {epochs: 7}, hints: local, budget: 0.5}
  candidates: {k: [2, 4, 6]}
tasks:
- name: plain
  data: {path: a}
- name: own
  data: {path: b, augment: {horizontal_flip: true}, on_unreadable: skip}
  student: {training: {learning_rate: 0.05}, bn_mode: task, budget: ~}
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
        (32, Hints::Local)
    );
    assert_eq!((plain.student.budget, own.student.budget), (Some(0.5), None));
    assert_eq!(
        (plain.student.bn_mode, own.student.bn_mode),
        (BnMode::Frozen, BnMode::Task)
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
fn workers_are_a_number_or_a_range() {
    let written = |workers: &str| {
        let task = parse(&with(&format!("workers: {workers}"))).tasks.remove(0);
        let again: TaskSpec = serde_json::from_value(serde_json::to_value(&task).expect("plain data"))
            .expect("what was written can be read");
        assert_eq!(again, task);
        (task.workers.min(), task.workers.max(), task.workers.to_string())
    };
    assert_eq!(written("4"), (4, 4, "4".into()));
    assert_eq!(written("2..4"), (2, 4, "2..4".into()));
    assert_eq!(written("3..3"), (3, 3, "3".into()));
    assert_eq!(written("1..16"), (1, 16, "1..16".into()));
    let bare = parse(SMALL).tasks.remove(0);
    assert_eq!((bare.workers, bare.sync_bn), (Workers::ONE, false));
    assert_eq!(bare.resources.checkpoint_seconds, 60);
    let every_epoch = parse(&with("resources: {checkpoint_seconds: 0}")).tasks.remove(0);
    assert_eq!(every_epoch.resources.checkpoint_seconds, 0);
    let range = |min, max| Workers::new(min, max).expect("a range");
    assert_eq!(range(2, 3).or(range(1, 2)), range(1, 3));
    assert!(Workers::new(1, Workers::LIMIT + 1).is_err());
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
