"""The caching allocator of one PyTorch release, compiled by PyTorch itself, on a simulated device."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Event = tuple[str] | tuple[str, int] | tuple[str, int, int]  # ("a", id, bytes), ("f", id) or ("e",)
Answer = tuple[int, int, int, int]  # bytes allocated, bytes reserved, segments, retries

HERE = Path(__file__).parent
SOURCES = (HERE / "driver.cpp", HERE / "stub" / "cuda.h", HERE / "stub" / "cuda.cpp")
LOG_LEVEL_ERROR = "2"  # for TORCH_CPP_LOG_LEVEL: without a warning per out of memory


@dataclass(frozen=True)
class Answers:
    """What the allocator answered: after every event, or None where it ran out of memory; and its peaks."""

    after: list[Answer | None]
    peak_allocated_bytes: int
    peak_reserved_bytes: int


class Oracle:
    """Runs events through the libc10_cuda.so of a PyTorch release.

    Args:
        torch_lib: The folder torch/lib of a CUDA wheel, beside torch/include and torch/version.py.
        cache: Where the compiled driver is kept; by default a folder in ~/.cache.
    """

    def __init__(self, torch_lib: Path, cache: Path | None = None) -> None:
        self.torch_lib = torch_lib.resolve()
        self.library = self.torch_lib / "libc10_cuda.so"
        if not self.library.is_file():
            raise FileNotFoundError(f"{torch_lib} holds no libc10_cuda.so: give the torch/lib of a CUDA wheel")
        self._cache = cache or Path.home() / ".cache" / "bench-allocator-oracle"

    @cached_property
    def release(self) -> str:
        """The release of PyTorch, such as "2.13.0"."""
        text = (self.torch_lib.parent / "version.py").read_text()
        found = re.search(r"__version__ = '([\d.]+)", text)
        if not found:
            raise ValueError(f"{self.torch_lib.parent / 'version.py'} names no version")
        return found[1]

    @cached_property
    def folder(self) -> Path:
        """The folder of the driver and the stub libraries, compiled if they are not there yet."""
        content = hashlib.sha256()
        for path in (*SOURCES, Path(__file__), self.library):
            content.update(path.read_bytes())
        folder = self._cache / content.hexdigest()[:16]
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                made = Path(scratch) / "made"
                made.mkdir()
                self._compile(made)
                try:
                    made.rename(folder)
                except OSError:
                    if not folder.is_dir():  # otherwise another process was faster
                        raise
        return folder

    def run(
        self,
        events: Iterable[Event],
        total_bytes: int,
        memory_fraction: float = 1.0,
        alloc_conf: str | None = None,
        *,
        stop_at_out_of_memory: bool = False,
    ) -> Answers:
        """Run events on a device of `total_bytes`, in a process of its own, all or up to the first out of memory.

        Raises:
            RuntimeError: The driver failed, for example over `alloc_conf`; the message says how.
        """
        done = subprocess.run(
            [self.folder / "driver", repr(memory_fraction), "stop" if stop_at_out_of_memory else "go on"],
            input="\n".join(" ".join(map(str, event)) for event in events),
            env={
                "LD_LIBRARY_PATH": f"{self.folder}:{self.torch_lib}",
                "ORACLE_TOTAL_BYTES": str(total_bytes),
                "PYTORCH_CUDA_ALLOC_CONF": alloc_conf or "",
                "TORCH_CPP_LOG_LEVEL": LOG_LEVEL_ERROR,
            },
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"the driver for torch {self.release} ended with {done.returncode}: {done.stderr}")
        *lines, peaks = done.stdout.splitlines()
        peak_allocated, peak_reserved = map(int, peaks.split())
        return Answers([_answer(line) for line in lines], peak_allocated, peak_reserved)

    def _compile(self, folder: Path) -> None:
        imports = re.findall(r" U (cuda\w+)@(\S+)", _output("nm", "-D", "--undefined-only", self.library))
        soname = imports[0][1]  # of the CUDA runtime, which is also the version of its symbols
        _output("g++", "-O2", "-fPIC", "-c", HERE / "stub" / "cuda.cpp", "-o", folder / "cuda.o")
        defined = set(re.findall(r" T (cuda\w+)", _output("nm", "--defined-only", folder / "cuda.o")))
        rest = folder / "rest.c"
        rest.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name, _ in imports if name not in defined))
        runtime = folder / soname
        stub_flags = ("-shared", "-fPIC", f"-Wl,-soname,{soname},--default-symver")
        _output("g++", *stub_flags, folder / "cuda.o", "-x", "c", rest, "-o", runtime)
        (folder / "libnvidia-ml.so.1").symlink_to(soname)
        for name in ("cuda_runtime.h", "cuda_runtime_api.h"):
            (folder / name).write_text("#include <cuda.h>\n")
        includes = [f"-I{path}" for path in (folder, HERE / "stub", self.torch_lib.parent / "include")]
        # The stub comes first: a runtime of the same name that the wheel knows of is then not loaded.
        libraries = ("-Wl,--no-as-needed", runtime, self.library, self.torch_lib / "libc10.so")
        _output("g++", "-std=c++20", "-O1", "-w", *includes, HERE / "driver.cpp", *libraries, "-o", folder / "driver")


def _answer(line: str) -> Answer | None:
    if line == "null":
        return None
    allocated, reserved, segments, retries = map(int, line.split())
    return allocated, reserved, segments, retries


def _output(*command: str | os.PathLike[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout
