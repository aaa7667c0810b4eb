"""What the runs of the study say: means and spreads, and the paper's claims checked against them."""

import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple

from examples.study.records import Run

# Points of accuracy that a tailored network may lose against fine-tuning.
TOLERANCE_POINTS = 0.5
# The paper's new parameters are 8 to 9 % of the backbone; more than this is not "a small fraction".
SMALL_FRACTION = 0.10
# "Light" pruning: at most so many main blocks, a quarter of lite0's.
LIGHT_K = 4
# Held-out accuracy that pruning has to gain, in points.
LIGHT_GAIN_POINTS = 0.2


class Spread(NamedTuple):
    """Mean and sample standard deviation over seeds, and their number; one seed has no deviation (0)."""

    mean: float
    deviation: float
    seeds: int


class Claim(NamedTuple):
    """A sentence of the paper and what became of it here; `holds` is None where the runs to tell are missing."""

    text: str
    holds: bool | None
    numbers: str


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of the values that were measured; None if there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else 0.0, len(known))


def datasets(runs: list[Run]) -> list[str]:
    """Their names, the one with the highest accuracy of fine-tuning first: from simple to hard."""
    names = {run["dataset"] for run in runs}
    return sorted(names, key=lambda name: (-spread(run["teacher"]["test"] for run in of(runs, name)).mean, name))


def of(runs: list[Run], dataset: str, variant: str | None = None) -> list[Run]:
    return [run for run in runs if run["dataset"] == dataset and variant in (None, run["variant"])]


def teachers(runs: list[Run], dataset: str) -> list[dict]:
    """Fine-tuning on a data set: one per seed, since the variants of a seed share it."""
    return list({run["seed"]: run["teacher"] for run in of(runs, dataset)}.values())


def claims(runs: list[Run]) -> list[Claim]:
    """The paper's claims."""
    checks = (simple_end_smaller, close_to_fine_tuning, few_parameters, teacher_helps, light_pruning)
    return [check(runs) for check in checks]


def per_dataset(runs: list[Run], value: Callable[[Run], float], variant: str = "ours") -> dict[str, float]:
    """The mean over seeds of `value`, for each data set that has runs of `variant`, simple ones first."""
    chosen = {name: of(runs, name, variant) for name in datasets(runs)}
    return {name: statistics.fmean(map(value, some)) for name, some in chosen.items() if some}


def listed(numbers: dict[str, float], unit: str) -> str:
    return ", ".join(f"{name} {number:.2f} {unit}" for name, number in numbers.items())


def flops_share(run: Run) -> float:
    return 100 * run["model"]["flops"] / run["teacher"]["flops"]


def simple_end_smaller(runs: list[Run]) -> Claim:
    shares = per_dataset(runs, flops_share)
    text = "Simple tasks end smaller than hard ones"
    if len(shares) < 2:
        return Claim(text, None, "needs two data sets")
    values, half = list(shares.values()), len(shares) // 2
    simple, hard = statistics.fmean(values[:half]), statistics.fmean(values[-half:])
    order = "of the backbone's FLOPs, from the simplest (most accurate fine-tuning) to the hardest"
    halves = f"the simpler half {simple:.1f} %, the harder half {hard:.1f} %"
    unqualified = [name for name in shares if not any(run["model"]["qualified"] for run in of(runs, name, "ours"))]
    caveat = f"; no network of {' or '.join(unqualified)} qualified, so theirs are the most accurate ones" if unqualified else ""
    return Claim(text, simple < hard, f"{order}: {listed(shares, '%')}; {halves}{caveat}")


def close_to_fine_tuning(runs: list[Run]) -> Claim:
    losses = per_dataset(runs, lambda run: 100 * (run["model"]["test"] - run["teacher"]["test"]))
    text = f"Within {TOLERANCE_POINTS} points of fine-tuning"
    # Rounded, for what is exactly on the edge.
    holds = round(min(losses.values()), 6) >= -TOLERANCE_POINTS if losses else None
    return Claim(text, holds, f"test accuracy against the teacher's: {listed(losses, 'points')}")


def few_parameters(runs: list[Run]) -> Claim:
    shares = per_dataset(runs, lambda run: 100 * run["model"]["task_params"] / run["teacher"]["params"])
    text = "Task parameters are a small fraction of the backbone"
    holds = max(shares.values()) <= 100 * SMALL_FRACTION if shares else None
    scale = f"the paper has 8 to 9 %, small is up to {100 * SMALL_FRACTION:.0f} % here"
    return Claim(text, holds, f"{listed(shares, '%')}; {scale}")


def teacher_helps(runs: list[Run]) -> Claim:
    text = "Teacher supervision helps most on small data"
    with_hints = per_dataset(runs, lambda run: 100 * run["model"]["test"])
    without = per_dataset(runs, lambda run: 100 * run["model"]["test"], "no-teacher")
    gains = {name: with_hints[name] - without[name] for name in without if name in with_hints}
    if len(gains) < 2:
        return Claim(text, None, "needs runs without hints on two data sets")
    images = {name: of(runs, name)[0]["train_images"] for name in gains}
    by_size = dict(sorted(gains.items(), key=lambda item: images[item[0]]))
    smallest = next(iter(by_size))
    holds = by_size[smallest] > 0 and by_size[smallest] == max(gains.values())
    numbers = ", ".join(f"{name} ({images[name]} images) {gain:+.2f} points" for name, gain in by_size.items())
    return Claim(text, holds, f"test accuracy with hints against without: {numbers}")


def light_pruning(runs: list[Run]) -> Claim:
    text = "Light pruning can beat the unpruned student"
    gains = {}
    for name in datasets(runs):
        by_k = frontier(of(runs, name, "paper") or of(runs, name, "ours-exhaustive"))
        light = {k: at for k, at in by_k.items() if 0 < k <= LIGHT_K}
        if 0 in by_k and light:
            gains[name] = 100 * (max(at.mean for at in light.values()) - by_k[0].mean)
    # A few images more are chance.
    holds = max(gains.values()) >= LIGHT_GAIN_POINTS if gains else None
    compared = f"held-out accuracy of the best k up to {LIGHT_K} against k = 0"
    return Claim(text, holds, f"{compared}: {listed(gains, 'points')}; {LIGHT_GAIN_POINTS} would be more than chance")


def frontier(runs: list[Run]) -> dict[int, Spread]:
    """Held-out accuracy of the candidates with each k, of those runs that trained it as long as the longest."""
    longest = max((candidate["epochs"] for run in runs for candidate in run["frontier"]), default=0)
    by_k: dict[int, list[float]] = {}
    for run in runs:
        for candidate in run["frontier"]:
            if candidate["epochs"] == longest and candidate["held_out"] is not None:
                by_k.setdefault(candidate["k"], []).append(candidate["held_out"])
    return {k: spread(values) for k, values in sorted(by_k.items())}


def flops_ratio(runs: list[Run]) -> tuple[float, int] | None:
    """Geometric mean of FLOPs ours / paper, over the data sets and seeds that have both, and their number."""
    flops = {(run["dataset"], run["seed"], run["variant"]): run["model"]["flops"] for run in runs}
    ratios = [flops[d, s, "ours"] / flops[d, s, "paper"] for d, s, v in flops if v == "ours" and (d, s, "paper") in flops]
    return (statistics.geometric_mean(ratios), len(ratios)) if ratios else None


def flops_ratio_as_accurate(runs: list[Run]) -> tuple[float, int] | None:
    """The same where neither has to qualify: the leanest candidate of ours that is at least as accurate on held-out images as what
    the paper's settings end with; where there is none, ours end with what they end with anyway."""
    ratios = []
    for run in runs:
        if run["variant"] == "paper":
            ours = [one for one in of(runs, run["dataset"], "ours") if one["seed"] == run["seed"]]
            points = [point for one in ours for point in [*one["frontier"], one["model"]]]
            enough = [point["flops"] for point in points if point["held_out"] >= run["model"]["held_out"]]
            if ours:
                ratios.append(min(enough, default=ours[0]["model"]["flops"]) / run["model"]["flops"])
    return (statistics.geometric_mean(ratios), len(ratios)) if ratios else None


class Search(NamedTuple):
    """Successive halving beside the full ladder, on the same student."""

    dataset: str
    seed: int
    # (halving, exhaustive)
    k: tuple[int, int]
    epochs: tuple[float, float]
    held_out: tuple[float, float]


def searches(runs: list[Run]) -> list[Search]:
    pairs = []
    for name in datasets(runs):
        full = {run["seed"]: run for run in of(runs, name, "ours-exhaustive")}
        for halving in of(runs, name, "ours"):
            if exhaustive := full.get(halving["seed"]):
                both = (halving, exhaustive)
                pairs.append(
                    Search(
                        name,
                        halving["seed"],
                        k=tuple(run["model"]["k"] for run in both),
                        epochs=tuple(sum(candidate["epochs"] for candidate in run["frontier"]) for run in both),
                        held_out=tuple(run["model"]["held_out"] for run in both),
                    )
                )
    return pairs
