//! The method's numbers: METHOD's check values, parity with the published implementation, and laws that hold for every
//! architecture.

mod check_values;
mod complexity;
mod costs;
mod golden;
mod laws;
mod pruning;
mod recount;
mod selection;
