//! Lives through a plan that was saved before.

use nettailor_simulation::{Plan, live};

#[test]
#[allow(clippy::disallowed_methods, reason = "the plan is named in the environment")]
fn replay() {
    let Some(file) = std::env::var_os("NETTAILOR_SIM") else {
        return;
    };
    let text = std::fs::read_to_string(file).expect("the plan can be read");
    let plan: Plan = text.parse().expect("it is a plan");
    if let Err(error) = live(&plan).verdict {
        panic!("{error}");
    }
}
