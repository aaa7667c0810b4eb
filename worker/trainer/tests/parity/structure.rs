//! The networks themselves: which tensors there are, of which shapes, and which of them train.

use std::collections::BTreeSet;

use nettailor_trainer::model::Role;
use serde_json::Value;

use crate::case::Case;
use crate::reference::integers;
use crate::subjects::SUBJECTS;

fn strings(value: &Value) -> BTreeSet<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn tensors_their_shapes_and_what_trains() {
    for subject in SUBJECTS {
        let case = Case::open(subject);
        let student = case.whole_student();
        // Ours has no counters of batches; scores are plain numbers.
        let mut left = case.shapes.clone();
        left.retain(|name, _| !name.ends_with("num_batches_tracked"));
        let mut trained = BTreeSet::new();
        for variable in student.variables.iter() {
            let name = subject.student_name(&variable.name);
            let shape = left
                .remove(&name)
                .unwrap_or_else(|| panic!("the reference has no {name}, or twice"));
            assert_eq!(variable.tensor.size(), integers(&shape), "{name}");
            let statistic = name.ends_with("running_mean") || name.ends_with("running_var");
            assert_eq!(variable.role == Role::Statistic, statistic, "{name}");
            if variable.role == Role::Trained {
                trained.insert(name);
            }
        }
        for (index, layer) in student.architecture.layers.iter().enumerate() {
            let name = format!("layers.{index}.alphas_params");
            assert_eq!(
                integers(&left.remove(&name).unwrap()),
                [layer.blocks.len() as i64],
                "{name}"
            );
            trained.insert(name);
        }
        assert!(left.is_empty(), "{}: we lack {:?}", subject.case, left.keys());

        let structure = subject.structure();
        assert_eq!(trained, strings(&structure["trainable"]), "{}", subject.case);
        // Scores move under settings of their own (no decay); everything else is one group here.
        assert!(strings(&structure["trainable_not_in_any_group"]).is_empty());
        let groups = structure["optimizer_groups"].as_object().unwrap();
        let scores: BTreeSet<_> = trained
            .iter()
            .filter(|name| name.ends_with("alphas_params"))
            .cloned()
            .collect();
        assert_eq!(strings(&groups["alphas_params"]), scores);
        let all: BTreeSet<String> = groups.values().flat_map(strings).collect();
        assert_eq!(all, trained);
    }
}
