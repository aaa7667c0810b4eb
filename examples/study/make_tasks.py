#!/usr/bin/env python3
"""Writes the study's tasks file: every data set, seed and variant is a task named <set>-<variant>-<seed>.

    ours             the defaults, candidates by successive halving
    ours-exhaustive  the same student, every candidate trained to the end; seed 0 only
    paper            the formula, batch statistics and rates of the paper, every second k
    features         feature extraction: the frozen backbone under a new classifier
    no-teacher       ours without hints (digits and mnist5k: the smallest set, and a larger one of the same kind to compare)

All tasks of one data set and seed share the settings that the teacher depends on, so it is trained once, and so is the
student of ours and ours-exhaustive. Fine-tuning is that teacher; it needs no task. The teachers of the hard sets have
three times the default rate and half the batch: both 73 % held out in 12 epochs at 48 pixels (the default rate was not
tried at that size; at 32 pixels characters learn better with it, animals worse).
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent
SEEDS = 3
HELD_OUT = 0.2
MAIN_BLOCKS = 16


class DataSet(NamedTuple):
    """What a data set's tasks have in common. Epochs are of the teacher, the student, and a candidate."""

    name: str
    train_images: int
    image_size: int
    augment: str
    epochs: tuple[int, int, int]
    # Of the teacher, beside its epochs.
    teacher: str = ""
    no_teacher: bool = False


HARD_SETS = "learning_rate: 0.03, batch_size: 32"
# The longest first.
DATA_SETS = [
    DataSet("characters", 3968, 48, "{crop_padding: 3}", (8, 6, 3), HARD_SETS),
    DataSet("animals", 3050, 48, "{crop_padding: 3, horizontal_flip: true}", (10, 10, 4), HARD_SETS),
    DataSet("mnist5k", 4000, 32, "{crop_padding: 2}", (4, 5, 3), no_teacher=True),
    DataSet("digits", 1438, 32, "{crop_padding: 2}", (12, 16, 6), no_teacher=True),
]


class Variant(NamedTuple):
    """Settings of a variant. A pair is the stage's own keys, then those of its training beside the epochs."""

    name: str
    max_skip: int | None = None
    student: tuple[str, str] = ("", "")
    candidates: tuple[str, str] = ("search: halving", "")
    # Whole trainings of one candidate that the search is worth, for the estimate: halving does a quarter of the ladder.
    trainings: float = MAIN_BLOCKS / 8


EVERY_SECOND = MAIN_BLOCKS / 2
VARIANTS = [
    Variant("ours"),
    Variant("ours-exhaustive", candidates=("search: exhaustive", ""), trainings=EVERY_SECOND),
    Variant(
        "paper",
        student=(
            "complexity: paper, gamma1: 0.3, gamma2: 10, gamma1_ramp: 0, score_learning_rate: 1.0, hint_scale: absolute,"
            " hints: local, bn_mode: task",
            "learning_rate: 0.1",
        ),
        candidates=("search: exhaustive", "learning_rate: 0.01"),
        trainings=EVERY_SECOND,
    ),
    Variant(
        "features",
        max_skip=0,
        student=("gamma1: 0, gamma2: 0", ""),
        candidates=("k: [0]", "epochs: 0"),
        trainings=0,
    ),
    Variant("no-teacher", student=("gamma2: 0", "")),
]


def runs(data_set: DataSet, seed: int) -> list[Variant]:
    """The variants of a data set with this seed."""
    left_out = set() if data_set.no_teacher else {"no-teacher"}
    if seed > 0:
        left_out.add("ours-exhaustive")
    return [variant for variant in VARIANTS if variant.name not in left_out]


def stage(keys: tuple[str, str], epochs: int) -> str:
    """A stage's settings as a flow mapping; `epochs` unless the training's own keys have them."""
    own, training = keys
    if "epochs" not in training:
        training = ", ".join(filter(None, [f"epochs: {epochs}", training]))
    return "{" + ", ".join(filter(None, [own, f"training: {{{training}}}"])) + "}"


def task(data_set: DataSet, variant: Variant, seed: int) -> str:
    teacher, student, candidate = data_set.epochs
    data = f"path: ../../.data/{data_set.name}, image_size: {data_set.image_size}, augment: {data_set.augment}"
    lines = [
        f"  - name: {data_set.name}-{variant.name}-{seed}",
        f"    data: {{{data}}}",
        f"    seed: {seed}",
        f"    teacher: {{{', '.join(filter(None, [f'epochs: {teacher}', data_set.teacher]))}}}",
        f"    student: {stage(variant.student, student)}",
        f"    candidates: {stage(variant.candidates, candidate)}",
    ]
    if variant.max_skip is not None:
        lines.append(f"    max_skip: {variant.max_skip}")
    return "\n".join(lines)


# About so many images a second of one thread at 32 pixels, two trainers beside each other on two cores with AVX2: epochs times training
# images over the time of the stage.
RATE_TEACHER, RATE_STUDENT, RATE_CANDIDATE = 320, 420, 600
THREADS = 2


def hours(data_sets: list[DataSet], seeds: int) -> float:
    """Estimated wall time of the whole study on THREADS cores."""
    seconds = 0.0
    for data_set in data_sets:
        cost = (data_set.image_size / 32) ** 2
        teacher, student, candidate = data_set.epochs
        per_image = 0.0
        for seed in range(seeds):
            per_image += teacher / RATE_TEACHER
            for variant in runs(data_set, seed):
                # Its student is that of ours.
                if variant.name != "ours-exhaustive":
                    per_image += student / RATE_STUDENT
                per_image += variant.trainings * candidate / RATE_CANDIDATE
        seconds += per_image * data_set.train_images * (1 - HELD_OUT) * cost
    return seconds / THREADS / 3600


def main() -> None:
    estimate = "\n".join(
        f"    {name:12}{hours(data_sets, seeds):5.1f} h"
        for name, data_sets, seeds in [
            ("the whole", DATA_SETS, SEEDS),
            ("--seeds 1", DATA_SETS, 1),
            ("--quick", DATA_SETS[-1:], 1),
        ]
    )
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"estimated time on {THREADS} cores (the limit of the whole is 4 h):\n{estimate}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    beside = "default tasks.yaml beside this script; paths in it start there"
    parser.add_argument("--to", type=Path, default=FOLDER / "tasks.yaml", metavar="FILE", help=beside)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"number of seeds (default {SEEDS})")
    parser.add_argument("--quick", action="store_true", help="digits with one seed")
    arguments = parser.parse_args()
    data_sets, seeds = (DATA_SETS[-1:], 1) if arguments.quick else (DATA_SETS, arguments.seeds)

    tasks = [
        task(data_set, variant, seed)
        for seed in range(seeds)
        for data_set in data_sets
        for variant in runs(data_set, seed)
    ]
    head = "# Written by examples/study/make_tasks.py, which says what the variants are.\nversion: 1\n"
    backbone = "backbone:\n  arch: lite0\n  weights: ../../.data/backbones/efficientnet_lite0.pth\n"
    arguments.to.write_text(f"{head}{backbone}\ntasks:\n" + "\n".join(tasks) + "\n")
    print(f"make_tasks: {len(tasks)} tasks, about {hours(data_sets, seeds):.1f} h: {arguments.to}", file=sys.stderr)


if __name__ == "__main__":
    main()
