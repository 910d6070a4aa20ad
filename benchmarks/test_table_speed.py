"""What the memory table costs: cold, as a user runs it, and how a recording grows with the network.

pytest benchmarks/test_table_speed.py --benchmark-only
"""

import resource
from dataclasses import replace

import pytest
from cold import cold

from bench import config, suite
from bench.memory import SimulatedEngine, card_of_capacity, largest_batch, record
from bench.workload import recorded_evaluations


def test_help(benchmark):
    cold(benchmark, "--help", rounds=5)


def test_whole_table(benchmark, tmp_path):
    """4 architectures x 3 tasks x 3 caps."""
    cold(benchmark, "run", "--fresh", "--output", str(tmp_path), rounds=3)
    benchmark.extra_info["largest_process_MiB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def workload(**changes):
    """LUSER-SW on deblurring with changed options."""
    (cell,) = suite.cells(config.load(config.default_path()), ["LUSER-SW"], ["deblurring"])
    evaluations = changes.pop("evaluations", recorded_evaluations(cell.workload.options.solver))
    size = changes.pop("image_size", 128)
    task = cell.workload.task.model_copy(
        update={"options": cell.workload.task.options | {"image_shape": [3, size, size]}}
    )
    recorded = cell.workload.with_evaluations(evaluations, evaluations)
    return replace(recorded, task=task, options=replace(recorded.options, **changes))


def recording_and_search(work):
    trace = record(work.make_step)
    return len(trace), largest_batch(SimulatedEngine(trace, card_of_capacity("8GB")))


@pytest.mark.parametrize("stages", [2, 4, 8, 16])
def test_growth_with_stages(benchmark, stages):
    benchmark.extra_info["events"], _ = benchmark.pedantic(recording_and_search, (workload(stages=stages),), rounds=3)


@pytest.mark.parametrize("evaluations", [10, 20, 30, 40, 50])
def test_growth_with_solver_evaluations(benchmark, evaluations):
    benchmark.extra_info["events"], _ = benchmark.pedantic(
        recording_and_search, (workload(evaluations=evaluations),), rounds=3
    )


@pytest.mark.parametrize("image_size", [64, 128, 256, 512])
def test_growth_with_image_size(benchmark, image_size):
    benchmark.extra_info["events"], _ = benchmark.pedantic(
        recording_and_search, (workload(image_size=image_size),), rounds=3
    )
