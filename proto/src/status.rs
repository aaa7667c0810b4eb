//! The one table between our error codes and gRPC's.
//!
//! An [`Error`] travels as a `tonic::Status` whose details hold an encoded [`ErrorDetail`]; the receiving side gets the
//! same [`Code`] back, and nobody reads messages to decide. A status without the detail was made by the transport (or by
//! something that is not a coordinator) and is classed by its gRPC code.

use std::error::Error as _;

use prost::Message as _;
use tonic::Status;

use crate::convert;
use crate::v1::ErrorDetail;

/// Longest error message that is sent, in bytes. It travels percent-encoded in a header, for which peers allow 16 KiB.
const MAX_MESSAGE_BYTES: usize = 4096;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal, $grpc:ident;)*) => {
        /// What went wrong, as far as a caller can decide by it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// All codes, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$code),*];

            /// Stable name, as it crosses the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                }
            }

            /// The gRPC code that goes with it.
            pub fn grpc(self) -> tonic::Code {
                match self {
                    $(Self::$code => tonic::Code::$grpc,)*
                }
            }
        }
    };
}

codes! {
    /// A field of the request is missing or not valid; the message names it.
    InvalidArgument = "invalid_argument", InvalidArgument;
    /// The tasks file has mistakes; the message lists them.
    InvalidTasksFile = "invalid_tasks_file", InvalidArgument;
    /// The request, or a message of a stream, is larger than allowed.
    TooLarge = "too_large", OutOfRange;
    /// No job has this id.
    JobNotFound = "job_not_found", NotFound;
    /// Several jobs begin with this text; the message names some.
    AmbiguousJob = "ambiguous_job", InvalidArgument;
    /// No worker of this name is known.
    WorkerNotFound = "worker_not_found", NotFound;
    /// The task has no such model.
    ModelNotFound = "model_not_found", NotFound;
    /// No backbone of this name is known, or none was imported under it.
    BackboneUnknown = "backbone_unknown", NotFound;
    /// The artifact store lacks a blob that is needed; the message names it.
    BlobMissing = "blob_missing", FailedPrecondition;
    /// Bytes do not have the digest that was announced for them.
    DigestMismatch = "digest_mismatch", DataLoss;
    /// No space is left where artifacts or logs are kept.
    StorageFull = "storage_full", ResourceExhausted;
    /// Another agent opened a session under this worker's name: this agent ends, instead of taking turns with it.
    SessionReplaced = "session_replaced", Aborted;
    /// The coordinator, or the artifact store behind it, cannot be reached now. Trying again may help.
    Unavailable = "unavailable", Unavailable;
    /// The peer does not know this call: it is no coordinator, or of another version.
    Incompatible = "incompatible", Unimplemented;
    /// A mistake of ours.
    Internal = "internal", Internal;
}

impl Code {
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }

    /// The class of a status that carries no detail of ours.
    fn from_transport(status: &Status) -> Self {
        match status.code() {
            // Broken connections surface as `Unknown`, `Internal` or `Cancelled`, with the broken transport as source.
            _ if status.source().is_some() => Self::Unavailable,
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
                Self::Unavailable
            }
            tonic::Code::Unimplemented => Self::Incompatible,
            tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => Self::TooLarge,
            tonic::Code::InvalidArgument => Self::InvalidArgument,
            _ => Self::Internal,
        }
    }
}

/// An error as it crosses the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What to decide by.
    pub code: Code,
    /// For people: where, what was expected, what to do.
    pub message: String,
}

impl Error {
    /// An error of class `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let detail = ErrorDetail {
            code: error.code.as_str().to_owned(),
        };
        Status::with_details(
            error.code.grpc(),
            shortened(error.message),
            detail.encode_to_vec().into(),
        )
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let code = ErrorDetail::decode(status.details())
            .ok()
            .and_then(|detail| Code::from_name(&detail.code))
            .unwrap_or_else(|| Code::from_transport(&status));
        let mut message = status.message().to_owned();
        let mut source = status.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !message.contains(&cause_text) {
                message = format!("{message}: {cause_text}");
            }
            source = cause.source();
        }
        Self { code, message }
    }
}

impl From<convert::Error> for Error {
    fn from(error: convert::Error) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

impl From<convert::Error> for Status {
    fn from(error: convert::Error) -> Self {
        Error::from(error).into()
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES)
            .rev()
            .find(|&end| message.is_char_boundary(end))
            .unwrap_or(0);
        let left_out = message.len() - end;
        message.truncate(end);
        message.push_str(&format!("... ({left_out} more bytes)"));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for &code in Code::ALL {
            let error = Error::new(code, format!("about {}", code.as_str()));
            let status = Status::from(error.clone());
            assert_eq!(status.code(), code.grpc());
            assert_eq!(Error::from(status), error);
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn a_status_of_the_transport_is_classed_by_its_code() {
        let class = |status: Status| Error::from(status).code;
        assert_eq!(
            class(Status::unavailable("connection refused")),
            Code::Unavailable
        );
        assert_eq!(class(Status::unimplemented("")), Code::Incompatible);
        assert_eq!(class(Status::out_of_range("message too large")), Code::TooLarge);
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(class(Status::from_error(Box::new(broken))), Code::Unavailable);
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let status = Status::from(Error::new(Code::InvalidTasksFile, "é".repeat(5000)));
        assert!(status.message().len() < MAX_MESSAGE_BYTES + 40);
        assert!(
            status.message().ends_with("... (5904 more bytes)"),
            "{}",
            status.message()
        );
    }
}
