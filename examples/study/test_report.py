"""The study's numbers, from made-up records: python3 -m unittest examples.study.test_report"""

import unittest

from examples.study import make_tasks, records, report, summary

BACKBONE_FLOPS, BACKBONE_PARAMS = 1000, 4000


def accuracy(percent: float) -> dict:
    return {"correct": round(10 * percent), "total": 1000, "fraction": percent / 100}


def model(
    task: str, test: float, flops: int, teacher: float = 98.0, task_params: int = 300, frontier=(), version: int = 1, timed: bool = True
) -> dict:
    """An entry of the CLI's report. A frontier is of (k, held-out percent, epochs)."""
    return {
        "task": task,
        "version": version,
        "k": 4,
        "qualified": True,
        "test": accuracy(test),
        "held_out": accuracy(test),
        "teacher_test": accuracy(teacher),
        "teacher_held_out": accuracy(teacher),
        "active_flops": flops,
        "active_params": 1000,
        "task_params": task_params,
        "backbone_flops": BACKBONE_FLOPS,
        "finetuned_params": BACKBONE_PARAMS,
        "frontier": [
            {
                "k": k,
                "held_out": accuracy(held_out),
                "epochs": epochs,
                "active_flops": 900 - 50 * k,
                "active_params": 1000,
                "task_params": 300,
            }
            for k, held_out, epochs in frontier
        ],
        "latency": {"batch_1_ms": 2.0, "batch_32_ms": 40.0},
        "teacher_latency": {"batch_1_ms": 4.0, "batch_32_ms": 80.0},
        "stage_seconds": {"teacher": 60.0, "student": 90.0, "search": 120.0} if timed else {},
    }


def runs(*models: dict) -> list[records.Run]:
    return records.runs({"tasks": list(models), "stored": {}})


def verdicts(*models: dict) -> dict[str, bool | None]:
    return {claim.text: claim.holds for claim in summary.claims(runs(*models))}


class Records(unittest.TestCase):
    def test_tasks_are_named_by_set_variant_and_seed(self):
        found = runs(model("digits-ours-exhaustive-1", 97, 500), model("digits-ours-0", 97, 500), model("demo", 97, 500))
        self.assertEqual(
            [(run["dataset"], run["variant"], run["seed"]) for run in found],
            [("digits", "ours", 0), ("digits", "ours-exhaustive", 1)],
        )

    def test_the_newest_version_counts(self):
        found = runs(model("digits-ours-0", 97, 500, version=2), model("digits-ours-0", 90, 500, version=1))
        self.assertEqual([run["model"]["test"] for run in found], [0.97])

    def test_times_are_those_of_the_job(self):
        (run,) = runs(model("digits-ours-0", 97, 500))
        self.assertEqual((run["model"]["ms_batch1"], run["teacher"]["ms_batch32"]), (2.0, 80.0))
        self.assertEqual(run["seconds"], {"teacher": 60.0, "student": 90.0, "candidates": 120.0})

    def test_what_was_not_measured_is_none(self):
        (run,) = runs(model("digits-ours-0", 97, 500, timed=False))
        self.assertEqual(run["seconds"], {"teacher": None, "student": None, "candidates": None})


class Missing(unittest.TestCase):
    def test_runs_without_a_result_are_named(self):
        seed_0 = [model(f"digits-{variant}-0", 97, 500) for variant in ("ours", "ours-exhaustive", "features", "no-teacher")]
        self.assertEqual(report.without_result(runs(*seed_0)), ["digits-paper-0"])
        self.assertIn("Without a result (`jobs list` says why): digits-paper-0.", report.body(runs(*seed_0), "method"))


class Claims(unittest.TestCase):
    SIMPLE = "Simple tasks end smaller than hard ones"
    CLOSE = "Within 0.5 points of fine-tuning"
    SMALL = "Task parameters are a small fraction of the backbone"
    HINTS = "Teacher supervision helps most on small data"
    LIGHT = "Light pruning can beat the unpruned student"

    def test_simple_is_what_fine_tuning_finds_easy(self):
        simple, hard = model("a-ours-0", 98, 300), model("b-ours-0", 80, 600, teacher=80)
        self.assertTrue(verdicts(simple, hard)[self.SIMPLE])
        self.assertFalse(verdicts(simple | {"active_flops": 700}, hard)[self.SIMPLE])
        self.assertIsNone(verdicts(simple)[self.SIMPLE])

    def test_every_set_must_be_close_on_average(self):
        near = [model("a-ours-0", 97.0, 300), model("a-ours-1", 98.0, 300)]
        self.assertTrue(verdicts(*near)[self.CLOSE])
        self.assertFalse(verdicts(*near, model("b-ours-0", 97.4, 300))[self.CLOSE])

    def test_a_tenth_is_still_a_small_fraction(self):
        self.assertTrue(verdicts(model("a-ours-0", 98, 300, task_params=400))[self.SMALL])
        self.assertFalse(verdicts(model("a-ours-0", 98, 300, task_params=401))[self.SMALL])

    def test_hints_must_help_the_smallest_set_most(self):
        small = model("a-ours-0", 97, 300) | {"held_out": accuracy(97) | {"total": 100}}
        large = model("b-ours-0", 97, 300)
        without = model("a-no-teacher-0", 95, 300), model("b-no-teacher-0", 96, 300)
        self.assertTrue(verdicts(small, large, *without)[self.HINTS])
        without = model("a-no-teacher-0", 96.5, 300), model("b-no-teacher-0", 96, 300)
        self.assertFalse(verdicts(small, large, *without)[self.HINTS])
        without = model("a-no-teacher-0", 97.5, 300), model("b-no-teacher-0", 97.6, 300)
        self.assertFalse(verdicts(small, large, *without)[self.HINTS])

    def test_light_pruning_is_compared_with_k_0(self):
        better = model("a-paper-0", 97, 300, frontier=[(0, 96, 5), (2, 96.5, 5), (8, 90, 5)])
        worse = model("a-paper-0", 97, 300, frontier=[(0, 96, 5), (2, 95.5, 5), (8, 97, 5)])
        self.assertTrue(verdicts(better)[self.LIGHT])
        self.assertFalse(verdicts(worse)[self.LIGHT])
        self.assertIsNone(verdicts(model("a-paper-0", 97, 300))[self.LIGHT])


class Comparisons(unittest.TestCase):
    def test_ratio_is_geometric_and_over_pairs_only(self):
        found = runs(
            model("a-ours-0", 97, 200), model("a-paper-0", 97, 400),
            model("b-ours-0", 97, 800), model("b-paper-0", 97, 400),
            model("b-ours-1", 97, 1),
        )  # fmt: skip
        ratio, pairs = summary.flops_ratio(found)
        self.assertAlmostEqual(ratio, 1.0)
        self.assertEqual(pairs, 2)

    def test_the_leanest_that_is_as_accurate_counts(self):
        ours = model("a-ours-0", 97, 850, frontier=[(2, 97, 5), (4, 95, 5), (6, 94, 5)])
        ratio, pairs = summary.flops_ratio_as_accurate(runs(ours, model("a-paper-0", 95, 1400)))
        self.assertAlmostEqual(ratio, 700 / 1400)
        self.assertEqual(pairs, 1)
        ratio, _ = summary.flops_ratio_as_accurate(runs(ours, model("a-paper-0", 98, 1700)))
        self.assertAlmostEqual(ratio, 850 / 1700)

    def test_epochs_of_the_searches_are_added_up(self):
        halving = model("a-ours-0", 97, 300, frontier=[(0, 90, 2), (2, 95, 5)])
        full = model("a-ours-exhaustive-0", 97, 300, frontier=[(0, 94, 5), (2, 95, 5)])
        (search,) = summary.searches(runs(halving, full))
        self.assertEqual(search.epochs, (7, 10))

    def test_the_frontier_leaves_out_what_was_stopped_early(self):
        one = model("a-ours-0", 97, 300, frontier=[(0, 90, 2), (2, 95, 5)])
        found = runs(one, model("a-ours-1", 97, 300, frontier=[(2, 97, 5)]))
        self.assertEqual(list(summary.frontier(found)), [2])
        self.assertAlmostEqual(summary.frontier(found)[2].mean, 0.96)

    def test_one_seed_has_no_deviation(self):
        self.assertEqual(summary.spread([1.0, None]), (1.0, 0.0, 1))
        self.assertIsNone(summary.spread([None]))


class Page(unittest.TestCase):
    def test_words_around_the_results_are_kept(self):
        page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
        self.assertEqual(report.placed(page, "new\n"), f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n")

    def test_a_page_without_markers_is_refused(self):
        with self.assertRaises(SystemExit):
            report.placed("words", "new\n")

    def test_all_parts_are_written(self):
        text = report.body(runs(model("a-ours-0", 97.25, 300), model("a-features-0", 90, 1000)), "method")
        rows = ("| fine-tuning | 1 | 98.00 |", "| our settings | 1 | 97.25 |")
        for part in (*rows, "![held-out accuracy against FLOPs](method/a.svg)"):
            self.assertIn(part, text)


class Tasks(unittest.TestCase):
    def test_tasks_of_a_seed_share_their_teacher(self):
        for data_set in make_tasks.DATA_SETS:
            settings = set()
            for variant in make_tasks.runs(data_set, seed=0):
                lines = make_tasks.task(data_set, variant, seed=0).splitlines()
                settings.add(tuple(line for line in lines if line.strip().startswith(("data:", "seed:", "teacher:"))))
            self.assertEqual(len(settings), 1, data_set.name)

    def test_the_whole_fits_into_four_hours(self):
        self.assertLess(make_tasks.hours(make_tasks.DATA_SETS, make_tasks.SEEDS), 4.0)


if __name__ == "__main__":
    unittest.main()
