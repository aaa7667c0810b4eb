//! Nodes and logits: evaluation, the first training pass, the teacher.

use nettailor_trainer::model::{Forward, Mode, Network};

use crate::case::Case;
use crate::reference::{Ledger, Tolerance};
use crate::subjects::SUBJECTS;

/// Batch statistics; a momentum of 0 leaves the running ones alone.
pub(crate) const STILL: Mode = Mode::batch(0.0);

pub(crate) fn run(network: &Network, case: &Case, mode: Mode) -> Forward {
    tch::no_grad(|| network.forward(&case.images, mode)).unwrap()
}

/// Node 0 is not in the files.
fn check(ledger: &mut Ledger<'_>, prefix: &str, found: &Forward, tolerance: Tolerance) {
    ledger.tensor(&format!("{prefix}.logits"), &found.logits, tolerance);
    for (index, node) in found.nodes[1..].iter().enumerate() {
        ledger.tensor(
            &format!("{prefix}.ends.{index}"),
            node.as_ref().unwrap(),
            tolerance,
        );
    }
}

#[test]
fn every_node_under_running_and_batch_statistics_and_of_the_teacher() {
    for subject in SUBJECTS {
        let case = Case::open(subject);
        let (student, teacher) = (case.student(), case.teacher());
        let allowed = subject.tolerances;
        let mut ledger = case.ledger("forward");
        check(
            &mut ledger,
            "eval",
            &run(&student, &case, Mode::EVALUATE),
            allowed.evaluation,
        );
        let taught = run(&teacher, &case, Mode::EVALUATE);
        check(&mut ledger, "teacher", &taught, allowed.evaluation);
        let trained = run(&student, &case, STILL);
        check(&mut ledger, "train", &trained, allowed.training);
        case.check_hints(&mut ledger, "step1", &trained, &taught);
        println!("{}", ledger.finish(&["eval.", "teacher.", "train."]));
    }
}
