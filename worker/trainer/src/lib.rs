//! The trainer: one process, one stage.
//!
//! - [`runtime`] and [`device`]: how the process and its tensors are set up.
//! - [`gang`]: how the process finds the other ranks of its attempt.
//! - [`weights`]: safetensors in and out.
//! - [`data`]: labelled images, decoded once per node, as batches of bytes.
//! - [`model`]: networks, built from the domain's descriptions.
//! - [`step`]: one step of training, agreed on with the other ranks.
//! - [`stages`]: what a trainer is started for; [`report`] says how far it is.

pub mod data;
pub mod device;
pub mod gang;
pub mod model;
pub mod report;
pub mod runtime;
pub mod stages;
pub mod step;
pub mod weights;
