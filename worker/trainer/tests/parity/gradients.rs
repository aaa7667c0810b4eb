//! Losses and gradients of the first batch.

use std::collections::BTreeSet;

use nettailor_collective::Solo;
use nettailor_trainer::model::{Mode, Network, Role};
use nettailor_trainer::step::{Gradients, Lesson, Part, gradients};
use serde_json::Value;
use tch::Tensor;

use crate::case::Case;
use crate::complexity::reference_complexity;
use crate::forward::{STILL, run};
use crate::reference::{Ledger, Tolerance};
use crate::subjects::SUBJECTS;

fn check(
    ledger: &mut Ledger<'_>,
    case: &Case,
    prefix: &str,
    network: &Network,
    found: &Gradients,
    allowed: Tolerance,
) {
    for (variable, gradient) in network.variables.iter().zip(&found.tensors) {
        if variable.role == Role::Trained {
            let name = format!("{prefix}.{}", case.subject.student_name(&variable.name));
            let gradient = gradient
                .as_ref()
                .unwrap_or_else(|| panic!("no gradient on {name}"));
            ledger.tensor(&name, gradient, allowed);
        } else {
            assert!(gradient.is_none(), "a gradient on {}", variable.name);
        }
    }
    let layers = network.architecture.layers.iter().zip(&found.attention);
    let on_scores: Vec<(String, Tensor)> = layers
        .enumerate()
        .map(|(index, (layer, gradient))| {
            let on_scores = Tensor::from_slice(&layer.score_gradient(gradient));
            (format!("{prefix}.layers.{index}.alphas_params"), on_scores)
        })
        .collect();
    match allowed {
        // A layer's few numbers are small differences of large ones: what moves one of them is judged by all scores.
        Tolerance::Norm(_) => ledger.together(&format!("{prefix} on the scores"), &on_scores, allowed),
        Tolerance::Largest(_) => {
            for (name, on_scores) in &on_scores {
                ledger.tensor(name, on_scores, allowed);
            }
        }
    }
}

#[test]
fn every_gradient_under_running_and_batch_statistics() {
    for subject in SUBJECTS {
        let case = Case::open(subject);
        let (student, teacher) = (case.student(), case.teacher());
        let taught = run(&teacher, &case, Mode::EVALUATE);
        let complexity = reference_complexity(&case.costs);
        let loss = case.loss(&complexity);
        let gang = Solo::new();
        let lesson = Lesson::new(&taught, &gang);
        let part = Part::whole(&case.images, &case.labels);
        let find = |mode| gradients(&student, part, Some(&lesson), &loss, mode).unwrap();

        let mut ledger = case.ledger("gradients");
        let (losses, found) = find(Mode::EVALUATE);
        case.check_losses(&mut ledger, "evalgrad", losses);
        check(
            &mut ledger,
            &case,
            "evalgrad",
            &student,
            &found,
            subject.tolerances.evaluation_gradients,
        );
        let (losses, found) = find(STILL);
        case.check_losses(&mut ledger, "step1", losses);
        match subject.tolerances.training_gradients {
            Some(allowed) => {
                check(&mut ledger, &case, "grad", &student, &found, allowed);
                println!("{}", ledger.finish(&["evalgrad.", "grad."]));
            }
            None => println!("{}", ledger.finish(&["evalgrad."])),
        }
    }
}

#[test]
fn what_is_removed_has_no_gradient() {
    for subject in SUBJECTS {
        let case = Case::open(subject);
        let trained = |network: &Network| -> BTreeSet<String> {
            let trained = network
                .variables
                .iter()
                .filter(|variable| variable.role == Role::Trained);
            trained
                .map(|variable| subject.student_name(&variable.name))
                .collect()
        };
        let (all, kept) = (trained(&case.whole_student()), trained(&case.student()));
        let mut ledger = case.ledger("removed");
        let expected = ledger.entry("_nograd").as_array().unwrap();
        let expected: BTreeSet<String> = expected
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect();
        let removed: BTreeSet<String> = all.difference(&kept).cloned().collect();
        assert_eq!(removed, expected, "{}", subject.case);
        println!("{}", ledger.finish(&["_nograd"]));
    }
}

#[test]
fn every_key_of_every_case_belongs_to_a_concern() {
    let concerns = [
        "eval",
        "train",
        "teacher",
        "evalgrad",
        "grad",
        "_nograd",
        "step1",
        "step3",
        "final_eval",
    ];
    for subject in SUBJECTS {
        let case = subject.case();
        let keys =
            |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
        // The reference in single precision says how far apart kernels are; the tolerances come from there.
        let parts = ["fp32_vs_fp64", "from_f64", "losses_f32", "losses_f64", "settings"];
        assert_eq!(keys(&case), parts.map(str::to_owned).into());
        assert_eq!(
            keys(&case["losses_f64"]),
            ["evalgrad", "step1", "step2", "step3"].map(str::to_owned).into()
        );
        let found: BTreeSet<String> = keys(&case["from_f64"])
            .iter()
            .map(|key| key.split('.').next().unwrap().to_owned())
            .collect();
        assert_eq!(found, concerns.map(str::to_owned).into(), "{}", subject.case);
    }
}
