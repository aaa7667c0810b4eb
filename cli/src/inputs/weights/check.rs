//! Whether a weights file is the backbone that it is said to be.

use std::collections::BTreeMap;
use std::fmt;

use nettailor_domain::backbone::{Backbone, BackboneName};

use super::view::TensorView;

/// Differences that are told; the rest is counted.
const TOLD: usize = 5;

/// How a file differs from a backbone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The backbone that was expected.
    pub(crate) expected: BackboneName,
    /// In words; the tensors in the backbone's order, then those that it does not have.
    pub(crate) differences: Vec<String>,
    /// The backbone that the file does hold, if it is a known one.
    pub(crate) looks_like: Option<BackboneName>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "these are not the weights of {}: ", self.expected)?;
        let told: Vec<&str> = self.differences.iter().take(TOLD).map(String::as_str).collect();
        f.write_str(&told.join("; "))?;
        if self.differences.len() > TOLD {
            write!(f, "; and {} more", self.differences.len() - TOLD)?;
        }
        match self.looks_like {
            Some(name) => write!(
                f,
                ". The file looks like {name}: name that backbone, or give another file"
            ),
            None => write!(f, ". Give the publisher's file for this backbone"),
        }
    }
}

impl std::error::Error for Mismatch {}

/// Checks that `tensors` are those of `name`: each of its tensors in its shape, and besides them a classifier at most.
/// A file that holds more is another network, even where the names that both have agree (resnet18 in resnet34).
pub(super) fn check(name: BackboneName, tensors: &BTreeMap<&str, &TensorView>) -> Result<(), Mismatch> {
    let differences = differences(&name.describe(), tensors);
    if differences.is_empty() {
        return Ok(());
    }
    let fits = |other: &BackboneName| self::differences(&other.describe(), tensors).is_empty();
    let looks_like = BackboneName::ALL.into_iter().find(fits);
    Err(Mismatch {
        expected: name,
        differences,
        looks_like,
    })
}

fn differences(backbone: &Backbone, tensors: &BTreeMap<&str, &TensorView>) -> Vec<String> {
    let expected = backbone.tensors();
    let mut differences = Vec::new();
    for tensor in &expected {
        match tensors.get(tensor.name.as_str()) {
            None => differences.push(format!("`{}` {:?} is missing", tensor.name, tensor.shape)),
            Some(found) if found.shape() != tensor.shape => {
                differences.push(format!(
                    "`{}` is {:?}, expected {:?}",
                    tensor.name,
                    found.shape(),
                    tensor.shape
                ));
            }
            Some(_) => {}
        }
    }
    let classifier = format!("{}.", backbone.classifier);
    let known: std::collections::HashSet<&str> = expected.iter().map(|tensor| tensor.name.as_str()).collect();
    let foreign = tensors
        .keys()
        .filter(|name| !known.contains(*name) && !name.starts_with(&classifier));
    differences.extend(foreign.map(|name| format!("`{name}` is no tensor of it")));
    differences
}
