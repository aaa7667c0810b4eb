//! What a tasks file must satisfy beyond its schema. Every check reads the tree as written, so that its problems have a
//! place; a value of the wrong type is left to the schema.

use std::collections::HashMap;

use super::TasksFile;
use super::explain::found;
use super::problems::{Path, Problem};
use super::yaml::Node;
use crate::backbone::BackboneName;
use crate::task::{TaskSpec, TrainingSettings, Workers};

/// Problems that the schema cannot see.
pub(super) fn check(document: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(backbone) = document.get("backbone") {
        backbone_checks(backbone, &mut problems);
    }
    let layers = backbone(document).map(|name| (name, name.layers()));
    let defaults = document
        .get("defaults")
        .map(|node| (Path::default().key("defaults"), node));
    let tasks = document.get("tasks").and_then(Node::list).unwrap_or_default();
    let tasks_path = Path::default().key("tasks");
    let sections = tasks
        .iter()
        .enumerate()
        .map(|(index, node)| (tasks_path.index(index), node));
    for (path, node) in defaults.into_iter().chain(sections) {
        let section = Section { path, node };
        section.check_task(&mut problems);
        if let Some((name, layers)) = layers {
            section.check_ladder(name, layers, &mut problems);
        }
    }
    unique_names(&tasks_path, tasks, &mut problems);
    problems
}

/// Every worker takes a part of each batch, of two images where batch norms take their statistics from the part. This looks at
/// complete tasks: the batch may be a task's own and the workers those of `defaults`.
pub(super) fn check_batches(document: &Node, file: &TasksFile) -> Vec<Problem> {
    let of_part = |sync_bn: bool| if sync_bn { 1 } else { 2 };
    let source = file.backbone.source.as_ref();
    let source = source.map(|source| {
        (
            "backbone.source.training",
            &source.training,
            of_part(source.sync_bn),
        )
    });
    let check = |(index, task): (usize, &TaskSpec)| {
        let of_part = of_part(task.sync_bn);
        let stages = [
            ("teacher", &task.teacher, of_part),
            ("student.training", &task.student.training, of_part),
            ("candidates.training", &task.candidates.training, of_part),
        ];
        let most = |(_, training, part): &(&str, &TrainingSettings, u32)| training.batch_size / part;
        let tightest = stages.into_iter().chain(source).min_by_key(most)?;
        let (most, (stage, training, part)) = (most(&tightest), tightest);
        if task.workers.max() <= most.max(1) {
            return None;
        }
        let own = Path::default().key("tasks").index(index).key("workers");
        let shared = Path::default().key("defaults").key("workers");
        let mut places = [own, shared].into_iter();
        let (path, node) = places.find_map(|path| document.at(&path).map(|node| (path, node)))?;
        let message = format!(
            "expected at most {}: every worker takes at least {part} of the {} images of each batch of {stage}, found {}",
            most.max(1),
            training.batch_size,
            found(node)
        );
        Some(Problem::new(node.at, &path, message))
    };
    file.tasks.iter().enumerate().filter_map(check).collect()
}

fn backbone(document: &Node) -> Option<BackboneName> {
    let node = document.get("backbone")?;
    node.get("arch").unwrap_or(node).text()?.parse().ok()
}

fn unique_names(path: &Path, tasks: &[Node], problems: &mut Vec<Problem>) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (index, task) in tasks.iter().enumerate() {
        let Some((node, name)) = task.get("name").and_then(|node| Some((node, node.text()?))) else {
            continue;
        };
        match first.get(name) {
            Some(other) => {
                let message =
                    format!("expected a name of its own, found \"{name}\", which tasks[{other}] has");
                problems.push(Problem::new(node.at, &path.index(index).key("name"), message));
            }
            None => {
                first.insert(name, index);
            }
        }
    }
}

/// A backbone has its weights from one place; its source is checked as a task is.
fn backbone_checks(backbone: &Node, problems: &mut Vec<Problem>) {
    let path = Path::default().key("backbone");
    let Some(source) = backbone.entry("source") else {
        return;
    };
    if backbone.get("weights").is_some_and(|node| node.text().is_some()) {
        let message = "expected either `weights` or a `source` to train them on, found both";
        problems.push(Problem::new(source.at, &path.key("source"), message));
    }
    let section = Section {
        path: path.key("source"),
        node: &source.value,
    };
    section.check_data(problems);
    section.check_training(&["training"], problems);
    section.check_epochs(&["training"], problems);
}

/// One task, `defaults`, or a backbone's source.
struct Section<'a> {
    path: Path,
    node: &'a Node,
}

impl Section<'_> {
    /// Reports the value at the end of `keys` unless it `holds`; one of the wrong type (`None`) is the schema's concern.
    fn expect(
        &self,
        keys: &[&str],
        holds: impl Fn(&Node) -> Option<bool>,
        expected: &str,
        problems: &mut Vec<Problem>,
    ) {
        let Some(node) = self.node.dig(keys).filter(|node| holds(node) == Some(false)) else {
            return;
        };
        let path = keys.iter().fold(self.path.clone(), |path, key| path.key(key));
        let message = format!("expected {expected}, found {}", found(node));
        problems.push(Problem::new(node.at, &path, message));
    }

    fn check_task(&self, problems: &mut Vec<Problem>) {
        self.check_data(problems);
        for keys in [&["teacher"][..], &["student", "training"]] {
            self.check_training(keys, problems);
            self.check_epochs(keys, problems);
        }
        self.check_training(&["candidates", "training"], problems);
        self.expect(
            &["candidates", "k"],
            |ks| Some(!numbers(ks)?.is_empty()),
            "at least one number of main blocks to remove",
            problems,
        );
        self.expect(
            &["workers"],
            |node| Some(range(node.text()?)?.parse::<Workers>().is_ok()),
            &format!("least..most with 1 <= least <= most <= {}", Workers::LIMIT),
            problems,
        );
    }

    fn check_data(&self, problems: &mut Vec<Problem>) {
        let crop = |[least, most]: [f64; 2]| 0.0 < least && least <= most && most <= 1.0;
        self.expect(
            &["data", "augment", "resized_crop"],
            |node| Some(crop(numbers(node)?.try_into().ok()?)),
            "[least, most], shares of the area above 0 and up to 1",
            problems,
        );
        self.expect(
            &["data", "normalise", "std"],
            |node| Some(numbers(node)?.iter().all(|std| *std > 0.0)),
            "standard deviations above 0",
            problems,
        );
    }

    /// The optimiser at the end of `keys`.
    fn check_training(&self, keys: &[&str], problems: &mut Vec<Problem>) {
        let shares = |numbers: &[f64]| {
            numbers.iter().all(|share| (0.0..=1.0).contains(share))
                && numbers.windows(2).all(|pair| pair[0] < pair[1])
        };
        self.expect(
            &[keys, &["milestones"]].concat(),
            |node| Some(shares(&numbers(node)?)),
            "shares of the epochs between 0 and 1, ascending",
            problems,
        );
    }

    /// What is trained from scratch has to be trained; only a candidate can be taken as it was pruned.
    fn check_epochs(&self, keys: &[&str], problems: &mut Vec<Problem>) {
        self.expect(
            &[keys, &["epochs"]].concat(),
            |node| Some(node.number()? != 0.0),
            "at least 1 (only candidates may go untrained)",
            problems,
        );
    }

    /// No more main blocks can be removed than there are.
    fn check_ladder(&self, name: BackboneName, layers: usize, problems: &mut Vec<Problem>) {
        let ks = self.node.dig(&["candidates", "k"]).and_then(Node::list);
        for (index, k) in ks.unwrap_or_default().iter().enumerate() {
            if k.number().is_some_and(|number| number > layers as f64) {
                let path = self.path.key("candidates").key("k").index(index);
                let message = format!(
                    "expected at most {layers}, the main blocks of {name}, found {}",
                    found(k)
                );
                problems.push(Problem::new(k.at, &path, message));
            }
        }
    }
}

/// The text, if it is two whole numbers with `..` between them, as the schema wants it.
fn range(text: &str) -> Option<&str> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let (least, most) = text.split_once("..")?;
    (number(least) && number(most)).then_some(text)
}

/// The numbers of a list of nothing else.
fn numbers(node: &Node) -> Option<Vec<f64>> {
    node.list()?.iter().map(Node::number).collect()
}
