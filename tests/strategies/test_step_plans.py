"""Plans for steps of the user's: each peak against the same strategy written out by hand, and what a user may type."""

import json
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch

from bench import planning
from bench.fitting.process import Process
from bench.memory import card_of_capacity
from bench.memory.gpus import card_named
from bench.memory.prediction import prediction
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.trace import constant
from bench.planning.seconds import has_bfloat16, host_bytes_per_second, memory_bytes_per_second, moving_seconds
from tests.strategies.by_hand import by_hand, make_step

ROOT = Path(__file__).parents[2]
BATCH = 16
CARD = card_of_capacity("600MiB")
BY_HAND = {
    "host": {"around": partial(torch.autograd.graph.save_on_cpu, pin_memory=True)},
    "bf16": {"around": partial(torch.autocast, "cuda", dtype=torch.bfloat16)},
    "fused": {"fused": True},
    "channels-last": {"channels_last": True},
}


@pytest.fixture(scope="module")
def plan():
    return planning.plan_step(make_step, CARD, BATCH)


def written(strategy):
    """The step by hand of a combination's name, and the process that it runs in."""
    parts, options, process = 1, {}, Process()
    for name in strategy.split("+"):
        if name == "expandable":
            process = Process(alloc_conf="expandable_segments:True")
        elif name.startswith("micro-batches-"):
            parts = int(name.rpartition("-")[2])
        elif name != "plain":
            options |= BY_HAND[name]
    return partial(by_hand, parts=parts, **options), parts, process


def test_every_peak_is_that_of_the_strategy_by_hand(plan):
    assert len(plan.choices) == 2 * 2 * 5 * 2 + 1  # host, fused, parts, expandable; channels-last alone
    for choice in plan.choices:
        step, parts, process = written(choice.strategy)
        with on_cuda(CARD):
            trace = constant(events_of(step, BATCH // parts, 2))
        engine = prediction(trace, CARD, process.config)
        peak_bytes = engine.without_limit().probe(BATCH // parts).peak_reserved_bytes
        assert choice.peak_reserved_bytes == peak_bytes, choice
        assert choice.fits == engine.probe(BATCH // parts).fits, choice


def test_the_front_is_of_what_is_known_and_gets_dearer_and_smaller(plan):
    assert {choice.strategy for choice in plan.choices if choice.work is None} == {"channels-last"}
    front = plan.front
    assert len(front) > 3 and all(choice.work for choice in front)
    assert [choice.work for choice in front] == sorted(choice.work for choice in front)
    assert plan.cheapest == min((choice for choice in plan.choices if choice.fits), key=lambda choice: choice.order)
    assert plan.cheapest.strategy != "plain" and not plan.choices[-1].work


def test_time_is_that_of_the_bytes():
    card = card_named("RTX 3080")
    assert memory_bytes_per_second(card) == 2 * 9501e6 * 320 / 8 == memory_bytes_per_second(CARD)
    assert host_bytes_per_second(card) == 1e9 * 16 * 1.969
    assert host_bytes_per_second(card_named("RTX 2060")) == 1e9 * 16 * 0.985
    assert host_bytes_per_second(card_named("H100 SXM")) == 1e9 * 16 * 3.938
    assert moving_seconds(2 * 9501e6 * 320 / 8, 1e9 * 16 * 1.969, card) == 1 + 2
    assert has_bfloat16(card) and not has_bfloat16(card_named("RTX 2060"))


def test_time_of_parts_is_what_they_move_when_all_are_looked_at(plan):
    """Of 16 parts three are: the first, one of those between, and the last."""
    from bench.fitting.changes import Changed
    from bench.fitting.observed import observe

    with on_cuda(CARD):
        one, many = (observe(partial(by_hand, parts=parts), BATCH // parts, 2) for parts in (1, 16))
        seen = observe(make_step, 1, 2, partial(Changed, parts=16))
    whole = sum(seen.kernel_bytes)
    assert abs(whole - sum(many.kernel_bytes)) < 1e-6 * whole
    found = next(choice for choice in plan.choices if choice.strategy == "micro-batches-16")
    assert found.work == pytest.approx(whole / sum(one.kernel_bytes), rel=1e-6)


TRAIN = (
    (ROOT / "tests/strategies/by_hand.py").read_text()
    + """

def normalising(batch):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 1)).to("cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        model(torch.rand(batch, 3, 8, 8, device="cuda")).mean().backward()
        optimizer.step()

    return step


def of_several(batch):
    assert batch > 1, "one sample has no other"
    return make_step(batch)


def casting(batch):
    step = make_step(batch)

    def run():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            step()

    return run


def wrong(batch):
    return lambda: torch.rand(batch, 3, device="cuda") @ torch.rand(4, 4, device="cuda")


def reading(batch):
    step = make_step(batch)
    return lambda: (step(), torch.rand(batch, device="cuda").sum().item())[0]
"""
)


@pytest.fixture
def run(bench, tmp_path):
    """Run `bench plan ...` in a folder that holds these steps as train.py."""
    (tmp_path / "train.py").write_text(TRAIN)
    return partial(bench, "plan")


def test_the_command_says_what_fits_and_what_holds_under_which_condition(run, tmp_path):
    result = run("train.py:make_step", "--batch", 8, "--gpu-cap", "600MiB", "--picture", "plan.svg")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("| strategy ")
    assert "train.py:make_step, batch 8, 600MiB: fused" in result.stdout
    assert "* micro-batches give the same gradient where the loss is a mean over the batch\n" in result.stdout
    assert "* CUDA's own context takes 500.00 MiB of 600MiB\n" in result.stdout
    assert "train.py:make_step" in (tmp_path / "plan.svg").read_text()


def test_nothing_fits_as_data(run):
    result = run("train.py:normalising", "--batch", 4, "--gpu-cap", "501MiB", "--json")
    told = json.loads(result.stdout)
    assert (told["step"], told["engine"], told["batch"], told["cheapest"]) == (
        "train.py:normalising",
        "simulated",
        4,
        None,
    )
    least = min(choice["peak_reserved_bytes"] for choice in told["choices"])
    assert told["missing_bytes"] == least - told["usable_bytes"] > 0
    assert not any("micro-batches" in choice["strategy"] for choice in told["choices"])
    assert any(each.startswith("micro-batches are left out: batch normalisation") for each in told["remarks"])


def test_what_is_asked_for_is_tried(run):
    arguments = ("--batch", 4, "--gpu-cap", "8GB", "--json", "--strategy", "micro-batches,bf16")
    told = json.loads(run("train.py:normalising", *arguments).stdout)
    assert {"micro-batches-2", "bf16+micro-batches-4+expandable"} <= {each["strategy"] for each in told["choices"]}


def test_parts_at_which_a_step_does_not_run_are_left_out(run):
    told = json.loads(run("train.py:of_several", "--batch", 4, "--gpu-cap", "8GB", "--json").stdout)
    names = {each["strategy"] for each in told["choices"]}
    assert "micro-batches-2" in names and "micro-batches-4" not in names
    assert any(
        each.startswith("micro-batches-4 is left out: AssertionError: one sample has") for each in told["remarks"]
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train.py:make_step", "--batch", "0"), "--batch: got 0, expected at least 1 and at most 1,048,576"),
        (("train.py:make_step",), "--batch: expected how many samples a training step has"),
        (("--batch", "4"), "expected a step, such as train.py:make_step, or --model and --input"),
        (("--batch", "4", "--task", "ct"), "expected a step, such as train.py:make_step, or --architecture and --task"),
        (
            ("train.py:make_step", "--batch", "4", "--task", "ct"),
            "got train.py:make_step, and --architecture or --task: a plan is of one of them",
        ),
        (("train.py:nope", "--batch", "4"), "train.py has no function nope: it has network, make_step, by_hand, "),
        (
            ("train.py:make_step", "--batch", "4", "--engine", "abacus"),
            "--engine: unknown engine 'abacus': known are auto, virtual, simulated, cuda",
        ),
        (
            ("train.py:make_step", "--batch", "4", "--strategy", "checkpoint"),
            "--strategy: unknown strategy 'checkpoint': known are channels-last, bf16, host, fused, one-by-one, "
            "set-to-none, micro-batches, expandable; others change the network",
        ),
        (
            ("train.py:casting", "--batch", "4", "--strategy", "bf16"),
            "--strategy: train.py:casting cannot be run with bf16: the step enters torch.autocast itself",
        ),
        (("train.py:wrong", "--batch", "3"), "train.py:wrong fails: RuntimeError: "),
        (("train.py:reading", "--batch", "4", "--strict"), "--strict: train.py:reading asks for values that nobody"),
    ],
)
def test_what_cannot_be_planned(run, arguments, sentence):
    result = run(*arguments, "--gpu-cap", "8GB")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"bench: {sentence}")
    assert result.stderr.count("\n") == 1


PYTHON = os.environ.get("BENCH_CUDA_PYTHON", "")
ASKED = """
from bench.memory.gpus import card_named
from bench.planning.ways import Trials, Way

if __name__ == "__main__":
    trials = Trials("train.py:make_step", card_named("RTX 3080"), 8, "virtual", 2)
    alone = ("host", "bf16", "fused", "one-by-one", "channels-last")
    ways = [Way(), *(Way((name,)) for name in alone), Way((), 8), Way(("host", "fused"), 4, True)]
    for way in ways:
        recorded, on_card = trials.simulated(way), trials.on_device(way)
        assert recorded == on_card, (way.name, recorded, on_card)
    print(len(ways))
"""


@pytest.mark.skipif(not PYTHON, reason="BENCH_CUDA_PYTHON names no python with a CUDA build of PyTorch")
def test_every_peak_is_that_of_pytorchs_own_code_for_a_card(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "asked.py").write_text(ASKED)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [PYTHON, "asked.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr
