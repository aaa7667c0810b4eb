//! How many workers train a stage together.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// From how many to how many workers train a stage together, each with one slot: a gang of so many ranks. Written as a
/// number or as a range, `2..4`. The order is that of the least, then of the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Workers {
    min: u32,
    max: u32,
}

/// Why numbers or a text are not [`Workers`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no number of workers: expected a whole number from 1 to {limit}, or a range like 2..4", limit = Workers::LIMIT)]
pub struct InvalidWorkers(String);

/// The two ways to write it down.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u32),
    Range(String),
}

impl Workers {
    /// The most that may be asked for.
    pub const LIMIT: u32 = 64;

    /// One worker by itself.
    pub const ONE: Self = Self { min: 1, max: 1 };

    /// From `min` to `max` workers.
    ///
    /// # Errors
    /// Unless `1 <= min <= max <= LIMIT`.
    pub fn new(min: u32, max: u32) -> Result<Self, InvalidWorkers> {
        if 1 <= min && min <= max && max <= Self::LIMIT {
            Ok(Self { min, max })
        } else {
            Err(InvalidWorkers(Self { min, max }.to_string()))
        }
    }

    /// The fewest with which work begins.
    pub fn min(self) -> u32 {
        self.min
    }

    /// The most that are of use.
    pub fn max(self) -> u32 {
        self.max
    }

    /// From the fewer to the more of both.
    pub fn or(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self::ONE
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { min, max } if min == max => f.pad(&min.to_string()),
            Self { min, max } => f.pad(&format!("{min}..{max}")),
        }
    }
}

impl FromStr for Workers {
    type Err = InvalidWorkers;
    fn from_str(text: &str) -> Result<Self, InvalidWorkers> {
        let invalid = || InvalidWorkers(text.to_owned());
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| text.parse().map_err(|_| invalid());
        Self::new(number(min)?, number(max)?).map_err(|_| invalid())
    }
}

impl TryFrom<Written> for Workers {
    type Error = InvalidWorkers;
    fn try_from(written: Written) -> Result<Self, InvalidWorkers> {
        match written {
            Written::Number(number) => Self::new(number, number),
            Written::Range(text) => text.parse(),
        }
    }
}

impl From<Workers> for Written {
    fn from(workers: Workers) -> Self {
        match workers {
            Workers { min, max } if min == max => Self::Number(min),
            range => Self::Range(range.to_string()),
        }
    }
}

impl JsonSchema for Workers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Workers".into()
    }

    /// That a range ascends and stays within bounds is checked where tasks files are read.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": Self::LIMIT },
                { "type": "string", "pattern": r"^[0-9]+\.\.[0-9]+$", "examples": ["2..4"] },
            ],
        })
    }
}
