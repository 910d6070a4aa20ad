"""cuDNN's backend API, as far as asking for workspaces needs it: no GPU, no driver, no compiler.

The library (the wheel nvidia-cudnn-cu13, or -cu12) is loaded with ctypes. Everything in its backend API is a
descriptor: created, given attributes, made final, read. The numbers below are the enumerations of its header
cudnn_graph.h; they are part of the library's binary interface. What makes it work without a GPU is the descriptor of a
device's properties (cuDNN >= 9.8), which stands where a handle on a real device would.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from bench.memory.convolution import Convolution, Direction, Ints

OLDEST_VERSION = 90800  # the first with device properties

# Kinds of descriptors.
_CONVOLUTION, _ENGINE, _CONFIGURATION, _HEURISTICS, _PLAN = 1, 2, 3, 4, 5
_GRAPH, _TENSOR, _DEVICE = 15, 17, 38

# Types of attributes.
_DATA_TYPE, _INT64, _FLOAT, _CONVOLUTION_MODE, _HEURISTIC_MODE, _NOTE, _DESCRIPTOR, _CHAR = 1, 3, 4, 7, 8, 11, 15, 24
_C_TYPES: dict[int, Any] = {
    _INT64: ctypes.c_int64,
    _FLOAT: ctypes.c_float,
    _DESCRIPTOR: ctypes.c_void_p,
    _CHAR: ctypes.c_char,
}  # all others are enumerations

# Attributes.
_CONVOLUTION_COMPUTE_TYPE, _CONVOLUTION_MODE_OF, _CONVOLUTION_DILATION, _CONVOLUTION_STRIDE = 100, 101, 102, 103
_CONVOLUTION_POST_PADDING, _CONVOLUTION_PRE_PADDING, _CONVOLUTION_SPATIAL_DIMENSIONS = 104, 105, 106
_HEURISTICS_MODE, _HEURISTICS_GRAPH, _HEURISTICS_RESULTS, _HEURISTICS_DEVICE = 200, 201, 202, 204
_CONFIGURATION_ENGINE = 300
_PLAN_CONFIGURATION, _PLAN_WORKSPACE, _PLAN_DEVICE = 401, 402, 407
_GRAPH_OPERATIONS = 801
_TENSOR_ALIGNMENT, _TENSOR_DATA_TYPE, _TENSOR_SHAPE, _TENSOR_STRIDE, _TENSOR_ID = 900, 901, 902, 903, 906
_ENGINE_NOTES = 1303
_DEVICE_JSON = 2702

# Values.
_DATA_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 9}
_CROSS_CORRELATION = 1
_INSTANT, _FALLBACK = 0, 2  # modes of the heuristics
_FIRST_REFUSAL = 2000  # statuses below it are about the library itself
_TENSOR_CORE, _DOWN_CONVERT_INPUTS, _NONDETERMINISTIC, _NOTES = 0, 1, 4, 10
_ALIGNMENT_BYTES = 32  # PyTorch looks no further (getAlignment in Conv_v8.cpp), and its blocks have 512


class _Operation(NamedTuple):
    """What a direction is called: its descriptor, and its attributes."""

    kind: int
    convolution: int
    weight: int
    input: int
    output: int
    alpha: int
    beta: int


_OPERATIONS: dict[Direction, _Operation] = {
    "fprop": _Operation(10, 702, 703, 704, 705, 700, 701),
    "dgrad": _Operation(12, 708, 709, 710, 711, 706, 707),
    "wgrad": _Operation(11, 714, 715, 716, 717, 712, 713),
}


class CudnnError(ValueError):
    """cuDNN, or what is known of it, cannot answer: what was got, what was expected, what to do."""


class NotAtHandError(CudnnError):
    """There is nothing to ask: no library, no file, no such card."""


class UnknownCardError(CudnnError):
    """cuDNN does not know a card: it would answer 0 for every convolution there."""


class RefusedError(CudnnError):
    """The library works, and does not do this."""


class Configuration(NamedTuple):
    """One way to run a convolution: the workspace it takes, and cuDNN's notes on it that PyTorch filters by."""

    workspace_bytes: int
    tensor_core: bool
    nondeterministic: bool


class Backend:
    """The loaded library.

    Raises:
        NotAtHandError: it is not installed.
        CudnnError: it does not load, or is too old.
    """

    def __init__(self) -> None:
        # cuDNN aborts the process where it cannot load the first two.
        names = ("*", "libcublasLt.so.*"), ("cudnn", "libcudnn_graph.so.*"), ("cudnn", "libcudnn.so.*")
        paths = [_path(package, name) for package, name in names]
        try:
            *_, self._library = [ctypes.CDLL(path, ctypes.RTLD_GLOBAL) for path in paths]
        except OSError as error:
            raise CudnnError(f"cuDNN is installed but does not load ({error}): install it again") from error
        self._library.cudnnGetVersion.restype = ctypes.c_size_t
        self._library.cudnnGetErrorString.restype = ctypes.c_char_p
        number, pointer, count = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64
        self._library.cudnnBackendCreateDescriptor.argtypes = [number, pointer]
        self._library.cudnnBackendSetAttribute.argtypes = [pointer, number, number, count, pointer]
        self._library.cudnnBackendGetAttribute.argtypes = [pointer, number, number, count, pointer, pointer]
        self._library.cudnnBackendFinalize.argtypes = [pointer]
        self._library.cudnnBackendDestroyDescriptor.argtypes = [pointer]
        version = self._library.cudnnGetVersion()
        self.version = version_text(version)
        if version < OLDEST_VERSION:
            raise CudnnError(
                f"cuDNN {self.version} cannot be asked without a GPU, {version_text(OLDEST_VERSION)} and later can: "
                "install a later nvidia-cudnn-cu13"
            )

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function of the library.

        Raises:
            RefusedError: bad or unsupported parameters, or no way to do it.
            CudnnError: parts of the library are missing or do not work.
        """
        status = getattr(self._library, function)(*arguments)
        if status:
            reason = self._library.cudnnGetErrorString(status).decode()
            answer = f"cuDNN {self.version}: {function} answers {reason} ({status})"
            raise RefusedError(answer) if status >= _FIRST_REFUSAL else CudnnError(f"{answer}: install it again")


class _Descriptor:
    """A descriptor of the backend API, final if attributes are given; (attribute, type, values) each."""

    def __init__(self, backend: Backend, kind: int, *attributes: tuple[int, int, Sequence[Any]]) -> None:
        self._backend = backend
        self.pointer = ctypes.c_void_p()
        self._attributes = attributes  # other descriptors among them must live as long as this one
        backend.call("cudnnBackendCreateDescriptor", kind, ctypes.byref(self.pointer))
        for name, type_, values in attributes:
            backend.call("cudnnBackendSetAttribute", self.pointer, name, type_, len(values), _array(type_, values))
        if attributes:
            backend.call("cudnnBackendFinalize", self.pointer)

    def __del__(self) -> None:
        if self.pointer:
            self._backend.call("cudnnBackendDestroyDescriptor", self.pointer)

    def read(self, name: int, type_: int, at_most: int) -> list[Any]:
        """An attribute's values."""
        values = (_C_TYPES.get(type_, ctypes.c_int) * at_most)()
        return list(values[: self._read_into(name, type_, values)])

    def read_descriptors(self, name: int, kind: int) -> list[_Descriptor]:
        """An attribute that is a list of descriptors."""
        count = self._read_into(name, _DESCRIPTOR, None)
        found = [_Descriptor(self._backend, kind) for _ in range(count)]
        return found[: self._read_into(name, _DESCRIPTOR, _array(_DESCRIPTOR, found))]

    def _read_into(self, name: int, type_: int, values: Any) -> int:
        count = ctypes.c_int64()
        room = 0 if values is None else len(values)
        self._backend.call("cudnnBackendGetAttribute", self.pointer, name, type_, room, ctypes.byref(count), values)
        return count.value


class Device:
    """A GPU that cuDNN is told about; `properties_json` as in bench.memory.cudnn.devices."""

    def __init__(self, backend: Backend, properties_json: str) -> None:
        self._backend = backend
        self._properties = _Descriptor(backend, _DEVICE, (_DEVICE_JSON, _CHAR, properties_json.encode()))

    def configurations(self, call: Convolution) -> Iterator[Configuration]:
        """The ways to run a call, best first: those of cuDNN's heuristics, then its fallbacks.

        As PyTorch gets them (get_generator_sources and try_configs in Conv_v8.cpp): without those that convert their
        inputs to a lower precision, and without those that cannot be built.

        Raises:
            RefusedError: cuDNN supports no such call.
            CudnnError: parts of the library are missing or do not work.
        """
        graph = self._graph(call)
        for mode in (_INSTANT, _FALLBACK):
            heuristics = _Descriptor(
                self._backend,
                _HEURISTICS,
                (_HEURISTICS_GRAPH, _DESCRIPTOR, [graph]),
                (_HEURISTICS_MODE, _HEURISTIC_MODE, [mode]),
                (_HEURISTICS_DEVICE, _DESCRIPTOR, [self._properties]),
            )
            for found in heuristics.read_descriptors(_HEURISTICS_RESULTS, _CONFIGURATION):
                (engine,) = found.read_descriptors(_CONFIGURATION_ENGINE, _ENGINE)
                notes = engine.read(_ENGINE_NOTES, _NOTE, _NOTES)
                workspace_bytes = None if _DOWN_CONVERT_INPUTS in notes else self._workspace_bytes(found)
                if workspace_bytes is not None:
                    yield Configuration(workspace_bytes, _TENSOR_CORE in notes, _NONDETERMINISTIC in notes)

    def _workspace_bytes(self, configuration: _Descriptor) -> int | None:
        """Bytes of the plan of a configuration; None if it cannot be built."""
        try:
            plan = _Descriptor(
                self._backend,
                _PLAN,
                (_PLAN_CONFIGURATION, _DESCRIPTOR, [configuration]),
                (_PLAN_DEVICE, _DESCRIPTOR, [self._properties]),
            )
        except RefusedError:
            return None
        (workspace_bytes,) = plan.read(_PLAN_WORKSPACE, _INT64, 1)
        return int(workspace_bytes)

    def _graph(self, call: Convolution) -> _Descriptor:
        names = _OPERATIONS[call.direction]
        compute_type = "float64" if call.dtype == "float64" else "float32"
        convolution = _Descriptor(
            self._backend,
            _CONVOLUTION,
            (_CONVOLUTION_COMPUTE_TYPE, _DATA_TYPE, [_DATA_TYPES[compute_type]]),
            (_CONVOLUTION_MODE_OF, _CONVOLUTION_MODE, [_CROSS_CORRELATION]),
            (_CONVOLUTION_DILATION, _INT64, call.dilation),
            (_CONVOLUTION_STRIDE, _INT64, call.stride),
            (_CONVOLUTION_PRE_PADDING, _INT64, call.padding),
            (_CONVOLUTION_POST_PADDING, _INT64, call.padding),
            (_CONVOLUTION_SPATIAL_DIMENSIONS, _INT64, [len(call.stride)]),
        )
        operation = _Descriptor(
            self._backend,
            names.kind,
            (names.convolution, _DESCRIPTOR, [convolution]),
            (names.input, _DESCRIPTOR, [self._tensor(1, call.input_shape, call.input_stride, call.dtype)]),
            (names.weight, _DESCRIPTOR, [self._tensor(2, call.weight_shape, call.weight_stride, call.dtype)]),
            (names.output, _DESCRIPTOR, [self._tensor(3, call.output_shape, call.output_stride, call.dtype)]),
            (names.alpha, _FLOAT, [1.0]),
            (names.beta, _FLOAT, [0.0]),
        )
        return _Descriptor(self._backend, _GRAPH, (_GRAPH_OPERATIONS, _DESCRIPTOR, [operation]))

    def _tensor(self, identity: int, shape: Ints, stride: Ints, dtype: str) -> _Descriptor:
        return _Descriptor(
            self._backend,
            _TENSOR,
            (_TENSOR_ID, _INT64, [identity]),
            (_TENSOR_DATA_TYPE, _DATA_TYPE, [_DATA_TYPES[dtype]]),
            (_TENSOR_SHAPE, _INT64, shape),
            (_TENSOR_STRIDE, _INT64, stride),
            (_TENSOR_ALIGNMENT, _INT64, [_ALIGNMENT_BYTES]),
        )


def version_text(version: int) -> str:
    """A version of cuDNN 9 or later as people write it: 92000 -> "9.20.0"."""
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


@cache
def load() -> Backend:
    """The installed library, loaded once.

    Raises:
        NotAtHandError: it is not installed.
        CudnnError: it does not load, or is too old.
    """
    return Backend()


def _path(package: str, name: str) -> str:
    """Where a library of NVIDIA's wheels is, which all install into the folder `nvidia`."""
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob(f"{package}/lib/{name}")):
            return str(path)
    raise NotAtHandError(f"{name.removesuffix('.so.*')} is not installed: pip install 'bench-inverse[cudnn]'")


def _array(type_: int, values: Sequence[Any]) -> Any:
    """A C array of an attribute's values."""
    if type_ == _CHAR:
        return ctypes.create_string_buffer(bytes(values), len(values))
    c_type = _C_TYPES.get(type_, ctypes.c_int)
    return (c_type * len(values))(*(value.pointer.value if type_ == _DESCRIPTOR else value for value in values))
