"""Calls that are made once for each combination of metadata: what they give, as PyTorch, and how often they run."""

import pytest
import torch

from bench.memory.recording import metadata
from bench.memory.recording.composites import Output
from bench.memory.recording.metadata import Effect, OutputCache

aten = torch.ops.aten


META = torch.device("meta")


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device=META)


def offset():
    """Rows with gaps that begin behind the first number."""
    return meta(5, 6)[1:, 2:]


# Operation, arguments, named arguments; what it does; how often it runs in two calls, on stand-ins and as it is.
VIEWS, WRITES, ALLOCATES, UNKNOWN = Effect.VIEWS, Effect.WRITES, Effect.ALLOCATES, Effect.UNKNOWN
CALLS = {
    "new": (aten.add.Tensor, lambda: [meta(4, 5), meta(5)], dict, ALLOCATES, (1, 0)),
    "transposed": (aten.add.Tensor, lambda: [meta(4, 5).t(), 2.0], dict, ALLOCATES, (1, 0)),
    "rows with gaps": (aten.add.Tensor, lambda: [offset(), offset()], dict, ALLOCATES, (1, 0)),
    "written rows with gaps": (aten.add_.Tensor, lambda: [offset(), offset()], dict, WRITES, (1, 0)),
    "two": (aten.max.dim, lambda: [meta(4, 5), 1], dict, ALLOCATES, (1, 0)),
    "two, one not wanted": (
        aten.native_layer_norm_backward.default,
        lambda: [meta(4, 5), meta(4, 5), [5], meta(4, 1), meta(4, 1), meta(5), meta(5), [True, False, True]],
        dict,
        ALLOCATES,
        (1, 0),
    ),
    "a list": (aten._foreach_add.List, lambda: [[meta(4), meta(5)], [meta(4), meta(5)]], dict, ALLOCATES, (1, 0)),
    "a list of one": (aten._foreach_neg.default, lambda: [[meta(4)]], dict, ALLOCATES, (1, 0)),
    "written": (aten.add_.Tensor, lambda: [meta(4, 5), meta(5)], dict, WRITES, (1, 0)),
    "a written list": (aten._foreach_add_.List, lambda: [[meta(4)], [meta(4)]], dict, WRITES, (1, 0)),
    "written by name": (aten.add.out, lambda: [meta(4), meta(4)], lambda: {"out": meta(4)}, WRITES, (1, 0)),
    "resized by name": (aten.add.out, lambda: [meta(4), meta(4)], lambda: {"out": meta(0)}, WRITES, (1, 2)),
    "resized": (aten.resize_.default, lambda: [meta(4), [40]], dict, UNKNOWN, (0, 2)),
    "resized as another": (aten.resize_as_.default, lambda: [meta(4), meta(40)], dict, UNKNOWN, (0, 2)),
    "resized as a result": (aten._resize_output_.default, lambda: [meta(0), [40], META], dict, WRITES, (1, 2)),
    "a view": (aten.transpose.int, lambda: [meta(4, 5), 0, 1], dict, VIEWS, (0, 0)),
    "views": (aten.split.Tensor, lambda: [meta(4, 5), 2], dict, VIEWS, (0, 0)),
    "turned in place": (aten.transpose_.default, lambda: [meta(4, 5), 0, 1], dict, UNKNOWN, (0, 2)),
    "a view that is told as new": (aten._unsafe_view.default, lambda: [meta(4, 5), [20]], dict, ALLOCATES, (1, 2)),
    "views that are told as new": (aten.unsafe_split.Tensor, lambda: [meta(4, 5), 2], dict, ALLOCATES, (1, 2)),
    "all of it as a view told as new": (aten.unsafe_split.Tensor, lambda: [meta(4), 4], dict, ALLOCATES, (1, 2)),
    "no tensor": (aten.is_same_size.default, lambda: [meta(4), meta(4)], dict, UNKNOWN, (0, 2)),
    "nothing": (aten._assert_async.default, lambda: [meta(1)], dict, UNKNOWN, (0, 2)),
    "conjugate": (aten.neg.default, lambda: [meta(4, dtype=torch.complex64).conj()], dict, ALLOCATES, (0, 2)),
    "negative": (aten.neg.default, lambda: [torch._neg_view(meta(4))], dict, ALLOCATES, (0, 2)),
    "a list with a conjugate": (
        aten._foreach_neg.default,
        lambda: [[meta(4, dtype=torch.complex64).conj()]],
        dict,
        ALLOCATES,
        (0, 2),
    ),
    "on the host": (aten.neg.default, lambda: [torch.ones(4)], dict, ALLOCATES, (0, 2)),
    "a generator": (
        aten.uniform_.default,
        lambda: [meta(4)],
        lambda: {"generator": torch.Generator()},
        WRITES,
        (0, 2),
    ),
    "named": (
        aten.new_empty.default,
        lambda: [meta(4), [3, 2]],
        lambda: {"dtype": torch.int64, "device": META},
        ALLOCATES,
        (1, 0),
    ),
}


def described(result, args, kwargs):
    """Shapes, strides, types and sizes of storages of a result; which arguments it is, and how these lie now."""
    known = [*args, *kwargs.values()]
    parts = result if isinstance(result, (list, tuple)) else [result]
    told = []
    for part in parts:
        place = next((place for place, value in enumerate(known) if value is part), None)
        told.append((place, *layout(part)) if isinstance(part, torch.Tensor) else part)
    tensors = [layout(value) for value in known if isinstance(value, torch.Tensor)]
    return isinstance(result, (list, tuple)), told, tensors


def layout(tensor):
    return tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.untyped_storage().nbytes()


@pytest.fixture
def runs(monkeypatch):
    """How often a call ran on stand-ins, and as it is."""
    counts = [0, 0]

    def counted(place, made):
        def call(func, args, kwargs):
            counts[place] += 1
            return made(func, args, kwargs)

        return call

    monkeypatch.setattr(metadata, "run", counted(0, metadata.run))
    monkeypatch.setattr(metadata, "run_now", counted(1, metadata.run_now))
    monkeypatch.setattr(metadata, "_run_on_meta", counted(1, metadata._run_on_meta))
    return counts


@pytest.mark.parametrize("name", CALLS)
def test_a_call_gives_what_pytorch_gives_and_runs_once(name, runs):
    func, make_args, make_kwargs, effect, expected = CALLS[name]
    cache = OutputCache()
    assert cache.effect(func) is effect
    args, kwargs = make_args(), make_kwargs()
    right = described(func(*args, **kwargs), args, kwargs)
    for _ in range(2):
        args, kwargs = make_args(), make_kwargs()
        result, outputs, _ = cache.call(func, args, kwargs)
        assert described(result, args, kwargs) == right
        if effect is not VIEWS:
            tensors = [each for each in metadata._flat(result) if each is not None and each.is_meta]
            assert [id(each) for each in outputs if each is not None] == list(map(id, tensors))
    assert tuple(runs) == expected


@pytest.mark.parametrize("on_the_host", [False, True])
def test_of_what_is_made_on_the_host_nothing_is_planned(on_the_host):
    """Lengths of packed sequences are there, the sequences not."""
    sequences = torch.empty(4, 3, 2, device="cpu" if on_the_host else META)
    args = [sequences, torch.tensor([4, 2, 1]), False]
    result, outputs, plan = OutputCache().call(aten._pack_padded_sequence.default, args, {})
    assert [each.device.type for each in result] == ["cpu" if on_the_host else "meta", "cpu"]
    assert (outputs, plan) == (((), ()) if on_the_host else (list(result), (Output(0), Output(1))))


def test_another_combination_runs_anew(runs):
    cache = OutputCache()
    for x in (meta(4, 5), meta(5, 4).t(), meta(4, 5, dtype=torch.float16), meta(21)[1:].view(4, 5)):
        for y in (2, 2.0, True):
            cache.call(aten.add.Tensor, [x, y], {})
    assert runs == [12, 0]
