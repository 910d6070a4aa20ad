"""What this process may use of its machine: cores and memory, as far as a container's limits (cgroups) leave them."""

from __future__ import annotations

from pathlib import Path

from bench.execution.pool import available_cores

ROOT = Path("/")


def cores(root: Path = ROOT) -> float:
    """Cores, or less where a container has a share of their time."""
    group = root / "sys/fs/cgroup"
    limit = _words(group / "cpu.max") or [_first(group / f"cpu/cpu.cfs_{name}_us") for name in ("quota", "period")]
    quota, period = limit if len(limit) == 2 else ("", "")
    share = int(quota) / int(period) if quota.isdigit() and period.isdigit() else float("inf")
    return min(float(available_cores()), share)


def memory_bytes(root: Path = ROOT) -> int | None:
    """Memory, or less where a container has a limit; None where the system does not tell."""
    group = root / "sys/fs/cgroup"
    limits = [_first(group / "memory.max"), _first(group / "memory/memory.limit_in_bytes")]
    known = [int(limit) for limit in limits if limit.isdigit()]
    words = _words(root / "proc/meminfo")
    if "MemTotal:" in words:
        known.append(int(words[words.index("MemTotal:") + 1]) * 1024)
    return min(known, default=None)


def _first(path: Path) -> str:
    return "".join(_words(path)[:1])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
