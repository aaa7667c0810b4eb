//! The scheduler: a synchronous state machine.
//!
//! `Scheduler::apply` takes an [`Event`](event::Event) and the time, changes the state, and returns a
//! [`Transition`](effect::Transition): [`Record`](record::Record)s that must be durable before any of its
//! [`Effect`](effect::Effect)s is carried out. `Scheduler::restore` builds the same state from records. Nothing here
//! does I/O, reads a clock or draws a random number.
//!
//! - [`event`]: what can happen. [`effect`]: what must be done about it. [`record`]: what is kept.
//! - [`view`]: what is shown. [`config`]: settings. [`error`]: what can be refused.

pub mod config;
pub mod effect;
pub mod error;
pub mod event;
pub mod record;
pub mod view;

pub use config::Config;
pub use error::{FindError, Rejected, RestoreError};
