//! Messages into domain types, which can fail, and back, which cannot.
//!
//! - [`common`]: artifacts and accuracies. [`jobs`]: inputs and progress. [`registry`]: models, queries, backbones.
//! - [`session`]: what an agent and the coordinator say to each other, as two enums of plain types.

pub mod common;
pub mod jobs;
pub mod registry;
pub mod session;

use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a message is not a domain value. Becomes `invalid_argument` on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field that must be there is not.
    #[error("field `{field}` is missing")]
    Missing {
        /// Path of the field, e.g. `lineage.job`.
        field: String,
    },
    /// A field has a value that it cannot have.
    #[error("field `{field}`: {reason}")]
    Invalid {
        /// Path of the field.
        field: String,
        /// What is wrong with the value.
        reason: String,
    },
}

impl Error {
    /// `field` has a value that it cannot have.
    pub fn invalid(field: &str, reason: impl Display) -> Self {
        Self::Invalid {
            field: field.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// `field` must be there.
    pub fn missing(field: &str) -> Self {
        Self::Missing {
            field: field.to_owned(),
        }
    }

    /// The same error seen from the message that holds the message.
    pub fn within(self, outer: &str) -> Self {
        match self {
            Self::Missing { field } => Self::Missing {
                field: format!("{outer}.{field}"),
            },
            Self::Invalid { field, reason } => Self::Invalid {
                field: format!("{outer}.{field}"),
                reason,
            },
        }
    }
}

/// Reads a text field.
pub fn parse<T>(text: &str, field: &str) -> Result<T, Error>
where
    T: FromStr<Err: Display>,
{
    if text.is_empty() {
        return Err(Error::missing(field));
    }
    text.parse().map_err(|error| Error::invalid(field, error))
}

/// Reads a repeated text field.
pub fn parse_all<T>(texts: &[String], field: &str) -> Result<Vec<T>, Error>
where
    T: FromStr<Err: Display>,
{
    texts.iter().map(|text| parse(text, field)).collect()
}

/// Reads a message field that may be absent.
pub fn optional<M, T>(message: Option<M>, field: &str) -> Result<Option<T>, Error>
where
    T: TryFrom<M, Error: Into<Error>>,
{
    message.map(|message| required(Some(message), field)).transpose()
}

/// Reads a repeated message field.
pub fn all<M, T>(messages: Vec<M>, field: &str) -> Result<Vec<T>, Error>
where
    T: TryFrom<M, Error: Into<Error>>,
{
    messages
        .into_iter()
        .map(|message| required(Some(message), field))
        .collect()
}

/// Reads a message field that must be there.
pub fn required<M, T>(message: Option<M>, field: &str) -> Result<T, Error>
where
    T: TryFrom<M, Error: Into<Error>>,
{
    let message = message.ok_or_else(|| Error::missing(field))?;
    T::try_from(message).map_err(|error| error.into().within(field))
}

/// Lets [`required`] serve conversions that cannot fail, too.
impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Reads a field that holds JSON.
fn from_json<T: DeserializeOwned>(bytes: &[u8], field: &str) -> Result<T, Error> {
    if bytes.is_empty() {
        return Err(Error::missing(field));
    }
    serde_json::from_slice(bytes).map_err(|error| Error::invalid(field, error))
}

/// Writes a field that holds JSON.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("domain types have text keys and no failing serialisers")
}
