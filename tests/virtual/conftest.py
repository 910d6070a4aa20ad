"""A build of PyTorch for CUDA that is none, for what happens before the virtual card is loaded."""

import pytest
import torch

from bench.virtual import library


@pytest.fixture
def cuda_build(monkeypatch, tmp_path):
    """A build of PyTorch for CUDA 13 whose libraries import nothing, and an empty cache folder."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(library, "_torch_libraries", lambda: list((tmp_path / "torch/lib").glob("*.so*")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(library, "_TRIAL", "")
    return tmp_path / "cache/bench/virtual-card"
