"""Workspaces of convolutions, from cuDNN's own heuristics, without a GPU.

How PyTorch runs a convolution on cuDNN (aten/src/ATen/native/cudnn/Conv_v8.cpp, torch.backends.cudnn.benchmark off):

1. `run_single_conv` looks into a cache of plans: one per thread, 10,000 entries. The key holds direction, shapes,
   strides, dtype, padding, stride, dilation, groups, deterministic, allow_tf32 and the pointers' alignment. A plan
   found there runs. If its workspace does not fit (OutOfMemoryError), the call goes on as if none had been found.
2. `get_configs_from_heuristics` asks cuDNN for configurations in mode INSTANT (for convolutions mode A gives the
   same). `filterEngineConfigs` drops those whose numerical notes say "down-convert inputs"; if deterministic,
   "nondeterministic"; for float32 without allow_tf32, "tensor core".
3. `try_configs` goes through them in order: it builds the plan, skips it if an errata file names it (there is none
   by default), allocates the workspace from the caching allocator, runs the plan, remembers it in the cache, and is
   done. A plan that cannot be built, that fails or whose workspace does not fit is passed over in silence; the
   allocator has then released what it cached, as before any OutOfMemoryError.
4. If none ran: 2 and 3 again with cuDNN's fallback configurations. If none of those ran: RuntimeError, "GET was
   unable to find an engine to execute this computation", which is no OutOfMemoryError.

The workspace is allocated after the output and freed when the call returns; one of 0 bytes is no allocation and always
fits, so `candidates` ends with the first 0. Plans of the same size are tried one by one: what did not fit does not fit
the second time either, but PyTorch counts it (num_ooms, num_alloc_retries).

Answers are those of one version of cuDNN for one card. They come from a file that travels with the package
(cache.py) and, for what is not in it, from the library, if it is installed: pip install 'bench-inverse[cudnn]'.
Of the pointers' alignment (of 16 bytes or more) and the driver, nothing shows in them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.memory.convolution import Convolution
from bench.memory.cudnn import backend, cache, devices
from bench.memory.cudnn.backend import Configuration, CudnnError, NotAtHandError, RefusedError, UnknownCardError
from bench.memory.gpus import CARDS, Card
from bench.memory.routing import as_handed_over, has_own_kernel, uses_cudnn

# The cuDNN that PyTorch's CUDA wheels of a release require.
CUDNN_OF_TORCH = {
    (2, 11): "9.19.0",
    (2, 12): "9.20.0",
    (2, 13): "9.20.0",
    (2, 14): "9.24.0",
    (2, 15): "9.26.0",
}

Source = TypeVar("Source", bound="WorkspaceSource")


class WorkspaceSource:
    """What knows the workspaces of one version of cuDNN on one card.

    `flags` are torch.backends.cudnn's own: allow_tf32 (there True by default) and deterministic (there False, and True
    under torch.use_deterministic_algorithms).
    """

    is_exact = True

    def __init__(self, card: Card, cudnn_version: str, **flags: bool) -> None:
        self.card = card
        self.cards = (card,)
        self.cudnn_version = cudnn_version
        self.flags = flags

    def configurations(self, call: Convolution) -> Sequence[Configuration] | None:
        """The ways to run a call, best first, up to the first that nothing keeps from running; None: not known."""
        raise NotImplementedError

    def candidates(self, call: Convolution) -> tuple[int, ...] | None:
        """Bytes of the workspaces that PyTorch tries, in its order, 0 for none; None if the call is not known."""
        if not uses_cudnn(call):
            return (0,) if has_own_kernel(call) else None
        configurations = self.configurations(as_handed_over(call))
        return tried(configurations, call.dtype, **self.flags) if configurations else None


class LiveCudnn(WorkspaceSource):
    """The installed library, asked about every call once.

    Raises:
        NotAtHandError: it is not installed, or has not been told about the card.
        CudnnError: it cannot be asked, or is not `cudnn_version` (None: any will do).
    """

    def __init__(
        self,
        card: Card,
        *,
        allow_tf32: bool = True,
        deterministic: bool = False,
        cudnn_version: str | None = None,
    ) -> None:
        properties_json = devices.properties_json(card)
        library = backend.load()
        if cudnn_version not in (None, library.version):
            raise CudnnError(
                f"cuDNN {library.version} is installed, but the workspaces of cuDNN {cudnn_version} are wanted: "
                f"pip install 'nvidia-cudnn-cu13=={cudnn_version}.*'"
            )
        super().__init__(card, library.version, allow_tf32=allow_tf32, deterministic=deterministic)
        self._device = backend.Device(library, properties_json)
        self._known: dict[Convolution, Sequence[Configuration] | None] = {}

    def configurations(self, call: Convolution) -> Sequence[Configuration] | None:
        """The ways to run a call, best first, up to the first that nothing keeps from running; None: not known."""
        if call not in self._known:
            try:
                self._known[call] = _up_to_certain(self._device.configurations(call))
            except RefusedError:
                self._known[call] = None
        return self._known[call]


class CachedCudnn(WorkspaceSource):
    """The answers in a file: those on the card, or on another that cuDNN does not tell from it.

    Raises:
        NotAtHandError: there are none of `cudnn_version` on this card.
        CudnnError: the file is damaged.
    """

    def __init__(
        self,
        card: Card,
        *,
        cudnn_version: str,
        allow_tf32: bool = True,
        deterministic: bool = False,
        folder: Path = cache.SHIPPED,
    ) -> None:
        super().__init__(card, cudnn_version, allow_tf32=allow_tf32, deterministic=deterministic)
        alike = [each.name for each in CARDS.values() if card.chip and devices.kind(each) == devices.kind(card)]
        names = [name for name in (card.name, *alike) if name in cache.cards(cudnn_version, folder)]
        self._answers = cache.read(cudnn_version, names[0] if names else card.name, folder)

    def configurations(self, call: Convolution) -> Sequence[Configuration] | None:
        """The ways to run a call, best first, up to the first that nothing keeps from running; None: not known."""
        return self._answers.get(call)


class _CachedThenLive(CachedCudnn):
    """The answers in the shipped file, and for what is not in it, the library's."""

    def configurations(self, call: Convolution) -> Sequence[Configuration] | None:
        """The ways to run a call, best first, up to the first that nothing keeps from running; None: not known."""
        found = super().configurations(call)
        return self._live.configurations(call) if found is None and self._live else found

    @cached_property
    def _live(self) -> LiveCudnn | None:
        return at_hand(LiveCudnn, self.card, cudnn_version=self.cudnn_version, **self.flags)


def workspaces(
    card: Card, *, allow_tf32: bool = True, deterministic: bool = False, cudnn_version: str | None = None
) -> WorkspaceSource | None:
    """What is at hand to tell a card's workspaces; None if nothing is, and the bounds stand (envelope.py).

    What should be able to tell and cannot (a damaged file, a library of another version) is a warning.

    Args:
        card: one of gpus.CARDS, or of the user's own; a capacity such as "8GB" is no card that cuDNN can be told about.
        allow_tf32: torch.backends.cudnn.allow_tf32.
        deterministic: torch.backends.cudnn.deterministic.
        cudnn_version: by default, the one that the installed PyTorch runs on.

    Raises:
        UnknownCardError: cuDNN does not know the card.
    """
    if card.refusal:
        raise UnknownCardError(card.refusal)
    version = cudnn_version or version_of_torch()
    if version is None:
        return None
    asked = {"cudnn_version": version, "allow_tf32": allow_tf32, "deterministic": deterministic}
    return at_hand(_CachedThenLive, card, **asked) or at_hand(LiveCudnn, card, **asked)


def tried(
    configurations: Iterable[Configuration], dtype: str, *, allow_tf32: bool, deterministic: bool
) -> tuple[int, ...]:
    """Bytes of the workspaces that PyTorch tries: filtered, one for each plan, up to the first 0."""
    no_tensor_cores = dtype == "float32" and not allow_tf32
    sizes: list[int] = []
    for workspace_bytes, tensor_core, nondeterministic in configurations:
        if (tensor_core and no_tensor_cores) or (nondeterministic and deterministic):
            continue
        sizes.append(workspace_bytes)
        if workspace_bytes == 0:
            break
    return tuple(sizes)


def version_of_torch() -> str | None:
    """The cuDNN that the installed PyTorch runs on; of a build without CUDA, the one its release's CUDA builds have."""
    version = torch.backends.cudnn.version()
    if version is not None:
        return backend.version_text(version)
    major, minor = torch.__version__.split(".")[:2]
    return CUDNN_OF_TORCH.get((int(major), int(minor)))


def at_hand(kind: type[Source], card: Card, **asked: Any) -> Source | None:
    """The source, if there is one."""
    try:
        return kind(card, **asked)
    except NotAtHandError:
        return None
    except CudnnError as error:
        warnings.warn(str(error), stacklevel=3)
        return None


def _up_to_certain(configurations: Iterable[Configuration]) -> tuple[Configuration, ...]:
    """Those up to the first that takes no workspace and that no filter drops."""
    found: list[Configuration] = []
    for configuration in configurations:
        found.append(configuration)
        if configuration == (0, False, False):
            break
    return tuple(found)
