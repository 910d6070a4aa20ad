import contextlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bench.cells import suite
from bench.config import load
from bench.memory import NotRecordableError, SimulatedEngine, card_of_capacity, record
from bench.memory.explaining import sources as sources_module
from bench.memory.explaining.explain import Category, categories, explain
from bench.memory.explaining.sources import Frame, Owner, Phase, Source, locate
from bench.memory.simulated import TypicalWorkspaces
from bench.units import MiB

SMALL = """
[model]
stages = 2

[model.solver]
memory = 2
max_evaluations = 5

[task.deblurring]
operator = "GaussianBlur"
options = { image_shape = [3, 16, 16] }

[task.ct]
operator = "Radon"
options = { image_size = 16, detectors = 23, angles = 10 }

[task.mri]
operator = "MRI"
options = { image_shape = [2, 16, 16] }
"""
CARD = card_of_capacity("600MB")
LARGER = card_of_capacity("2GB")


def explained(make_step, batch, card=CARD):
    trace = record(make_step)
    return explain(SimulatedEngine(trace, card, workspaces=TypicalWorkspaces()), batch, locate(make_step, trace, batch))


@pytest.mark.parametrize("task", ["deblurring", "ct", "mri"])
@pytest.mark.parametrize("architecture", ["LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW"])
def test_categories_add_up_to_the_card_byte_for_byte(architecture, task, tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    (cell,) = suite.cells(load(tmp_path / "small.toml"), [architecture], [task])
    make_step = cell.workload.for_recording().make_step
    trace = record(make_step)
    engine = SimulatedEngine(trace, CARD, workspaces=TypicalWorkspaces())
    for batch, fits in ((1, True), (10**6, False)):
        sources = locate(make_step, trace, batch)
        explanation = explain(engine, batch, sources)
        assert explanation.fits is fits
        assert list(explanation.categories) == list(Category)
        assert min(explanation.categories.values()) >= 0
        assert sum(explanation.categories.values()) == CARD.total_bytes
        assert sum(explanation.categories.values()) - explanation.categories[Category.CONTEXT] == CARD.usable_bytes
        by_category = dict.fromkeys(Category, 0)
        for row in explanation.rows:
            by_category[row.category] += row.size_bytes
        tensors = [category for category in Category if by_category[category]]
        assert {c: by_category[c] for c in tensors} == {c: explanation.categories[c] for c in tensors}
        assert not any(frame.file.startswith("/") for source in sources for frame in source.stack)
        if fits:
            probe = engine.probe(batch)
            assert explanation.peak_allocated_bytes == probe.peak_allocated_bytes
            taken = probe.peak_reserved_bytes + CARD.context_bytes + explanation.categories[Category.FREE]
            assert taken == CARD.total_bytes
            parameters = sum(p.numel() * 4 for p in cell.workload.build(torch.device("meta")).parameters())
            assert explanation.categories[Category.PARAMETERS] == parameters
            assert explanation.categories[Category.OPTIMIZER] == 2 * parameters  # Adam's two moments


def two_layers(batch, device):
    """conv 1 -> 4, ReLU, conv 4 -> 1 on images of 8 x 8, with Adam."""
    with device:
        network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    network.register_buffer("constant", torch.zeros(100, device=device))
    optimizer = torch.optim.Adam(network.parameters(), foreach=True)

    def step():
        image = torch.rand(batch, 1, 8, 8, device=device)
        optimizer.zero_grad(set_to_none=True)
        loss = (network(image) - image).square().mean()
        loss.backward()
        optimizer.step()

    return step


def test_categories_of_a_step_counted_by_hand():
    batch = 5
    explanation = explained(two_layers, batch)
    parameters = 4 * (36 + 36 + 1)
    plane = 4 * 8 * 8 * batch
    assert explanation.categories[Category.PARAMETERS] == parameters
    assert explanation.categories[Category.BUFFERS] == 400
    assert explanation.categories[Category.OPTIMIZER] == 2 * parameters
    assert explanation.categories[Category.BATCH] == plane
    weights = {row.module: (row.blocks, row.size_bytes) for row in explanation.rows if row.category == "parameters"}
    assert weights == {"0.weight": (1, 144), "2.weight": (1, 144), "2.bias": (1, 4)}
    first, second = explanation.sources[:2]
    assert explanation.located()[0] is first != second

    allocated = {entry.key: entry.size_bytes for entry in explanation.history if entry.action == "alloc"}
    in_last_step = dict.fromkeys(Category, 0)
    for key, size_bytes in allocated.items():
        if explanation.sources[key].step == 2:
            in_last_step[explanation.category_of[key]] += size_bytes
    assert in_last_step[Category.GRADIENTS] == parameters
    # kept for backward: ReLU's output, what is squared, and the loss itself
    assert in_last_step[Category.ACTIVATIONS] == 4 * plane + plane + 4
    assert in_last_step[Category.OPTIMIZER] == 0
    # of each convolution, most: input + output; forward, and backward for the weight and (second one) the input
    assert in_last_step[Category.WORKSPACE] == 5 * (plane + 4 * plane)


def test_sources_name_module_line_operation_and_owner():
    trace = record(two_layers)
    sources = locate(two_layers, trace, 3)
    first, *_ = (s for s in sources if s.phase is Phase.FORWARD and s.short_op == "convolution")
    lines = open(__file__).read().splitlines()  # noqa: SIM115
    assert (first.step, first.module) == (1, "0")
    assert first.stack[0].file.endswith("test_explain.py")
    assert "network(image)" in lines[first.stack[0].line - 1]
    assert first.place == f"{first.stack[0].file}:{first.stack[0].line}"
    of_backward = {s.place for s in sources if s.short_op == "convolution_backward"}
    assert of_backward == {first.place}  # the line of the forward pass, not that of loss.backward()
    weights = [s for s in sources if s.module == "2.weight"]
    assert [s.owner for s in weights if s.step < 2] == [
        *(Owner.PARAMETER, Owner.GRADIENT, Owner.OPTIMIZER, Owner.OPTIMIZER)
    ]
    assert {s.phase for s in sources if s.owner is Owner.OPTIMIZER} == {Phase.UPDATE}
    assert {s.phase for s in sources if s.step == 0} == {Phase.SETUP}
    assert {s.module for s in sources if s.phase is Phase.INPUT} == {""}


def test_a_place_is_the_innermost_line_after_that_of_another_file():
    frames = [Frame("a.py", 3, "f"), Frame("a.py", 7, "g"), Frame("b.py", 1, "h"), Frame("c.py", 9, "main")]
    places = [Source(1, Phase.FORWARD, "", tuple(frames[at:])).place for at in range(5)]
    assert places == ["b.py:1 > a.py:3", "b.py:1 > a.py:7", "c.py:9 > b.py:1", "c.py:9", ""]


def test_a_backward_passes_lines_are_those_of_the_forward_pass_to_the_outermost():
    sources = locate(two_layers, record(two_layers), 3)
    (forward,) = {s.stack for s in sources if s.short_op == "convolution" and s.step == 1 and s.module == "0"}
    for step in (1, 2):
        of_backward = [s for s in sources if s.short_op == "convolution_backward" and s.step == step]
        assert {s.stack for s in of_backward} == {forward}
        assert {s.phase for s in of_backward} == {Phase.BACKWARD}
    (seed,) = {(s.phase, s.module) for s in sources if s.short_op == "ones_like"}
    assert seed == (Phase.BACKWARD, "")  # backward() makes it before the engine runs


def test_every_owner_is_named():
    """A parameter of the optimiser that no module has is one without a name."""

    def make_step(batch, device):
        step = two_layers(batch, device)
        alone = torch.zeros(50, device=device, requires_grad=True)
        optimizer = torch.optim.SGD([alone], momentum=0.9)

        def both():
            step()
            alone.square().sum().backward()
            optimizer.step()

        return both

    sources = locate(make_step, record(make_step), 3)
    owned = {(s.owner, s.module) for s in sources if s.owner is not None}
    weights = {(owner, name) for owner in Owner if owner is not Owner.BUFFER for name in WEIGHTS}
    assert owned == weights | {(Owner.BUFFER, "constant")}


WEIGHTS = ("0.weight", "2.weight", "2.bias", "")


class Hiding(nn.Module):
    """A network that calls a layer which it does not register."""

    def __init__(self):
        super().__init__()
        self.hidden = [Layer()]

    def forward(self, image):
        return self.hidden[0](image)


def test_names_are_those_within_what_a_step_calls_first():
    """A layer that is called inside a network and is not registered has the network's name, and the next one its own.

    An error in a module that the step survives changes nothing.
    """

    class Failing(nn.Module):
        def forward(self, image):
            raise RuntimeError

    class Doubling(Layer):
        def forward(self, image):
            return self.doubled(image)

    def make_step(batch, device):
        with device:
            network, last, failing = Hiding(), nn.ReLU(), Failing()
            network.hidden = [Doubling()]

        def step():
            image = torch.empty(batch, 100, device=device)
            with contextlib.suppress(RuntimeError):
                failing(image)
            network(image)
            last(image)

        return step

    hooks = nn.modules.module._global_forward_hooks, nn.modules.module._global_forward_pre_hooks
    before = [len(each) for each in hooks]
    sources = locate(make_step, record(make_step), 2)
    assert [len(each) for each in hooks] == before
    found = [(s.phase, s.module, s.short_op) for s in sources if s.step == 1]
    assert found == [
        (Phase.INPUT, "", "empty.memory_format"),
        (Phase.FORWARD, "Hiding", "mul.Tensor"),
        (Phase.FORWARD, "ReLU", "relu"),
    ]


def test_without_a_module_all_is_forward():
    def make_step(batch, device):
        constant = torch.empty(1000, device=device)
        return lambda: constant + torch.empty(batch, 1, device=device)

    trace = record(make_step)
    sources = locate(make_step, trace, 2)
    assert [(s.step, s.phase) for s in sources] == [(0, Phase.SETUP), *((k, Phase.FORWARD) for k in (1, 1, 2, 2))]
    assert categories(trace.of(2), sources)[0] is Category.BUFFERS


def test_whose_a_file_is(monkeypatch):
    folder = Path(suite.__file__).parents[1]
    theirs = [folder / "cells" / "suite.py", folder / "models" / "dncnn.py", Path(__file__), "/tmp/step.py"]
    others = [folder / "memory" / "trace.py", folder / "model_step.py", Path(torch.__file__), "<string>"]
    assert [sources_module._is_users(str(file)) for file in (*theirs, *others)] == [True] * 4 + [False] * 4
    entry = f'  File "{folder}/cells/suite.py", line 12, in measure\n    call()\n'
    assert sources_module._parsed(entry)[1] == Frame("bench/cells/suite.py", 12, "measure")
    entry = f'  File "{folder}/memory/trace.py", line 12, in of\n    call()\n'
    assert sources_module._parsed(entry) == (f"{folder}/memory/trace.py", None)
    assert sources_module._parsed("  [Previous line repeated 3 more times]\n") == ("", None)
    monkeypatch.setattr(sys, "path", ["/a/project", "/a", "/a/project/src", "/b"])
    assert sources_module._relative("/a/project/src/net/layers.py") == "net/layers.py"
    assert sources_module._relative("/a/other/layers.py") == "other/layers.py"
    assert sources_module._relative("/c/project/layers.py") == "layers.py"
    assert sources_module._relative(str(folder / "cells" / "none.py")) == "bench/cells/none.py"  # wherever Python looks


def test_a_file_of_ours_is_named_from_the_top_of_the_repository():
    folder = Path(suite.__file__).parents[1]
    sources_module._relative.cache_clear()
    assert sources_module._relative(str(folder / "cells" / "suite.py")) == "bench/cells/suite.py"
    assert sources_module._relative(str(folder / "models" / "anderson.py")).endswith("models/anderson.py")
    linked = (folder / "models").is_symlink()  # in a checkout, not in an installed wheel
    assert sources_module._relative(str(folder / "models" / "anderson.py")).startswith("bench/") is not linked


class Methods(nn.Module):
    """A network that never calls its layers: it runs their methods, and functions made in them."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(2))

    def forward(self, image):
        for layer in self.layers:
            image = layer.made()(layer.doubled(image))
        return torch.neg(image)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def doubled(self, image):
        return torch.mul(image, 2.0)

    def made(self):
        return lambda image: torch.mul(image, self.scale)


def test_a_module_is_the_one_whose_method_runs():
    def make_step(batch, device):
        with device:
            network = Methods()
        return lambda: network(torch.rand(batch, 100, device=device)).sum().backward()

    sources = locate(make_step, record(make_step), 2)
    forward = [(s.module, s.short_op) for s in sources if s.step == 1 and s.phase is Phase.FORWARD]
    assert forward[:5] == [
        *(("layers.0", "mul.Tensor"), ("layers.0", "mul.Tensor")),
        *(("layers.1", "mul.Tensor"), ("layers.1", "mul.Tensor")),
        ("Methods", "neg"),
    ]


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient + 0 * ctx.saved_tensors[0]


def test_lines_of_a_custom_backward_come_before_that_of_its_forward():
    def make_step(batch, device):
        image = torch.ones(batch, 8, device=device, requires_grad=True)
        return lambda: Double.apply(image).sum().backward()

    sources = locate(make_step, record(make_step), 2)
    stacks = {tuple(f.function for f in s.stack[:2]) for s in sources if s.step == 1 and s.short_op == "mul.Tensor"}
    lines = {s.stack[1].line for s in sources if s.step == 1 and len(s.stack) > 1}
    assert stacks == {("forward", "<lambda>"), ("backward", "<lambda>")}
    assert len(lines) == 1


def penalised(network, image):
    image = image.requires_grad_()
    output = network(image)
    (gradient,) = torch.autograd.grad(output.sum(), image, create_graph=True)
    return output + gradient


@pytest.mark.parametrize(
    "forward",
    [
        lambda network, image: Double.apply(network(image)),
        lambda network, image: checkpoint(network, image, use_reentrant=False),
        lambda network, image: checkpoint(network, image, use_reentrant=True),
        penalised,
    ],
    ids=["custom function", "checkpoint", "reentrant checkpoint", "gradient of a gradient"],
)
def test_watching_changes_no_allocation(forward):
    def make_step(batch, device):
        network = nn.Sequential(nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 8)).to(device)

        def step():
            image = torch.rand(batch, 8, device=device).requires_grad_()
            network.zero_grad(set_to_none=True)
            forward(network, image).square().mean().backward()

        return step

    trace = record(make_step)
    sources = locate(make_step, trace, 2)  # raises where it differs
    assert len(sources) == (~trace.is_free).sum()
    assert {source.phase for source in sources} >= {Phase.SETUP, Phase.FORWARD, Phase.BACKWARD}


def test_what_is_recomputed_in_backward_is_saved_there():
    def make_step(batch, device):
        network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 1, 3)).to(device)

        def step():
            image = torch.rand(batch, 1, 8, 8, device=device)
            checkpoint(network, image, use_reentrant=False).sum().backward()

        return step

    explanation = explained(make_step, 2)
    recomputed = {
        (source.short_op, explanation.category_of[key])
        for key, source in enumerate(explanation.sources)
        if source.phase is Phase.RECOMPUTATION and explanation.category_of[key] is not Category.WORKSPACE
    }
    assert ("tanh", Category.ACTIVATIONS) in recomputed
    assert ("convolution", Category.TEMPORARIES) in recomputed


def test_of_equal_peaks_the_last_is_explained():
    explanation = explained(lambda batch, device: lambda: torch.empty(batch, 1000, device=device), 5)
    assert [entry.allocated_bytes for entry in explanation.history].count(20480) == 2  # 20,000 B in each of two steps
    assert explanation.source.step == 2
    assert explanation.history[explanation.moment].allocated_bytes == explanation.peak_allocated_bytes == 20480


def grown(last_mib):
    """Ten blocks of 10 MiB; in the second step then eight of 12 MiB, too large for the cached ones, and one at last."""

    def make_step(batch, device):
        sizes = iter((((10, 10),), ((10, 10), (12, 8), (last_mib, 1))))

        def step():
            for size, times in next(sizes):
                held = [torch.empty(size * MiB, dtype=torch.uint8, device=device) for _ in range(times)]
                del held

        return step

    return explained(make_step, 1, LARGER)


def test_what_is_reserved_after_the_moment_of_the_most_allocated_is_fragmentation_then():
    explanation = grown(1)
    amounts = explanation.categories
    assert explanation.fits and explanation.peak_allocated_bytes == 100 * MiB
    assert explanation.peak_reserved_bytes == (100 + 96 + 2) * MiB
    assert amounts[Category.TEMPORARIES] == 100 * MiB
    assert amounts[Category.FRAGMENTATION] == 98 * MiB
    assert amounts[Category.FREE] == LARGER.usable_bytes - 198 * MiB
    assert sum(amounts.values()) == LARGER.total_bytes
    assert sum(row.size_bytes for row in explanation.rows) == 100 * MiB
    assert sum(row.blocks for row in explanation.rows) == 10


def test_where_memory_runs_out_the_cache_was_given_back():
    explanation = grown(4000)
    assert not explanation.fits
    assert explanation.peak_reserved_bytes == 196 * MiB
    assert explanation.categories[Category.FREE] == LARGER.usable_bytes  # nothing is held by then
    assert explanation.categories[Category.FRAGMENTATION] == 0
    assert explanation.rows == ()


def test_what_is_staged_within_a_reduction_is_a_workspace():
    def make_step(batch, device):
        values = torch.empty(batch, 2**22, device=device)
        return lambda: values.sum()

    explanation = explained(make_step, 2)
    told = [(s.step, c) for s, c in zip(explanation.sources, explanation.category_of, strict=True)]
    workspaces = [step for step, category in told if category is Category.WORKSPACE]
    assert workspaces == [1, 1, 2, 2]  # the partial sums and the semaphores


def test_where_memory_runs_out():
    explanation = explained(two_layers, 100_000)
    assert not explanation.fits
    source = explanation.source
    assert (source.step, source.phase) == (1, Phase.FORWARD)
    assert source.short_op == "convolution"
    assert explanation.failed_request_bytes > explanation.categories[Category.FREE]
    assert explanation.moment == len(explanation.history) - 1
    assert explanation.as_dict()["failed_request_bytes"] == explanation.failed_request_bytes


class Fixed:
    """A source of workspaces that knows one number for every convolution, after one that never fits."""

    cards = ()

    def candidates(self, call):
        return [2**40, 3000]


def test_known_workspaces_take_the_place_of_bounds():
    trace = record(two_layers)
    explanation = explain(SimulatedEngine(trace, CARD, workspaces=Fixed()), 4, locate(two_layers, trace, 4))
    assert explanation.fits
    workspaces = {e.size_bytes for e in explanation.history if e.key >= 0 and e.action == "alloc"} & {3000, 2**40}
    assert workspaces == {3000}
    assert explanation.timeline.sum(axis=1).tolist() == [entry.reserved_bytes for entry in explanation.history]
    assert sum(explanation.categories.values()) == CARD.total_bytes


def test_the_timeline_is_what_is_reserved_at_every_entry():
    explanation = explained(two_layers, 7)
    assert explanation.timeline.min() >= 0
    assert explanation.timeline.sum(axis=1).tolist() == [entry.reserved_bytes for entry in explanation.history]


def test_a_step_that_does_something_else_while_watched_is_refused():
    calls = 0

    def make_step(batch, device):
        nonlocal calls
        calls += 1
        extra = torch.empty(100 + (calls > 3), device=device)
        return lambda: extra + torch.empty(batch, 1, device=device)

    trace = record(make_step)
    with pytest.raises(NotRecordableError, match="something else"):
        locate(make_step, trace, 2)
