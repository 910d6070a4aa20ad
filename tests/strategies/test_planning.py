"""Plans on a small task: the front, what fits, what is missing; the work against PyTorch's own counter."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import config, planning, strategies, work
from bench.cells.workload import Workload
from bench.memory import card_of_capacity
from bench.report.terminal import plan as report
from bench.work import step_multiplications

DEFAULT = config.load(config.default_path())
SMALL = config.Task(operator="Radon", options={"image_size": 64, "detectors": 91, "angles": 16})
CONFIG = DEFAULT.model_copy(
    update={
        "task": {"small": SMALL},
        "model": replace(DEFAULT.model, stages=1),
        "memory": DEFAULT.memory.model_copy(update={"workspace": "low"}),
    }
)

KINDS = (("checkpoint", "recomputed"), ("lean", "lean-half"), ("expandable",))


@pytest.fixture(scope="module")
def plan():
    return planning.plan(CONFIG, "LU-DnCNN", "small", card_of_capacity("2GB"), 64, KINDS)


def test_the_front_gets_dearer_and_smaller(plan):
    front = plan.front
    assert len(front) > 2
    for cheap, dear in itertools.pairwise(front):
        assert cheap.work <= dear.work
        assert cheap.peak_reserved_bytes > dear.peak_reserved_bytes
    assert not any(
        other.work <= choice.work and other.peak_reserved_bytes < choice.peak_reserved_bytes
        for choice in front
        for other in plan.choices
    )


def test_the_cheapest_that_fits(plan):
    fitting = [choice for choice in plan.choices if choice.fits]
    assert plan.cheapest == min(fitting, key=lambda choice: (choice.work, choice.peak_reserved_bytes))
    assert not next(choice for choice in plan.choices if choice.strategy == "plain").fits
    assert report.sentence(plan).startswith(f"LU-DnCNN on small, batch 64, 2GB: {plan.cheapest.strategy} fits")
    assert json.loads(report.as_json(plan))["cheapest"] == plan.cheapest.strategy


def test_nothing_fits_names_the_nearest_and_what_is_missing(plan):
    tight = replace(plan, card=card_of_capacity("600MB"), choices=tuple(replace(c, fits=False) for c in plan.choices))
    nearest = min(plan.choices, key=lambda choice: choice.peak_reserved_bytes)
    assert tight.missing_bytes == nearest.peak_reserved_bytes - tight.card.usable_bytes > 0
    assert f"nothing fits. {nearest.strategy} comes nearest" in report.sentence(tight)


def test_a_picture(plan, tmp_path):
    report.draw(plan, tmp_path / "plan.png")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("strategy", ["plain", "checkpoint", "nested", "lean-half", "checkpoint+lean-third"])
def test_work_is_what_pytorchs_counter_counts(strategy):
    made = strategies.combination(strategy).laid_on(CONFIG)
    blur = config.Task(operator="GaussianBlur", options={"image_shape": [1, 8, 8]})
    workload = Workload("LU-DnCNN", replace(made.model, stages=2), blur, made.training)
    step = workload.make_step(1, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        step()
    of_convolutions = {
        str(name): flops for name, flops in counter.get_flop_counts()["Global"].items() if "convolution" in str(name)
    }
    of_blur = 0.02 * sum(of_convolutions.values())  # GaussianBlur convolves too, with far fewer channels
    assert abs(sum(of_convolutions.values()) - 2 * step_multiplications(workload)) <= of_blur


def test_work_of_long_solves_is_extrapolated_exactly():
    blur = config.Task(operator="GaussianBlur", options={"image_shape": [1, 8, 8]})
    workload = Workload("LUSER-SW", replace(CONFIG.model, stages=1), blur, CONFIG.training).with_evaluations(11, 11)
    assert step_multiplications(workload) == work._counted(workload)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("LU-DnCNN", "ct", "--strategy", "jacobian-free"),
            "--strategy: LU-DnCNN cannot be trained with jacobian-free: it has no fixed point; choose checkpoint",
        ),
        (
            ("LUSER-SW", "ct", "--strategy", "recomputed+phantom"),
            "--strategy: strategies recomputed and phantom exclude each other, as both set [model] gradient: ",
        ),
        (("i-RIM", "seismic"), "i-RIM on seismic: its backward pass needs a linear operator, and Seismic is none; "),
        (("HUMUS-Net", "ct"), "HUMUS-Net on ct: it halves images 4 times into windows of 8 pixels, so that sides must"),
        (("LU-DnCNN", "mri"), "LU-DnCNN on mri: MRI has no filtered backprojection to start from; choose initial"),
        (("LU-DnCNN", "waves"), "bench.toml line 3: task.waves.options.time_step: Seismic got time_step 0.01 s"),
        (("LU-DnCNN", "ct", "--engine", "virtual"), "--engine virtual is for a step of yours: a network of the suite"),
        (("LU-DnCNN", "ct", "--gpu", "RTX 3080"), "got both --gpu-cap and --gpu: a plan is of one card"),
    ],
)
def test_a_cell_that_cannot_be_planned(bench, tmp_path, arguments, sentence):
    architecture, task, *others = arguments
    options = {"HUMUS-Net": "[model.humus_net]\npads = false\n", "mri": '[model]\ninitial = "fbp"\n'}
    waves = '[task.waves]\noperator = "Seismic"\noptions = { time_step = 0.01 }\n' if task == "waves" else ""
    (tmp_path / "bench.toml").write_text(options.get(architecture, options.get(task, "")) + waves)
    command = ("plan", "--architecture", architecture, "--task", task, "--batch", 2, "--gpu-cap", "8GB", *others)
    result = bench(*command)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"bench: {sentence}") and result.stderr.count("\n") == 1
