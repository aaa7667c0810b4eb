//! Looking things up in the schema: what stands at a path, in words, and what is near a misspelt one.

use serde_json::Value;

use super::problems::{Path, Step};

/// The schema of the value at `path`; null where the schema knows no such place.
pub(super) fn schema_at<'s>(root: &'s Value, path: &Path) -> &'s Value {
    path.0.iter().fold(resolve(root, root), |schema, step| {
        let schema = container(root, schema);
        let inner = match step {
            Step::Key(key) => schema
                .get("properties")
                .and_then(|properties| properties.get(key)),
            Step::Index(_) => schema.get("items"),
        };
        resolve(root, inner.unwrap_or(&Value::Null))
    })
}

fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => root
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or(&Value::Null),
        None => schema,
    }
}

/// The alternative of a choice that has something inside.
fn container<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let Some(Value::Array(branches)) = schema.get("anyOf") else {
        return schema;
    };
    let mut branches = branches.iter().map(|branch| resolve(root, branch));
    branches
        .find(|branch| branch.get("properties").is_some() || branch.get("items").is_some())
        .unwrap_or(schema)
}

/// The keys of a mapping.
pub(super) fn keys<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s str> {
    properties(root, schema).map(|(key, _)| key).collect()
}

fn properties<'s>(root: &'s Value, schema: &'s Value) -> impl Iterator<Item = (&'s str, &'s Value)> {
    let properties = container(root, schema)
        .get("properties")
        .and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(move |(key, schema)| (key.as_str(), resolve(root, schema)))
}

/// Every key below a mapping, as dotted paths: `training.epochs`. Lists are not entered.
pub(super) fn places(root: &Value, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (key, schema) in properties(root, schema) {
        found.push(key.to_owned());
        found.extend(places(root, schema).iter().map(|inner| format!("{key}.{inner}")));
    }
    found
}

/// The words or numbers among which a value must be chosen; empty if it is free.
pub(super) fn choices(root: &Value, schema: &Value) -> Vec<String> {
    let own = schema
        .get("const")
        .into_iter()
        .chain(schema.get("enum").and_then(Value::as_array).into_iter().flatten());
    let branches = ["oneOf", "anyOf"]
        .into_iter()
        .filter_map(|choice| schema.get(choice)?.as_array())
        .flatten();
    let inner = branches.flat_map(|branch| choices(root, resolve(root, branch)));
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    own.map(plain).chain(inner).collect()
}

/// What the schema accepts, for the end of the sentence "expected ...".
pub(super) fn expected(root: &Value, schema: &Value) -> String {
    let words = choices(root, schema);
    if !words.is_empty() {
        let or_mapping = if container(root, schema).get("properties").is_some() {
            " or a mapping"
        } else {
            ""
        };
        return format!("{}{or_mapping}", one_of(&words));
    }
    let schema = container(root, schema);
    if let Some(Value::Array(branches)) = schema.get("anyOf") {
        let branches = branches
            .iter()
            .map(|branch| expected(root, resolve(root, branch)));
        return branches.collect::<Vec<_>>().join(" or ");
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null"),
        kind => kind.and_then(Value::as_str),
    };
    let bound = |key: &str| schema.get(key).map(Value::to_string);
    match kind {
        Some("integer") => range("a whole number", bound("minimum"), bound("maximum")),
        Some("number") => range("a number", bound("minimum"), bound("maximum")),
        Some("string") if schema.get("minLength").is_some() => "a text that is not empty".to_owned(),
        Some("string") => match schema.pointer("/examples/0").and_then(Value::as_str) {
            Some(example) => format!("a text like `{example}`"),
            None => "a text".to_owned(),
        },
        Some("boolean") => "true or false".to_owned(),
        Some("array") => list(root, schema),
        Some("object") => "a mapping".to_owned(),
        _ => "something else".to_owned(),
    }
}

fn range(kind: &str, least: Option<String>, most: Option<String>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("{kind} from {least} to {most}"),
        (Some(least), None) => format!("{kind} of at least {least}"),
        (None, Some(most)) => format!("{kind} of at most {most}"),
        (None, None) => kind.to_owned(),
    }
}

fn list(root: &Value, schema: &Value) -> String {
    let items = schema.get("items").map(|items| resolve(root, items));
    let kind = match items.and_then(|items| items.get("type")).and_then(Value::as_str) {
        Some("integer") => "whole numbers",
        Some("number") => "numbers",
        Some("object") => "mappings",
        _ => "values",
    };
    let count = |key: &str| schema.get(key).and_then(Value::as_u64);
    match (count("minItems"), count("maxItems")) {
        (Some(least), Some(most)) if least == most => format!("a list of {least} {kind}"),
        (Some(1), None) => format!("a list of at least one of {kind}"),
        _ => format!("a list of {kind}"),
    }
}

/// "`a`, `b` or `c`".
pub(super) fn one_of<T: AsRef<str>>(words: &[T]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// The candidate whose last dotted part is most like `text`, if one is alike enough to have been meant; the first among
/// equals.
pub(super) fn nearest<T: AsRef<str>>(text: &str, candidates: impl IntoIterator<Item = T>) -> Option<T> {
    const ALIKE: f64 = 0.6;
    let plain = |text: &str| text.to_lowercase().replace(['-', ' '], "_");
    let text = plain(text);
    let mut best = (ALIKE, None);
    for candidate in candidates {
        let last = plain(candidate.as_ref().rsplit('.').next().unwrap_or_default());
        let likeness = strsim::normalized_damerau_levenshtein(&text, &last);
        if likeness > best.0 {
            best = (likeness, Some(candidate));
        }
    }
    best.1
}
