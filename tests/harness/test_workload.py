"""The suite's own training steps: recordings without data against real runs on the CPU, event for event."""

from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from small_networks import small
from torch.utils._python_dispatch import TorchDispatchMode

from bench import config, models
from bench.cells.workload import Workload, recorded_evaluations
from bench.config import Task
from bench.memory.recording.recorder import record_events
from bench.models.anderson import SolverOptions

DEFAULT = config.load(config.default_path())
TASKS = {
    "deblurring": Task(operator="GaussianBlur", options={"image_shape": [3, 16, 16]}),
    "ct": Task(operator="Radon", options={"image_size": 18, "detectors": 25, "angles": 12}),
    "mri": Task(operator="MRI", options={"image_shape": [2, 16, 16]}),
}
NOT_LINEAR = {
    "lorenz": Task(operator="Lorenz96", options={"windows": 16, "variables": 16, "steps": 3}),
    "lorenz, checkpoints in time": Task(
        operator="Lorenz96", options={"windows": 16, "variables": 16, "steps": 3, "stored_every": 2}
    ),
    "seismic": Task(operator="Seismic", options={"image_size": [16, 16], "steps": 6, "shots": 2, "border": 2}),
}
META, CPU = torch.device("meta"), torch.device("cpu")


def workload_of(architecture, task, **options):
    model = replace(small(DEFAULT.model), stages=2, **options)
    return Workload(architecture, model, (TASKS | NOT_LINEAR)[task], DEFAULT.training)


def live_bytes(events):
    """The curve of live bytes over the events of a recording."""
    sizes = {event.key: event.size_bytes for event in events if not event.is_free}
    return list(accumulate(-sizes[event.key] if event.is_free else event.size_bytes for event in events))


class CudaBookkeeping(TorchDispatchMode):
    """Gives embedding_bag on the CPU the bookkeeping outputs that it has on a GPU (and on tensors without data).

    The CPU kernel fills `max_indices` and leaves `offset2bag` empty, the CUDA kernel does it the other way round.
    Neither is used.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is not torch.ops.aten._embedding_bag_forward_only.default:
            return result
        output, _, bag_size, _ = result
        return output, torch.empty_like(args[1]), bag_size, bag_size.new_empty(0)


MARKER_BYTES = 4_000_037


def recorded(workload, batch, device):
    """Live bytes when construction is over, and the events from there on, with keys counted from there.

    Constants are computed on the host: on a real device their construction leaves other traces than without data.
    """

    def make_step(batch, device):
        step = workload.make_step(batch, device)
        torch.empty(MARKER_BYTES, dtype=torch.uint8, device=device)
        return step

    events = record_events(make_step, batch, device)
    (place,) = (i for i, event in enumerate(events) if event.size_bytes == MARKER_BYTES)
    first = events[place].key
    steps = [event._replace(key=event.key - first) for event in events[place:]]
    return live_bytes(events)[place] - MARKER_BYTES, steps


def assert_same(workload, batch=2):
    held, steps = recorded(workload, batch, META)
    with CudaBookkeeping():
        _, steps_really = recorded(workload, batch, CPU)
    model = workload.build(CPU)
    storages = [tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers())]
    assert held == sum({storage._cdata: storage.nbytes() for storage in storages}.values())
    assert len(steps) > 100
    assert live_bytes(steps) == live_bytes(steps_really)
    assert steps == steps_really


def test_every_operator_of_the_paper_is_here():
    assert {task.operator for task in TASKS.values()} >= {"GaussianBlur", "MRI", "Radon"}


@pytest.mark.parametrize("architecture", models.names())
@pytest.mark.parametrize("task", TASKS)
def test_recording_equals_a_real_run(architecture, task):
    assert_same(workload_of(architecture, task).with_evaluations(7, 7))


@pytest.mark.parametrize("architecture", ["LUSER-SW", "DEQ4IP", "MDEQ"])
@pytest.mark.parametrize("task", NOT_LINEAR)
def test_recording_equals_a_real_run_of_an_operator_that_is_not_linear(architecture, task):
    assert_same(workload_of(architecture, task).with_evaluations(7, 7))


@pytest.mark.parametrize("gradient", ["two-graph", "recomputed", "jacobian-free"])
@pytest.mark.parametrize("architecture", ["DEQ4IP", "LUSER-SW"])
def test_recording_equals_a_real_run_for_every_gradient(architecture, gradient):
    assert_same(workload_of(architecture, "deblurring", gradient=gradient).with_evaluations(6, 6))


def test_recording_equals_a_real_run_with_checkpoints():
    assert_same(workload_of("LU-DnCNN", "mri", checkpoint=True))


@pytest.mark.parametrize("architecture", ["LU-DnCNN", "LUSER-DW"])
def test_recording_equals_a_real_run_with_the_auxiliary_loss(architecture):
    workload = workload_of(architecture, "deblurring").with_evaluations(6, 6)
    assert_same(replace(workload, training=workload.training.model_copy(update={"loss": "auxiliary"})))


@pytest.mark.parametrize("batch", [1, 3])
def test_recording_equals_a_real_run_at_other_batches(batch):
    assert_same(workload_of("LUSER-SW", "ct").with_evaluations(6, 6), batch)


@pytest.mark.parametrize(
    ("memory", "every", "recorded"), [(5, 50, 10), (5, 53, 13), (5, 12, 12), (3, 50, 8), (5, 20, 10), (5, 3, 3)]
)
def test_recorded_evaluations(memory, every, recorded):
    assert recorded_evaluations(SolverOptions(memory=memory, max_evaluations=every)) == recorded
    assert (every - recorded) % (2 * memory) == 0
