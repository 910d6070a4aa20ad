"""What holds of the paper: intervals of paired differences, and what they and other numbers say."""

import numpy as np
import pytest
from handmade import accuracy, diverged, memory, points, stored, timing, training
from scipy import stats

from bench.records import Solves
from bench.report.claims.differences import paired
from bench.report.claims.findings import claims
from bench.report.claims.tables import at_equal_cost, with_checkpoints
from bench.units import MiB


def found(text, *records):
    (claim,) = [claim for claim in claims(records) if claim.text == text]
    return claim.answer, [(each.task, each.answer, each.numbers) for each in claim.findings]


def test_the_interval_is_scipys_of_the_paired_differences():
    random = np.random.default_rng(0)
    first, second = random.normal(30, 3, (2, 16)), random.normal(29.5, 3, (1, 16))
    difference = paired(first, second)
    test = stats.ttest_rel(first.mean(axis=0), second[0]).confidence_interval(0.95)
    assert difference.mean - difference.half_width == pytest.approx(test.low)
    assert difference.mean + difference.half_width == pytest.approx(test.high)


@pytest.mark.parametrize(
    ("luser", "answer", "numbers"),
    [
        ((31.0, 33.1, 35.0), "holds", "+1.03 ± 0.14 dB"),
        ((29.0, 30.9, 33.0), "reversed", "-1.03 ± 0.14 dB"),
        ((31.0, 31.0, 34.0), "not resolved", "+0.00 ± 2.48 dB"),
    ],
)
def test_a_better_reconstruction_is_one_outside_of_the_interval(luser, answer, numbers):
    """Differences of 1, 1.1, 1: mean 1.033, deviation 0.0577, and Student's factor of two degrees is 4.303."""
    records = [accuracy("LU-DnCNN", training((30.0, 32.0, 34.0), (0.8,) * 3))]
    records += [accuracy("LUSER-DW", training(luser, (0.8,) * 3))]
    text = "LUSER-DW reconstructs better than LU-DnCNN."
    assert found(text, *records) == (answer, [("ct", answer, numbers)])


def test_an_infinite_psnr_or_a_single_image_resolves_nothing():
    for psnr_db in ((float("inf"), 31.0), (33.0,)):
        ssim = (0.9,) * len(psnr_db)
        lu = accuracy("LU-DnCNN", training((30.0, 30.0)[: len(psnr_db)], ssim))
        luser = accuracy("LUSER-DW", training(psnr_db, ssim))
        assert found("LUSER-DW reconstructs better than LU-DnCNN.", lu, luser)[0] == "not resolved"


def test_bytes_seconds_and_calls_count_from_five_percent_on():
    records = [memory("LU-DnCNN", 103 * MiB), memory("LUSER-SW", 100 * MiB), memory("DEQ4IP", 50 * MiB)]
    records += [timing("LUSER-SW", 1.0, 1.0), timing("DEQ4IP", 2.0, 1.04)]
    assert found("LUSER-SW trains with less memory than LU-DnCNN.", *records)[0] == "not resolved"
    assert found("DEQ4IP trains with less memory than LUSER-SW.", *records) == (
        "holds",
        [("ct", "holds", "50 and 100 MiB per image")],
    )
    assert found("LUSER-SW trains faster than DEQ4IP, step by step.", *records)[0] == "holds"
    assert found("LUSER-SW evaluates faster than DEQ4IP.", *records)[0] == "not resolved"
    assert found("LUSER-DW evaluates faster than DEQ4IP.", *records) == ("not measured", [])


def test_checkpoints_turn_memory_round():
    """LUSER's claim holds of the plain network, not of the checkpointed one; other strategies have no row."""
    records = [memory("LU-DnCNN", 300 * MiB), memory("LU-DnCNN + checkpoint", 50 * MiB), memory("LUSER-SW", 100 * MiB)]
    assert with_checkpoints([records[0], records[2], memory("LUSER-SW + bf16", 60 * MiB)]) == []
    records += [memory("LUSER-SW + recomputed", 20 * MiB), memory("LUSER-SW + bf16", 60 * MiB)]
    assert found("LUSER-SW trains with less memory than LU-DnCNN.", *records)[0] == "holds"
    assert found("LUSER-SW trains with less memory than LU-DnCNN + checkpoint.", *records) == (
        "reversed",
        [("ct", "reversed", "100 and 50 MiB per image")],
    )
    assert found("LUSER-SW + recomputed trains with less memory than LU-DnCNN + checkpoint.", *records)[0] == "holds"
    rows = {row["method"]: row for row in with_checkpoints(records)}
    assert list(rows) == ["LU-DnCNN", "LUSER-SW", "LU-DnCNN + checkpoint", "LUSER-SW + recomputed"]
    edge = records[1].memory.cards[1].edges["high"].largest_batch
    assert rows["LU-DnCNN + checkpoint"] == {
        "task": "ct",
        "method": "LU-DnCNN + checkpoint",
        "MiB per image": "50",
        "images, 8GB": str(records[1].memory.cards[0].edges["high"].largest_batch),
        "images, 24GB": str(edge),
    }


def curve(*psnr_db):
    made = points([1.0] * len(psnr_db))
    return [point.model_copy(update={"validation_psnr_db": value}) for point, value in zip(made, psnr_db, strict=True)]


def test_sooner_is_when_the_validation_first_reaches_lus_best():
    """LU reaches its 30 dB in step 3 of 4, after 30 of 40 s; LUSER-SW in step 1 of 4, after 50 of 200 s."""
    records = [
        accuracy("LU-DnCNN", training(curve=curve(20.0, 25.0, 30.0, 29.0), seconds=40.0)),
        accuracy("LUSER-SW", training(curve=curve(30.5, 31.0, 31.0, 31.0), seconds=200.0)),
        accuracy("LUSER-DW", training(curve=curve(1.0, 1.0, 1.0, 29.9), seconds=20.0)),
    ]
    steps, time = (f"LUSER-SW needs {what} than LU-DnCNN to its best." for what in ("fewer steps", "less time"))
    assert found(steps, *records) == ("holds", [("ct", "holds", "1 and 3 steps")])
    assert found(time, *records) == ("reversed", [("ct", "reversed", "50 and 30 s")])
    never = found("LUSER-DW needs less time than LU-DnCNN to its best.", *records)
    assert never == ("reversed", [("ct", "reversed", "never, LU-DnCNN after 30 s")])
    at_equal = {row["method"]: list(row.values())[2:] for row in at_equal_cost(records)}
    assert at_equal == {
        "LU-DnCNN": ["40", "29.00", "25.00"],
        "LUSER-SW": ["200", "31.00", "none yet"],
        "LUSER-DW": ["20", "29.90", "29.90"],
    }


def test_a_training_takes_its_steps_times_a_step_that_was_timed_by_itself():
    """Batches of 4 at 0.5 s an image are 2 s a step for LU-DnCNN, 8 s for LUSER-SW, whatever the trainings took."""
    records = [
        accuracy("LU-DnCNN", training(curve=curve(20.0, 25.0, 30.0, 29.0), seconds=999.0)),
        accuracy("LUSER-SW", training(curve=curve(30.5, 31.0, 31.0, 31.0), seconds=1.0), loss="auxiliary"),
        accuracy("LUSER-SW", training(curve=curve(30.5, 31.0, 31.0, 31.0), seconds=1.0)),
    ]
    timed = [timing("LU-DnCNN", 1.0, batch=2), timing("LUSER-SW", 4.0, batch=2)]
    text = "LUSER-SW needs less time than LU-DnCNN to its best."
    assert found(text, *records, *timed) == ("reversed", [("ct", "reversed", "8 and 6 s")])
    assert found(text, *records, timed[0]) == ("holds", [("ct", "holds", "0.25 and 749 s")])
    rows = {row["method"]: list(row.values())[2:] for row in at_equal_cost([*records, *timed])}
    assert rows == {
        "LU-DnCNN": ["8", "29.00", "29.00"],
        "LUSER-SW, final": ["32", "31.00", "30.50"],
        "LUSER-SW, auxiliary": ["32", "31.00", "30.50"],
    }


def test_total_variation_is_held_against_both_losses():
    learned = {loss: training((psnr_db,) * 2, (0.8,) * 2) for loss, psnr_db in (("final", 31.0), ("auxiliary", 33.0))}
    records = [accuracy("LUSER-DW", each, loss=loss) for loss, each in learned.items()]
    records.append(accuracy("total variation", training((32.0, 32.0), (0.8,) * 2)))
    assert found("LUSER-DW reconstructs better than total variation.", *records)[1] == [
        ("ct", "reversed", "-1.00 ± 0.00 dB")
    ]
    assert found("With the auxiliary loss, LUSER-DW reconstructs better than total variation.", *records)[1] == [
        ("ct", "holds", "+1.00 ± 0.00 dB")
    ]


def test_stable_is_what_ended_at_fixed_points_on_all_seeds():
    half = training(curve=points([1.0], residual=0.1), test_solves=Solves(count=4, converged=2, worst_residual=0.1))
    unjudged = training(curve=points([1.0], residual=0.1))
    text = "DEQ4IP trains stably."
    assert found(text, accuracy("DEQ4IP", half))[1] == [
        ("ct", "reversed", "0 of 1 diverged, 50% of fixed points found")
    ]
    assert found(text, accuracy("DEQ4IP", unjudged))[0] == "not measured"
    assert found("LU-DnCNN trains stably.", accuracy("LU-DnCNN", training(), diverged(seed=1)))[0] == "reversed"
    assert found("LU-DnCNN trains stably.", accuracy("LU-DnCNN", training()))[0] == "holds"


def test_the_command_writes_the_page_and_refuses_what_has_no_claim(bench, tmp_path):
    stored(tmp_path / "runs/records", memory("LU-DnCNN", 300 * MiB), memory("LUSER-SW", 100 * MiB))
    done = bench("claims", "--records", tmp_path / "runs", "--output", tmp_path / "CLAIMS.md")
    assert (done.returncode, done.stderr) == (0, f"bench: wrote {tmp_path / 'CLAIMS.md'}\n")
    page = (tmp_path / "CLAIMS.md").read_text()
    assert "| LUSER-SW trains with less memory than LU-DnCNN. | holds |" in page
    assert "\n* Memory: simulated engine, bench 0, torch 2.13.0, 2026-01-01\n" in page
    again = bench("claims", "--records", tmp_path / "runs", "--output", tmp_path / "CLAIMS.md")
    assert again.returncode == 2 and "give --force" in again.stderr
    stored(tmp_path / "one/records", memory("LU-DnCNN", 300 * MiB))
    one = bench("claims", "--records", tmp_path / "one")
    assert one.returncode == 4 and "no two architectures on one task" in one.stderr
