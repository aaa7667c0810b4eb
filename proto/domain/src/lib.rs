//! The vocabulary of NetTailor as plain types.
//!
//! Read it in this order:
//! - [`ids`] and [`units`]: what things are called and measured in.
//! - [`backbone`]: the pre-trained networks we know, as lists of blocks; shapes and costs follow from them.
//! - [`architecture`]: which blocks a task's network keeps: attention, expected complexity, pruning, selection.
//! - [`archive`]: how a data set travels. [`task`]: what a user asks for; [`taskfile`]: how it is written down. [`stage`]: the work it turns into, and the key
//!   that names each piece of work.
//! - [`session`]: what a worker offers and is told to run. [`trainer`]: what its agent and a trainer process say to each other.
//! - [`model`]: what the registry keeps, and how it is asked. [`explain`]: why things stand where they stand. [`labels`]: what tells workers apart.
//!
//! Nothing here does I/O, reads a clock or draws a random number.

pub mod architecture;
pub mod archive;
pub mod backbone;
pub mod explain;
pub mod ids;
pub mod labels;
pub mod model;
pub mod session;
pub mod stage;
pub mod task;
pub mod taskfile;
pub mod trainer;
pub mod units;

/// Version of the method: a part of every stage key, raised when a stage's result would change for equal inputs.
pub const METHOD_VERSION: u32 = 1;
