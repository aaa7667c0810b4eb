//! A validation error -> a problem in words, with its place in the text and what was probably meant.

use std::collections::HashSet;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::problems::{Path, Position, Problem, Step};
use super::shape::{choices, expected, keys, nearest, one_of, places, schema_at};
use super::yaml::{Content, Node};
use crate::ids::TaskName;

/// Turns validation errors into problems.
pub(super) struct Explainer<'a> {
    schema: &'a Value,
    document: &'a Node,
    /// Values that were reported already.
    spoilt: &'a HashSet<Path>,
    problems: Vec<Problem>,
    missing: Vec<(Path, String)>,
    /// Keys that were probably meant by unknown ones.
    meant: HashSet<(Path, String)>,
}

impl<'a> Explainer<'a> {
    pub(super) fn new(schema: &'a Value, document: &'a Node, spoilt: &'a HashSet<Path>) -> Self {
        Self {
            schema,
            document,
            spoilt,
            problems: Vec::new(),
            missing: Vec::new(),
            meant: HashSet::new(),
        }
    }

    /// The problems behind `errors`. A missing key is not reported where an unknown one looks like it.
    pub(super) fn explain<'e>(mut self, errors: impl Iterator<Item = ValidationError<'e>>) -> Vec<Problem> {
        for error in errors {
            self.one(&error);
        }
        for (path, key) in std::mem::take(&mut self.missing) {
            let problem = Problem::new(self.position(&path), &path, format!("missing key `{key}`"));
            if !self.meant.contains(&(path, key)) {
                self.problems.push(problem);
            }
        }
        self.problems
    }

    fn one(&mut self, error: &ValidationError<'_>) {
        let path = path_of(error);
        if self.spoilt.contains(&path) {
            return;
        }
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                self.missing
                    .push((path, property.as_str().unwrap_or_default().to_owned()));
            }
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                unexpected.iter().for_each(|key| self.unknown_key(&path, key));
            }
            ValidationErrorKind::AnyOf { context } if error.instance().is_object() => {
                // The alternative that takes a mapping is the one that complains about what is in it.
                let inside = |e: &ValidationError<'_>| {
                    let about_keys = matches!(
                        e.kind(),
                        ValidationErrorKind::Required { .. }
                            | ValidationErrorKind::AdditionalProperties { .. }
                    );
                    about_keys || path_of(e) != path
                };
                match context.iter().find(|errors| errors.iter().all(inside)) {
                    Some(errors) => errors.iter().for_each(|error| self.one(error)),
                    None => self.wrong_value(&path),
                }
            }
            _ => self.wrong_value(&path),
        }
    }

    fn position(&self, path: &Path) -> Position {
        self.document.at(path).map_or(Position::START, |node| node.at)
    }

    fn wrong_value(&mut self, path: &Path) {
        let Some(node) = self.document.at(path) else {
            return;
        };
        let schema = schema_at(self.schema, path);
        // The one pattern among the settings is the task's name.
        let name = node
            .text()
            .filter(|_| schema.get("pattern").is_some())
            .map(str::parse::<TaskName>);
        let expected = match name {
            Some(Err(invalid)) => invalid.expected.to_owned(),
            _ => expected(self.schema, schema),
        };
        let suggestion = node
            .text()
            .and_then(|text| nearest(text, choices(self.schema, schema)));
        let message = format!("expected {expected}, found {}", found(node));
        self.problems
            .push(Problem::new(node.at, path, message).suggest(suggestion));
    }

    fn unknown_key(&mut self, parent: &Path, key: &str) {
        let path = parent.key(key);
        let at = self
            .document
            .at(parent)
            .and_then(|node| node.entry(key))
            .map_or(Position::START, |entry| entry.at);
        if key == "<<" {
            let message = "merge keys are not read: put what tasks share under `defaults`";
            self.problems.push(Problem::new(at, &path, message));
            return;
        }
        let suggestion = self.meant_by(parent, key);
        let message = match &suggestion {
            Some(_) => "unknown key".to_owned(),
            None => format!(
                "unknown key: expected {}",
                one_of(&keys(self.schema, schema_at(self.schema, parent)))
            ),
        };
        self.meant
            .extend(suggestion.clone().map(|meant| (parent.clone(), meant)));
        self.problems
            .push(Problem::new(at, &path, message).suggest(suggestion));
    }

    /// The key that `key` was probably meant to be: one of the same mapping, else one inside it, else one of the same task.
    fn meant_by(&self, parent: &Path, key: &str) -> Option<String> {
        let here = schema_at(self.schema, parent);
        let same_mapping = || nearest(key, keys(self.schema, here)).map(str::to_owned);
        let inside = || nearest(key, places(self.schema, here));
        let same_task = || {
            let task = match parent.0.first() {
                Some(Step::Key(first)) if first == "defaults" => Path(parent.0[..1].to_vec()),
                Some(Step::Key(first)) if first == "tasks" && parent.0.len() > 1 => {
                    Path(parent.0[..2].to_vec())
                }
                _ => return None,
            };
            let place = nearest(key, places(self.schema, schema_at(self.schema, &task)))?;
            Some(format!("{task}.{place}"))
        };
        same_mapping().or_else(inside).or_else(same_task)
    }
}

fn path_of(error: &ValidationError<'_>) -> Path {
    Path::from_pointer(error.instance_path().as_str())
}

/// A value in words.
pub(super) fn found(node: &Node) -> String {
    const LONGEST: usize = 40;
    match &node.content {
        Content::Scalar(Value::Null) => "nothing".to_owned(),
        Content::Scalar(Value::String(text)) if text.chars().count() > LONGEST => {
            format!("\"{}...\"", text.chars().take(LONGEST).collect::<String>())
        }
        Content::Scalar(value) => value.to_string(),
        Content::NotFinite(number) => number.to_string(),
        Content::List(items) if items.is_empty() => "an empty list".to_owned(),
        Content::List(items) => {
            let short = items.len() <= 6 && items.iter().all(|item| item.number().is_some());
            if short {
                format!("[{}]", items.iter().map(found).collect::<Vec<_>>().join(", "))
            } else {
                "a list".to_owned()
            }
        }
        Content::Map(_) => "a mapping".to_owned(),
    }
}
