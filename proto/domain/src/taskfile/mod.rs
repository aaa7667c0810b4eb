//! The tasks file: YAML text -> validated tasks, or every mistake at once with its place.
//!
//! `yaml` reads the text into a tree that remembers positions. `schema` derives the JSON Schema and the default document
//! from the types of [`crate::task`], the one place where settings and defaults are defined. The tree, as JSON, is held
//! against the schema; `explain` puts the errors into words (`shape` answers its questions about the schema); `checks`
//! holds what no schema can say. Only then is each task laid over `defaults`, and those over the default document, and
//! read as a [`TaskSpec`]; a backbone's source is laid over its own defaults.
//!
//! ```
//! use nettailor_domain::taskfile::TasksFile;
//!
//! let text = "version: 1\nbackbone: lite0\ntasks:\n  - {name: digits, data: {path: digits}, teacher: {epochs: 6}}\n";
//! let file = TasksFile::parse(text).expect("complete");
//! assert_eq!((file.tasks[0].teacher.epochs, file.tasks[0].teacher.batch_size), (6, 64));
//!
//! let problems = TasksFile::parse(&text.replace("teacher", "techer")).expect_err("misspelt");
//! assert_eq!(problems.to_string(), "4:42: tasks[0].techer: unknown key; did you mean `teacher`?");
//! ```

mod checks;
mod explain;
mod problems;
mod schema;
mod shape;
mod yaml;

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use crate::task::{BackboneSpec, TaskSpec};
use explain::Explainer;
use problems::Path;
use schema::COMPILED;
use yaml::Node;

pub use problems::{Position, Problem, Problems};
pub use schema::{default_document, default_source, schema};

/// A tasks file: one backbone and the tasks to tailor it to, complete with every default.
#[derive(Debug, Clone, PartialEq)]
pub struct TasksFile {
    /// The shared network.
    pub backbone: BackboneSpec,
    /// The tasks, in the order of the file, with different names.
    pub tasks: Vec<TaskSpec>,
}

/// `backbone` as it may be written.
#[derive(Deserialize)]
#[serde(untagged)]
#[allow(
    clippy::large_enum_variant,
    reason = "one for each file, and gone when it is read"
)]
enum BackboneForm {
    Name(crate::backbone::BackboneName),
    Full(BackboneSpec),
}

impl TasksFile {
    /// Reads a tasks file. Pure: paths in it are neither resolved nor looked at. The error lists every mistake.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let nothing = || {
            let message = "expected a mapping with the keys `version`, `backbone` and `tasks`, found nothing";
            Problem {
                at: Position::START,
                path: String::new(),
                message: message.into(),
                suggestion: None,
            }
        };
        let document = match yaml::compose(text) {
            Ok(document) => document.ok_or_else(|| Problems::new(vec![nothing()]))?,
            Err(problem) => return Err(Problems::new(vec![problem])),
        };
        let (mut problems, mut spoilt) = (Vec::new(), HashSet::new());
        let value = document.to_json(&mut problems, &mut spoilt);
        let errors = COMPILED.validator.iter_errors(&value);
        problems.extend(Explainer::new(&COMPILED.schema, &document, &spoilt).explain(errors));
        problems.extend(checks::check(&document));
        if !problems.is_empty() {
            return Err(Problems::new(problems));
        }
        let file = build(value, &document)?;
        match checks::check_batches(&document, &file) {
            problems if problems.is_empty() => Ok(file),
            problems => Err(Problems::new(problems)),
        }
    }
}

/// Lays tasks over defaults. What passed the schema and the checks is expected to fit the types; should it not, the
/// problem says where.
fn build(mut value: Value, document: &Node) -> Result<TasksFile, Problems> {
    let problem = |path: Path, error: serde_json::Error| {
        let at = document.at(&path).map_or(Position::START, |node| node.at);
        Problem {
            at,
            path: path.to_string(),
            message: error.to_string(),
            suggestion: None,
        }
    };
    let mut problems = Vec::new();
    if let Some(source) = value["backbone"].get_mut("source") {
        let mut complete = COMPILED.source_defaults.clone();
        lay_over(&mut complete, source.take());
        *source = complete;
    }
    let backbone = match serde_json::from_value(value["backbone"].take()) {
        Ok(BackboneForm::Name(arch)) => Some(BackboneSpec {
            arch,
            weights: None,
            source: None,
        }),
        Ok(BackboneForm::Full(spec)) => Some(spec),
        Err(error) => {
            problems.push(problem(Path::default().key("backbone"), error));
            None
        }
    };
    let mut defaults = COMPILED.defaults.clone();
    lay_over(&mut defaults, value["defaults"].take());
    let mut tasks = Vec::new();
    if let Value::Array(written) = value["tasks"].take() {
        tasks.reserve(written.len());
        for (index, task) in written.into_iter().enumerate() {
            let mut complete = defaults.clone();
            lay_over(&mut complete, task);
            match TaskSpec::deserialize(complete) {
                Ok(task) => tasks.push(task),
                Err(error) => problems.push(problem(Path::default().key("tasks").index(index), error)),
            }
        }
    }
    match backbone {
        Some(backbone) if problems.is_empty() => Ok(TasksFile { backbone, tasks }),
        _ => Err(Problems::new(problems)),
    }
}

/// Mappings are merged key by key, anything else replaces what was there. An absent document (null) changes nothing.
fn lay_over(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(inner) if value.is_object() => lay_over(inner, value),
                    _ => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (_, Value::Null) => {}
        (base, over) => *base = over,
    }
}
