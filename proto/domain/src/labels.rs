//! What tells workers apart.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;

/// Names with values, as `gpu=h100`: what a worker has, or what a job asks of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of these are among `others`.
    pub fn are_in(&self, others: &Self) -> bool {
        self.0
            .iter()
            .all(|(name, value)| others.0.get(name) == Some(value))
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn is_part(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'/');
    matches!(text.len(), 1..=63) && text.bytes().all(allowed)
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = InvalidId;
    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, InvalidId> {
        let wrong = labels
            .iter()
            .find(|(name, value)| !is_part(name) || !is_part(value));
        match wrong {
            None => Ok(Self(labels)),
            Some((name, value)) => Err(InvalidId {
                kind: "label",
                text: format!("{name}={value}"),
                expected: "name=value, each of 1 to 63 characters out of A-Z, a-z, 0-9, `-`, `_`, `.` and `/`",
            }),
        }
    }
}

impl FromIterator<(String, String)> for Labels {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(labels: I) -> Self {
        Self(labels.into_iter().collect())
    }
}

/// One label, as it is written on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(pub String, pub String);

impl FromStr for Label {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let label = (name.to_owned(), value.to_owned());
        Labels::try_from(BTreeMap::from([label.clone()]))?;
        Ok(Self(label.0, label.1))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        f.pad(&labels.collect::<Vec<_>>().join(","))
    }
}
