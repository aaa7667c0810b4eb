//! What a task is made from, read on the machine that submits it: images and backbone weights.

pub(crate) mod dataset;
pub(crate) mod weights;
