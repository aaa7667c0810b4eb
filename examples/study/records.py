"""The runs of the study as numbers, out of what nettailor-cli prints.

A run is a dictionary; this is all that report.py knows. Accuracies are fractions, times seconds unless they say ms.

    dataset, variant, seed
    train_images          that were trained on, the held-out ones not counted
    teacher               {held_out, test, flops, params, ms_batch1, ms_batch32}: the fine-tuned backbone
    model                 {k, qualified, held_out, test, flops, params, task_params, ms_batch1, ms_batch32}
    frontier              [{k, flops, params, task_params, held_out, epochs}], one entry a candidate, epochs spent on it
    seconds               {teacher, student, candidates}: training time of the stages

`None` stands for what was not measured.
"""

from typing import Any

from examples.study import make_tasks

Run = dict[str, Any]

# Images of the training folders, the held-out ones included.
IMAGES = {data_set.name: data_set.train_images for data_set in make_tasks.DATA_SETS}


def runs(report: dict[str, Any]) -> list[Run]:
    """The runs of `nettailor-cli registry report --output json`, by data set, variant and seed. Models whose task is not
    named <set>-<variant>-<seed> are not the study's and are left out; of several versions the newest counts."""
    found = {}
    for model in sorted(report["tasks"], key=lambda model: model["version"]):
        dataset, _, rest = model["task"].partition("-")
        variant, _, seed = rest.rpartition("-")
        if variant and seed.isdigit():
            names = {"dataset": dataset, "variant": variant, "seed": int(seed)}
            held_out = model["held_out"]["total"]
            # A fifth is held out, of each class by itself.
            trained = {"train_images": IMAGES.get(dataset, 5 * held_out) - held_out}
            found[dataset, variant, int(seed)] = run(model) | names | trained
    return [found[key] for key in sorted(found)]


def point(candidate: dict[str, Any]) -> dict[str, Any]:
    """A candidate on a model's frontier."""
    return {
        "k": candidate["k"],
        "flops": candidate["active_flops"],
        "params": candidate["active_params"],
        "task_params": candidate["task_params"],
        "held_out": candidate["held_out"]["fraction"],
        "epochs": candidate["epochs"],
    }


def run(model: dict[str, Any]) -> Run:
    """One entry of the report's `tasks`. What the CLI prints is known here and nowhere else."""
    stages = model["stage_seconds"]
    teacher = {
        "held_out": model["teacher_held_out"]["fraction"],
        "test": model["teacher_test"]["fraction"],
        "flops": model["backbone_flops"],
        "params": model["finetuned_params"],
        "ms_batch1": model["teacher_latency"]["batch_1_ms"],
        "ms_batch32": model["teacher_latency"]["batch_32_ms"],
    }
    tailored = {
        "k": model["k"],
        "qualified": model["qualified"],
        "held_out": model["held_out"]["fraction"],
        "test": model["test"]["fraction"],
        "flops": model["active_flops"],
        "params": model["active_params"],
        "task_params": model["task_params"],
        "ms_batch1": model["latency"]["batch_1_ms"],
        "ms_batch32": model["latency"]["batch_32_ms"],
    }
    return {
        "teacher": teacher,
        "model": tailored,
        "frontier": [point(candidate) for candidate in model["frontier"]],
        "seconds": {
            "teacher": stages.get("teacher"),
            "student": stages.get("student"),
            "candidates": stages.get("candidate", stages.get("search")),
        },
    }
