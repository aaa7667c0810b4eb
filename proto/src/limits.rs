//! Sizes that both ends of a connection agree on.

/// Largest message, in bytes. A tasks file of a thousand tasks or a job with its stages stays well below; it bounds what
/// one peer can make the other hold. Clients set it as `max_decoding_message_size`, servers do too.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Most bytes of a blob in one `UploadRequest`.
pub const CHUNK_BYTES: usize = 1 << 20;
