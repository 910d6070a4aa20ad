"""Programs for a GPU, recorded as they are: where tensors say they are, what is known of them, what is assumed."""

import gc
import pickle
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data.dataloader import _BaseDataLoaderIter

import bench
from bench.memory import CARDS, NotRecordableError, record
from bench.memory.recording.not_recorded import NotRecordedWarning
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.values import AssumedValue


def seen(look):
    """What `look()` gives within a step that is recorded as on a GPU, and what was assumed."""
    results = []

    def make_step(batch, device):
        return lambda: results.append(look())

    with on_cuda(), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        events_of(make_step, 2, 1)
    return results[0], [each.message for each in heard if isinstance(each.message, AssumedValue)]


SPELLINGS = {
    "cuda": lambda: torch.zeros(3, device="cuda"),
    "cuda:0": lambda: torch.zeros(3, device="cuda:0"),
    "device": lambda: torch.zeros(3, device=torch.device("cuda")),
    "index": lambda: torch.zeros(3, device=0),
    "current": lambda: torch.zeros(3, device=torch.cuda.current_device()),
    ".cuda()": lambda: torch.zeros(3).cuda(),
    ".cuda(0)": lambda: torch.zeros(3).cuda(0, non_blocking=True),
    ".to()": lambda: torch.zeros(3).to("cuda"),
    ".to(device=)": lambda: torch.zeros(3).to(device="cuda", dtype=torch.float16),
    ".to(0)": lambda: torch.zeros(3).to(0),
    "pinned": lambda: torch.zeros(3).pin_memory().to("cuda", non_blocking=True),
    "like another": lambda: torch.zeros(3, device=torch.ones(1, device="cuda").device),
    "to another": lambda: torch.zeros(3).to(torch.ones(1, device="cuda")),
    "numbers": lambda: torch.tensor([1.0, 2.0], device="cuda"),
    "as numbers": lambda: torch.as_tensor([1.0, 2.0], device="cuda"),
    "module": lambda: nn.Linear(2, 2).cuda().weight,
    "module.to": lambda: nn.Linear(2, 2).to("cuda", torch.bfloat16).weight,
    "made there": lambda: nn.Linear(2, 2, device="cuda").weight,
    "generator": lambda: torch.rand(3, device="cuda", generator=torch.Generator()),
    "new": lambda: torch.zeros(3, device="cuda").new_ones(2),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_makes_a_tensor_that_says_it_is_there(name):
    def look():
        tensor = SPELLINGS[name]()
        return tensor.is_cuda, tensor.is_meta, str(tensor.device), tensor.device.type, tensor.get_device()

    told, assumed = seen(look)
    assert told == (True, False, "cuda:0", "cuda", 0)
    assert not assumed


def test_default_devices():
    def look():
        with torch.device("cuda"):
            inside = torch.zeros(3).device
        torch.set_default_device("cuda")
        return inside, nn.Linear(2, 2).weight.device, torch.zeros(3).device

    told, _ = seen(look)
    assert {str(device) for device in told} == {"cuda:0"}
    assert torch.zeros(3).device.type == "cpu"


def test_torch_cuda_answers_and_afterwards_is_as_it_was():
    def look():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.manual_seed_all(0)
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda.Event(enable_timing=True).record()
        torch.cuda.nvtx.range_push("forward")
        return torch.cuda.is_available(), torch.cuda.device_count(), torch.cuda.get_device_capability()

    before = {name: getattr(torch.cuda, name) for name in ("is_available", "synchronize", "Stream", "device")}
    assert seen(look)[0] == (True, 1, (8, 6))
    assert {name: getattr(torch.cuda, name) for name in before} == before
    with pytest.raises(NotRecordableError, match="autocast has no effect"):
        record(lambda batch, device: lambda: torch.autocast("cuda", torch.float16).__enter__())


KNOWN = {
    "sum": (lambda: torch.ones(4, 4, dtype=torch.bool, device="cuda").tril().sum().item(), 10),
    "largest": (lambda: int(torch.arange(7, device="cuda").max()), 6),
    "truth": (lambda: bool((torch.arange(3, device="cuda") < 3).all()), True),
    "view": (lambda: torch.arange(12, device="cuda").view(3, 4)[1, 2].item(), 6),
    "list": (lambda: torch.arange(4, device="cuda").flip(0).tolist(), [3, 2, 1, 0]),
    "host": (lambda: (torch.arange(4, device="cuda") * 2).cpu().numpy().tolist(), [0, 2, 4, 6]),
    "from the host": (lambda: torch.tensor([5, 6]).cuda().sum().item(), 11),
    "made of numbers": (lambda: torch.tensor([1.5, 2.5], device="cuda").sum().item(), 4.0),
    "rates": (lambda: torch.linspace(0, 1, 3, device="cuda").tolist(), [0.0, 0.5, 1.0]),
    "in place": (lambda: torch.zeros(3, dtype=torch.long, device="cuda").add_(2).sum().item(), 6),
    "filled": (lambda: torch.empty(3, dtype=torch.long, device="cuda").fill_(7)[2].item(), 7),
    "like what is drawn": (lambda: bool(torch.ones_like(torch.randint(0, 9, (4,), device="cuda")).all()), True),
    "new": (lambda: torch.rand(3, device="cuda").new_full((2,), 3.0).sum().item(), 6.0),
    "equal": (lambda: torch.equal(torch.arange(3, device="cuda"), torch.arange(3, device="cuda")), True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_values_that_follow_from_the_program_are_known(name):
    look, expected = KNOWN[name]
    told, assumed = seen(look)
    assert told == expected
    assert not assumed


def written_through_a_view():
    values = torch.zeros(3, dtype=torch.long, device="cuda")
    values[1:].copy_(torch.randint(0, 9, (2,), device="cuda"))
    return values[1].item()


ASSUMED = {
    "item": (lambda: torch.rand(3, device="cuda").sum().item(), 0.0),
    "format": (lambda: f"{torch.rand(1, device='cuda').sum():.2f}", "0.00"),
    "nan": (lambda: bool(torch.isnan(torch.rand(3, device="cuda")).any()), False),
    "finite": (lambda: bool(torch.isfinite(torch.rand(3, device="cuda")).all()), True),
    "checked": (lambda: bool(torch._is_all_true(torch.rand(3, device="cuda") > 0.5)), True),
    "distribution": (lambda: torch.distributions.Exponential(torch.rand(3, device="cuda")).batch_shape[0], 3),
    "drawn": (lambda: torch.randint(1, 9, (1,), device="cuda").item(), 0),
    "list": (lambda: torch.rand(2, device="cuda").tolist(), [0.0, 0.0]),
    "numpy": (lambda: torch.rand(2, device="cuda").cpu().numpy().tolist(), [0.0, 0.0]),
    "written": (written_through_a_view, 0),
    "unwritten": (lambda: torch.empty(1, dtype=torch.long, device="cuda").item(), 0),
}


@pytest.mark.parametrize("name", ASSUMED)
def test_what_is_assumed_is_said_with_the_line(name):
    look, expected = ASSUMED[name]
    told, assumed = seen(look)
    assert told == expected
    assert len(assumed) == 1
    assert re.fullmatch(r".*test_on_cuda\.py:\d+, in .*: `.*`", assumed[0].place)
    assert str(assumed[0].what).startswith(
        ("a value that the step reads is taken as", "what the step copies to the host is taken as 0")
    )


def test_what_is_written_for_any_device_is_recorded_as_ever():
    """Nothing lives longer or dies sooner because the program is taken for one on a GPU."""

    def make_step(batch, device):
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.GELU(), nn.Flatten(), nn.Linear(8 * 36, 4))
        net.to(device)
        optimizer = torch.optim.Adam(net.parameters())

        def step():
            optimizer.zero_grad()
            image = torch.rand(batch, 3, 8, 8, device=device)
            loss = nn.functional.cross_entropy(net(image) + net(image), torch.ones(batch, 4, device=device).softmax(-1))
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()

        return step

    plain = events_of(make_step, 3, 2)
    with on_cuda():
        assert events_of(make_step, 3, 2) == plain


@pytest.mark.parametrize(
    ("name", "backends", "expected"),
    [
        ("RTX 3080", None, "flash"),
        ("T4", None, "efficient"),
        ("H100 SXM", None, "cudnn"),
        ("RTX 3080", [SDPBackend.MATH], "math"),
        ("H100 SXM", [SDPBackend.EFFICIENT_ATTENTION], "efficient"),
    ],
)
def test_attention_is_that_of_the_card(name, backends, expected):
    def make_step(batch, device):
        def step():
            query = torch.rand(batch, 4, 64, 32, device="cuda", dtype=torch.float16)
            with sdpa_kernel(backends) if backends else nullcontext():
                nn.functional.scaled_dot_product_attention(query, query, query)

        return step

    with on_cuda(CARDS[name]) as asked:
        events_of(make_step, 2, 1)
    assert asked.choices == {expected}


def test_a_value_on_the_host_is_what_it_is():
    assert seen(lambda: torch.tensor([2.0, 3.0]).prod().item()) == (6.0, [])


def tied(batch, device):
    """Weights that two layers share, and an optimiser that is made before the model is moved."""
    net = nn.ModuleDict({"lookup": nn.Embedding(100, 16), "layer": nn.Linear(16, 16), "head": nn.Linear(16, 100)})
    net["head"].weight = net["lookup"].weight
    optimizer = torch.optim.Adam(net.parameters())
    net.to(device)

    def step():
        optimizer.zero_grad()
        tokens = torch.zeros(batch, dtype=torch.int64, device=device)
        net["head"](net["layer"](net["lookup"](tokens))).square().mean().backward()
        optimizer.step()

    step.net, step.optimizer = net, optimizer
    return step


@pytest.mark.parametrize("context", [nullcontext, on_cuda])
def test_a_model_that_is_moved_keeps_its_parameters(context):
    kept = []

    def make_step(batch, device):
        step = tied(batch, device)
        kept.append(step.net["head"].weight is step.net["lookup"].weight)
        moved = step.optimizer.param_groups[0]["params"]
        kept.append(len(moved) == 4 and all(each.is_meta or each.is_cuda for each in moved))
        return step

    with context():
        recorded = events_of(make_step, 2, 2)
    assert kept == [True, True]
    states = [each for each in recorded if each.size_bytes == 4 * 100 * 16 and "zeros_like" in each.op]
    assert len(states) == 2  # Adam's, once for the weight that is shared


def test_a_model_that_is_moved_while_a_view_holds_it_is_said():
    def make_step(batch, device):
        net = nn.Linear(4, 4)
        view = net.weight.view(-1)
        net.to(device)
        moved.append(net.weight.is_meta)
        return lambda: view

    moved = []
    with pytest.warns(NotRecordedWarning, match=r"holds its parameters \('weight' first\)"):
        events_of(make_step, 2, 1)
    assert moved == [True]


def test_a_layer_without_a_bias_is_moved():
    def make_step(batch, device):
        net = nn.Linear(4, 4, bias=False)
        weight = net.weight
        net.to(device)
        assert net.weight is weight and net.bias is None
        return lambda: net(torch.empty(batch, 4, device=device))

    assert events_of(make_step, 2, 1)


def test_lazy_layers_take_their_shape_on_the_card():
    def look():
        net = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d()).to("cuda")
        output = net(torch.zeros(4, 6, device="cuda"))
        return output.shape, net[0].weight.shape, str(net[0].weight.device), type(net[0].weight)

    told, _ = seen(look)
    assert told == ((4, 8), (8, 6), "cuda:0", nn.Parameter)


def test_a_step_is_given_a_device_that_says_cuda():
    def make_step(batch, device):
        with torch.autocast(device.type, dtype=torch.float16):
            assert (torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)).dtype is torch.float16
        return lambda: torch.rand(batch, device=device, generator=torch.Generator(device))

    with on_cuda():
        assert events_of(make_step, 2, 1)


def test_files_are_loaded_where_the_program_says(tmp_path):
    torch.save({"weights": [torch.ones(3)], "epoch": 4}, tmp_path / "checkpoint.pt")

    def look():
        there = torch.load(tmp_path / "checkpoint.pt", map_location="cuda")
        here = torch.load(tmp_path / "checkpoint.pt")
        return str(there["weights"][0].device), there["epoch"], here["weights"][0].tolist()

    told, _ = seen(look)
    assert told == ("cuda:0", 4, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("pinned", [False, True])
def test_what_is_saved_on_the_host_leaves_the_card(pinned):
    """The virtual card does the same, event for event. Were all five results kept, there would be ten at a time."""

    def make_step(batch, device):
        values = torch.ones(1000, device="cuda", requires_grad=True)

        def step():
            result = values
            with torch.autograd.graph.save_on_cpu(pin_memory=pinned):
                for _ in range(5):
                    result = result.sin()
            result.sum().backward()

        return step

    with on_cuda(), warnings.catch_warnings():
        warnings.simplefilter("error")
        events = events_of(make_step, 2, 1)
    held, most, sizes = 0, 0, {}
    for event in events:
        sizes.setdefault(event.key, event.size_bytes)
        held += 4000 * (event.size_bytes == 4000) - 4000 * (event.is_free and sizes[event.key] == 4000)
        most = max(most, held)
    assert most == 6 * 4000  # values, the last result, one that came back, its cosine, a gradient of each side


def test_what_torch_cuda_says_of_its_machine():
    def look():
        cuda, properties = torch.cuda, torch.cuda.get_device_properties(0)
        return {
            "is there": (cuda.is_available(), cuda.is_initialized(), cuda.device_count(), cuda.current_device()),
            "captures": cuda.is_current_stream_capturing(),
            "bf16": (cuda.is_bf16_supported(), cuda.is_bf16_supported(including_emulation=False)),
            "name": (cuda.get_device_name(), properties.name),
            "capability": (cuda.get_device_capability(0), (properties.major, properties.minor)),
            "memory": (cuda.memory_allocated(), cuda.max_memory_reserved(), cuda.mem_get_info()),
            "statistics": cuda.memory_stats()["allocated_bytes.all.peak"],
            "of the card": (properties.total_memory, properties.multi_processor_count),
            "random state": (cuda.get_rng_state().shape, cuda.get_rng_state().dtype, cuda.get_rng_state().any().item()),
        }

    told, _ = seen(look)
    assert told == {
        "is there": (True, True, 1, 0),
        "captures": False,
        "bf16": (True, True),
        "name": ("NVIDIA GeForce RTX 3080", "NVIDIA GeForce RTX 3080"),
        "capability": ((8, 6), (8, 6)),
        "memory": (0, 0, (9_976_907_038, 10_501_195_038)),
        "statistics": 0,
        "of the card": (10_501_195_038, 68),
        "random state": ((16,), torch.uint8, False),
    }


def test_other_threads_find_torch_cuda_as_it_is():
    def look():
        with ThreadPoolExecutor(1) as pool:
            return torch.cuda.device_count(), pool.submit(torch.cuda.device_count).result()

    there = torch.cuda.device_count()
    assert seen(look)[0] == (1, there)


def test_tensors_with_data_say_where_they_are():
    kept = torch.zeros(3)
    told, _ = seen(lambda: (kept.is_cuda, kept.is_meta, str(kept.device), kept.get_device(), kept.is_pinned()))
    assert told == (False, False, "cpu", -1, False)
    without_data = torch.zeros(3, device="meta")
    assert (without_data.is_cuda, without_data.is_meta, str(without_data.device)) == (False, True, "meta")


@pytest.mark.parametrize("module", [torch, torch.cuda, torch.amp, torch.accelerator, torch.nn, torch.distributed])
def test_what_is_a_class_stays_one(module):
    """A library that is imported within a step may name it in an annotation: `torch.cuda.CUDAGraph | None`."""
    classes = [name for name in dir(module) if isinstance(getattr(module, name, None), type)]
    with on_cuda():
        assert [name for name in classes if not isinstance(getattr(module, name), type)] == []


def test_a_graph_is_refused_where_it_is_made():
    for made in (torch.cuda.CUDAGraph, torch.cuda.graph, torch.cuda.make_graphed_callables):
        with on_cuda(), pytest.raises(RuntimeError, match=r"^CUDA graphs are not recorded"):
            getattr(torch.cuda, made.__name__)(None)


def test_generators_of_pytorchs_own_are_generators():
    with on_cuda():
        assert isinstance(torch.default_generator, torch.Generator)
        assert isinstance(torch.Generator("cuda"), torch.Generator)
        assert not isinstance(5, torch.Generator)


def scripted(x):
    return torch.zeros(3, 5, device=x.device) + x


def example():
    return torch.rand(3, 5, device="cuda")


def linear():
    return nn.Linear(5, 5).cuda()


SCRIPTED = {  # and what of it is recorded
    "a function": (lambda: torch.jit.script(scripted), lambda: scripted),
    "a traced one": (lambda: torch.jit.trace(scripted, example()), lambda: example() is None or scripted),
    "a module": (lambda: torch.jit.script(linear()), linear),
}


@pytest.mark.parametrize(("script", "plain"), SCRIPTED.values(), ids=SCRIPTED)
def test_what_is_scripted_is_recorded_as_python_runs_it(script, plain):
    def steps_of(build):
        def make_step(batch, device):
            run, x = build(), torch.ones(3, 5, device=device)
            return lambda: run(x)

        return make_step

    with on_cuda(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        events = events_of(steps_of(script), 2, 2)
    with on_cuda():
        assert events == events_of(steps_of(plain), 2, 2)
    (said,) = (str(each.message) for each in caught if each.category is NotRecordedWarning)
    assert said.startswith("TorchScript is not recorded")
    assert torch.jit.script(scripted)(torch.ones(3, 5)).sum() == 15  # and afterwards it is there again
    assert isinstance(torch.jit.script(scripted), torch.jit.ScriptFunction)


class Noted(pickle.Unpickler):
    """A way to read a file that notes that it was taken."""

    made = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        Noted.made += 1


WHERE = {  # forms of torch.load, and where the tensor of the file is then
    "nowhere": ((), {}, "cpu"),
    "by place": (("cuda",), {}, "cuda:0"),
    "by name": ((), {"map_location": torch.device("cuda")}, "cuda:0"),
    "on the host": (("cpu",), {}, "cpu"),
    "by a function": ((lambda storage, place: storage,), {}, "cpu"),
    "by a table": (({"cuda:0": "cpu"},), {}, "cpu"),
    "unpickled otherwise": (
        ("cuda", SimpleNamespace(Unpickler=Noted, __name__="noted")),
        {"weights_only": False},
        "cuda:0",
    ),
}


@pytest.mark.parametrize("form", WHERE)
def test_a_file_is_loaded_to_where_it_is_told(tmp_path, form):
    arguments, named, place = WHERE[form]
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    before = Noted.made
    told, _ = seen(lambda: str(torch.load(tmp_path / "tensor.pt", *arguments, **named).device))
    assert told == place
    assert (Noted.made > before) == (form == "unpickled otherwise")


def test_a_tensor_of_several_numbers_is_written_as_pytorch_writes_it():
    told, assumed = seen(lambda: f"{torch.ones(3, device='cuda')}")
    assert told.startswith("tensor(")
    assert not assumed


@pytest.mark.parametrize(("module", "answer"), [("memory/search.py", False), ("cells/cell.py", True)])
def test_of_this_package_only_what_records_is_told_of_meta(module, answer):
    """Programs of bench itself, as its cells, are told what anybody's is."""
    look = eval(compile("lambda tensor: tensor.is_cuda", str(Path(bench.__file__).parent / module), "eval"))
    assert seen(lambda: look(torch.ones(1, device="cuda")))[0] is answer


@pytest.mark.parametrize("asks", [False, True])
def test_a_loader_pins_nothing_but_in_other_threads(monkeypatch, asks):
    """Whose programs are not recorded."""
    monkeypatch.setattr(_BaseDataLoaderIter, "__init__", lambda loader: setattr(loader, "_pin_memory", asks))

    def pins():
        loader = object.__new__(_BaseDataLoaderIter)
        loader.__init__()
        return loader._pin_memory

    with on_cuda(), ThreadPoolExecutor(1) as pool:
        assert (pins(), pool.submit(pins).result()) == (False, asks)


def test_other_threads_draw_with_their_generator():
    def draw():
        return torch.rand(3, generator=torch.Generator().manual_seed(1)).tolist()

    with on_cuda(), ThreadPoolExecutor(1) as pool:
        found = pool.submit(draw).result()
    assert found == draw()


def test_a_context_within_another_changes_the_card_alone():
    with on_cuda(CARDS["RTX 3080"]):
        replaced = torch.empty, torch.tensor, torch.cuda.is_available, torch.set_default_device
        with on_cuda(CARDS["H100 SXM"]):
            assert torch.cuda.get_device_capability() == (9, 0)
            assert (torch.empty, torch.tensor, torch.cuda.is_available, torch.set_default_device) == replaced
        assert torch.cuda.get_device_capability() == (8, 6)


@pytest.mark.parametrize(("options", "copies"), [({}, 0), ({"pin_memory": False}, 0), ({"pin_memory": True}, 1)])
def test_what_lies_otherwise_is_laid_out_before_it_goes_to_a_pinned_block(options, copies):
    def make_step(batch, device):
        values = torch.ones(10, 20, device="cuda", requires_grad=True)

        def step():
            with torch.autograd.graph.save_on_cpu(**options):
                return (values * 1).t().sin()

        return step

    with on_cuda():
        events = events_of(make_step, 2, 1)
    found = [event.op for event in events if event.size_bytes == 800]
    assert found == ["aten.ones.default", "aten.mul.Tensor", *["aten.clone.default"] * copies, "aten.sin.default"]


def test_what_lies_on_the_host_is_saved_there_by_pytorch():
    values = torch.ones(3, requires_grad=True)

    def look():
        with torch.autograd.graph.save_on_cpu():
            result = values.sin()
        result.sum().backward()
        return values.grad

    assert seen(look)[0].equal(torch.ones(3).cos())


def test_what_is_done_with_streams_and_events_of_the_card_does_nothing():
    def look():
        with torch.cuda.Stream() as stream:
            stream.wait_stream(torch.cuda.current_stream())
        accelerator = torch.accelerator
        accelerator.synchronize()
        return (
            str(stream.device),
            hasattr(stream, "__len__"),
            stream.record_event(),
            accelerator.current_device_index(),
            str(accelerator.current_stream().device),
        )

    assert seen(look)[0] == ("cuda:0", False, None, 0, "cuda:0")


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_not_collected_meanwhile(collects):
    enabled = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        told, _ = seen(gc.isenabled)
        assert (told, gc.isenabled()) == (False, collects)
    finally:
        (gc.enable if enabled else gc.disable)()
