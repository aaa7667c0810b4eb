//! The coordinator without its edges.
//!
//! A [`Request`] is applied to the [`Engine`]'s [`State`]: that gives [`Change`]s to the rows that are kept, effects, and an
//! answer. What several requests changed makes a [`Batch`]; a [`Committer`] writes batches to the [`Store`], in order, and hands
//! out what waited for them: effects and answers never speak of what is not durable. The coordinator runs the two in threads, the
//! simulation one after the other, under a virtual clock and with stores that fail.
//!
//! Nothing here does I/O, reads a clock or draws a random number.

mod commit;
mod engine;
mod parallel;
mod rebuilt;
mod request;
mod row;
mod state;
mod store;

pub use commit::{Batch, Committer, Merged};
pub use engine::{Applied, Engine};
pub use parallel::map_each;
pub use rebuilt::skip_attempts;
pub use request::{Answer, Refused, Request, Speaker};
pub use row::{Change, Encoded, Row, RowKey, Unreadable, VALUE_VERSION, event_prefix, is_event};
pub use state::{Job, State};
pub use store::{Error, History, MemoryStore, Rows, Show, Store, event};
