"""What this machine has for bench, part by part, and what each missing part would add.

Nothing that is absent makes this fail: it is what is looked for.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from bench import machine
from bench.cells.provenance import provenance
from bench.extras import how_to_install
from bench.memory.convolution import Convolution
from bench.memory.cudnn import cache
from bench.memory.cudnn.backend import CudnnError, NotAtHandError
from bench.memory.cudnn.heuristics import CUDNN_OF_TORCH, LiveCudnn, version_of_torch
from bench.memory.gpus import CARDS
from bench.memory.simulated import installed_release
from bench.units import GiB, format_bytes
from bench.virtual import library
from bench.virtual.figures import NoVirtualCardError

State = Literal["fine", "missing", "broken"]

EXTRAS = {
    "accuracy": (("torchmetrics", "skimage", "h5py"), "training to PSNR and SSIM, and real data sets"),
    "report": (("pyarrow",), "Parquet files of `bench report`"),
    "slurm": (("submitit",), "`bench submit`: shards as SLURM jobs"),
}
"""Of each extra, modules that it brings, and what they are for."""

LEAST_FREE_BYTES = GiB

_ON_A_GPU = "`--engine cuda` and `bench validate` measure on it; training at the paper's sizes"

_WITH_A_VIRTUAL_CARD = "`--engine virtual`: PyTorch's own CUDA code, without a GPU"


@dataclass(frozen=True)
class Part:
    """One part, as it was found. Without a "missing" one bench does less; one that is "broken" it cannot do without."""

    name: str
    state: State
    found: str
    adds: str = ""


def examine(output: Path) -> list[Part]:
    """Every part; `output` is the folder where results are to go."""
    on_disk = partial(disk, output)
    checks: list[Callable[[], list[Part]]] = [versions, gpus, virtual_card, cudnn, extras, data, on_disk, resources]
    return [part for check in checks for part in check()]


def versions() -> list[Part]:
    """Python, bench and torch, whose release decides which allocator is replayed."""
    here = provenance(source="")
    known = sorted(CUDNN_OF_TORCH)
    span = " to ".join(".".join(map(str, release)) for release in (known[0], known[-1]))
    release = ".".join(map(str, installed_release()))
    is_known = installed_release() in CUDNN_OF_TORCH
    state: State = "fine" if is_known else "broken"
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return [
        Part("Python", "fine", f"{here.python}, {here.platform}"),
        Part("bench", "fine", f"{here.bench}, commit {here.commit}" if here.commit else here.bench),
        Part(
            "PyTorch", state, f"{here.torch}, {build}; supported: {span}", "" if is_known else f"install torch {span}"
        ),
        Part("allocator", state, f"torch {release}'s is {'replayed' if is_known else 'not known'}"),
    ]


def gpus() -> list[Part]:
    """The GPUs, as NVML tells without touching CUDA."""
    try:
        import pynvml  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        return [Part("GPU", "missing", "not known: pynvml is not installed", _ON_A_GPU)]
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return [Part("GPU", "missing", f"no driver ({error})", _ON_A_GPU)]
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        parts = [_gpu(pynvml, index, driver) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return [Part("GPU", "missing", f"a driver, whose devices do not answer ({error})", _ON_A_GPU)]
    finally:
        pynvml.nvmlShutdown()
    return parts or [Part("GPU", "missing", f"driver {driver}, but no device", _ON_A_GPU)]


def _gpu(nvml: Any, index: int, driver: str) -> Part:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    total_bytes = nvml.nvmlDeviceGetMemoryInfo(device).total
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
    found = (
        f"{nvml.nvmlDeviceGetName(device)}, {format_bytes(total_bytes)}, compute capability {major}.{minor}, "
        f"driver {driver}"
    )
    if torch.version.cuda is None:
        return Part(f"GPU {index}", "missing", f"{found}; PyTorch is built without CUDA", f"a CUDA build: {_ON_A_GPU}")
    return Part(f"GPU {index}", "fine", found)


def virtual_card() -> list[Part]:
    """Whether there can be a virtual card: a CUDA build of PyTorch, and a compiler for the library that it lacks."""
    try:
        library.require_virtual_card()
        found = "built" if library.is_built() else f"to be built at first use by {library.compiler()[0]}"
    except NoVirtualCardError as error:
        reason, _, remedy = str(error).partition(": ")
        return [Part("virtual card", "missing", reason, f"{_WITH_A_VIRTUAL_CARD}: {remedy}")]
    return [Part("virtual card", "fine", f"PyTorch's CUDA {torch.version.cuda} code without a GPU; {found}")]


def cudnn() -> list[Part]:
    """cuDNN, asked one question, and the answers that travel with the package."""
    return [_cudnn_library(), _cudnn_answers()]


def _cudnn_library() -> Part:
    wheel = f"nvidia-cudnn-cu13=={version_of_torch() or 'VERSION'}.*"
    adds = f"workspaces of convolutions that the shipped answers do not hold: pip install '{wheel}'"
    origin = "PyTorch's" if torch.backends.cudnn.version() else "the wheel's"
    try:
        library = LiveCudnn(CARDS["H200"])
        known = library.candidates(_question())
    except NotAtHandError:
        return Part("cuDNN", "missing", "not installed", adds)
    except CudnnError as error:
        return Part("cuDNN", "missing", str(error), adds)
    return Part(
        "cuDNN", "fine" if known else "missing", f"{library.cudnn_version}, {origin}; asked about one convolution"
    )


def _question() -> Convolution:
    """A 3x3 convolution of one image with 64 channels."""
    image, weight = (1, 64, 32, 32), (64, 64, 3, 3)
    strides = (65536, 1024, 32, 1), (576, 9, 3, 1), (65536, 1024, 32, 1)
    return Convolution(
        "fprop", image, strides[0], weight, strides[1], image, strides[2], (1, 1), (1, 1), (1, 1), 1, "float32"
    )


def _cudnn_answers() -> Part:
    adds = "exact workspaces on named cards without cuDNN"
    wanted = version_of_torch()
    try:
        cards = cache.cards(wanted or "unknown")
    except NotAtHandError:
        return Part("cuDNN's shipped answers", "missing", f"of {', '.join(cache.FILES)}, not of cuDNN {wanted}", adds)
    except CudnnError as error:
        return Part("cuDNN's shipped answers", "missing", str(error), adds)
    return Part("cuDNN's shipped answers", "fine", f"of cuDNN {wanted} for {', '.join(cards)}")


def extras() -> list[Part]:
    """The package's optional extras."""
    parts = []
    for name, (modules, adds) in EXTRAS.items():
        absent = [module for module in modules if find_spec(module) is None]
        found = f"not installed: {', '.join(absent)}" if absent else "installed"
        remedy = f"{adds}: {how_to_install(*absent)}"
        parts.append(Part(f"extra {name}", "missing" if absent else "fine", found, remedy if absent else ""))
    return parts


def data() -> list[Part]:
    """The sets of real images that `bench data fetch` fetches."""
    from bench.data import base, fetch

    folder = base.data_folder()
    fetched = {
        name: all(fetch.is_complete(part.place(folder)) for part in parts) for name, parts in fetch.PARTS.items()
    }
    absent = [name for name, is_here in fetched.items() if not is_here]
    if not absent:
        return [Part("data", "fine", f"{', '.join(fetched)} in {folder}")]
    return [Part("data", "missing", f"{', '.join(absent)} not in {folder}", "real images: `bench data fetch`")]


def disk(output: Path) -> list[Part]:
    """Whether results can be written, and how much."""
    try:
        existing = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
        free_bytes = shutil.disk_usage(existing).free
    except OSError as error:
        return [Part("results", "broken", f"cannot write to {output}: {error.strerror}", "give another --output")]
    enough = free_bytes >= LEAST_FREE_BYTES
    room = "room for checkpoints and reconstructions" if not enough else ""
    return [
        Part("results", "fine", f"{output} can be written"),
        Part("disk", "fine" if enough else "missing", f"{format_bytes(free_bytes)} free", room),
    ]


def resources() -> list[Part]:
    """Cores and memory."""
    memory_bytes = machine.memory_bytes()
    memory = format_bytes(memory_bytes) if memory_bytes else "not known how much"
    return [Part("cores", "fine", f"{machine.cores():g}"), Part("memory", "fine", memory)]
