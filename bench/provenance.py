"""Where a number comes from: versions, commit, and a fingerprint of the sources that produced it."""

from __future__ import annotations

import datetime
import functools
import hashlib
import platform
import subprocess
from pathlib import Path

import torch

import bench
from bench import models, operators
from bench.records import Provenance, Stage

_OF_STAGE: dict[Stage, tuple[str, ...]] = {
    "memory": ("memory",),
    "profile": ("memory", "stages/memory.py"),
    "timing": (),
    "accuracy": ("data", "accuracy"),
}
"""Folders and files of bench, beside the stage's own module."""


@functools.cache
def source_fingerprint(stage: Stage) -> str:
    """A hash of the code that decides a stage's result: networks, operators, the workload and the stage itself."""
    harness = Path(bench.__file__).parent
    parts = [Path(models.__file__).parent, Path(operators.__file__).parent, harness / "workload.py"]
    parts += [harness / "stages" / f"{stage}.py", *(harness / name for name in _OF_STAGE[stage])]
    files = [path for part in parts for path in ([part] if part.is_file() else sorted(part.rglob("*.py")))]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def _commit() -> str | None:
    """The commit of the checkout that the package runs from, "-dirty" if tracked files were changed."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(bench.__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None


def provenance(stage: Stage) -> Provenance:
    """The provenance of a record of `stage` made now."""
    return Provenance(
        bench=bench.__version__,
        source=source_fingerprint(stage),
        commit=_commit(),
        torch=torch.__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )
