"""Fixed points that are ones: found from the first step on, judged solve by solve, and said where they were not."""

from dataclasses import replace

import pytest
import torch

from bench import config
from bench.accuracy import splits as splits_of
from bench.accuracy.evaluation import counted
from bench.cells import suite
from bench.cells.cell import Cell
from bench.memory import record
from bench.memory.trace import Workspace
from bench.models.anderson import SolveStatistics

PRESETS = ("demo", pytest.param("evening", marks=pytest.mark.slow), "paper")  # evening's options are demo's
TASKS = ("deblurring", "ct", "mri-4x", "mri-8x")
SMALL = {  # of the task's options, so that the preset `paper` is quick too
    "deblurring": {"image_shape": [3, 24, 24]},
    "ct": {"image_size": 24, "detectors": 34, "angles": 12},
    "mri-4x": {"image_shape": [2, 32, 32]},
    "mri-8x": {"image_shape": [2, 32, 32]},
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("preset", PRESETS)
def test_deq4ip_finds_its_fixed_point_from_the_first_step_on(preset, task):
    """The solve of every image, and the one for its gradient, in every preset and on every task; in float64 further."""
    settings = config.load(config.default_path(), preset=preset)
    options = settings.task[task].options | SMALL[task]
    settings = settings.model_copy(update={"task": {task: settings.task[task].model_copy(update={"options": options})}})
    workload = Cell("accuracy", "DEQ4IP", task, settings).workload
    some = settings.accuracy.model_copy(update={"validation_images": 2, "test_images": 1, "batch": 2})
    image, measurement = splits_of.load(task, workload.task, some).validation[0]
    torch.manual_seed(0)
    model = workload.build(torch.device("cpu"))
    kernel = 0 if preset == "paper" else 3 * (81 - 25)  # of deblurring: it counts, and is smaller beside smaller images
    assert model.paper_parameters == {"deblurring": 558_580 - kernel, "ct": 556_033}.get(task, 557_185)
    loss, reconstruction = workload.loss(model, image, measurement)
    loss.backward()
    (solve,) = reconstruction.solves
    assert counted([solve], workload.options.solver.tolerance).share == 1
    is_solved = workload.options.gradient != "jacobian-free"  # for its gradient, too
    assert (solve.backward is not None) is is_solved
    if is_solved:
        tolerance = (workload.options.backward_solver or workload.options.solver).tolerance
        assert counted([solve.backward], tolerance).share == 1
    solver = replace(workload.options.solver, max_evaluations=100, tolerance=1e-9)
    model = replace(workload, options=replace(workload.options, solver=solver)).build(torch.device("cpu")).double()
    with torch.no_grad():
        (solve,) = model(measurement.double()).solves
    assert float(solve.residuals.max()) <= 1e-9


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("spectral", ["matrix", "convolution"])
def test_the_network_with_a_fixed_point_can_be_recorded(preset, spectral):
    """The stage timing records what it times: on tensors without data the sizes are the same, and no value is asked."""
    settings = config.load(config.default_path(), preset=preset)
    workload = Cell("timing", "DEQ4IP", "mri", settings).workload
    workload = replace(workload, options=replace(workload.options, spectral=spectral))
    built = [workload.build(torch.device(device)).state_dict() for device in ("meta", "cpu")]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in built]
    assert shapes[0] == shapes[1]
    small = replace(workload, task=workload.task.model_copy(update={"options": {"image_shape": [2, 16, 16]}}))
    assert record(small.for_recording().make_step, 2).peak_bytes_per_image(16, Workspace.HIGH) > 0


def test_solves_are_counted():
    def solve(*residuals):
        return SolveStatistics(torch.ones(len(residuals), dtype=torch.int64), torch.tensor(residuals))

    found = counted([solve(1e-4, 2e-3), solve(5e-4, float("inf"))], 1e-3)
    assert (found.count, found.converged, found.worst_residual, found.share) == (4, 2, float("inf"), 0.5)
    assert counted([], 1e-3) is None


def test_every_architecture_is_trained_with_each_loss_that_it_has():
    """The paper's Table 2: seven columns, as DEQ4IP has one iterate."""
    settings = config.load(config.default_path(), {"accuracy": {"losses": ["final", "auxiliary"], "classical": []}})
    cells = suite.cells(settings, tasks=["ct"], stage="accuracy")
    columns = [(cell.architecture, cell.workload.training.loss) for cell in cells]
    unrolled = [(name, loss) for name in ("LU-DnCNN", "LUSER-SW", "LUSER-DW") for loss in ("final", "auxiliary")]
    assert sorted(columns) == sorted([*unrolled, ("DEQ4IP", "final")])
    assert len({cell.key for cell in cells}) == 7
    assert len(suite.cells(settings, tasks=["ct"], stage="timing")) == len(settings.suite.architectures)


def test_filtered_backprojection_is_for_operators_that_have_it():
    settings = config.load(config.default_path())
    found = {
        cell.task for cell in suite.cells(settings, stage="accuracy") if cell.architecture == "filtered backprojection"
    }
    assert found == {"ct"}
