use super::*;
use crate::views::fixtures::model;

fn report() -> Report {
    let models = [model("digits"), model("mnist5k")];
    let times = Took {
        seconds: 363.5,
        stages: BTreeMap::from([("teacher".to_owned(), 60.0), ("candidate".to_owned(), 250.5)]),
    };
    let took = HashMap::from([(models[0].lineage.job.clone(), times)]);
    let sizes = HashMap::from([(models[0].lineage.backbone, 12 << 20)]);
    Report::of(&models, &took, &sizes)
}

#[test]
fn the_backbone_is_stored_once() {
    let json = serde_json::to_value(report()).expect("a report is JSON");
    let stored = &json["stored"];
    assert_eq!(stored["backbones"].as_array().map(Vec::len), Some(1));
    let backbone = json["tasks"][0]["backbone_params"].as_u64().expect("a count");
    let delta = json["tasks"][0]["task_params"].as_u64().expect("a count");
    assert_eq!(stored["tailored"]["params"], backbone + 2 * delta);
    assert_eq!(stored["tailored"]["bytes"], (12 << 20) + 2 * (2 << 20));
    let finetuned = json["tasks"][0]["finetuned_params"].as_u64().expect("a count");
    assert!(
        finetuned > backbone,
        "a fine-tuned network has a classifier and statistics, too"
    );
    assert_eq!(stored["finetuned"]["params"], 2 * finetuned);
    assert_eq!(stored["finetuned"]["bytes"], 26 << 20);
    assert_eq!(json["tasks"][1]["job_seconds"], 363.5);
    assert_eq!(json["tasks"][1]["stage_seconds"]["candidate"], 250.5);
    assert_eq!(json["tasks"][1]["frontier"].as_array().map(Vec::len), Some(4));
}

#[test]
fn an_unknown_size_is_not_guessed() {
    let report = Report::of(&[model("digits")], &HashMap::new(), &HashMap::new());
    let json = serde_json::to_value(&report).expect("a report is JSON");
    assert!(json["stored"]["tailored"]["bytes"].is_null());
    assert!(json["tasks"][0]["job_seconds"].is_null());
}

#[test]
fn two_tables_for_people() {
    let text = report().describe(&Sheet::default());
    for part in [
        "MODEL      TEACHER HELD-OUT",
        "digits@1 ",
        "10/16 + ",
        "\nSTORED ",
        "\nlite0, shared ",
        "\n+ mnist5k@1 ",
        "\n= 2 tailored networks ",
        "\ninstead of 2 fine-tuned networks ",
        "26.0 MiB",
        " 6m 4s\n",
    ] {
        assert!(text.contains(part), "`{part}` is missing from\n{text}");
    }
    assert!(!text.contains("no candidate reached") && !text.contains("LATENCY"));
    let wide = report().describe(&Sheet {
        wide: true,
        ..Sheet::default()
    });
    assert!(wide.contains("2.50 / 4.00 ms  50.00 / 80.00 ms"), "{wide}");
}

#[test]
fn a_missed_threshold_is_said() {
    let mut missed = model("digits");
    missed.selection.qualified = false;
    let text = Report::of(&[missed], &HashMap::new(), &HashMap::new()).describe(&Sheet::default());
    assert!(
        text.ends_with("digits@1: no candidate reached 97.25 % held out; the most accurate was taken\n"),
        "{text}"
    );
}
