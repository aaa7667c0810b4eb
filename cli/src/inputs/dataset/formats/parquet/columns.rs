//! Which columns of a Parquet file hold images and labels, and what its metadata say about classes.

use std::path::Path;

use ::parquet::basic::Type;
use ::parquet::file::metadata::ParquetMetaData;
use serde_json::Value;

use super::super::super::Error;
use super::super::super::error::At;

/// Key of the metadata in which data hubs describe their columns.
const FEATURES: &str = "huggingface";
/// Names of image columns, where nothing describes them.
const IMAGES: [&str; 2] = ["image", "img"];
/// Names of label columns: looked for in this order.
const LABELS: [&str; 4] = ["label", "labels", "fine_label", "class"];

/// The columns that matter, by their places among the leaves of the schema.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) images: usize,
    /// Names of the images' files.
    pub(super) paths: Option<usize>,
    pub(super) label: usize,
    pub(super) label_name: String,
    pub(super) label_type: LabelType,
    /// Names of the classes, in label order.
    pub(super) names: Option<Vec<String>>,
    /// Size of all images together, in bytes, nearly: headers of pages included.
    pub(super) bytes: u64,
}

/// How labels are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelType {
    Int32,
    Int64,
    Text,
}

impl Columns {
    /// Finds them in a file.
    pub(super) fn find(path: &Path, metadata: &ParquetMetaData) -> Result<Self, Error> {
        let schema = metadata.file_metadata().schema_descr();
        let leaves: Vec<String> = schema
            .columns()
            .iter()
            .map(|column| column.path().string())
            .collect();
        let leaf = |name: &str| leaves.iter().position(|leaf| leaf == name);
        let features = features(metadata);
        let wrong = |expected: String, found: String| Err(Error::content(path, At::Whole, expected, found));
        let all = || {
            leaves
                .iter()
                .map(|leaf| format!("`{leaf}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };

        let described = named_type(&features, "Image");
        let encoded = |name: &str| leaf(&format!("{name}.bytes")).or_else(|| leaf(name));
        let mut candidates = described.iter().map(String::as_str).chain(IMAGES);
        let Some((images, image)) = candidates.find_map(|name| Some((encoded(name)?, name))) else {
            let expected =
                "a column `image` with the fields `bytes` and `path`, or of encoded images".to_owned();
            return wrong(expected, format!("the columns {}", all()));
        };
        let kind = |column: usize| {
            (
                schema.column(column).physical_type(),
                schema.column(column).max_rep_level(),
            )
        };
        if kind(images) != (Type::BYTE_ARRAY, 0) {
            return wrong(
                format!("one encoded image a row in the column `{}`", leaves[images]),
                words(kind(images)),
            );
        }
        let paths = leaf(&format!("{image}.path")).filter(|&paths| kind(paths) == (Type::BYTE_ARRAY, 0));

        let described = named_type(&features, "ClassLabel");
        let label_name = LABELS
            .into_iter()
            .filter(|name| described.is_empty() || described.iter().any(|label| label == name))
            .chain(described.iter().map(String::as_str))
            .find(|name| leaf(name).is_some());
        let Some((label_name, label)) = label_name.and_then(|name| Some((name, leaf(name)?))) else {
            return wrong("a column `label`".to_owned(), format!("the columns {}", all()));
        };
        let label_type = match kind(label) {
            (Type::INT32, 0) => LabelType::Int32,
            (Type::INT64, 0) => LabelType::Int64,
            (Type::BYTE_ARRAY, 0) => LabelType::Text,
            other => {
                let expected = format!("whole numbers or text in the column `{label_name}`, one a row");
                return wrong(expected, words(other));
            }
        };
        let mut bytes = 0;
        for group in metadata.row_groups() {
            let chunk = group.column(images);
            bytes += u64::try_from(chunk.uncompressed_size()).unwrap_or_default();
            if chunk
                .statistics()
                .and_then(|statistics| statistics.null_count_opt())
                .is_some_and(|nulls| nulls > 0)
            {
                return Err(no_bytes(path, At::Whole));
            }
        }
        let names = features
            .get(label_name)
            .and_then(|feature| feature.get("names"))
            .and_then(Value::as_array);
        let names = names.map(|names| {
            names
                .iter()
                .map(|name| name.as_str().unwrap_or_default().to_owned())
                .collect()
        });
        Ok(Self {
            images,
            paths,
            label,
            label_name: label_name.to_owned(),
            label_type,
            // Text is a name already.
            names: names.filter(|_| label_type != LabelType::Text),
            bytes,
        })
    }
}

/// An image of which the file holds no more than a path.
pub(super) fn no_bytes(path: &Path, at: At) -> Error {
    let expected = "the bytes of every image; write the file with its images embedded";
    Error::content(path, at, expected, "an image without bytes")
}

/// What the metadata say about columns, by name.
fn features(metadata: &ParquetMetaData) -> Value {
    let pairs = metadata.file_metadata().key_value_metadata();
    let text = pairs
        .into_iter()
        .flatten()
        .find(|pair| pair.key == FEATURES)
        .and_then(|pair| pair.value.as_deref());
    let described: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
    described
        .and_then(|mut described| Some(described.get_mut("info")?.get_mut("features")?.take()))
        .unwrap_or_default()
}

/// Names of the columns that the metadata call a `kind`.
fn named_type(features: &Value, kind: &str) -> Vec<String> {
    let columns = features.as_object().into_iter().flatten();
    columns
        .filter(|(_, feature)| feature.get("_type").and_then(Value::as_str) == Some(kind))
        .map(|(name, _)| name.clone())
        .collect()
}

fn words((kind, repeated): (Type, i16)) -> String {
    let lists = if repeated > 0 { "lists of " } else { "" };
    format!("{lists}{kind}")
}
