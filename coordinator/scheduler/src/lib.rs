//! The scheduler: a synchronous state machine.
//!
//! [`Scheduler::apply`] takes an [`Event`] and the time, changes the state, and returns a [`Transition`]: [`Record`]s
//! that must be durable before any of its [`Effect`]s is carried out. [`Scheduler::restore`] builds the same state from
//! records. Nothing here does I/O, reads a clock or draws a random number.
//!
//! - [`event`]: what can happen. [`effect`]: what must be done about it. [`record`]: what is kept.

pub mod effect;
pub mod event;
pub mod record;
