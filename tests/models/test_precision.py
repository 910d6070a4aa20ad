"""Autocast in networks, and neither in operators nor in solvers."""

import pytest
import torch

from bench.models.precision import as_now, device_type, full_precision, network_type

X = torch.ones(2, 2)


def now(kind="cpu"):
    """What autocast does at this place: its type, None if it is off."""
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype):
    with torch.autocast("cpu", dtype=dtype):
        assert network_type(X) is dtype
        in_network = as_now(X)
        with full_precision(X):
            assert now() is None
            assert (X @ X).dtype is torch.float32
            with in_network():
                assert now() is dtype
            assert now() is None
        assert now() is dtype
    for _ in range(2):  # as often as a backward pass asks
        with in_network():
            assert now() is dtype
            assert (X @ X).dtype is dtype
    assert now() is None


def test_without_autocast():
    assert network_type(X) is torch.float32
    assert network_type(X.double()) is torch.float64
    in_network = as_now(X)
    for context in (full_precision(X), in_network()):
        with context:
            assert now() is None
    with torch.autocast("cpu", dtype=torch.bfloat16), in_network():
        assert now() is torch.bfloat16  # what was not there is not taken away


def test_tensors_without_data_stand_for_those_of_a_gpu():
    assert [device_type(torch.device(name)) for name in ("meta", "cuda:1", "cpu")] == ["cuda", "cuda", "cpu"]
    was = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    try:  # as torch.autocast does where there is a GPU
        torch.set_autocast_enabled("cuda", True)
        torch.set_autocast_dtype("cuda", torch.float16)
        assert network_type(X.to("meta")) is torch.float16
        assert network_type(X) is torch.float32
    finally:
        torch.set_autocast_enabled("cuda", was[0])
        torch.set_autocast_dtype("cuda", was[1])
