use super::*;
use crate::output::Sheet;
use crate::views::fixtures::model;

#[test]
fn models_as_a_table() {
    let view = ModelView::from(&model("digits"));
    let text = table(std::slice::from_ref(&view), &Sheet::default());
    let [heading, row] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("two lines: {text}")
    };
    let headings: Vec<&str> = heading
        .split("  ")
        .map(str::trim)
        .filter(|heading| !heading.is_empty())
        .collect();
    let cells: Vec<&str> = row
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!(headings[..4], ["MODEL", "BACKBONE", "TEST", "TEACHER"]);
    assert_eq!(cells[..4], ["digits@1", "lite0", "98.00 %", "98.25 %"]);
    assert_eq!(headings.len(), cells.len());
    assert_eq!(cells[9], format!("10/16 + {} proxies", view.proxies_kept));
}

#[test]
fn a_model_in_full() {
    let text = ModelView::in_full(&model("digits")).describe(&Sheet::default());
    for line in [
        "model:          digits@1\n",
        "backbone:       lite0, 64x64 pixels\n",
        "test:           98.00 % (teacher 98.25 %, 400 samples)\n",
        "threshold:      97.25 % held out, reached\n",
        "latency:        2.50 ms for 1 image (teacher 4.00 ms), 50.00 ms for 32 (teacher 80.00 ms)\n",
        &format!("digest:         {}\n", model("digits").digest()),
        "trained:        6m 1s\n",
        "\nNODE  UNIVERSAL BLOCK",
        "removed by rank",
    ] {
        assert!(text.contains(line), "`{line}` is missing from\n{text}");
    }
}

#[test]
fn the_keys_of_json_are_those_documented() {
    let record = model("digits");
    let json = serde_json::to_value(ModelView::in_full(&record)).expect("a view is JSON");
    let keys: Vec<&String> = json.as_object().expect("an object").keys().collect();
    assert_eq!(
        keys,
        [
            "task",
            "version",
            "digest",
            "backbone",
            "image_size",
            "classes",
            "published",
            "test",
            "held_out",
            "teacher_test",
            "teacher_held_out",
            "task_params",
            "active_params",
            "active_flops",
            "backbone_params",
            "backbone_flops",
            "latency",
            "teacher_latency",
            "k",
            "threshold",
            "qualified",
            "blocks_kept",
            "blocks",
            "proxies_kept",
            "weights",
            "teacher",
            "job",
            "backbone_digest",
            "data_digest",
            "stage_keys",
            "training_seconds",
            "frontier",
            "layers",
        ]
    );
    assert_eq!(
        json["test"],
        serde_json::json!({"correct": 392, "total": 400, "fraction": 0.98})
    );
    assert_eq!(json["digest"], record.digest().to_string());
    assert_eq!(
        json["latency"],
        serde_json::json!({"batch_1_ms": 2.5, "batch_32_ms": 50.0})
    );
    assert_eq!(json["frontier"][2]["chosen"], true);
    assert_eq!(json["active_flops"], record.counts.active_flops);
    assert_eq!(json["layers"][0]["node"], 1);
    assert_eq!(json["layers"][0]["blocks"][0]["kind"], "main");
    let attention = json["layers"][15]["blocks"].as_array().expect("blocks").iter();
    let total: f64 = attention
        .map(|block| block["attention"].as_f64().expect("a number"))
        .sum();
    assert!((total - 1.0).abs() < 1e-9);
    assert!(
        serde_json::to_value(ModelView::from(&record))
            .expect("JSON")
            .get("layers")
            .is_none()
    );
}
