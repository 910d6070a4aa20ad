"""The virtual card's library: built at first use with any C compiler, kept in the user's cache folder.

Two files that Linux's loader takes for the driver and for NVML by their names, and that come before all others in the
processes they are preloaded into (LD_PRELOAD). The folder is named by everything that goes into them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch

from bench.virtual.elf import NotElfError, dynamic_symbols
from bench.virtual.figures import NoVirtualCardError
from bench.virtual.symbols import stubs

DRIVER, NVML = "libcuda.so.1", "libnvidia-ml.so.1"
CUDA_MAJORS = "12", "13"  # whose structures source/ has
_SOURCE = Path(__file__).parent / "source"
_OPTIONS = ("-shared", "-fPIC", "-O1", "-w", "-std=gnu11")
_COMPILERS = ("cc", "gcc", "clang")

_IS_REFUSED = 3
_TRIAL = f"""
import ctypes, sys
hasattr(ctypes.CDLL(None), "virtual_card_set") or sys.exit({_IS_REFUSED})
import torch
"""


def require_virtual_card() -> None:
    """Check that PyTorch and the system are such that the library can be loaded.

    Raises:
        NoVirtualCardError: another system or processor, or no CUDA build of PyTorch, or one of another CUDA.
    """
    system = f"{platform.system()} on {platform.machine()}"
    if system != "Linux on x86_64":
        raise NoVirtualCardError(f"the virtual engine needs Linux on x86_64, this is {system}: use --engine simulated")
    if torch.version.cuda is None:
        raise NoVirtualCardError(
            f"the virtual engine needs a CUDA build of PyTorch, but {torch.__version__} is built without CUDA: "
            "pip install torch from PyPI in an environment of its own, or use --engine simulated"
        )
    if _cuda_major() not in CUDA_MAJORS:
        raise NoVirtualCardError(
            f"the virtual engine knows builds of PyTorch for CUDA {' and '.join(CUDA_MAJORS)}, but "
            f"{torch.__version__} is for CUDA {torch.version.cuda}: install another build, or use --engine simulated"
        )


def environment() -> dict[str, str]:
    """What a process's environment needs for it to have the virtual card; the library is built if it is not there yet.

    Kernels in Triton, which PyTorch has a few of, look for the driver themselves, and keep what they compile apart.

    Raises:
        NoVirtualCardError: it cannot be built or kept.
    """
    require_virtual_card()
    torch_libraries = _torch_libraries()
    try:
        folder = _cache_folder() / _key(torch_libraries)
        if not folder.is_dir():
            _build_into(folder, torch_libraries)
    except OSError as error:
        raise NoVirtualCardError(f"no place to keep the virtual card ({error}): set XDG_CACHE_HOME") from error
    return {
        "LD_PRELOAD": preloads(folder),
        "TRITON_LIBCUDA_PATH": str(folder),
        "TRITON_CACHE_DIR": str(folder.with_suffix(".triton")),
    }


def is_built() -> bool:
    """Whether the library for this PyTorch is kept already."""
    return (_cache_folder() / _key(_torch_libraries())).is_dir()


def imported_by(torch_libraries: Iterable[Path]) -> set[str]:
    """The functions that the libraries of a build of PyTorch import, whosever they are.

    Raises:
        NoVirtualCardError: one of them is damaged.
    """
    try:
        return {name for path in torch_libraries for name in dynamic_symbols(path).imported}
    except NotElfError as error:
        raise NoVirtualCardError(f"{error}: install torch again") from error


def build(folder: Path, imported: Iterable[str], cuda_major: str) -> None:
    """Compile the library that answers the functions `imported`, as CUDA of this major version, into `folder`.

    Raises:
        NoVirtualCardError: there is no compiler, or it fails.
    """
    generated = folder / "stubs.c"
    generated.write_text(stubs(imported))
    sources = [str(path) for path in (*sorted(_SOURCE.glob("*.c")), generated)]
    version = f"-DCUDA_VERSION={cuda_major}000"
    named = ("-I", str(_SOURCE), f"-Wl,-soname,{DRIVER}", "-o", str(folder / DRIVER))
    _compile(version, *named, *sources, "-ldl", "-lpthread")
    empty = folder / "empty.c"
    empty.write_text("")
    needs_driver = ("-Wl,--no-as-needed", "-L", str(folder), f"-l:{DRIVER}")
    _compile(f"-Wl,-soname,{NVML}", "-o", str(folder / NVML), str(empty), *needs_driver)


def compiler() -> list[str]:
    """How the C compiler is called: as CC says, or else the first that there is.

    Raises:
        NoVirtualCardError: there is none.
    """
    command = os.environ.get("CC", "").split()
    if command and not shutil.which(command[0]):
        raise NoVirtualCardError(f"there is no C compiler {command[0]}, which CC names: name another in CC")
    command = command or list(filter(shutil.which, _COMPILERS))[:1]
    if not command:
        raise NoVirtualCardError(
            f"the virtual engine needs a C compiler once, and there is none of {', '.join(_COMPILERS)}: "
            "install one (apt-get install gcc), or name it in CC"
        )
    return command


def _build_into(folder: Path, torch_libraries: list[Path]) -> None:
    """Build in a folder beside and put it in place at once: whoever is first with it, all have the same."""
    imported = imported_by(torch_libraries)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        made = Path(beside) / "made"
        made.mkdir()
        build(made, imported, _cuda_major())
        _try(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _try(folder: Path) -> None:
    """Import PyTorch once where the library in `folder` is preloaded."""
    python = [sys.executable, "-c", _TRIAL]
    preloaded = os.environ | {"LD_PRELOAD": preloads(folder), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(python, env=preloaded, capture_output=True, text=True, check=False)
    if done.returncode == _IS_REFUSED:
        raise NoVirtualCardError(
            f"this system refuses to preload the virtual card's library from {folder.parent.parent}: "
            "set XDG_CACHE_HOME to a folder whose files may be executed"
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise NoVirtualCardError(
            f"torch {torch.__version__} cannot be imported on the virtual card ({reason}): "
            "install another build, or use --engine simulated"
        )


def preloads(folder: Path) -> str:
    """What LD_PRELOAD has to be for a process to have the library in `folder`."""
    return ":".join(str(folder / name) for name in (DRIVER, NVML))


def _compile(*arguments: str) -> None:
    command = compiler()
    try:
        done = subprocess.run([*command, *_OPTIONS, *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoVirtualCardError(f"the C compiler does not start ({error}): name another in CC") from error
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
        raise NoVirtualCardError(f"{command[0]} cannot build the virtual card ({first.strip()}): name another in CC")


def _cuda_major() -> str:
    """Of the CUDA that the installed PyTorch is built for, as in "13"."""
    return (torch.version.cuda or "").split(".")[0]


def _torch_libraries() -> list[Path]:
    return sorted((Path(torch.__file__).parent / "lib").glob("*.so*"))


def _key(torch_libraries: list[Path]) -> str:
    """Names what is built: the sources, the generator and the build of PyTorch."""
    digest = hashlib.sha256(f"{torch.__version__} {torch.version.cuda} {sys.version_info[:2]} {_OPTIONS}".encode())
    for path in (*sorted(_SOURCE.iterdir()), Path(__file__).with_name("symbols.py")):
        digest.update(path.read_bytes())
    for path in torch_libraries:
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()[:24]


def _cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "bench" / "virtual-card"
