"""Plots of the study, as SVG files that depend on the numbers only."""

from pathlib import Path

import matplotlib
from matplotlib import pyplot

from examples.study import summary
from examples.study.records import Run

matplotlib.use("svg")
# Ids in the file are hashes with this salt; text stays text.
matplotlib.rcParams.update({"svg.hashsalt": "nettailor", "svg.fonttype": "none", "font.size": 10})

BLUE, ORANGE, GREY = "#1f5fa8", "#c8641c", "#5b6b7c"


def frontier(runs: list[Run], dataset: str, path: Path) -> None:
    """Held-out accuracy against active FLOPs: every k of ours and of the paper's settings, and what each chose."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    for variant, colour, label in [("ours", BLUE, "our settings"), ("paper", ORANGE, "paper's settings")]:
        some = summary.of(runs, dataset, variant)
        draw_candidates(axes, some, colour, label)
        flops = summary.spread(run["model"]["flops"] / 1e6 for run in some)
        accuracy = summary.spread(100 * run["model"]["held_out"] for run in some)
        if flops and accuracy:
            axes.errorbar(
                flops.mean, accuracy.mean, accuracy.deviation, flops.deviation,
                color=colour, marker="*", markersize=14, linestyle="none", label=f"chosen, {label}",
            )  # fmt: skip
    teachers = summary.teachers(runs, dataset)
    tuned = summary.spread(100 * teacher["held_out"] for teacher in teachers)
    axes.errorbar(
        teachers[0]["flops"] / 1e6, tuned.mean, tuned.deviation,
        color=GREY, marker="s", linestyle="none", label="fine-tuning",
    )  # fmt: skip
    axes.axhline(tuned.mean - summary.TOLERANCE_POINTS, color=GREY, linestyle=":", linewidth=1)
    axes.set(xlabel="active FLOPs of one image, millions", ylabel="held-out accuracy, %", title=dataset)
    axes.set_xlim(left=0)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def draw_candidates(axes: pyplot.Axes, runs: list[Run], colour: str, label: str) -> None:
    """A point per k, at the mean over seeds; candidates that were not trained to the end are left out."""
    points = []
    for k, accuracy in summary.frontier(runs).items():
        candidates = [candidate for run in runs for candidate in run["frontier"] if candidate["k"] == k]
        flops = summary.spread(candidate["flops"] / 1e6 for candidate in candidates)
        points.append((flops.mean, 100 * accuracy.mean, 100 * accuracy.deviation))
    if points:
        x, y, error = zip(*sorted(points), strict=True)
        axes.errorbar(x, y, error, color=colour, marker="o", markersize=4, linewidth=1, capsize=2, label=label)
