"""Shards: every cell in exactly one of them, the same one everywhere."""

import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.execution.sharding import Shard


class Named(NamedTuple):
    stage: str
    task: str
    architecture: str


STAGES = st.sampled_from(["memory", "timing", "accuracy"])
CELLS = st.lists(st.builds(Named, STAGES, st.text(max_size=3), st.text(max_size=3)), unique=True, max_size=40)
COUNTS = st.integers(1, 12)


def shards(count):
    return [Shard(index, count) for index in range(1, count + 1)]


@given(CELLS, COUNTS)
def test_all_shards_together_have_each_cell_once(cells, count):
    dealt = [cell for shard in shards(count) for cell in shard.part(cells)]
    assert sorted(dealt) == sorted(cells)


@given(CELLS, COUNTS, st.randoms())
def test_the_order_in_which_cells_are_asked_for_changes_nothing(cells, count, random):
    shuffled = random.sample(cells, len(cells))
    for shard in shards(count):
        assert set(shard.part(cells)) == set(shard.part(shuffled))
        assert shard.part(shuffled) == [cell for cell in shuffled if cell in shard.part(cells)]


@given(CELLS, COUNTS)
def test_shards_are_balanced_over_all_cells_and_over_each_stages(cells, count):
    for of_some in (cells, *([cell for cell in cells if cell.stage == stage] for stage in ("memory", "timing"))):
        sizes = [len(set(shard.part(cells)) & set(of_some)) for shard in shards(count)]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("text", "shard"), [("1/1", Shard(1, 1)), ("2/4", Shard(2, 4)), ("12/12", Shard(12, 12))])
def test_a_shard_is_read_as_it_is_written(text, shard):
    assert Shard.parse(text) == shard
    assert str(shard) == text


@pytest.mark.parametrize("text", ["0/4", "5/4", "x", "", "1/0", "1", "-1/4", "1/4/2", "1.0/4", " 1/4"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match="is no shard: expected i/n with i from 1 to n"):
        Shard.parse(text)


def test_shards_of_a_run_have_its_cells_between_them_and_say_what_they_are(bench, tmp_path):
    """Cells as `bench run` makes them, and what it prints and writes."""
    seen = []
    for index in (1, 2, 3):
        output = tmp_path / f"shard{index}"
        result = bench("run", "--shard", f"{index}/3", "--output", str(output))
        assert result.returncode == 0, result.stderr
        records = [json.loads(path.read_text()) for path in (output / "records").glob("*.json")]
        seen += [(record["task"], record["architecture"]) for record in records]
        assert f"Shard {index}/3 alone, {len(records)} of 4 cells" in result.stdout
        assert [path.name for path in output.iterdir()] == ["records"]
    assert sorted(seen) == [(task, name) for task in ("blur", "knee") for name in ("LU-DnCNN", "LUSER-SW")]


def test_a_shard_without_cells_says_so(bench):
    run = ("run", "--architecture", "LUSER-SW", "--task", "blur")
    results = [bench(*run, "--shard", f"{index}/2") for index in (1, 2)]
    (empty,) = [result for result in results if not result.stdout]
    assert empty.returncode == 0
    assert "has nothing to do: the run has 1 cells" in empty.stderr


def test_a_wrong_shard_is_one_sentence_and_exit_code_2(bench):
    result = bench("run", "--shard", "5/4")
    assert result.returncode == 2
    assert result.stderr.startswith("bench: '5/4' is no shard") and result.stderr.count("\n") == 1
