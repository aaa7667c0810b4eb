//! The JSON Schema of a tasks file, derived from the types of [`crate::task`], and the default document.

use std::sync::LazyLock;

use jsonschema::Validator;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::task::{BackboneSpec, SourceSettings, TaskSpec};

/// Everything that is derived from the types, once per process.
pub(super) struct Compiled {
    pub(super) schema: Value,
    pub(super) validator: Validator,
    /// A task without name and data path: every default.
    pub(super) defaults: Value,
    /// The same for a backbone's source.
    pub(super) source_defaults: Value,
}

pub(super) static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let (defaults, source_defaults) = (default_document(), default_source());
    let schema = derive(&defaults, &source_defaults);
    let validator =
        jsonschema::draft202012::new(&schema).expect("the derived schema is valid: tests compile it");
    Compiled {
        schema,
        validator,
        defaults,
        source_defaults,
    }
});

/// The published JSON Schema (draft 2020-12) of a tasks file, as `docs/schema/tasks.schema.json` holds it.
pub fn schema() -> Value {
    COMPILED.schema.clone()
}

/// The settings that a task has if its file says nothing: [`TaskSpec`] without `name` and `data.path`.
pub fn default_document() -> Value {
    let bare = json!({ "name": "task", "data": { "path": "." } });
    let task: TaskSpec =
        serde_json::from_value(bare).expect("a name and a path are all that a task needs: tested");
    let mut document = serde_json::to_value(task).expect("a task is plain data");
    remove(&mut document, "name");
    remove(&mut document["data"], "path");
    document
}

/// The settings that a backbone's source has if its file says nothing: [`SourceSettings`] without `data.path`.
pub fn default_source() -> Value {
    let source: SourceSettings = serde_json::from_value(json!({ "data": { "path": "." } }))
        .expect("a path is all that a source needs: tested");
    let mut document = serde_json::to_value(source).expect("a source is plain data");
    remove(&mut document["data"], "path");
    document
}

fn remove(value: &mut Value, key: &str) {
    if let Value::Object(map) = value {
        // Keeps the order of the others, which is the order in which people read them.
        map.shift_remove(key);
    }
}

fn derive(defaults: &Value, source_defaults: &Value) -> Value {
    let mut task = schema_of::<TaskSpec>();
    settle(&mut task, Some(defaults));
    let mut source = schema_of::<SourceSettings>();
    settle(&mut source, Some(source_defaults));
    // A source stands for itself: there is nothing else its data could come from.
    source["required"] = json!(["data"]);
    source["properties"]["data"]["required"] = json!(["path"]);
    let mut backbone = schema_of::<BackboneSpec>();
    settle(&mut backbone, None);
    let description = backbone["properties"]["source"]["description"].take();
    backbone["properties"]["source"] = json!({ "description": description, "$ref": "#/$defs/source" });
    // The short form of `backbone` is the same choice as its `arch`.
    let mut arch = backbone["properties"]["arch"].clone();
    remove(&mut arch, "description");

    // Sections are named once and used by `defaults` and by every task.
    let mut sections = Map::new();
    let mut settings = Map::new();
    if let Some(Value::Object(properties)) = task.get_mut("properties").map(Value::take) {
        for (name, schema) in properties {
            settings.insert(name.clone(), json!({ "$ref": format!("#/$defs/{name}") }));
            sections.insert(name, schema);
        }
    }
    let task_properties = Value::Object(settings.clone());
    settings.shift_remove("name");
    sections.insert("backbone".into(), backbone);
    sections.insert("source".into(), source);

    // The path may be a default too (several tasks on the same data): a task needs its own only if it is not.
    let shared_path = json!({
        "required": ["defaults"],
        "properties": { "defaults": {
            "required": ["data"],
            "properties": { "data": { "required": ["path"] } },
        } },
    });
    let own_path = json!({ "properties": { "tasks": { "items": {
        "required": ["data"],
        "properties": { "data": { "required": ["path"] } },
    } } } });

    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "NetTailor tasks file",
        "description": "One backbone and the tasks to tailor it to. Each task is laid over `defaults`, which are laid over the built-in defaults shown here.",
        "type": "object",
        "additionalProperties": false,
        "required": ["version", "backbone", "tasks"],
        "properties": {
            "version": { "description": "Version of the format.", "const": 1 },
            "backbone": {
                "description": "The pre-trained network that all tasks share: its name, or its name and where its weights come from: a file, or a source data set to train it on.",
                "anyOf": [arch, { "$ref": "#/$defs/backbone" }],
            },
            "defaults": {
                "description": "Settings for every task that does not say otherwise: all of a task's keys but `name`.",
                "type": "object",
                "additionalProperties": false,
                "properties": settings,
            },
            "tasks": {
                "description": "The tasks, one tailored network each.",
                "type": "array",
                "minItems": 1,
                "items": {
                    "description": "One recognition task.",
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["name"],
                    "properties": task_properties,
                },
            },
        },
        "if": shared_path,
        "else": own_path,
        "$defs": sections,
    })
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_deserialize()
        .with(|s| s.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Makes a derived schema fit for documents that are laid over `defaults`: what has a default is not required, and every
/// setting states its own default rather than its section's.
fn settle(schema: &mut Value, defaults: Option<&Value>) {
    let Value::Object(map) = schema else { return };
    for derived in ["$schema", "title", "format", "default"] {
        map.shift_remove(derived);
    }
    if let Some(Value::String(description)) = map.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    let is_section = map.contains_key("properties");
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        for (key, property) in properties.iter_mut() {
            settle(property, defaults.and_then(|document| document.get(key)));
        }
    }
    if let Some(Value::Array(required)) = map.get_mut("required") {
        // What no default can supply stays required, but for a task's name and path, which are the document's own concern.
        required.retain(|_| defaults.is_none());
        if required.is_empty() {
            map.shift_remove("required");
        }
    }
    if let Some(items) = map.get_mut("items") {
        settle(items, None);
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = map.get_mut(choice) {
            branches.iter_mut().for_each(|branch| settle(branch, None));
        }
    }
    if let Some(default) = defaults.filter(|_| !is_section) {
        map.insert("default".into(), default.clone());
    }
}
