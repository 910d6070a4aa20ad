"""Snapshots, read by PyTorch's own tool."""

import pickle

import pytest
import torch
from torch import nn
from torch.cuda import _memory_viz

from bench.memory import SimulatedEngine, card_of_capacity, record
from bench.memory.allocator.caching import AllocatorConfig
from bench.memory.explaining.explain import explain
from bench.memory.explaining.snapshot import write
from bench.memory.explaining.sources import locate
from bench.memory.simulated import TypicalWorkspaces, installed_release
from bench.units import MiB

CARD = card_of_capacity("600MB")
EXPANDABLE = "expandable_segments:True"


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
    def written(batch, alloc_conf=""):
        config = AllocatorConfig.parse(alloc_conf, installed_release())
        engine = SimulatedEngine(trace, CARD, config=config, workspaces=TypicalWorkspaces())
        explanation = explain(engine, batch, locate(make_step, trace, batch))
        write(explanation, tmp_path / "snapshot.pickle")
        with open(tmp_path / "snapshot.pickle", "rb") as file:
            return explanation, pickle.load(file)

    return written


@pytest.mark.parametrize("alloc_conf", ["", EXPANDABLE])
def test_pytorchs_own_tool_reads_it(written, alloc_conf):
    explanation, snapshot = written(50, alloc_conf)
    summary = _memory_viz.segsum(snapshot)
    assert f"segments: {len(explanation.segments)}" in summary
    assert f"total_reserved: {_memory_viz.Bytes(explanation.history[-1].reserved_bytes)}" in summary
    told = _memory_viz.trace(snapshot)
    assert ("segment_map" if alloc_conf else "cudaMalloc") in told
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


def put(ranges, address, size):
    """Add a range of addresses to disjoint ones, joining it with those it touches."""
    before = next((start for start, length in ranges.items() if start + length == address), None)
    if before is not None:
        address, size = before, ranges.pop(before) + size
    ranges[address] = size + ranges.pop(address + size, 0)


def take(ranges, address, size):
    """Cut a range of addresses out of the one that holds it."""
    start = next(start for start, length in ranges.items() if start <= address and address + size <= start + length)
    end = start + ranges.pop(start)
    ranges |= {a: b - a for a, b in ((start, address), (address + size, end)) if a < b}


@pytest.mark.parametrize("alloc_conf", ["", EXPANDABLE])
@pytest.mark.parametrize(("batch", "releases"), [(50, False), (280, True)])
def test_the_trace_leads_to_the_segments(written, batch, releases, alloc_conf):
    """With the cache released on the way (before memory runs out all the same), and without."""
    explanation, snapshot = written(batch, alloc_conf)
    actions = {entry["action"] for entry in snapshot["device_traces"][0]}
    released = "segment_unmap" if alloc_conf else "segment_free"
    assert {action for action in actions if action.startswith("segment")} == {
        "segment_map" if alloc_conf else "segment_alloc",
        *([released] if releases else []),
    }
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
            case "segment_map":
                put(segments, entry["addr"], entry["size"])
            case "segment_unmap":
                take(segments, entry["addr"], entry["size"])
    assert sum(segments.values()) == explanation.history[-1].reserved_bytes
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
    assert "addr" not in last
    assert last["device_free"] == CARD.usable_bytes - explanation.history[-1].reserved_bytes
    assert last["size"] == explanation.failed_request_bytes
    assert 0 <= last["device_free"] < last["size"]
    operation, line, *_ = last["frames"]
    assert operation["name"].startswith("aten::")
    assert "network(torch.rand" in open(__file__).read().splitlines()[line["line"] - 1]  # noqa: SIM115
    assert "OutOfMemoryError" in _memory_viz.trace(snapshot)
    assert sum(explanation.categories.values()) == CARD.total_bytes


def test_every_field_is_pytorchs(written):
    """Frames where memory is asked for alone, and the numbers that mean nothing without a card."""
    _, snapshot = written(50)
    (entries,) = snapshot["device_traces"]
    for entry in (*entries, *snapshot["segments"]):
        assert (entry["device"], entry["stream"]) == (0, 0)
    assert {entry["action"] for entry in entries if entry["frames"]} == {"alloc"}
    operations = {entry["frames"][0]["name"] for entry in entries if entry["frames"]}
    assert {"aten::convolution.default", "aten::pow.Tensor_Scalar"} <= operations
    assert all(entry["frames"][0] | {"name": ""} == OPERATION for entry in entries if entry["frames"])
    kinds = {(segment["segment_type"], segment["total_size"] == 2 * MiB) for segment in snapshot["segments"]}
    assert kinds == {("small", True), ("large", False)}
    assert {segment["segment_pool_id"] for segment in snapshot["segments"]} == {(0, 0)}
    assert [entry["time_us"] for entry in entries] == sorted(entry["time_us"] for entry in entries)


OPERATION = {"filename": "??", "line": 0, "name": ""}
