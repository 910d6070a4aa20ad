"""Validation as a dry run: a stand-in for the GPU that answers from its own simulation."""

import pytest
from stand_in import StandIn

from bench import config, validation
from bench.cells import suite
from bench.errors import UsageError
from bench.memory import CARDS as NAMED
from bench.memory import card_of_capacity, record
from bench.report.terminal import validation as report
from bench.stages.memory import simulated_engine

CARDS = [card_of_capacity("1GB"), card_of_capacity("2GB")]


@pytest.fixture(scope="module")
def suite_with(tmp_path_factory):
    """Cells of a small suite whose [memory] is as given."""

    def suite_with(memory, architectures, more=""):
        path = tmp_path_factory.mktemp("suite") / "suite.toml"
        path.write_text(
            f"[model]\nstages = 1\n[model.solver]\nmax_evaluations = 6\n{more}\n[memory]\n{memory}"
            '[task.small]\noperator = "GaussianBlur"\noptions = { image_shape = [3, 64, 64] }\npaper = "deblurring"\n'
        )
        return suite.cells(config.load(path), architectures, ["small"])

    return suite_with


@pytest.fixture(scope="module")
def cells(suite_with):
    return suite_with("", ["LU-DnCNN", "LUSER-SW"])


def rows(cells, path, device, **options):
    return list(validation.run(cells, CARDS, path, "stand-in", device=device, **options))


def test_agreement_is_exact_and_stored(cells, tmp_path):
    path = tmp_path / "validation" / "stand-in.json"
    made = rows(cells, path, StandIn())
    assert [(row.architecture, row.cap, new) for row, new in made] == [
        (architecture, cap, True) for architecture in ("LU-DnCNN", "LUSER-SW") for cap in ("1GB", "2GB")
    ]
    for row, _ in made:
        assert row.agrees
        assert row.measured_batch > 0
        assert row.error("reserved_bytes") == row.error("allocated_bytes") == 0
        assert {peak.batch for peak in row.measured} >= {row.measured_batch, row.measured_batch + 1}
    again = StandIn()
    assert rows(cells, path, again) == [(row, False) for row, _ in made]
    assert not again.trials
    text = report.table([row for row, _ in made]).to_string()
    assert "equal" in text and "DIFFERS" not in text
    assert "4 of 4 equal; largest error of peak reserved 0.00%" in report.caption([row for row, _ in made], "x")


def test_batches_of_parts_are_told_in_images(suite_with, cells, tmp_path):
    (parts,) = suite_with("", ["LU-DnCNN"], "[training]\nmicro_batches = 4")
    ((row, _),) = validation.run([parts], CARDS[:1], tmp_path / "a.json", "stand-in", device=StandIn())
    ((whole, _),) = validation.run(cells[:1], CARDS[:1], tmp_path / "b.json", "stand-in", device=StandIn())
    assert row.agrees and row.measured_batch % 4 == 0
    assert row.measured_batch > 3 * whole.measured_batch  # what is kept is one part's
    assert {row.measured_batch, row.measured_batch + 4} <= {peak.batch for peak in row.measured}


def test_a_disagreement_is_searched_around_and_shown(cells, tmp_path):
    made = rows(cells, tmp_path / "v.json", StandIn(more_bytes=200 * 2**20))
    differing = [row for row, _ in made if not row.agrees]
    assert differing
    for row in differing:
        assert row.measured_batch > row.predicted_batch
        assert {row.measured_batch, row.measured_batch + 1} <= {peak.batch for peak in row.measured}
    assert "DIFFERS" in report.table(differing).to_string()


def test_a_call_ends_in_time_and_the_next_goes_on(cells, tmp_path):
    path = tmp_path / "v.json"
    assert rows(cells, path, StandIn(), time_limit_seconds=-1) == []
    first = next(validation.run(cells, CARDS, path, "stand-in", device=StandIn()))
    later = rows(cells, path, StandIn())
    assert later[0] == (first[0], False)
    assert [new for _, new in later] == [False, True, True, True]


def test_two_at_once_end_with_the_rows_of_both(cells, tmp_path):
    path = tmp_path / "v.json"
    one, other = (validation.run([cell], CARDS, path, "stand-in", device=StandIn()) for cell in cells)
    for turn in (one, other, other, one):  # both have read the file before either has written all of its rows
        next(turn)
    assert {(row.architecture, row.cap) for row in validation.load(path).rows} == {
        (cell.architecture, card.name) for cell in cells for card in CARDS
    }


def test_a_failure_replaces_no_result_of_another_run(cells, tmp_path):
    path = tmp_path / "v.json"
    failing = validation.run(cells[:1], CARDS, path, "stand-in", device=StandIn(last=0))
    next(failing)
    made = rows(cells[:1], path, StandIn())  # the first row once more, and the second
    assert next(failing)[0].status == "failed"
    assert validation.load(path).rows == [row for row, _ in made]


def test_both_engines_answer_for_the_same_settings(tmp_path, suite_with):
    settings = 'allow_tf32 = false\ndeterministic = true\nalloc_conf = "expandable_segments:True"\n'
    (cell,) = suite_with(settings, ["LU-DnCNN"])
    device = StandIn()
    rows([cell], tmp_path / "v.json", device)
    assert {(trial.allow_tf32, trial.deterministic, trial.alloc_conf) for trial in device.trials} == {
        (False, True, "expandable_segments:True")
    }
    simulated = simulated_engine(cell, record(cell.workload.make_step), CARDS[0], kernels_of=NAMED["H200"])
    assert simulated.workspaces.flags == {"allow_tf32": False, "deterministic": True}
    assert simulated.config.expandable_segments


def test_a_lost_device_is_a_failed_row_and_tried_again(cells, tmp_path):
    path = tmp_path / "v.json"
    for row, _ in rows(cells, path, StandIn(last=0)):
        assert row.status == "failed"
        assert row.reason.endswith("failed: AcceleratorError: CUDA error: device lost")
        assert row.measured_batch is None
    assert all(row.status == "ok" and new for row, new in rows(cells, path, StandIn()))


def test_a_damaged_file_is_refused_and_kept(cells, tmp_path):
    path = tmp_path / "v.json"
    path.write_text('{"format": 1')
    with pytest.raises(UsageError, match=r"v\.json is no validation .*: move it away to start anew"):
        rows(cells, path, StandIn())
    assert path.read_text() == '{"format": 1'
