//! What a tasks file must satisfy beyond its schema. Every check reads the tree as written, so that its problems have a
//! place; a value of the wrong type is left to the schema.

use std::collections::HashMap;

use super::explain::found;
use super::problems::{Path, Problem, Step};
use super::yaml::Node;
use crate::backbone::BackboneName;

/// Problems that the schema cannot see.
pub(super) fn check(document: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    let layers = backbone(document).map(|name| (name, name.describe().layers()));
    let defaults = document
        .get("defaults")
        .map(|node| (Path(vec![Step::Key("defaults".into())]), node));
    let tasks = document.get("tasks").and_then(Node::list).unwrap_or_default();
    let tasks_path = Path(vec![Step::Key("tasks".into())]);
    let sections = tasks
        .iter()
        .enumerate()
        .map(|(index, node)| (tasks_path.index(index), node));
    for (path, section) in defaults.into_iter().chain(sections) {
        section_checks(&path, section, layers, &mut problems);
    }
    unique_names(&tasks_path, tasks, &mut problems);
    problems
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

/// The checks of one task, or of `defaults`.
fn section_checks(
    path: &Path,
    section: &Node,
    layers: Option<(BackboneName, usize)>,
    problems: &mut Vec<Problem>,
) {
    let mut expect = |keys: &[&str], holds: &dyn Fn(&[f64]) -> bool, expected: &str| {
        let Some((node, numbers)) = section.dig(keys).and_then(|node| Some((node, numbers(node)?))) else {
            return;
        };
        if !holds(&numbers) {
            let path = keys.iter().fold(path.clone(), |path, key| path.key(key));
            problems.push(Problem::new(
                node.at,
                &path,
                format!("expected {expected}, found {}", found(node)),
            ));
        }
    };
    let shares = |numbers: &[f64]| {
        numbers.iter().all(|share| (0.0..=1.0).contains(share))
            && numbers.windows(2).all(|pair| pair[0] < pair[1])
    };
    for keys in [
        &["teacher"][..],
        &["student", "training"],
        &["candidates", "training"],
    ] {
        let keys: Vec<&str> = keys.iter().copied().chain(["milestones"]).collect();
        expect(&keys, &shares, "shares of the epochs between 0 and 1, ascending");
    }
    let crop = |numbers: &[f64]| !matches!(numbers, [least, most] if !(0.0 < *least && least <= most && *most <= 1.0));
    expect(
        &["data", "augment", "resized_crop"],
        &crop,
        "[least, most], shares of the area above 0 and up to 1",
    );
    let positive = |numbers: &[f64]| numbers.iter().all(|std| *std > 0.0);
    expect(
        &["data", "normalise", "std"],
        &positive,
        "standard deviations above 0",
    );
    expect(
        &["candidates", "k"],
        &|ks| !ks.is_empty(),
        "at least one number of main blocks to remove",
    );

    let ks = section
        .dig(&["candidates", "k"])
        .and_then(Node::list)
        .unwrap_or_default();
    for (index, k) in ks.iter().enumerate() {
        let (Some(number), Some((name, layers))) = (k.number(), layers) else {
            continue;
        };
        if number > layers as f64 {
            let path = path.key("candidates").key("k").index(index);
            let message = format!(
                "expected at most {layers}, the main blocks of {name}, found {}",
                found(k)
            );
            problems.push(Problem::new(k.at, &path, message));
        }
    }
}

/// The numbers of a list of nothing else.
fn numbers(node: &Node) -> Option<Vec<f64>> {
    node.list()?.iter().map(Node::number).collect()
}
