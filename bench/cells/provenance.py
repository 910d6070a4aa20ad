"""Where a number comes from: versions, commit, and the fingerprint of the code that decides it (bench.cells.code)."""

from __future__ import annotations

import datetime
import functools
import platform
import subprocess
from pathlib import Path

import torch

import bench
from bench.records import Provenance


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


def provenance(source: str) -> Provenance:
    """The provenance of what is made now by code with the fingerprint `source`."""
    return Provenance(
        bench=bench.__version__,
        source=source,
        commit=_commit(),
        torch=torch.__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )
