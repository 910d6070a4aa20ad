"""What is changed, and which tests must notice."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = {
    "bench/memory": ("tests/memory/", "tests/virtual/test_steps.py"),
    "bench/regression": ("tests/regression/", "tests/harness/test_check_command.py"),
    "models": ("tests/models/", "tests/strategies/test_gradients.py"),
    "operators": ("tests/operators/",),
}


def package_of(path: str) -> str:
    """The package of TESTS that a path is, or lies in.

    Raises:
        ValueError: None is.
    """
    for package in TESTS:
        if f"{path}/".startswith(f"{package}/") and (ROOT / path).exists():
            return package
    raise ValueError(f"{path}: expected a package or a file of {', '.join(TESTS)}")


def files(path: str) -> list[str]:
    """The Python files that a path names, from the root of the repository."""
    found = sorted((ROOT / path).rglob("*.py")) if (ROOT / path).is_dir() else [ROOT / path]
    return [file.relative_to(ROOT).as_posix() for file in found]
