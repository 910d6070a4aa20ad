"""What the memory table costs: cold, as a user runs it, and how a recording grows with the network.

pytest benchmarks/test_table_speed.py --benchmark-only
"""

import functools
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from cold import COMMAND, cold
from side_by_side import side_by_side
from torch.utils._python_dispatch import TorchDispatchMode

from bench import config
from bench.cells import suite
from bench.cells.workload import Workload, recorded_evaluations
from bench.memory import SimulatedEngine, card_of_capacity, checked, largest_batch, record, simulated, supposed
from bench.memory.recording import recorder
from bench.memory.recording.metadata import Effect, OutputCache
from bench.memory.recording.surroundings import as_on_a_card
from bench.stages import memory


def test_help(benchmark):
    cold(benchmark, "--help", rounds=5)


def test_whole_table(benchmark, tmp_path):
    """4 architectures x 3 tasks x 3 caps, in times of `import torch` just before: by clock and by processor.

    Processor time counts all processes; it says more where others use the machine. Of it, what is imported, read and
    written is taken by the same command where all records are there.
    """
    ratios = []

    def run():
        torch_took = _seconds(sys.executable, "-c", "import torch")
        command = [*COMMAND, "run", "--stages", "memory", "--output", str(tmp_path)]
        took, taken = _seconds(*command, "--fresh"), _seconds(*command)
        ratios.append((took[0] / torch_took[0], took[1] / torch_took[1], taken[1] / torch_took[1]))

    benchmark.pedantic(run, rounds=3)
    by_clock, by_processor, of_imports = map(statistics.median, zip(*ratios, strict=True))
    benchmark.extra_info["times_import_torch"] = round(by_clock, 1)
    benchmark.extra_info["times_import_torch_by_processor"] = round(by_processor, 1)
    benchmark.extra_info["of_these_imports_and_writing"] = round(of_imports, 1)
    benchmark.extra_info["largest_process_MiB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _seconds(*command):
    """What a command takes: by the clock, and of all its processes on the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


_PARTS = {
    "shape_inference": [(memory, "prepare")],
    "building": [(Workload, "build")],
    "recording": [(recorder, "record_events")],
    "fitting": [(supposed, "proportional"), (recorder, "fitted"), (recorder, "same_sequence")],
    "checks": [(recorder, "agrees"), (checked, "agrees"), (supposed, "agrees"), (supposed, "_repeats")],
    "replay": [(simulated, "replay")],
    "search": [(memory, "_answers")],
}


def test_parts_of_the_table(benchmark):
    """What each part of the table takes of the processor, in seconds; each without the parts inside it."""
    seconds, inside = Counter(), []

    def timed(part, function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            inside.append(0.0)
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time() - start
                seconds[part] += took - inside.pop()
                if inside:
                    inside[-1] += took

        return call

    cards = [card_of_capacity(name) for name in ("8GB", "10GB", "24GB")]
    cells = suite.cells(config.load(config.default_path()), cards=cards)
    places = [(part, *place) for part, several in _PARTS.items() for place in several]
    patches = [patch.object(owner, name, timed(part, getattr(owner, name))) for part, owner, name in places]
    for each in patches:
        each.start()

    def measured():
        memory.prepare()
        for cell in cells:
            memory.measure(cell, None, None)

    try:
        benchmark.pedantic(measured, rounds=1)
    finally:
        patch.stopall()
    benchmark.extra_info.update({part: round(took, 2) for part, took in seconds.items()})


class _FromMemory(TorchDispatchMode):
    """Answers each operation with what it gave in the same step before: what is left is PyTorch and the network."""

    def __init__(self, results):
        super().__init__()
        self._results = results

    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = next(self._results)
        return made(func, args, kwargs or {})

    def note_told(self, operation):
        """Nothing is noted."""


class _Learning(_FromMemory):
    """Notes for each operation how `_FromMemory` shall answer it."""

    def __init__(self, cache):
        super().__init__(iter(()))
        self._cache = cache
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result, _, _ = self._cache.call(func, args, kwargs or {})
        self.made.append(self._how(func, result))
        return result

    def _how(self, func, result):
        effect = self._cache.effect(func)
        if effect is Effect.VIEWS:
            return lambda func, args, kwargs: func(*args, **kwargs)
        if effect is Effect.ALLOCATES and isinstance(result, torch.Tensor) and result.is_meta:
            shape, stride, dtype = result.shape, result.stride(), result.dtype
            return lambda func, args, kwargs: torch.empty_strided(shape, stride, dtype=dtype, device="meta")
        return lambda func, args, kwargs: self._cache.call(func, args, kwargs)[0]


@pytest.mark.benchmark(timer=time.process_time)
def test_floor_of_a_recording(benchmark):
    """What a recording spends where nothing is looked up or noted: PyTorch's dispatch to Python, autograd, the network.

    A call of LUSER-SW's step on deblurring, in turns: processor time of a recording, and of the same call answered
    from memory.
    """
    work, cache, meta = workload(), OutputCache(), torch.device("meta")

    def step_under(mode):
        with as_on_a_card(mode):
            work.make_step(2, meta)()

    recorder.record_events(work.make_step, 2, meta, 1, cache)
    learning = _Learning(cache)
    step_under(learning)
    ratio = side_by_side(
        benchmark,
        lambda: step_under(_FromMemory(iter(learning.made))),
        lambda: recorder.record_events(work.make_step, 2, meta, 1, cache),
        rounds=5,
        timer=time.process_time,
    )
    benchmark.extra_info["operations"] = len(learning.made)
    assert ratio is None or ratio < 1


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
