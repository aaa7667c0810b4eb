//! What is measured. Each takes a fresh coordinator, and answers what is printed as one line of JSON.

mod drain;
mod list;
mod lost;
mod memory;
mod progress;
mod restart;
mod submit;
mod warm;

pub use drain::{Drain, Drained, drain};
pub use list::{List, Listed, list};
pub use lost::{Lost, Recovered, lost};
pub use memory::{Memory, Resident, memory};
pub use progress::{Followed, Pace, Progress, progress};
pub use restart::{Restart, Restarted, restart};
pub use submit::{Attempt, Submit, Submitted, submit};
pub use warm::{Warm, Warmed, warm};
