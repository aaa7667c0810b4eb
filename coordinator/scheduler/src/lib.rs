//! The scheduler: a synchronous state machine.
//!
//! [`Scheduler::apply`] takes an [`Event`](event::Event) and the time, changes the state, and returns a
//! [`Transition`](effect::Transition): [`Record`](record::Record)s that must be durable before any of its
//! [`Effect`](effect::Effect)s is carried out. [`Scheduler::restore`] builds the same state from records. Nothing here
//! does I/O, reads a clock or draws a random number.
//!
//! - [`event`]: what can happen. [`effect`]: what must be done about it. [`record`]: what is kept.
//! - [`view`]: what is shown. [`config`]: settings. [`error`]: what can be refused. [`sabotage`]: what tests break.
//!   `testing`, with the feature of this name: what they submit and report.
//!
//! Inside, `scheduler` holds the state; `job`, `stage`, `users`, `worker`, `pool`, `line` and `account` the states of one thing;
//! `submit`, `control`, `workers`, `absence`, `admission`, `gangs` and `reports` the events; `regroup` what becomes of attempts whose
//! workers are away; `lifecycle` and `endings` what they do to stages, `jobs` how jobs
//! end, `dispatch` and `preempt` who runs what and when, `order` what exactly; `show`, `reasons`, `binding` and `explain` the read side, `restore`
//! the way back, `check` what must hold after every event.
//!
//! An event costs what it touches: ready stages, workers with a free slot and timers are indexed, and no event looks at
//! every job or stage. Two things are shared by many jobs on purpose: a stage (by key) and its end, which is told to
//! every live job that uses it.

mod absence;
mod account;
mod admission;
mod binding;
mod check;
pub mod config;
mod control;
mod dispatch;
pub mod effect;
mod endings;
pub mod error;
pub mod event;
mod explain;
mod gangs;
mod job;
mod jobs;
mod lifecycle;
mod line;
mod order;
mod pool;
mod preempt;
mod reasons;
pub mod record;
mod regroup;
mod reports;
mod restore;
pub mod sabotage;
mod scheduler;
mod show;
mod stage;
mod submit;
#[cfg(feature = "testing")]
pub mod testing;
mod timers;
mod users;
pub mod view;
mod words;
mod worker;
mod workers;

pub use config::Config;
pub use error::{FindError, Rejected, RestoreError};
pub use scheduler::Scheduler;
