//! The promises are really watched: with one of them broken on purpose, the simulation says which.

use nettailor_scheduler::sabotage::{self, Sabotage};
use nettailor_simulation::{promise, run};

/// Within so many plans it must be noticed.
const PLANS: u64 = 2000;

fn is_noticed(broken: Sabotage, name: &str) {
    let suite = run(0..PLANS, 2, || sabotage::commit(Some(broken)));
    let (plan, error) = suite.broken.expect("a broken promise is noticed");
    assert_eq!(promise(&error), name, "seed {}: {error}", plan.seed);
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
