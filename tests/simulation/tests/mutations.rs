//! The promises are really watched: with one of them broken on purpose, the simulation says which.

use nettailor_scheduler::sabotage::{self, Sabotage};
use nettailor_simulation::{Plan, live, promise, run, shrink};

/// Within so many plans it must be noticed.
const PLANS: u64 = 2000;

/// A broken promise may break others, too; sooner or later it is named itself.
fn is_noticed(broken: Sabotage, name: &str) {
    let mut seeds = 0..PLANS;
    let mut others = Vec::new();
    while let Some((plan, error)) = run(seeds.clone(), 2, || sabotage::commit(Some(broken))).broken {
        if promise(&error) == name {
            return;
        }
        others.push(format!("seed {}: {error}", plan.seed));
        seeds.start = plan.seed + 1;
    }
    panic!("{name} was broken and not named: {others:#?}");
}

macro_rules! mutations {
    ($($test:ident: $broken:ident breaks $name:literal,)*) => {
        $(#[test]
        fn $test() {
            is_noticed(Sabotage::$broken, $name);
        })*
    };
}

mutations! {
    an_answer_before_the_commit: Answered breaks "P1",
    a_report_of_any_attempt: AnyAttempt breaks "P2",
    a_message_of_any_session: AnySession breaks "P2",
    a_back_off_without_a_timer: Forgotten breaks "P3",
    a_slot_that_is_not_released: Leaked breaks "P4",
    a_loss_that_counts_as_a_fault: Blamed breaks "P5",
    a_failure_without_its_class: Classless breaks "P6",
    a_worker_that_is_disowned: Disowned breaks "P7",
    an_end_that_is_undone: Undone breaks "P8",
    an_older_checkpoint: Older breaks "P9",
    an_attempt_that_is_not_counted: Uncounted breaks "P10",
}

#[test]
fn a_broken_promise_is_shown_in_few_steps() {
    sabotage::commit(Some(Sabotage::Undone));
    let found = (0..PLANS).map(Plan::of_seed);
    let mut broken = found.filter(|plan| live(plan).verdict.is_err());
    let plan = broken.next().expect("it is noticed");
    let shrunk = shrink(&plan);
    // A job, time for it, and an end that comes too late; at most a few more, where that time was needed for something else.
    assert!(shrunk.steps.len() <= 6, "{shrunk}");
    let error = live(&shrunk).verdict.expect_err("it still breaks");
    assert_eq!(promise(&error), "P8", "{error}");
}
