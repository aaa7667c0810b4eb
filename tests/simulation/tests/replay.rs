//! Lives through a plan that was saved before: the one that NETTAILOR_SIM names, or this.

use nettailor_simulation::{Plan, live};

/// A job's commit is slow, and power is lost before it is flushed: the job is gone, and nobody was told of it. The next is kept,
/// though its commit fails.
const LOST: &str = "
plan 7 50 0 0
pass 0 500
slow 0 4000
submit 0 1
# the machine stops between writing and flushing
power-loss 0 1
pass 0 9000
fail-after 0 0
submit 1 1
pass 0 20000
";

#[test]
#[allow(clippy::disallowed_methods, reason = "the plan is named in the environment")]
fn replay() {
    let file = std::env::var_os("NETTAILOR_SIM");
    let text = file.as_ref().map_or_else(
        || LOST.to_owned(),
        |file| std::fs::read_to_string(file).expect("the plan can be read"),
    );
    let plan: Plan = text.parse().expect("it is a plan");
    let outcome = live(&plan);
    if let Err(error) = outcome.verdict {
        panic!("{error}");
    }
    if file.is_none() {
        let fired = |fault| outcome.fired.get(fault);
        assert_eq!(fired("power loss took a commit back"), Some(&1), "{outcome:?}");
        assert_eq!(fired("a commit failed that was kept"), Some(&1), "{outcome:?}");
    }
}
