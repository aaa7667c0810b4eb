#!/usr/bin/env python3
"""Writes the study's results: tables and checked claims into docs/results/method.md, plots into docs/results/method/.

In the page, only what stands between the two marker lines is replaced; words around them are kept. The same records give
the same files.

    nettailor-cli registry report --output json | python3 -m examples.study.report [--page docs/results/method.md]
"""

import argparse
import json
import sys
from pathlib import Path

from examples.study import make_tasks, records, summary
from examples.study.records import Run
from examples.study.summary import Claim, Spread

BEGIN, END = "<!-- begin: written by examples/study/report.py -->", "<!-- end -->"
EMPTY_PAGE = f"# The study\n\n`make study` runs it and writes this page.\n\n{BEGIN}\n{END}\n"
VARIANTS = {
    "ours": "our settings",
    "ours-exhaustive": "our settings, full ladder",
    "paper": "paper's settings",
    "features": "feature extraction",
    "no-teacher": "our settings, no hints",
}


def cell(value: Spread | None, scale: float = 1.0, digits: int = 2) -> str:
    """`97.21 ± 0.30`, or the mean alone of one seed."""
    if value is None:
        return "-"
    deviation = f" ± {scale * value.deviation:.{digits}f}" if value.seeds > 1 else ""
    return f"{scale * value.mean:.{digits}f}{deviation}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


COUNTS = ["active params, M", "task params, M", "active FLOPs, M"]
RESULTS = ["", "seeds", "test, %", "held-out, %", "k", *COUNTS, "ms, batch 1", "ms, batch 32"]


def results_row(name: str, networks: list[dict], ks: str) -> list[str]:
    def values(key: str) -> Spread | None:
        return summary.spread(network.get(key) for network in networks)

    return [
        name,
        str(len(networks)),
        cell(values("test"), 100),
        cell(values("held_out"), 100),
        ks,
        cell(values("params"), 1e-6),
        cell(values("task_params"), 1e-6),
        cell(values("flops"), 1e-6),
        cell(values("ms_batch1")),
        cell(values("ms_batch32")),
    ]


def results(runs: list[Run], dataset: str) -> str:
    # A fine-tuned network is the task's own, all of it.
    fine_tuned = [teacher | {"task_params": teacher["params"]} for teacher in summary.teachers(runs, dataset)]
    rows = [results_row("fine-tuning", fine_tuned, "-")]
    for variant, name in VARIANTS.items():
        if some := summary.of(runs, dataset, variant):
            # A star where no candidate came near enough to the teacher.
            ks = [f"{run['model']['k']}{'' if run['model']['qualified'] else '*'}" for run in some]
            rows.append(results_row(name, [run["model"] for run in some], ", ".join(ks)))
    return table(RESULTS, rows)


def times(runs: list[Run]) -> str:
    """Minutes of training per stage."""
    stages = ("teacher", "student", "candidates")
    rows = []
    for dataset in summary.datasets(runs):
        for variant, name in VARIANTS.items():
            if some := summary.of(runs, dataset, variant):
                minutes = [cell(summary.spread(run["seconds"][stage] for run in some), 1 / 60, 1) for stage in stages]
                rows.append([f"{dataset}, {name}", *minutes])
    return table(["training, minutes", *stages], rows)


def claims(found: list[Claim]) -> str:
    verdicts = {True: "holds", False: "**does not hold**", None: "not known"}
    rows = [[claim.text, verdicts[claim.holds], claim.numbers] for claim in found]
    return table(["claim", "here", "numbers"], rows)


def searches(runs: list[Run]) -> str:
    rows = [
        [
            f"{search.dataset}, seed {search.seed}",
            *map(str, search.k),
            *(f"{epochs:.4g}" for epochs in search.epochs),
            f"{search.epochs[0] / search.epochs[1]:.2f}" if search.epochs[1] else "-",
            *(f"{100 * held_out:.2f}" for held_out in search.held_out),
        ]
        for search in summary.searches(runs)
    ]
    head = ["k, halving", "k, full", "epochs, halving", "epochs, full", "ratio"]
    return table(["", *head, "held-out, halving, %", "held-out, full, %"], rows)


def without_result(runs: list[Run]) -> list[str]:
    """Names of the study's tasks of which there is no model, among the sets and seeds of which there is one."""
    there = {(run["dataset"], run["variant"], run["seed"]) for run in runs}
    begun = {(dataset, seed) for dataset, _, seed in there}
    return [
        f"{data_set.name}-{variant.name}-{seed}"
        for data_set in make_tasks.DATA_SETS
        for seed in range(make_tasks.SEEDS)
        if (data_set.name, seed) in begun
        for variant in make_tasks.runs(data_set, seed)
        if (data_set.name, variant.name, seed) not in there
    ]


def body(runs: list[Run], pictures: str) -> str:
    """The generated part of the page; `pictures` is the plots' folder, relative to the page."""
    parts = ["Mean ± sample standard deviation over seeds. A star: no candidate was within 0.5 points of the teacher.\n"]
    if missing := without_result(runs):
        parts.append(f"Without a result (`jobs list` says why): {', '.join(missing)}.\n")
    for dataset in summary.datasets(runs):
        images = summary.of(runs, dataset)[0]["train_images"]
        parts.append(f"## {dataset}\n\n{images} training images.\n\n{results(runs, dataset)}")
        parts.append(f"![held-out accuracy against FLOPs]({pictures}/{dataset}.svg)\n")
    parts.append(f"## The paper's claims\n\n{claims(summary.claims(runs))}")
    if ratio := summary.flops_ratio(runs):
        parts.append(f"Active FLOPs, ours / paper's settings: geometric mean {ratio[0]:.3f} over {ratio[1]} pairs of runs.\n")
    if ratio := summary.flops_ratio_as_accurate(runs):
        parts.append(
            "The same for the leanest candidate of ours that is at least as accurate, held out, as the network the paper's"
            f" settings end with: {ratio[0]:.3f} over {ratio[1]} pairs.\n"
        )
    parts.append(f"## Search for k\n\nThe same students, seed by seed.\n\n{searches(runs)}")
    parts.append(f"## Training time\n\n{times(runs)}")
    return "\n".join(parts)


def placed(page: str, generated: str) -> str:
    """The page with its generated part replaced. Ends the program if the markers are not there, once and in order."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"report: the page needs the lines '{BEGIN}' and '{END}'; put them where the results shall stand")
    return f"{before}{BEGIN}\n{generated}{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[2]
    parser.add_argument("--page", type=Path, default=root / "docs/results/method.md", metavar="FILE")
    page = parser.parse_args().page
    runs = records.runs(json.load(sys.stdin))
    if not runs:
        sys.exit("report: no task named <set>-<variant>-<seed> in the report; run the study first")

    # Loaded late: everything but the plots works, and is tested, without matplotlib.
    from examples.study import plots

    pictures = page.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    for dataset in summary.datasets(runs):
        plots.frontier(runs, dataset, pictures / f"{dataset}.svg")
    text = page.read_text() if page.exists() else EMPTY_PAGE
    page.write_text(placed(text, body(runs, pictures.name)))


if __name__ == "__main__":
    main()
