//! Ten thousand hostile histories: every promise holds in all of them, and everything that was to go wrong did.

use nettailor_simulation::{Plan, describe, live, run};

/// Every kind of fault that there is.
const FAULTS: [&str; 37] = [
    "a checkpoint overtook another",
    "a checkpoint was not found",
    "a commit failed that was kept",
    "a commit failed that was not flushed",
    "a commit failed that was not kept",
    "a gang fell apart",
    "a job was over before it was cancelled",
    "a message was lost",
    "a message waited for a coordinator that stalled",
    "a rank met its gang",
    "a report was repeated",
    "a stop was not obeyed",
    "a stream broke",
    "a stream fell silent",
    "a stream fell silent one way",
    "a trainer broke",
    "a trainer hung",
    "a worker came back with what it runs",
    "a worker drained",
    "an agent died",
    "an attempt went on from a checkpoint",
    "an old session spoke",
    "an order was lost",
    "batches piled up behind a slow commit",
    "power loss took a commit back",
    "power was lost",
    "the artifact store was away",
    "the coordinator died",
    "the coordinator died during a commit",
    "a job was cancelled",
    "a job got another priority",
    "a job was paused",
    "a job was retried",
    "a pause was ended",
    "a worker was cordoned",
    "a worker was drained by a user",
    "a worker was taken back into use",
];

#[test]
fn every_promise_holds_in_ten_thousand_histories() {
    let suite = run(0..10_000, 2, || ());
    if let Some((plan, error)) = suite.broken {
        panic!("{}", describe(&plan, &error));
    }
    assert_eq!(suite.plans, 10_000);
    for fault in FAULTS {
        let count = suite.fired.get(fault).copied().unwrap_or_default();
        assert!(count >= 20, "{fault}: {count} times");
    }
    assert_eq!(suite.fired.len(), FAULTS.len(), "{:?}", suite.fired);
}

#[test]
fn the_same_plan_gives_the_same_history() {
    for seed in 0..200 {
        let plan = Plan::of_seed(seed);
        let again: Plan = plan.to_string().parse().expect("what is printed can be read");
        assert_eq!(plan, again);
        assert_eq!(live(&plan), live(&again), "seed {seed}");
    }
}
