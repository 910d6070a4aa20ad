"""Snapshots, read by PyTorch's own tool."""

import pickle

import pytest
import torch
from torch import nn
from torch.cuda import _memory_viz

from bench.memory import SimulatedEngine, card_of_capacity, record
from bench.memory.explain import explain
from bench.memory.snapshot import write
from bench.memory.sources import locate

CARD = card_of_capacity("600MB")


def make_step(batch, device):
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3)).to(device)

    def step():
        network.zero_grad(set_to_none=True)
        network(torch.rand(batch, 1, 64, 64, device=device)).square().mean().backward()

    return step


@pytest.fixture(scope="module")
def trace():
    return record(make_step)


@pytest.fixture
def written(trace, tmp_path):
    def written(batch):
        explanation = explain(SimulatedEngine(trace, CARD), batch, locate(make_step, trace, batch))
        write(explanation, tmp_path / "snapshot.pickle")
        with open(tmp_path / "snapshot.pickle", "rb") as file:
            return explanation, pickle.load(file)

    return written


def test_pytorchs_own_tool_reads_it(written):
    explanation, snapshot = written(50)
    summary = _memory_viz.segsum(snapshot)
    assert f"segments: {len(explanation.segments)}" in summary
    assert f"total_reserved: {_memory_viz.Bytes(explanation.history[-1].reserved_bytes)}" in summary
    told = _memory_viz.trace(snapshot)
    assert "cudaMalloc" in told
    assert "free completed" in told
    flames = _memory_viz.memory(snapshot, format_flamegraph=str)
    assert "aten::convolution_backward" in flames
    assert "test_snapshot.py" in flames
    assert _memory_viz.segments(snapshot, format_flamegraph=str)
    for plot in (_memory_viz.trace_plot, _memory_viz.segment_plot):
        assert "MemoryViz.js" in plot(snapshot)
    left = _memory_viz.filter_alloc_free_pairs(snapshot)["device_traces"][0]
    live = sum(block.in_use for segment in explanation.segments for block in segment.blocks)
    assert len([entry for entry in left if entry["action"] == "alloc"]) == live


def test_the_trace_leads_to_the_segments(written):
    _, snapshot = written(50)
    live, segments = {}, {}
    for entry in snapshot["device_traces"][0]:
        match entry["action"]:
            case "alloc":
                assert entry["addr"] not in live
                assert entry["frames"]
                live[entry["addr"]] = entry["size"]
            case "free_completed":
                assert live.pop(entry["addr"]) == entry["size"]
            case "segment_alloc":
                segments[entry["addr"]] = entry["size"]
            case "segment_free":
                assert segments.pop(entry["addr"]) == entry["size"]
    assert segments == {segment["address"]: segment["total_size"] for segment in snapshot["segments"]}
    blocks = {}
    for segment in snapshot["segments"]:
        address = segment["address"]
        for block in segment["blocks"]:
            assert block["address"] == address
            address += block["size"]
            if block["state"] == "active_allocated":
                blocks[block["address"]] = block["requested_size"]
        assert address == segment["address"] + segment["total_size"]
    assert blocks == live


def test_out_of_memory_stands_at_the_line_that_failed(written):
    explanation, snapshot = written(10_000)
    assert not explanation.fits
    last = snapshot["device_traces"][0][-1]
    assert last["action"] == "oom"
    assert last["size"] == explanation.failed_request_bytes
    assert 0 <= last["device_free"] < last["size"]
    operation, line, *_ = last["frames"]
    assert operation["name"].startswith("aten::")
    assert "network(torch.rand" in open(__file__).read().splitlines()[line["line"] - 1]  # noqa: SIM115
    assert "OutOfMemoryError" in _memory_viz.trace(snapshot)
    assert sum(explanation.categories.values()) == CARD.total_bytes
