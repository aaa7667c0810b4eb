//! The published schema and the guide say what the types say.

use nettailor_domain::taskfile::{default_document, default_source, schema};

use crate::parse;

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
    let guide = include_str!("../../../../docs/task-file.md");
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
