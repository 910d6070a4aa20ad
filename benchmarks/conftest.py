"""Benchmarks are collected with ``pytest --benchmark-only``, and left out of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.getoption("benchmark_only") or collection_path.is_dir() else True
