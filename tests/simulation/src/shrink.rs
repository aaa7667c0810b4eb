//! Makes a plan that breaks a promise as short as it can be.

use crate::plan::{Plan, Step};
use crate::world::live;

/// Which promise an error names.
pub fn promise(error: &str) -> &str {
    error.split(':').next().unwrap_or_default()
}

/// The plan without the steps that are not needed for the same promise to be broken (Zeller's ddmin), then with the shortest times
/// that do.
pub fn shrink(plan: &Plan) -> Plan {
    let Err(error) = live(plan).verdict else {
        return plan.clone();
    };
    let still = |steps: &[Step]| {
        let verdict = live(&plan.with(steps.to_vec())).verdict;
        verdict.is_err_and(|other| promise(&other) == promise(&error))
    };
    let mut steps = plan.steps.clone();
    let mut parts = 2;
    while steps.len() >= 2 && parts <= steps.len() {
        let size = steps.len().div_ceil(parts);
        let without = |start: usize| {
            let end = (start + size).min(steps.len());
            [&steps[..start], &steps[end..]].concat()
        };
        let fewer = (0..steps.len())
            .step_by(size)
            .map(without)
            .find(|fewer| still(fewer));
        match fewer {
            Some(fewer) => {
                steps = fewer;
                parts = (parts - 1).max(2);
            }
            None if parts == steps.len() => break,
            None => parts = (2 * parts).min(steps.len()),
        }
    }
    for index in 0..steps.len() {
        while steps[index].how > 0 {
            let mut shorter = steps.clone();
            shorter[index].how /= 2;
            if !still(&shorter) {
                break;
            }
            steps = shorter;
        }
    }
    plan.with(steps)
}

/// What a person needs to see a broken promise again.
pub fn describe(plan: &Plan, error: &str) -> String {
    let shrunk = shrink(plan);
    let now = live(&shrunk).verdict.err().unwrap_or_default();
    format!(
        "seed {} broke a promise: {error}\nshrunk from {} to {} steps: {now}\n\n{shrunk}\n\
         save the plan and see it again: NETTAILOR_SIM=<file> cargo test --workspace --test replay",
        plan.seed,
        plan.steps.len(),
        shrunk.steps.len(),
    )
}
