import pandas as pd
import pytest
from handmade import accuracy, diverged, memory, points, timing, training

from bench.report.paper import paper_tables
from bench.report.tables import table4
from bench.report.tables.properties import PROPERTIES, judge
from bench.units import GiB, MiB

BY_NAME = {each.name: each for each in PROPERTIES}


def cells(*records):
    return table4.arranged(table4.tidy(records)).set_index("").to_dict()


def words(name, values):
    frame = pd.DataFrame(values).set_index(["method", "task"])
    return {method: verdict.word for method, verdict in judge(BY_NAME[name], frame).items()}


@pytest.mark.parametrize(
    ("seconds", "word"), [(1.0, "Fast"), (1.5, "Fast"), (1.51, "Moderate"), (3.0, "Moderate"), (3.01, "Slow")]
)
def test_a_time_is_judged_by_its_ratio_to_the_best(seconds, word):
    values = [{"method": "best", "task": "ct", "s": 1.0}, {"method": "other", "task": "ct", "s": seconds}]
    assert words("training_time", values) == {"best": "Fast", "other": word}


def test_a_ratio_is_the_geometric_mean_over_the_tasks_that_compare():
    assert cells(
        timing("DEQ4IP", 8.0, 2.0, task="ct", batch=2),
        timing("LUSER-SW", 4.0, 2.0, task="ct", batch=2),
        timing("DEQ4IP", 9.0, 1.0, task="mri"),
        timing("LUSER-SW", 2.0, 1.0, task="mri"),
        timing("DEQ4IP", 100.0, 1.0, task="deblurring"),
    )["DEQ4IP"] == {
        "training time": "Moderate (3.00x, 6 s) / Slow",
        "evaluation time": "Fast (1.00x, 1 s) / Slow",
        "training stability": "not measured / Unstable",
        "network size": "not measured / Large",
        "expressiveness": "not measured / Moderate",
        "training memory usage": "not measured / Small",
    }


def test_size_and_memory_beside_the_papers_words():
    table = cells(memory("LU-DnCNN", 4 * GiB, 600_000), memory("LUSER-DW", 1 * GiB, 200_000))
    assert table["LU-DnCNN"]["network size"] == "Moderate (3.00x, 600,000) / Large"
    assert table["LU-DnCNN"]["training memory usage"] == "Large (4.00x, 4.00 GiB) / Large"
    assert table["LUSER-DW"]["network size"] == "Small (1.00x, 200,000) / Small"
    assert table["LUSER-DW"]["training memory usage"] == "Small (1.00x, 1.00 GiB) / Moderate"
    assert table["LUSER-DW"]["training time"] == "not measured / Moderate"


def test_stability_counts_divergence_and_the_second_half_of_training():
    curve = points([1000, 1, 500, 3], evaluations=5, residual=1e-3) + points([2.0] * 4, evaluations=8, residual=1e-2)
    assert cells(accuracy("DEQ4IP", training(curve=curve)))["DEQ4IP"]["training stability"] == (
        "Stable (0 of 1 diverged, norms 1.00x, evaluations 5.0 to 8.0, residual 1.0e-03 to 1.0e-02) / Unstable"
    )


@pytest.mark.parametrize(("upper", "word"), [(3.0, "Stable"), (3.01, "Unstable")])
def test_the_quartiles_of_the_gradient_norms_decide(upper, word):
    curve = points([1.0] * 5 + [1.0, 1.0, 2.0, upper, upper])
    cell = cells(accuracy("LUSER-SW", training(curve=curve)))["LUSER-SW"]["training stability"]
    assert cell == f"{word} (0 of 1 diverged, norms {upper:.2f}x) / Stable"


@pytest.mark.parametrize(("second", "word"), [(0.9, "Stable"), (0.89, "Unstable")])
def test_solves_that_find_no_fixed_point_are_unstable(second, word):
    """Over all seeds and tasks, in the second half of training."""
    halves = [
        points([1.0] * 2, evaluations=5, residual=1e-3, solver_converged=0.0)
        + points([1.0] * 2, evaluations=5, residual=1e-3, solver_converged=share)
        for share in (1.0, 2 * second - 1)
    ]
    cell = cells(accuracy("DEQ4IP", *(training(curve=curve, seed=seed) for seed, curve in enumerate(halves))))
    assert cell["DEQ4IP"]["training stability"] == (
        f"{word} (0 of 2 diverged, norms 1.00x, evaluations 5.0 to 5.0, residual 1.0e-03 to 1.0e-03, "
        f"{second:.0%} of solves converged) / Unstable"
    )


def test_one_diverged_training_is_unstable():
    record = accuracy("LUSER-SW", training(curve=points([1.0] * 4)), diverged(seed=1))
    cell = cells(record)["LUSER-SW"]["training stability"]
    assert cell == "Unstable (1 of 2 diverged, norms 1.00x) / Stable"


@pytest.mark.parametrize(("psnr_db", "word"), [(29.75, "High"), (29.74, "Low"), (29.0, "Low")])
def test_low_is_what_a_method_of_no_more_memory_betters(psnr_db, word):
    values = [
        {"method": "small", "task": "ct", "psnr_db": 30.0, "peak_bytes_per_image": 10},
        {"method": "large", "task": "ct", "psnr_db": psnr_db, "peak_bytes_per_image": 10},
    ]
    assert words("expressiveness", values) == {"small": "High", "large": word}


@pytest.mark.parametrize(("psnr_db", "word"), [(29.75, "High"), (29.74, "Moderate"), (20.0, "Moderate")])
def test_moderate_is_what_only_more_memory_betters(psnr_db, word):
    values = [
        {"method": "small", "task": "ct", "psnr_db": psnr_db, "peak_bytes_per_image": 9},
        {"method": "large", "task": "ct", "psnr_db": 30.0, "peak_bytes_per_image": 10},
    ]
    assert words("expressiveness", values) == {"small": word, "large": "High"}


def test_the_papers_own_numbers_lead_to_its_words():
    """Table 2's better loss, and memory per image as the inverse of Table 3's batches on 24 GB."""
    paper = paper_tables()
    batches = {task: of_task["24GB"] for task, of_task in paper["max_batch"].items()}
    values = [
        {
            "method": method,
            "task": task,
            "psnr_db": max(psnr for psnr, _ in losses.values()),
            "peak_bytes_per_image": 1 / batches[task.split("-")[0]][method],
        }
        for task, methods in paper["accuracy"].items()
        for method, losses in methods.items()
    ]
    found = words("expressiveness", values)
    expected = paper["properties"]["expressiveness"]
    assert (found["LU-DnCNN"], found["DEQ4IP"], found["LUSER-DW"]) == (
        expected["LU"],
        expected["DEQ4IP"],
        expected["LUSER"],
    )


def test_a_lag_that_rounds_to_nothing_has_no_sign():
    values = [
        {"method": method, "task": "ct", "psnr_db": psnr_db, "peak_bytes_per_image": 1}
        for method, psnr_db in (("a", 30.0), ("b", 29.999))
    ]
    frame = pd.DataFrame(values).set_index(["method", "task"])
    assert judge(BY_NAME["expressiveness"], frame)["b"].numbers == "+0.00 dB, +0.00 dB"


def test_accuracy_of_mri_4x_is_held_against_the_memory_of_mri():
    records = [timing("LU-DnCNN", per_image=GiB, task="mri"), timing("DEQ4IP", per_image=10 * MiB, task="mri")]
    records += [accuracy("LU-DnCNN", training((30.0, 30.0)), task="mri-4x")]
    records += [accuracy("DEQ4IP", training((29.0, 29.0)), task="mri-4x")]
    table = cells(*records)
    assert table["LU-DnCNN"]["expressiveness"] == "High (+0.00 dB, +0.00 dB) / Low"
    assert table["DEQ4IP"]["expressiveness"] == "Moderate (+0.00 dB, -1.00 dB) / Moderate"


def test_size_and_memory_are_those_of_the_networks_that_are_timed():
    """A small preset's words are about its own networks, whose order in memory may be another one."""
    full = [memory("DEQ4IP", GiB, 557_000), memory("LUSER-DW", 2 * GiB, 760_000)]
    timed = [timing("DEQ4IP", per_image=9 * MiB, parameters=557_000)]
    timed += [timing("LUSER-DW", per_image=3 * MiB, parameters=192_000)]
    table = cells(*full, *timed)
    assert table["LUSER-DW"]["network size"] == "Small (1.00x, 192,000) / Small"
    assert table["LUSER-DW"]["training memory usage"] == "Small (1.00x, 3.00 MiB) / Moderate"
    assert table["DEQ4IP"]["training memory usage"] == "Moderate (3.00x, 9.00 MiB) / Small"
    assert cells(*full, timing("DEQ4IP"))["LUSER-DW"]["network size"] == "Small (1.36x, 760,000) / Small"


def test_both_losses_are_methods_of_their_own():
    records = [timing("LUSER-SW", 1.0, 1.0), timing("LUSER-SW", 2.0, 1.0, loss="auxiliary")]
    table = cells(*records)
    assert list(table) == ["LUSER-SW, final", "LUSER-SW, auxiliary"]
    assert table["LUSER-SW, auxiliary"]["training time"] == "Moderate (2.00x, 2 s) / Moderate"


def test_other_conditions_are_not_compared():
    newer = timing("DEQ4IP", 2.0, 1.0, created="2026-01-02T00:00:00+00:00")
    records = [newer, timing("LUSER-SW", 1.0, 1.0, preset="paper")]
    assert set(table4.tidy(records)["method"]) == {"DEQ4IP"}


def test_the_caption_says_the_rules_and_what_was_measured():
    caption = table4.caption(table4.tidy([memory("DEQ4IP", GiB), timing("DEQ4IP", 2.0, 1.0, task="mri")]))
    assert caption.startswith("Word (numbers) / the paper's word. Times, size and memory: the ratio to the best")
    assert "up to 1.5x Fast or Small, up to 3x Moderate, beyond Slow or Large" in caption
    assert caption.endswith(
        "Measured: memory of ct; timing of mri (preset demo, cpu); torch 2.13.0. The demo's "
        "times and PSNR rank methods; they do not compare with published numbers."
    )
    assert table4.caption(table4.tidy([memory("DEQ4IP", GiB)])).endswith("Measured: memory of ct; torch 2.13.0.")


def test_the_spread_is_that_of_quartiles():
    """Of the norms 1 to 9, from the third on and up to the seventh: 7 / 3."""
    curve = points([1.0] * 9 + [float(norm) for norm in range(1, 10)])
    cell = cells(accuracy("LUSER-SW", training(curve=curve)))["LUSER-SW"]["training stability"]
    assert cell == "Stable (0 of 1 diverged, norms 2.33x) / Stable"


@pytest.mark.filterwarnings("error")
def test_stability_of_norms_and_residuals_that_are_zero_alone_or_infinite():
    def told(curve):
        return cells(accuracy("LUSER-SW", training(curve=curve)))["LUSER-SW"]["training stability"]

    still = points([0.0] * 8, loss=0.0, evaluations=1, residual=0.0)
    assert told(still) == (
        "Stable (0 of 1 diverged, norms 1.00x, evaluations 1.0 to 1.0, residual 0.0e+00 to 0.0e+00) / Stable"
    )
    assert told(points([0.0] * 6 + [1.0] * 2)) == "Unstable (0 of 1 diverged, norms infx) / Stable"
    one = points([1.0], evaluations=2, residual=float("inf"))
    assert told(one) == "Stable (0 of 1 diverged, norms 1.00x, evaluations 2.0, residual inf) / Stable"


@pytest.mark.filterwarnings("error")
def test_an_infinite_psnr_is_the_best_and_as_good_as_another():
    inf = float("inf")
    values = {"a": (inf, 9), "b": (inf, 10), "c": (30.0, 8), "d": (29.0, 10)}
    rows = [
        {"method": method, "task": "ct", "psnr_db": psnr_db, "peak_bytes_per_image": peak_bytes}
        for method, (psnr_db, peak_bytes) in values.items()
    ]
    found = judge(BY_NAME["expressiveness"], pd.DataFrame(rows).set_index(["method", "task"]))
    assert {method: (each.word, each.numbers) for method, each in found.items()} == {
        **dict.fromkeys("ab", ("High", "+0.00 dB, +0.00 dB")),
        "c": ("Moderate", "+0.00 dB, -inf dB"),
        "d": ("Low", "-inf dB, -inf dB"),
    }


@pytest.mark.filterwarnings("error")
def test_there_is_no_ratio_to_nothing():
    values = [{"method": name, "task": "ct", "s": value} for name, value in (("a", 0.0), ("b", 1.0), ("c", 2.0))]
    frame = pd.DataFrame(values).set_index(["method", "task"])
    assert {method: each.word for method, each in judge(BY_NAME["network_size"], frame).items()} == {
        "b": "Small",
        "c": "Moderate",
    }
