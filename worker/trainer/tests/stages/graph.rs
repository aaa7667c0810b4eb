//! Stages that not every job has: a source that makes the backbone, a search in place of single candidates.

use nettailor_domain::architecture::CostVector;
use nettailor_domain::architecture::Selection;
use nettailor_domain::stage::{StageOutcome, StageWork};
use nettailor_domain::task::{CandidateSettings, Search, StudentSettings};
use nettailor_domain::trainer::{BackboneFile, FailureClass};
use nettailor_trainer::weights;
use safetensors::SafeTensors;

use crate::{Bench, student, training};

fn search(ladder: Vec<usize>, proxy_threshold: f64) -> StageWork {
    StageWork::Search {
        ladder,
        tolerance: 0.005,
        settings: CandidateSettings {
            k: None,
            search: Search::Exhaustive,
            proxy_threshold,
            bn_batches: 4,
            training: training(4, 0.02),
        },
        student: student(),
    }
}

#[test]
fn a_backbone_from_scratch_is_tailored_by_a_search() {
    let bench = Bench::new();
    let mut source = bench.assignment(
        "source",
        StageWork::Source {
            training: training(2, 0.05),
        },
        vec![],
    );
    (source.backbone, source.spec.backbone) = (None, None);
    let (finished, made) = bench.finish(&source);
    assert!(
        matches!(finished.outcome, StageOutcome::Source { .. }),
        "{:?}",
        finished.outcome
    );
    let bytes = std::fs::read(&made.weights).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<String> = tensors.names().into_iter().map(str::to_owned).collect();
    let expected = source.spec.arch.describe().tensors().into_iter();
    let mut expected: Vec<String> = expected.map(|spec| spec.name).collect();
    names.sort();
    expected.sort();
    assert_eq!(
        names, expected,
        "a backbone under its publisher's names, without classifier"
    );

    let file = BackboneFile {
        path: made.weights.clone(),
        digest: weights::digest(&made.weights).unwrap(),
    };
    let over = |attempt: &str, work, parents| {
        let mut assignment = bench.assignment(attempt, work, parents);
        (assignment.backbone, assignment.spec.backbone) = (Some(file.clone()), None);
        assignment
    };
    let teaching = StageWork::Teacher {
        training: training(2, 0.01),
    };
    let (_, teacher) = bench.finish(&over("teacher", teaching, vec![]));
    let work = StageWork::Student {
        max_skip: 2,
        // Blocks are measured, here, on this machine.
        student: StudentSettings {
            cost: CostVector::Latency,
            ..student()
        },
    };
    let (_, trained) = bench.finish(&over("student", work, vec![teacher.clone()]));
    let parents = vec![teacher.clone(), trained];
    let (finished, searched) = bench.finish(&over("search", search(vec![0, 3, 8], 0.001), parents));
    let StageOutcome::Search {
        frontier,
        infeasible,
        selection,
        tailored,
    } = &finished.outcome
    else {
        panic!("{:?}", finished.outcome)
    };
    assert_eq!(
        frontier.iter().map(|point| point.k).collect::<Vec<_>>(),
        [0, 3, 8]
    );
    assert!(
        frontier
            .iter()
            .all(|point| point.epochs > 0.0 && point.held_out.total > 0)
    );
    assert!(infeasible.is_empty(), "{infeasible:?}");
    assert_eq!(tailored.point.k, selection.k);
    assert!(frontier.contains(&tailored.point));

    let mut select = over(
        "select",
        StageWork::Select { tolerance: 0.005 },
        vec![teacher, searched],
    );
    select.selection = Some(Selection { ..*selection });
    let (finished, _) = bench.finish(&select);
    assert!(
        matches!(finished.outcome, StageOutcome::Select { .. }),
        "{:?}",
        finished.outcome
    );
}

#[test]
fn a_ladder_without_a_feasible_rung_is_the_users_mistake() {
    let bench = Bench::new();
    let teaching = StageWork::Teacher {
        training: training(1, 0.001),
    };
    let (_, teacher) = bench.finish(&bench.assignment("teacher", teaching, vec![]));
    let work = StageWork::Student {
        max_skip: 2,
        student: student(),
    };
    let (_, trained) = bench.finish(&bench.assignment("student", work, vec![teacher.clone()]));
    let failure = bench.fail(&bench.assignment("search", search(vec![7, 8], 1.0), vec![teacher, trained]));
    assert_eq!(failure.class, FailureClass::Input);
    for k in ["k = 7", "k = 8"] {
        assert!(failure.message.contains(k), "{}", failure.message);
    }
    assert!(
        failure.message.contains("smaller candidates.k"),
        "{}",
        failure.message
    );
}
