"""Workspaces of convolutions, from the shipped file and, where it is installed, from cuDNN itself."""

import itertools
import json
import lzma
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import config
from bench.cells import suite
from bench.memory import SimulatedEngine, record, routing
from bench.memory.convolution import Convolution
from bench.memory.cudnn import backend, cache, devices, heuristics
from bench.memory.cudnn.backend import Configuration, CudnnError, NotAtHandError, RefusedError, UnknownCardError
from bench.memory.cudnn.heuristics import CachedCudnn, LiveCudnn, tried, workspaces
from bench.memory.gpus import CARDS, card_of_capacity
from bench.memory.routing import as_handed_over, uses_cudnn
from bench.memory.search import NEIGHBOURS
from bench.memory.trace import Workspace

ROOT = Path(__file__).parents[2]
VERSIONS = tuple(cache.FILES)
SHIPPED = [name for name in cache.cards("9.20.0") if name in CARDS]
BATCHES = (1, 2, 3, 5, 8, 16)


def conv(direction="fprop", images=1, channels=(64, 64), size=362, kernel=3, output_channels_last=False, **changes):
    groups = changes.get("groups", 1)
    x = torch.empty(images, channels[0], size, size, device="meta")
    w = torch.empty(channels[1], channels[0] // groups, kernel, kernel, device="meta")
    y = torch.empty(images, channels[1], size, size, device="meta")
    if output_channels_last:
        y = y.contiguous(memory_format=torch.channels_last)
    shapes = [part for tensor in (x, w, y) for part in (tuple(tensor.shape), tensor.stride())]
    call = Convolution(direction, *shapes, (kernel // 2,) * 2, (1, 1), (1, 1), 1, "float32")
    return call._replace(**changes)


@pytest.fixture(scope="module")
def live_version():
    try:
        return backend.load().version
    except NotAtHandError as missing:
        pytest.skip(str(missing))


# First workspace in MiB of a 3x3 convolution of 64 to 64 channels, 362x362, float32, NCHW, at BATCHES; cuDNN 9.20.0.
MEASURED = {
    ("H200", "fprop"): "64.13/128.11/192.10/320.07/512.03/1023.92",
    ("H200", "dgrad"): "64.44/128.11/192.10/320.07/512.03/1023.92",
    ("H200", "wgrad"): "64.41/128.39/192.38/320.35/512.31/1024.20",
    ("RTX 3080", "fprop"): "32.13/64.13/96.12/0.39/256.09/512.03",
    ("RTX 3080", "dgrad"): "64.13/0.39/192.10/320.07/512.03/1023.92",
    ("RTX 3080", "wgrad"): "65.11/129.10/193.08/321.06/513.02/1024.91",
    ("Quadro RTX 6000", "fprop"): "0.39/0.39/0.39/0.75/0.75/0.39",
    ("Quadro RTX 6000", "dgrad"): "0.39/0.39/0.39/0.39/0.39/0.39",
    ("Quadro RTX 6000", "wgrad"): "0.02/0.02/0.02/0.02/0.02/0.02",
}

# The same with the output channels last, which is what cuDNN's own frontend chooses if it is not told.
MEASURED_CHANNELS_LAST = {
    "H200": "32.13/64.13/96.12/160.11/256.09/512.03",
    "RTX 3080": "64.13/128.11/192.10/160.36/512.03/1023.92",
    "Quadro RTX 6000": "32.38/64.38/96.37/160.72/256.70/512.28",
}


def in_mib(sizes):
    return "/".join(f"{size / 2**20:.2f}" for size in sizes)


@pytest.mark.parametrize(("card", "direction"), MEASURED)
def test_figures_from_the_shipped_answers(card, direction):
    source = CachedCudnn(CARDS[card], cudnn_version="9.20.0")
    first = [source.candidates(conv(direction, images))[0] for images in BATCHES]
    assert in_mib(first) == MEASURED[card, direction]


@pytest.mark.parametrize(("card", "direction"), MEASURED)
def test_figures_from_the_library(card, direction, live_version):
    if live_version != "9.20.0":
        pytest.skip(f"figures are of cuDNN 9.20.0, {live_version} is installed")
    source = LiveCudnn(CARDS[card])
    first = [source.candidates(conv(direction, images))[0] for images in BATCHES]
    assert in_mib(first) == MEASURED[card, direction]


@pytest.mark.parametrize("card", MEASURED_CHANNELS_LAST)
def test_figures_with_the_output_channels_last(card, live_version):
    if live_version != "9.20.0":
        pytest.skip(f"figures are of cuDNN 9.20.0, {live_version} is installed")
    source = LiveCudnn(CARDS[card])
    calls = [conv("fprop", images, output_channels_last=True) for images in BATCHES]
    assert in_mib(source.configurations(call)[0].workspace_bytes for call in calls) == MEASURED_CHANNELS_LAST[card]


@pytest.mark.parametrize("card", SHIPPED)
def test_shipped_answers_are_the_library_s(card, live_version):
    """A sample of every card's calls and batches, all configurations with their notes."""
    if live_version not in VERSIONS:
        pytest.skip(f"cuDNN {live_version} is installed, answers of {', '.join(VERSIONS)} are shipped")
    shipped = cache.read(live_version, card)
    source = LiveCudnn(CARDS[card])
    choose = random.Random(card)
    for call in choose.sample(sorted(shipped.calls), 30):
        at_batch = call.with_images(choose.randint(1, len(shipped.calls[call])))
        assert shipped.get(at_batch) == source.configurations(at_batch), at_batch


@pytest.mark.parametrize("allow_tf32", [True, False])
@pytest.mark.parametrize("deterministic", [True, False])
def test_shipped_answers_hold_for_every_switch(allow_tf32, deterministic, live_version):
    """The notes that PyTorch filters by are in the file, so that the file answers for all four settings."""
    if live_version not in VERSIONS:
        pytest.skip(f"cuDNN {live_version} is installed, answers of {', '.join(VERSIONS)} are shipped")
    flags = {"allow_tf32": allow_tf32, "deterministic": deterministic}
    for card in ("RTX 3080", "H200"):
        known = cache.read(live_version, card)
        shipped, live = CachedCudnn(CARDS[card], cudnn_version=live_version, **flags), LiveCudnn(CARDS[card], **flags)
        for call in random.Random(card).sample(sorted(known.calls), 10):
            assert shipped.candidates(call.with_images(5)) == live.candidates(call.with_images(5)) is not None


def test_what_is_shipped():
    """Each supported release's cuDNN, the same cards and capacities in each, and no file beside."""
    assert set(heuristics.CUDNN_OF_TORCH.values()) == set(cache.FILES)
    files = sorted(path.name for path in cache.SHIPPED.glob("*.xz"))
    assert files == sorted(cache.FILES.values())
    assert sum((cache.SHIPPED / name).stat().st_size for name in files) < 800 * 1024
    named = {"RTX 2080", "RTX 3080", "Quadro RTX 6000", "H200", "H100 SXM", "H100 PCIe", "A100 80GB", "RTX 4090"}
    named |= {"RTX 4060", "RTX 3090", "RTX 3060 12GB", "T4", "L4"}
    for version in VERSIONS:
        assert set(cache.cards(version)) == named | {"every 8GB card", "every 10GB card", "every 24GB card"}
        for card in cache.cards(version):
            known = cache.read(version, card)
            assert all(as_handed_over(call) == call and uses_cudnn(call.with_images(1)) for call in known.calls)
            assert all(batches and all(batches) for batches in known.calls.values())


def test_cards_that_cudnn_does_not_tell_apart_share_their_answers():
    """An A100 of 40 GB has what is shipped for one of 80 GB; nothing with an RTX A6000's 84 multiprocessors is."""
    assert "A100 40GB" not in cache.cards("9.20.0")
    one, other = (CachedCudnn(CARDS[f"A100 {size}"], cudnn_version="9.20.0") for size in ("40GB", "80GB"))
    assert one.candidates(conv(images=3)) == other.candidates(conv(images=3)) is not None
    with pytest.raises(
        NotAtHandError, match=r"workspaces-9\.20\.0\.json\.xz has no answers of cuDNN 9\.20\.0 on RTX A6000"
    ):
        CachedCudnn(CARDS["RTX A6000"], cudnn_version="9.20.0")


@pytest.mark.parametrize("task", ["deblurring", "ct", "mri"])
def test_the_suite_s_convolutions_are_shipped(task):
    """If this fails, the suite has changed: python -m tools.cudnn_cache."""
    (cell,) = suite.cells(config.load(config.default_path()), ["LU-DnCNN"], [task])
    trace = record(cell.workload.make_step, cell.memory.steps)
    for card in map(CARDS.get, SHIPPED):
        source = CachedCudnn(card, cudnn_version="9.20.0")
        batch = SimulatedEngine(trace, card, Workspace.LOW).guess() + NEIGHBOURS
        assert all(source.candidates(call.at(batch)) for call in trace.convolutions)


def test_last_resort_takes_no_workspace():
    """So that no convolution ever runs out of memory for its workspace alone."""
    for version, card in itertools.product(VERSIONS, SHIPPED):
        source = CachedCudnn(CARDS[card], cudnn_version=version, allow_tf32=False, deterministic=True)
        for call, batches in cache.read(version, card).calls.items():
            assert source.candidates(call.with_images(len(batches)))[-1] == 0


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"allow_tf32": True, "deterministic": False}, (30, 20, 10, 20, 0)),
        ({"allow_tf32": False, "deterministic": False}, (20, 10, 20, 0)),
        ({"allow_tf32": True, "deterministic": True}, (30, 10, 0)),
        ({"allow_tf32": False, "deterministic": True}, (10, 0)),
    ],
)
def test_filters(flags, expected):
    configurations = [
        Configuration(30, tensor_core=True, nondeterministic=False),
        Configuration(20, tensor_core=False, nondeterministic=True),
        Configuration(10, tensor_core=False, nondeterministic=False),
        Configuration(20, tensor_core=False, nondeterministic=True),
        Configuration(0, tensor_core=False, nondeterministic=False),
        Configuration(40, tensor_core=False, nondeterministic=False),
    ]
    assert tried(configurations, "float32", **flags) == expected
    assert tried(configurations, "float16", **{**flags, "allow_tf32": True}) == tried(
        configurations, "float16", **flags
    )


def test_flags_are_pytorch_s_own_by_default(monkeypatch):
    monkeypatch.setattr(backend, "load", lambda: SimpleNamespace(version="9.20.0"))
    monkeypatch.setattr(backend, "Device", lambda *_: None)
    card = CARDS["RTX 3080"]
    cached = CachedCudnn(card, cudnn_version="9.20.0")
    for source in (cached, LiveCudnn(card), workspaces(card, cudnn_version="9.20.0")):
        assert source.flags == {"allow_tf32": True, "deterministic": False}
        assert source.is_exact and source.cards == (card,)


def test_flags_reach_the_answers():
    call = conv("wgrad", images=4)
    found = {
        (allow_tf32, deterministic): CachedCudnn(
            CARDS["H200"], cudnn_version="9.20.0", allow_tf32=allow_tf32, deterministic=deterministic
        ).candidates(call)
        for allow_tf32 in (True, False)
        for deterministic in (True, False)
    }
    assert found[True, False] != found[True, True]
    assert found[True, False] != found[False, False]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (conv(), True),
        (conv(channels=(1, 64)), True),  # one channel is no depthwise convolution
        (conv(channels=(64, 1)), True),
        (conv(channels=(3, 3), kernel=9, groups=3), False),  # the blur
        (conv(channels=(3, 6), kernel=9, groups=3), False),
        (conv(channels=(6, 6), groups=3), True),
        (conv(channels=(64, 64), groups=64, dtype="float16"), False),
        (conv(dtype="bfloat16"), True),
        (conv(dtype="complex64"), False),
        (conv(dilation=(2, 2)), True),
        (conv(input_shape=(1, 64, 8, 8, 8), output_shape=(1, 64, 8, 8, 8)), True),
        (conv(input_shape=(1, 64, 8), output_shape=(1, 64, 8)), False),  # PyTorch hands conv1d over as conv2d
        (conv(images=0), False),
        (conv(images=2**15, channels=(3, 3), groups=3), True),  # more than 2^31 elements
    ],
)
def test_what_goes_to_cudnn(call, expected):
    assert uses_cudnn(call) is expected


@pytest.mark.parametrize(
    ("shape", "stride", "fits"),
    [
        ((2**31 - 1,), (1,), True),
        ((2**31,), (1,), False),
        ((2, 1), (2**31 - 1, 1), True),  # the offset of the last element
        ((2, 2), (2**31 - 1, 1), False),
        ((2**16, 2**15), (0, 0), False),  # as many elements, all in one place
        ((2**16, 2**15 - 1), (0, 0), True),
    ],
)
def test_indices_of_32_bits(shape, stride, fits):
    """As canUse32BitIndexMath has it: elements and the largest offset are at most 2^31 - 1."""
    assert routing._fits_32_bits(shape, stride) is fits


def test_depthwise_channels_last_goes_to_cudnn():
    call = conv(images=2, channels=(3, 3), groups=3)
    channels_last = torch.empty(call.input_shape, device="meta").contiguous(memory_format=torch.channels_last)
    assert uses_cudnn(call._replace(input_stride=channels_last.stride()))


@pytest.mark.parametrize("weight_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("input_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("images", [1, 2])
def test_strides_are_those_pytorch_hands_over(images, channels, input_format, weight_format):
    """PyTorch's own rule shows in the strides of a convolution's output on the meta device."""
    x = torch.empty(images, channels, 8, 6, device="meta").contiguous(memory_format=input_format)
    w = torch.empty(5, channels, 3, 3, device="meta").contiguous(memory_format=weight_format)
    call = conv(images=images, channels=(channels, 5))._replace(
        input_shape=tuple(x.shape), input_stride=x.stride(), weight_stride=w.stride(), output_shape=(images, 5, 8, 6)
    )
    handed_over = as_handed_over(call)
    is_channels_last = any(torch._prims_common.suggest_memory_format(t) == torch.channels_last for t in (x, w))
    wanted = torch.channels_last if is_channels_last else torch.contiguous_format
    for shape, stride in (
        (handed_over.input_shape, handed_over.input_stride),
        (handed_over.weight_shape, handed_over.weight_stride),
        (handed_over.output_shape, handed_over.output_stride),
    ):
        assert stride == torch.empty(shape, device="meta", memory_format=wanted).stride()


def test_what_counts_as_channels_last_is_pytorch_s_own_answer():
    """Resizing keeps the format that ATen sees in an image's strides (suggest_memory_format), in its output's."""
    seen = set()
    for shape in itertools.product((1, 2), (1, 3), (1, 2), (1, 4)):
        for order in itertools.permutations(range(4)):
            for gap in (1, 2):  # 2: every other number of a larger image
                stride, step = [0] * 4, gap
                for dimension in order:
                    stride[dimension], step = step, step * shape[dimension]
                image = torch.empty_strided(shape, stride)
                resized = torch.nn.functional.interpolate(image, size=(5, 7))
                is_channels_last = resized.stride() == routing.channels_last(tuple(resized.shape))
                assert routing.is_channels_last(shape, tuple(stride)) is is_channels_last, (shape, stride)
                seen.add(is_channels_last)
    assert seen == {True, False}
    assert not routing.is_channels_last((2, 3, 4, 4), (1, 0, 1, 1))  # expanded along the channels
    assert not routing.is_channels_last((0, 3, 4, 4), (48, 1, 12, 3))


def test_the_blur_takes_no_workspace_and_an_unknown_call_has_no_answer(monkeypatch):
    monkeypatch.setattr(backend, "load", _not_installed)
    source = workspaces(CARDS["RTX 3080"], cudnn_version="9.20.0")
    assert source.candidates(conv(size=128, channels=(3, 3), kernel=9, groups=3)) == (0,)
    assert source.candidates(conv(channels=(64, 63))) is None
    assert source.candidates(conv(images=10**6)) is None
    assert source.candidates(conv(images=0)) is None
    assert source.candidates(conv(groups=64, dtype="float16")) is None
    assert source.candidates(conv(dtype="complex64")) is None


def test_nothing_at_hand(monkeypatch):
    monkeypatch.setattr(backend, "load", _not_installed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert workspaces(CARDS["RTX 3080"], cudnn_version="9.1.0") is None
        assert workspaces(card_of_capacity("8GB"), cudnn_version="9.20.0") is None


def test_a_library_says_nothing_of_a_pytorch_whose_cudnn_nobody_knows(monkeypatch):
    monkeypatch.setattr(heuristics, "version_of_torch", lambda: None)
    monkeypatch.setattr(backend, "load", lambda: SimpleNamespace(version="9.20.0"))
    monkeypatch.setattr(backend, "Device", lambda *_: None)
    assert workspaces(CARDS["RTX 3080"]) is None
    assert workspaces(CARDS["RTX 3080"], cudnn_version="9.20.0") is not None


def test_the_library_is_asked_for_what_the_file_lacks_alone(monkeypatch):
    class Live:
        def configurations(self, call):
            return [Configuration(7, tensor_core=False, nondeterministic=False)]

    monkeypatch.setattr(heuristics, "LiveCudnn", lambda card, **asked: Live())
    source = workspaces(CARDS["RTX 3080"], cudnn_version="9.20.0")
    assert source.candidates(conv(channels=(5, 7))) == (7,)
    assert (
        source.candidates(conv()) == CachedCudnn(CARDS["RTX 3080"], cudnn_version="9.20.0").candidates(conv()) != (7,)
    )


def test_the_library_is_asked_once_about_each_call(monkeypatch):
    """As many plans as PyTorch tries, up to the first that takes nothing and that no setting passes over."""
    first, certain = Configuration(512, True, False), Configuration(0, False, False)
    asked = []

    class Device:
        def __init__(self, library, properties):
            assert json.loads(properties)["deviceVer"] == 860

        def configurations(self, call):
            asked.append(call)
            if call.dtype == "complex64":
                raise RefusedError("no such type")
            return [first, Configuration(0, True, False), first, certain, Configuration(7, False, False)]

    monkeypatch.setattr(backend, "load", lambda: SimpleNamespace(version="9.20.0"))
    monkeypatch.setattr(backend, "Device", Device)
    source = LiveCudnn(CARDS["RTX 3080"])
    for _ in range(2):
        assert source.configurations(conv()) == (first, Configuration(0, True, False), first, certain)
        assert source.configurations(conv(dtype="complex64")) is None
    assert asked == [conv(), conv(dtype="complex64")]
    with pytest.raises(
        CudnnError, match=r"^cuDNN 9\.20\.0 is installed, but the workspaces of cuDNN 9\.1\.0 are wanted"
    ):
        LiveCudnn(CARDS["RTX 3080"], cudnn_version="9.1.0")


def test_what_the_file_lacks_comes_from_the_library(live_version):
    source = workspaces(CARDS["RTX 3080"], cudnn_version=live_version)
    call = conv(images=3, channels=(5, 7), size=40)
    assert CachedCudnn(CARDS["RTX 3080"], cudnn_version=live_version).candidates(call) is None
    assert source.candidates(call) == LiveCudnn(CARDS["RTX 3080"]).candidates(call) is not None


def test_a_library_of_another_version_is_a_warning(monkeypatch, live_version):
    with pytest.raises(CudnnError, match=rf"cuDNN {live_version} is installed, but .*9\.1\.0 are wanted: pip install"):
        LiveCudnn(CARDS["RTX 3080"], cudnn_version="9.1.0")
    with pytest.warns(UserWarning, match="9.1.0 are wanted"):
        assert workspaces(CARDS["RTX 3080"], cudnn_version="9.1.0") is None
    source = workspaces(CARDS["RTX 3080"], cudnn_version=next(v for v in VERSIONS if v != live_version))
    assert source.candidates(conv(images=3)) is not None
    with pytest.warns(UserWarning, match="are wanted"):
        assert source.candidates(conv(images=3, channels=(5, 7))) is None


def test_what_the_library_does_not_support_is_not_known(live_version):
    source = LiveCudnn(CARDS["H200"])
    call = conv(images=3)
    assert source.candidates(call._replace(weight_shape=(64, 63, 3, 3))) is None
    assert source.candidates(call) is not None


def test_a_library_without_its_parts_is_one_sentence(tmp_path, live_version):
    """Of what cuDNN loads later, at the first question, nothing is there."""
    for package, name in (("*", "libcublasLt"), ("cudnn", "libcudnn"), ("cudnn", "libcudnn_graph")):
        installed = Path(backend._path(package, f"{name}.so.*"))
        folder = tmp_path / "nvidia" / installed.parent.parent.name / "lib"
        folder.mkdir(parents=True, exist_ok=True)
        if "cublas" in name:
            (folder / installed.name).symlink_to(installed)
        else:
            (folder / installed.name).write_bytes(installed.read_bytes())
    code = (
        "from bench.memory.cudnn import heuristics\n"
        "from tests.memory.test_cudnn import conv\n"
        "try: heuristics.LiveCudnn('H200').candidates(conv())\n"
        "except heuristics.CudnnError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert said.stdout.count("\n") == 1 and "install it again" in said.stdout


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "text", "shape", "format", "missing"])
def test_damaged_answers(damage, tmp_path, monkeypatch):
    whole = (cache.SHIPPED / cache.FILES["9.20.0"]).read_bytes()
    path = tmp_path / cache.FILES["9.20.0"]
    content = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "bit": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
        "text": b"{}",
        "shape": lzma.compress(b'{"format": 2, "cards": ["H200"]}\n[[[], 1]]'),
        "format": lzma.compress(json.dumps({"format": 99}).encode()),
        "missing": None,
    }[damage]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CudnnError, match=r"^[^\n]*workspaces-9\.20\.0\.json\.xz[^\n]*$") as error:
        CachedCudnn(CARDS["H200"], cudnn_version="9.20.0", folder=tmp_path)
    assert "format 99" in str(error.value) if damage == "format" else "tools.cudnn_cache" in str(error.value)
    assert content is None or path.read_bytes() == content

    monkeypatch.setattr(cache, "cards", lambda *_: _raise(error.value))
    monkeypatch.setattr(backend, "load", _not_installed)
    with pytest.warns(UserWarning, match=r"workspaces-9\.20\.0\.json\.xz") as told:
        assert workspaces(CARDS["H200"], cudnn_version="9.20.0") is None
    assert [warning.filename for warning in told] == [__file__]  # whoever asked


def test_a_written_file_reads_the_same(tmp_path):
    shipped = {name: cache.read("9.20.0", name) for name in cache.cards("9.20.0")}
    path = cache.write("9.20.0", shipped, tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert cache.cards("9.20.0", tmp_path) == sorted(shipped)
    assert all(cache.read("9.20.0", name, tmp_path).calls == shipped[name].calls for name in shipped)
    assert path.read_bytes() == (cache.SHIPPED / path.name).read_bytes()


def test_coding_loses_nothing():
    call = conv("wgrad", images=7)
    configurations = (
        Configuration(335620243, True, False),
        Configuration(402, False, True),
        Configuration(0, False, False),
    )
    answers = cache.Answers({call.with_images(0): [[]] * 6 + [cache.coded(call, configurations)]})
    assert answers.get(call) == configurations
    assert answers.get(call.with_images(8)) is None


@pytest.mark.parametrize(("dtype", "size"), [("float64", 8), ("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_codes_are_planes_rest_and_notes(dtype, size):
    """3 images of 362 x 362: 5 planes of each and 7 bytes more, and the notes."""
    plane_bytes = 3 * 362 * 362 * size
    configurations = [Configuration(5 * plane_bytes + 7, True, False), Configuration(plane_bytes - 1, True, True)]
    assert cache.coded(conv(images=3, dtype=dtype), configurations) == [5, 7, 1, 0, plane_bytes - 1, 3]


def test_what_is_written_anew_is_read_anew(tmp_path):
    call = conv().with_images(0)
    for workspace_bytes in (512, 1024):
        cache.write("9.20.0", {f"of {workspace_bytes}": cache.Answers({call: [[0, workspace_bytes, 0]]})}, tmp_path)
        assert cache.cards("9.20.0", tmp_path) == [f"of {workspace_bytes}"]
        cache.write("9.20.0", {"H200": cache.Answers({call: [[0, workspace_bytes, 0]]})}, tmp_path)
        assert cache.read("9.20.0", "H200", tmp_path).get(conv()) == (Configuration(workspace_bytes, False, False),)


def test_cards_as_cudnn_is_told():
    for card in CARDS.values():
        if card.refusal:
            continue
        properties = json.loads(devices.properties_json(card))
        assert properties["deviceVer"] == 100 * card.compute_capability[0] + 10 * card.compute_capability[1]
        assert properties["multiProcessorCount"] == card.multiprocessors
        assert properties["totalGlobalMem"] == card.total_bytes
        assert properties["l2CacheSize"] == card.chip.l2_cache_bytes
    with pytest.raises(NotAtHandError, match="cannot be told about '8GB': its properties are not known"):
        LiveCudnn(card_of_capacity("8GB"))


@pytest.mark.parametrize("name", ["V100 16GB", "V100 32GB", "P100"])
def test_a_card_that_cudnn_does_not_know_is_refused_and_not_given_0(name):
    for ask in (workspaces, LiveCudnn):
        with pytest.raises(UnknownCardError, match=rf"^cuDNN does not know {name} any more: .*capability [67]\.0"):
            ask(CARDS[name])


def test_version_of_the_installed_torch():
    assert backend.version_text(92000) == "9.20.0"
    assert heuristics.version_of_torch() in set(heuristics.CUDNN_OF_TORCH.values()) | {None}


# What torch's CUDA wheels on PyPI require of nvidia-cudnn-cu13.
@pytest.mark.parametrize(
    ("torch_version", "cudnn_version"),
    [
        ("2.11.0+cpu", "9.19.0"),
        ("2.12.1", "9.20.0"),
        ("2.13.0+cu130", "9.20.0"),
        ("2.14.1", "9.24.0"),
        ("2.15.0a0+git1234", "9.26.0"),
        ("2.10.0", None),
        ("3.11.0", None),
    ],
)
def test_cudnn_of_a_release_without_cuda(torch_version, cudnn_version, monkeypatch):
    monkeypatch.setattr(torch, "__version__", torch_version)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: None)
    assert heuristics.version_of_torch() == cudnn_version
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    assert heuristics.version_of_torch() == "9.10.2"


def test_a_broken_library_is_one_sentence(tmp_path, monkeypatch):
    for package, name in (
        ("cublas", "libcublasLt.so.13"),
        ("cudnn", "libcudnn.so.9"),
        ("cudnn", "libcudnn_graph.so.9"),
    ):
        (tmp_path / "nvidia" / package / "lib").mkdir(parents=True, exist_ok=True)
        (tmp_path / "nvidia" / package / "lib" / name).write_bytes(b"no library")
    monkeypatch.setattr(backend, "find_spec", lambda _name: _Spec([str(tmp_path / "nvidia")]))
    with pytest.raises(CudnnError, match=r"^cuDNN is installed but does not load \([^\n]*\): install it again$"):
        backend.Backend()
    (tmp_path / "nvidia/cublas/lib/libcublasLt.so.13").unlink()
    with pytest.raises(NotAtHandError, match=r"^libcublasLt is not installed: pip install 'bench-inverse\[cudnn\]'$"):
        backend.Backend()


def test_importing_the_package_does_not_load_cudnn():
    code = "import sys, bench.memory; sys.exit(any(name.startswith('bench.memory.cudnn') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True)


class _Spec:
    def __init__(self, folders):
        self.submodule_search_locations = folders


def _not_installed():
    raise NotAtHandError("libcudnn is not installed")


def _raise(error):
    raise error
