"""Bounds that bound: what stands for a card of which only the capacity is known."""

import itertools
import math

import pytest
import torch
from torch import nn

import bench
from bench.memory import SimulatedEngine, card_of_capacity, record
from bench.memory.convolution import Convolution, most_workspace_bytes
from bench.memory.cudnn import backend, cache
from bench.memory.cudnn.backend import Configuration, NotAtHandError
from bench.memory.cudnn.envelope import Envelope, envelope_name, largest, stands_for, with_most_cublas
from bench.memory.cudnn.heuristics import CachedCudnn, LiveCudnn, tried
from bench.memory.gpus import CARDS, Card
from bench.memory.routing import contiguous
from bench.step_memory import StepMemory
from bench.units import MiB
from tests.memory.test_cudnn import conv

FLAGS = [{"allow_tf32": tf32, "deterministic": sure} for tf32, sure in itertools.product((True, False), repeat=2)]


@pytest.fixture
def no_library(monkeypatch):
    def missing():
        raise NotAtHandError("libcudnn is not installed")

    monkeypatch.setattr(backend, "load", missing)


def names(card):
    return {each.name for each in stands_for(card)}


def test_a_capacity_stands_for_the_cards_that_are_sold_with_it():
    assert names(card_of_capacity("10GB")) == {"RTX 3080"}
    assert names(card_of_capacity("24 gib")) == {
        *("Quadro RTX 6000", "RTX 3090", "RTX 3090 Ti", "A10", "RTX A5000", "RTX 4090", "L4"),
    }
    assert {"RTX 2080", "RTX 3070", "RTX 4060", "RTX 5060"} < names(card_of_capacity("8GB"))
    assert names(CARDS["RTX 3080"]) == {"RTX 3080"}


def test_another_capacity_stands_for_every_known_card_and_never_for_one_that_cudnn_does_not_know():
    of_all = names(card_of_capacity("9GB"))
    assert {"RTX 2060", "H200", "RTX 5090", "T4"} < of_all
    assert not any(CARDS[name].refusal for name in {*of_all, *names(card_of_capacity("16GB"))})


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(
    ("cap", "card"),
    [("8GB", "RTX 2080"), ("8GB", "RTX 4060"), ("10GB", "RTX 3080"), ("24GB", "L4"), ("24GB", "RTX 4090")],
)
def test_no_shipped_card_takes_more_than_its_capacitys_bound(cap, card, flags, no_library):
    bound = Envelope(card_of_capacity(cap), **flags)
    for version in cache.FILES:
        source = CachedCudnn(CARDS[card], cudnn_version=version, **flags)
        for call, batches in cache.read(version, card).calls.items():
            for images in (1, 2, 3, len(batches) // 2):
                at_batch = call.with_images(images)
                assert max(source.candidates(at_batch)[:1]) <= bound.candidates(at_batch)[0]


def test_the_bound_of_one_card_is_that_cards_first_choice_of_any_version(no_library):
    """There is one card of 10 GB."""
    bound = Envelope(card_of_capacity("10240MiB"))
    for direction, images in itertools.product(("fprop", "dgrad", "wgrad"), (1, 2, 3, 8)):
        call = conv(direction, images)
        firsts = [CachedCudnn(CARDS["RTX 3080"], cudnn_version=version).candidates(call)[0] for version in cache.FILES]
        assert bound.candidates(call) == (max(firsts),)


def test_the_library_is_asked_about_every_card(monkeypatch):
    asked = []

    class Live:
        def __init__(self, card, **flags):
            asked.append(card.name)
            self.card = card

        def candidates(self, call):
            return (self.card.multiprocessors, 0) if call.input_shape[0] < 9 or self.card.name != "L4" else None

    monkeypatch.setattr("bench.memory.cudnn.envelope.LiveCudnn", Live)
    bound = Envelope(card_of_capacity("24GB"))
    assert bound.candidates(conv(channels=(5, 7))) == (128,)
    assert set(asked) == names(card_of_capacity("24GB"))
    unknown = conv(channels=(5, 7), images=9)
    assert bound.candidates(unknown) == (most_workspace_bytes(unknown),)  # one of them has no answer


def test_without_answers_the_bound_is_more_than_was_ever_seen(no_library):
    call = conv(channels=(5, 7))
    assert Envelope(card_of_capacity("8GB")).candidates(call) == (most_workspace_bytes(call),)


def test_a_bound_is_never_exact(no_library):
    assert not Envelope(card_of_capacity("8GB")).is_exact
    assert not Envelope(CARDS["RTX 3080"]).is_exact


def test_pytorchs_own_kernels_take_nothing(no_library):
    assert Envelope(card_of_capacity("9GB")).candidates(conv(channels=(3, 3), kernel=9, groups=3)) == (0,)


@pytest.mark.parametrize(
    ("call", "taken"),
    [  # the worst that were published: a T4, an A100; and of those that were looked for
        (("fprop", (4, 1024, 4, 4), (1024, 1024, 3, 3), (4, 1024, 4, 4), 1, 1, 1, "float32"), 104_861_696),
        (("wgrad", (16, 512, 56, 56), (128, 512, 11, 11), (16, 128, 23, 23), 2, 1, 1, "float32"), 3_088_720_016),
        (("wgrad", (64, 16, 8, 8), (2048, 1, 11, 11), (64, 2048, 8, 8), 1, 2, 16, "float32"), 1_970_390_639),
        (("dgrad", (128, 16, 128, 256), (16, 16, 3, 3), (128, 16, 64, 128), 2, 2, 1, "float32"), 2_483_432_367),
        (("fprop", (4, 16, 362, 362), (16, 16, 1, 1), (4, 16, 362, 362), 1, 1, 1, "bfloat16"), 302_015_663),
        (("fprop", (4, 64, 362, 362), (512, 64, 11, 11), (4, 512, 352, 352), 1, 1, 1, "float32"), 16_391_385_263),
    ],
)
def test_what_cudnn_was_seen_to_take_is_within_the_bound(call, taken):
    direction, x, w, y, stride, dilation, groups, dtype = call
    shapes = [part for shape in (x, w, y) for part in (shape, contiguous(shape))]
    padding = dilation * (w[2] // 2)
    whole = Convolution(direction, *shapes, (padding,) * 2, (stride,) * 2, (dilation,) * 2, groups, dtype)
    assert taken <= most_workspace_bytes(whole)


@pytest.mark.parametrize("pixels", [((20, 30), (10, 15)), ((1, 1), (1, 1))])
@pytest.mark.parametrize(
    ("direction", "kernel", "dtype", "times"),
    [  # how often images and weights are held, as docs/MEMORY.md has it
        ("fprop", (1, 1), "float32", [(5, 1)]),
        ("fprop", (1, 1), "float16", [(15, 1)]),
        ("dgrad", (1, 1), "bfloat16", [(15, 1)]),
        ("fprop", (2, 1), "float16", [(6, 7)]),
        ("dgrad", (3, 3), "complex64", [(6, 7)]),
        ("fprop", (2, 5), "complex128", [(6, 10)]),
        ("fprop", (7, 7), "float64", [(6, 10)]),
        ("fprop", (5, 10), "float64", [(19, 2)]),
        ("fprop", (8, 8), "float32", [(19, 2)]),
        ("wgrad", (1, 1), "float32", [(5, 1)]),
        ("wgrad", (1, 2), "float16", [(4.5, 67), (10, 5)]),
        ("wgrad", (3, 3), "float32", [(4.5, 67), (10, 5)]),
        ("wgrad", (5, 2), "float32", [(14, 120), (48, 7)]),
        ("wgrad", (7, 7), "float16", [(14, 120), (48, 7)]),
        ("wgrad", (10, 5), "float32", [(4.5, 304), (67, 21)]),
        ("wgrad", (8, 8), "float64", [(4.5, 304), (67, 21)]),
    ],
)
def test_the_bound_by_hand(direction, kernel, dtype, times, pixels):
    """Channels padded to 8 in each of 2 groups: 3 of 6 become 16 in all, 9 of 18 become 32."""
    size = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16}[dtype]
    shapes = (5, 6, *pixels[0]), (18, 3, *kernel), (5, 18, *pixels[1])
    whole = [part for shape in shapes for part in (shape, contiguous(shape))]
    call = Convolution(direction, *whole, (0, 0), (2, 2), (1, 1), 2, dtype)
    images = 5 * (16 * math.prod(pixels[0]) + 32 * math.prod(pixels[1]))
    weights = 32 * 8 * math.prod(kernel)

    def bound(times):
        return 16 * MiB + min(math.ceil(a * images * size + b * weights * max(size, 4)) for a, b in times)

    assert most_workspace_bytes(call) == bound(times)
    for stride, dilation in itertools.product([(1, 1), (1, 2), (2, 1), (3, 3)], repeat=2):
        other = call._replace(stride=stride, dilation=dilation)
        is_dilated = direction == "dgrad" and stride != (1, 1) != dilation  # both, along some dimension
        assert most_workspace_bytes(other) == bound([(10, 5)] if is_dilated else times)


def test_the_largest_answer_is_that_of_first_choices():
    answers = [[Configuration(10, False, False), Configuration(90, False, False)], [Configuration(20, False, False)]]
    assert tried(largest(answers, "float32"), "float32", allow_tf32=True, deterministic=False)[0] == 20


def test_where_every_answer_is_passed_over_nothing_is_taken():
    assert [tuple(each) for each in largest([[Configuration(90, True, True)]], "float32")] == [
        (90, True, True),
        (0, False, True),
        (0, True, False),
        (0, False, False),
    ]


def test_a_bound_is_of_pytorchs_own_flags_and_cudnn_by_default(no_library, monkeypatch):
    card = CARDS["RTX 3080"]
    for call, other in (
        (conv("dgrad", images=2, channels=(1, 32)), {"deterministic": True}),
        (conv("dgrad", images=4, channels=(32, 32)), {"allow_tf32": False}),
    ):
        plain = Envelope(card, allow_tf32=True, deterministic=False).candidates(call)
        assert Envelope(card).candidates(call) == plain != Envelope(card, **other).candidates(call)
    assert Envelope(card, cudnn_version="9.24.0").cudnn_version == "9.24.0"
    monkeypatch.setattr("bench.memory.cudnn.envelope.version_of_torch", lambda: "9.19.0")
    assert Envelope(card).cudnn_version == "9.19.0"
    monkeypatch.setattr("bench.memory.cudnn.envelope.version_of_torch", lambda: None)
    assert Envelope(card).cudnn_version == "unknown"


@pytest.mark.parametrize("flags", FLAGS)
def test_the_largest_of_several_answers_is_so_under_every_setting(flags):
    answers = [
        [Configuration(90, True, True), Configuration(10, False, False)],
        [Configuration(50, True, False), Configuration(70, False, True), Configuration(20, False, False)],
    ]
    firsts = [tried(each, "float32", **flags)[0] for each in answers]
    assert tried(largest(answers, "float32"), "float32", **flags)[0] == max(firsts)


def test_a_capacity_has_one_name_however_it_is_written():
    assert {envelope_name(card_of_capacity(text)) for text in ("8GB", " 8 gib", "8192MiB")} == {"every 8GB card"}
    assert envelope_name(card_of_capacity("8000MB")) == "8000MB"


def test_cublas_keeps_the_most_of_the_cards_meant():
    assert with_most_cublas(card_of_capacity("24GB")).cublas_workspace_bytes == 8_519_680
    assert with_most_cublas(card_of_capacity("8GB")).cublas_workspace_bytes == 32 * MiB  # an RTX 5060
    assert with_most_cublas(CARDS["RTX 3080"]) == CARDS["RTX 3080"]


def one_convolution(batch, device):
    weight = torch.zeros(64, 64, 3, 3, device=device)
    return lambda: nn.functional.conv2d(torch.zeros(batch, 64, 128, 128, device=device), weight, padding=1)


def test_an_engine_without_answers_bounds_by_itself():
    engine = SimulatedEngine(record(one_convolution), card_of_capacity("8GB"))
    image = 4 * MiB
    call = engine.trace.convolutions[0].at(8)
    assert (
        engine.probe(8).peak_allocated_bytes
        == 64 * 64 * 9 * 4 + 16 * image + -(-most_workspace_bytes(call) // 512) * 512
    )


def test_the_peak_of_a_step_is_never_below_that_on_a_known_card(no_library):
    step = StepMemory(one_convolution)
    anywhere = step.peak(8).peak_reserved_bytes
    assert anywhere == step.peak(8, cap="9GB").peak_reserved_bytes
    for name in ("RTX 2080", "RTX 3080", "H200"):
        assert step.peak(8, gpu=name).peak_reserved_bytes <= anywhere
    limit = f"{anywhere}B"
    with pytest.raises(AssertionError, match="at its peak on any known card"):
        step.assert_peak_below(limit, batch=8)
    step.assert_peak_below(f"{anywhere + 1}B", batch=8)
    with pytest.raises(AssertionError, match="at its peak on RTX 3080"):
        step.assert_peak_below("1MiB", batch=8, gpu="3080")
    with pytest.raises(ValueError, match="a bound is on one card"):
        step.peak(8, cap="8GB", gpu="3080")


def test_a_card_without_a_limit_is_none_of_the_users():
    with pytest.raises(ValueError, match="cuDNN does not know V100 32GB"):
        StepMemory(one_convolution).peak(1, gpu="V100 32GB")


def test_live_answers_are_within_the_bound(monkeypatch):
    """On every known card, for some calls of common networks."""
    try:
        backend.load()
    except NotAtHandError as missing:
        pytest.skip(str(missing))
    calls = [
        conv(direction, images, channels, size, kernel)
        for direction in ("fprop", "dgrad", "wgrad")
        for images, channels, size, kernel in ((2, (3, 64), 224, 7), (8, (256, 64), 56, 1), (4, (512, 512), 7, 3))
    ]
    everywhere = Card("any known card", 2**60, 0, None, None, "no card is as large")
    version = backend.load().version
    bound = Envelope(everywhere, cudnn_version=version)
    for call in calls:
        firsts = [LiveCudnn(card).candidates(call)[0] for card in CARDS.values() if not card.refusal]
        assert bound.candidates(call) == (max(firsts),)
        assert max(firsts) <= most_workspace_bytes(call)


@pytest.mark.parametrize("cap", ["2GB", "24GB", "80GB"])
def test_a_capacity_has_one_answer_whoever_asks(cap):
    """Products alone, so that what cuBLAS keeps decides: most on cards of the Hopper and Blackwell generations."""

    def make_step(batch, device):
        network = nn.Linear(1000, 1000).to(device)
        return lambda: network(torch.rand(batch, 1000, device=device)).sum().backward()

    answer = bench.largest_batch(make_step, cap=cap, engine="simulated")
    asked = StepMemory(make_step).largest_batch(cap=cap)
    assert asked == int(answer) > 0
