"""What the virtual card answers of the hundreds of functions that PyTorch imports from NVIDIA's libraries, as C.

bench/virtual/source has those that need thought. The rest follow from their names: what makes something hands out a
handle, what asks for the size of a buffer gets none (a lower bound, and noted), what asks for anything else is refused
with its name, and all others do nothing: those that would compute note that memory has other content now. They are weak
symbols, so that a function written by hand goes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Kind = Literal["creates", "sizes", "refused", "works"]

# Functions of a library that never sees a real handle must all be answered: by prefix, the status of "not supported".
_NOT_SUPPORTED = {
    "cublas": 15,
    "cuda": 801,
    "cudnn": 3000,
    "cufft": 16,
    "cusolver": 9,
    "cusparse": 10,
    "nccl": 5,
    "cu": 801,
}
# The real libraries: compilers, files and the texts of errors need no device, tracing and shared memory between
# machines are not asked.
_LEFT_ALONE = re.compile(r"nvrtc|nvJitLink|cupti|cuFile|nvshmem|cu(sparse|blas|fft)\w*(ErrorString|StatusString)")
# cuDNN's own functions answer, but for those that run.
_CUDNN_RUNS = re.compile(r"Forward|Backward|CTCLoss|SpatialTf|SetDropout|FindConvolution|BackendExecute")
_CUDNN_ASKS = re.compile(r"Get\w*(Size|Algorithm|Descriptor|Params)|FindConvolution|(Create|Set|Destroy)CTCLoss")

_CREATES = re.compile(r"^cu[a-zA-Z]*?_?[cC]reate(?!IdentityPermutation)")
_ASKS = re.compile(
    r"Get|Query|[bB]ufferSize|Size|Nnz|[aA]lloc|Estimation|SpGEMM|zeroPivot|Find|Export|Import|Ipc|Graph|Create|Init"
    r"|Split|Grow|Shrink|MemStats"
)
_HARMLESS = re.compile(r"cuda(Stream|Event)Query|cublasGet(Matrix|Vector)Async|cufftSetAutoAllocation")

_COMPUTES = re.compile(r"cudaMemset|cublas|cudnn|cufft|cusolver|cusparse|nccl(Reduce|Recv|Alltoall)")

# Where a function that asks for a buffer's size puts it: the argument's number, from 0, and its C type.
_SIZES: dict[str, tuple[tuple[int, str], ...]] = {
    name: ((place, "int"),)
    for place, names in {
        3: "gesvd",
        4: "sytrf",
        5: "geqrf getrf potrf",
        7: "heevd syevd heevjBatched syevjBatched orgqr ungqr",
        11: "ormqr unmqr gesvdjBatched",
        12: "gesvdj",
        16: "gesvdaStridedBatched",
    }.items()
    for name in names.split()
} | {
    name: ((place, "size_t"), (place + 1, "size_t"))
    for place, names in {
        8: "Xgetrf Xpotrf",
        10: "Xgeqrf",
        11: "Xsyevd XsyevBatched Xsytrs",
        17: "Xgeev",
    }.items()
    for name in names.split()
}
_SPARSE_SIZES = {"SpMV": 9, "SpSV": 9, "SpMM": 10, "SpSM": 10, "SDDMM": 10}
_ARGUMENTS = 20  # more than any of them has


def is_answered(name: str) -> bool:
    """Whether the virtual card stands in for a function that PyTorch imports."""
    if _LEFT_ALONE.match(name):
        return False
    if name.startswith("cudnn"):
        return bool(_CUDNN_RUNS.search(name)) and not _CUDNN_ASKS.search(name)
    return bool(re.match(r"(__)?cuda[A-Z]|cu(blas|fft|solver|sparse)|nccl[A-Z]|cu[A-Z]", name))


def kind_of(name: str) -> Kind:
    """What a function does that nobody wrote by hand."""
    if name.startswith("cudnn") or _HARMLESS.search(name):
        return "works"
    if _places(name):
        return "sizes"
    if name.startswith("cuda") or name.startswith("nccl"):
        return "creates" if name.startswith(("cudaStreamCreate", "cudaEventCreate")) else _asks(name)
    return "creates" if _CREATES.match(name) else _asks(name)


def stubs(names: Iterable[str]) -> str:
    """C code that answers the functions of these names, as far as they are to be answered."""
    lines = [f"/* Generated: see {__name__}. */", '#include "card.h"', "#define STUB __attribute__((weak))"]
    return "\n".join([*lines, *(_stub(name) for name in sorted(names) if is_answered(name)), ""])


def _asks(name: str) -> Kind:
    return "refused" if _ASKS.search(name) else "works"


def _places(name: str) -> tuple[tuple[int, str], ...]:
    """Where a size is put: cusolverDnSpotrf_bufferSize's is argument 5."""
    dense = re.fullmatch(r"cusolverDn[SDCZ]?(\w+)_bufferSize", name)
    if dense:
        return _SIZES.get(dense[1], ())
    sparse = re.fullmatch(r"cusparse(\w+)_bufferSize", name)
    return ((_SPARSE_SIZES[sparse[1]], "size_t"),) if sparse and sparse[1] in _SPARSE_SIZES else ()


def _stub(name: str) -> str:
    kind = kind_of(name)
    if kind == "creates":
        return f"STUB int {name}(void **made) {{ *made = new_handle(); return 0; }}"
    if kind == "refused":
        status = next(status for prefix, status in _NOT_SUPPORTED.items() if name.lstrip("_").startswith(prefix))
        return f'STUB int {name}(void) {{ return refuse("{name}", {status}); }}'
    if kind == "works":
        note = "content_is_computed(); " if _COMPUTES.match(name) else ""
        return f"STUB int {name}(void) {{ {note}return 0; }}"
    arguments = ", ".join(f"void *a{number}" for number in range(_ARGUMENTS))
    sizes = " ".join(f"*({type_} *)a{place} = 0;" for place, type_ in _places(name))
    return f'STUB int {name}({arguments}) {{ note_lower_bound("{name}"); {sizes} return 0; }}'
