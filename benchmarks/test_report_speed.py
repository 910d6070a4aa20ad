"""What a thousand records cost the commands that read them: cold, as a user runs them.

pytest benchmarks/test_report_speed.py --benchmark-only
"""

import shutil
from pathlib import Path

import pytest
from cold import cold

from bench.records import Record
from bench.records.store import RecordStore, read_records
from bench.regression import baseline
from bench.regression.measured import reduced

DEMO = Path(__file__).parents[1] / "results" / "demo"
RECORDS = 1000


def with_stages(record: Record, more: int) -> Record:
    """A record of a network with `more` stages than it has; its results are those of the fewer."""
    model = record.settings["model"]
    settings = record.settings | {"model": model | {"stages": model["stages"] + more}}
    return record.model_copy(update={"settings": settings, "key": f"{record.key[:-4]}{more:04d}"})


def multiplied(records: list[Record], folder: Path) -> Path:
    """An output folder of `bench run` with so many records: those given, again and again with more stages."""
    store = RecordStore(folder / "records", print)
    for place in range(RECORDS):
        more, which = divmod(place, len(records))
        store.save(with_stages(records[which], more))
    return folder


@pytest.fixture(scope="module")
def of_all_stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(DEMO / "reconstructions", folder / "reconstructions")
    return str(multiplied(read_records(DEMO), folder))


@pytest.fixture(scope="module")
def of_memory(tmp_path_factory):
    records = [record for record in read_records(DEMO) if record.stage == "memory"]
    return multiplied(records, tmp_path_factory.mktemp("memory"))


def test_report(benchmark, of_all_stages, tmp_path):
    """All tables and, in the page, all plots."""
    cold(benchmark, "report", "--records", of_all_stages, "--output", str(tmp_path), rounds=5)


def test_plot(benchmark, of_all_stages, tmp_path):
    cold(benchmark, "plot", "--records", of_all_stages, "--output", str(tmp_path), "--force", rounds=5)


def test_compare(benchmark, of_all_stages):
    cold(benchmark, "compare", of_all_stages, of_all_stages, rounds=5)


def test_check_of_records(benchmark, of_memory):
    """A baseline of as many cells, from the same records: nothing changed."""
    known = of_memory / "baseline.json"
    known.write_text(baseline.text(map(reduced, read_records(of_memory))))
    cold(benchmark, "check", "--baseline", str(known), "--records", str(of_memory), rounds=5)
