"""What recurrent layers take, held against answers of cuDNN about layers drawn at random (tools/virtual_goldens)."""

import json
import lzma
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.memory import CARDS, record
from bench.memory.allocator.caching import FREE
from bench.memory.recording.cudnn_rnn import Call
from bench.memory.recording.not_recorded import NotRecordedWarning
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recurrence import Layers
from bench.memory.trace import Workspace, constant

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
ELEMENT_BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
RELEASES = {"2.14": (2, 14), "2.15": (2, 15)}


def answers(release):
    """Layers, and the bytes that cuDNN took: workspace, reserve, weights."""
    for *asked, workspace, reserve, weights in json.loads(
        lzma.decompress((FOLDER / f"layers-{release}.json.xz").read_bytes())
    ):
        kind, dtype, inputs, width, projected, layers, directions, steps, lengths, drops, trains, _ = asked
        packed = len(set(lengths)) > 1
        shapes = (inputs, width, projected, layers, directions, steps, len(lengths), sum(lengths))
        yield Layers(kind, *shapes, packed, drops, trains, dtype, ELEMENT_BYTES[dtype]), workspace, reserve, weights


def is_even(layers):
    return not any(width % 16 for width in (layers.inputs, layers.width, layers.projected))


@pytest.mark.parametrize("release", RELEASES)
def test_the_weights_are_one_block_without_gaps(release):
    for layers, _, _, weights in answers(release):
        assert layers.weights * layers.element_bytes == weights


@pytest.mark.parametrize("release", RELEASES)
def test_the_reserve_is_exact_but_for_the_ends_of_parts(release):
    exact = 0
    for layers, _, reserve, _ in answers(release):
        more = layers.reserve_bytes - reserve
        assert 0 <= more <= 31 * (5 + 4 * layers.drops), layers
        exact += more == 0
    assert exact == EXACT_RESERVES


EXACT_RESERVES = 766


@pytest.mark.parametrize("release", RELEASES)
def test_workspaces_are_exact_or_bounds(release):
    found = {"exact": 0, "of several layers": 0, "bounds": 0, "bytes too much of bounds": 0}
    for layers, taken, _, _ in answers(release):
        told = layers.workspace(layers.trains, RELEASES[release])
        more = told.size_bytes - taken
        assert more >= 0, layers
        if not told.is_exact:
            found["bounds"] += 1
            found["bytes too much of bounds"] += more
        elif more > 31 + 512 * (not is_even(layers)):
            assert layers.trains and layers.layers > 1 and layers.directions == 1 and layers.steps > 16
            assert more <= layers.steps * layers.batch * layers.width * layers.element_bytes
            found["of several layers"] += 1
        else:
            found["exact"] += 1
    assert found == WORKSPACES


WORKSPACES = {"exact": 870, "of several layers": 12, "bounds": 118, "bytes too much of bounds": 719_167_274}


# The widest layers that PyTorch has cuDNN run in its kernel for small ones: use_rnn_persist_small_h in cudnn/RNN.cpp.
WIDEST = {"relu": (384, 256), "tanh": (384, 256), "lstm": (192, 128), "gru": (192, 128)}


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16", "float64"])
@pytest.mark.parametrize("kind", WIDEST)
def test_small_layers_end_where_pytorch_says(kind, dtype):
    """Small ones, and they alone, took more before cuDNN 9.26."""
    for in_backward, widest in enumerate(WIDEST[kind]):
        for width in (widest - 64, widest, widest + 1, widest + 64):
            layers = Layers(kind, 64, width, width, 2, 1, 5, 3, 15, False, False, True, dtype, ELEMENT_BYTES[dtype])
            took, takes = (layers.workspace(bool(in_backward), release) for release in ((2, 14), (2, 15)))
            assert (took != takes) == (width <= widest and dtype in ("float16", "float32"))
            assert (took.is_exact, takes.is_exact) == (True, True)


PERSISTENT = Layers("lstm", 128, 256, 256, 1, 1, 5, 8, 40, False, False, True, "float16", 2)


@pytest.mark.parametrize("kind", ["lstm", "relu", "tanh", "gru"])
@pytest.mark.parametrize(
    ("other", "may_persist"),
    [
        ({}, True),
        ({"width": 1024, "projected": 1024, "batch": 128}, True),
        ({"width": 1152, "projected": 1152}, False),
        ({"width": 448, "projected": 448}, False),
        ({"inputs": 64}, False),
        ({"batch": 136}, False),
        ({"batch": 12}, False),
        ({"layers": 2}, False),
        ({"directions": 2}, False),
        ({"layers": 2, "directions": 2}, False),
        ({"dtype": "bfloat16"}, False),
        ({"dtype": "float32", "element_bytes": 4}, False),
    ],
)
def test_layers_that_may_run_in_one_kernel_of_all_steps_have_a_bound(kind, other, may_persist):
    """As PyTorch asks (use_persist_common_heuristics, use_persist_device_heuristics), of which none takes GRUs."""
    layers = PERSISTENT._replace(kind=kind, width=512, projected=512)._replace(**other)
    found = layers.workspace(False, (2, 14))
    assert found.is_exact == (kind == "gru" or not may_persist)
    if not found.is_exact:
        assert found.size_bytes == 5 * layers._replace(dtype="bfloat16").workspace(False, (2, 14)).size_bytes


def step_of(layer, batch_first=False, dtype=torch.float32):
    def make_step(batch, device):
        net = layer().to(device, dtype)

        def step():
            net.zero_grad()
            net(torch.rand((batch, 24, 32) if batch_first else (24, batch, 32), device=device, dtype=dtype))[
                0
            ].sum().backward()

        return step

    return make_step


@pytest.mark.parametrize(
    "make_step",
    [
        step_of(lambda: nn.LSTM(32, 64, 2, dropout=0.5)),
        step_of(lambda: nn.GRU(32, 50, bidirectional=True, batch_first=True), batch_first=True),
        step_of(lambda: nn.RNN(32, 7, 3, bias=False), dtype=torch.float64),
        step_of(lambda: nn.LSTM(32, 128, proj_size=16), dtype=torch.bfloat16),
    ],
)
@pytest.mark.parametrize("batch", [1, 5, 12, 37])
def test_one_trace_answers_for_every_batch(make_step, batch):
    card = CARDS["RTX 4090"]
    with on_cuda(card):
        recorded = constant(events_of(make_step, batch, 2)).on(card)
        trace = record(make_step).on(card)
    for bound in Workspace:
        assert trace.at(batch, bound) == recorded.at(batch, bound)


@pytest.mark.parametrize(("card", "threads"), [("RTX 3080", 68 * 1536), ("H100 SXM", 132 * 2048), ("T4", 40 * 1024)])
def test_random_states_are_as_many_as_the_card_has_threads(card, threads):
    trace = record(step_of(lambda: nn.LSTM(32, 64, 2, dropout=0.5)))
    assert [size for _, size in trace.on(CARDS[card]).at(4)].count(24 * threads) == 1


def test_a_bare_capacity_has_no_random_states_in_the_low_bound():
    trace = record(step_of(lambda: nn.LSTM(32, 64, 2, dropout=0.5)))
    sizes = [size for _, size in trace.at(4, Workspace.LOW) if size is not FREE]
    assert 0 not in sizes and max(sizes) < 2**20
    assert set(trace.sizes(4)[trace.staged >= 0]) == {0}


def test_weights_in_several_blocks_are_copied_by_each_call():
    """PyTorch flattens no layer in bfloat16."""
    block = 2 * (4 * 64 * (32 + 64) + 8 * 64)
    with on_cuda():
        sizes = [
            event.size_bytes
            for event in events_of(step_of(lambda: nn.LSTM(32, 64), dtype=torch.bfloat16), 2, 3)
            if "cudnn" in event.op
        ]
    assert sizes.count(block) == 2 * 3  # of the weights, and of their gradients


def test_without_cudnn_layers_run_cell_by_cell():
    def names():
        with on_cuda():
            return {event.op for event in events_of(step_of(lambda: nn.GRU(32, 64)), 2, 1)}

    assert "aten._cudnn_rnn.default" in names()
    with torch.backends.cudnn.flags(enabled=False):
        assert "aten._cudnn_rnn.default" not in names()


def called(call):
    """The operations of a step that calls torch.lstm as `call(data, states, weights)` does."""

    def make_step(batch, device):
        net = nn.LSTM(8, 16).to(device)
        x, states = (torch.zeros(5, batch, width, device=device) for width in (8, 16))
        return lambda: call(x, (states[:1], states[:1]), net._flat_weights)

    return [event.op for event in events_of(make_step, 2, 1)]


FORMS = {
    "by place": lambda x, states, weights: torch.lstm(x, states, weights, True, 1, 0.0, True, False, False),
    "by name": lambda x, states, weights: torch.lstm(
        input=x,
        hx=states,
        params=weights,
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=True,
        bidirectional=False,
        batch_first=False,
    ),
    "packed by name": lambda x, states, weights: torch.lstm(
        x[0],
        batch_sizes=torch.tensor([2]),
        hx=states,
        params=weights,
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=True,
        bidirectional=False,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_function_itself_is_cudnns_too(form):
    operations = called(FORMS[form])
    events = 5 + ("packed" in form)  # output, two states, workspace, reserve; of a bound, the end says whose it is too
    assert operations.count("aten._cudnn_rnn.default") == events
    assert not [each for each in operations if "addmm" in each or "sigmoid" in each]


@pytest.mark.parametrize("arguments", [{}, {"has_biases": True}, {"no_such_option": 1}])
def test_a_call_of_neither_form_is_pytorchs_own_error(arguments):
    before = torch.lstm
    with pytest.raises(TypeError, match=r"lstm\(\)"):
        called(lambda x, states, weights: torch.lstm(x, states, weights, **arguments))
    assert torch.lstm is before


@pytest.mark.parametrize(("lengths", "projected", "said"), [([9, 9], 0, False), ([9, 5], 0, True), ([9, 9], 32, True)])
def test_a_workspace_that_is_a_bound_is_said(lengths, projected, said):
    def make_step(batch, device):
        layers = nn.LSTM(64, 256, batch_first=True, proj_size=projected).cuda()

        def step():
            samples = torch.rand(len(lengths), 9, 64, device="cuda")
            packed = nn.utils.rnn.pack_padded_sequence(samples, torch.tensor(lengths), batch_first=True)
            layers(packed if len(set(lengths)) > 1 else samples)[0]

        return step

    with on_cuda(), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        trace = constant(events_of(make_step, 1, 2))
    found = [str(each.message) for each in heard if issubclass(each.category, NotRecordedWarning)]
    assert bool(found) == said and all("is a bound where" in each for each in found)
    low, high = (trace.at(1, bound) for bound in Workspace)
    assert (len(low) < len(high)) == said
    assert {key for key, size in low if size is FREE} <= {key for key, size in low if size is not FREE}


@pytest.mark.parametrize("layer", [nn.LSTM(32, 64), nn.LSTM(32, 64, 2, proj_size=8), nn.GRU(32, 64, batch_first=True)])
@pytest.mark.parametrize("both", [False, True])
def test_results_are_as_those_of_the_host(layer, both):
    """In shape and strides, and so are gradients."""
    layer = type(layer)(32, 64, layer.num_layers, True, layer.batch_first, 0.0, both, layer.proj_size)
    data = torch.zeros(5, 4, 32, requires_grad=True)

    def results(net, x):
        output, states = net(x)
        states = states if isinstance(states, tuple) else (states,)
        made = [output, *states, *torch.autograd.grad(output.sum(), [x, *net.parameters()])]
        return [(each.shape, each.stride()) for each in made]

    found = []
    with on_cuda():
        events_of(lambda batch, device: lambda: found.append(results(layer.cuda(), data.cuda())), 1, 1)
    assert found[-1] == results(layer.to_empty(device="cpu"), data)


def test_samples_of_a_call_are_steps_times_batch():
    call = Call(2, 64, 0, 1, False, 0.5, True, False, ())
    layers = call.of(torch.empty(5, 4, 32))
    assert (layers.steps, layers.batch, layers.samples, layers.drops) == (5, 4, 20, True)
    assert call._replace(batch_sizes=[3, 2]).of(torch.empty(5, 32))[6:10] == (2, 3, 5, True)
    assert not call._replace(dropout=0.0).of(torch.empty(5, 4, 32)).drops
