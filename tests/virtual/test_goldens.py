"""The recording held against what the virtual card answered (tests/golden/virtual), without a CUDA build.

What the two differ in today is counted exactly, so that a change on either side shows; docs/FIDELITY.md has the causes.
"""

from functools import cache
from pathlib import Path

import pytest

from bench import config
from bench.cells import suite
from bench.memory import CARDS, record
from bench.memory.allocator.caching import FREE, AllocatorConfig, CachingAllocator, replay
from bench.memory.trace import Workspace
from bench.virtual.comparison import compare
from bench.virtual.goldens import Golden, Goldens, events_of, read, same, same_step, write
from tests.fidelity import gradients, modules, recurrent
from tools.virtual_goldens import calls

FOLDER = Path(__file__).parents[1] / "golden" / "virtual"
RELEASES = ["2.11", "2.13", "2.14", "2.15"]
CELLS = [f"{cell.architecture} on {cell.task}" for cell in suite.cells(config.load(config.default_path()))]


@cache
def goldens(file):
    return read(FOLDER / f"{file}.json.xz")


@cache
def recorded(name, steps):
    cell = next(c for c in suite.cells(config.load(config.default_path())) if f"{c.architecture} on {c.task}" == name)
    return record(cell.workload.for_recording().make_step, steps)


@cache
def difference(release, name):
    made = goldens(f"torch-{release}")
    golden = made.cells[name]
    trace = recorded(name, made.steps).on(CARDS[made.card])
    return compare(trace.at(golden.batch, Workspace.LOW), golden.events)


def test_there_are_goldens_of_every_kind_and_release():
    for kind, names in KINDS.items():
        for release in RELEASES:
            made = goldens(f"{kind}-{release}")
            assert list(made.cells) == list(names)
            assert made.torch.startswith(f"{release}.") and made.cudnn == CUDNN[release]


CUDNN = {"2.11": "9.19.0", "2.13": "9.20.0", "2.14": "9.24.0", "2.15": "9.26.0"}

# Whole steps beside the suite's: how many events with each release, values read and selections by value in a step.
FOREIGN = {
    "language_model_with_amp": ((1891, 1890, 1890, 2096), 2, 0),
    "language_model_in_bfloat16": ((567, 566, 566, 648), 0, 1),  # the gradient of an embedding
    "vision_transformer": ((1539, 1538, 1538, 1740), 0, 0),
    "u_net_channels_last": ((1082, 1082, 1094, 1090), 0, 0),
    "recurrent_cells": ((2978, 2977, 2977, 4167), 0, 0),
    "contrastive": ((361, 360, 360, 410), 0, 0),
    "checkpointed": ((1060, 1058, 1058, 1248), 0, 0),
    "accumulated": ((653, 652, 636, 686), 0, 0),
    "adversarial": ((709, 709, 709, 791), 0, 0),
    "diffusion_with_average": ((613, 612, 624, 666), 0, 0),
}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", FOREIGN)
def test_what_foreign_steps_do(release, name):
    golden = goldens(f"foreign-{release}").cells[name]
    events, values_read, selections = FOREIGN[name]
    found = len(golden.events), golden.values_read, golden.selections
    assert found == (events[RELEASES.index(release)], values_read, selections)
    assert 0 < golden.setup < len(golden.events) and golden.lower_bounds == ()


KINDS = {
    "torch": CELLS,
    "foreign": FOREIGN,
    "gradients": gradients.STEPS,
    "modules": modules.STEPS,
    "recurrent": recurrent.STEPS,
}


@pytest.mark.parametrize(
    ("file", "name"),
    [(f"{kind}-{release}", name) for kind, names in KINDS.items() for release in RELEASES for name in names],
)
def test_the_allocator_replays_the_cards_events_to_the_byte(file, name):
    """The events came from PyTorch's compiled allocator on the card, and so did the peaks."""
    made = goldens(file)
    golden = made.cells[name]
    version = tuple(int(part) for part in made.torch.split(".")[:2])
    allocator = CachingAllocator(CARDS[made.card].usable_bytes, config=AllocatorConfig(torch_version=version))
    replayed = replay(golden.events, allocator)
    assert replayed.fits
    assert replayed.peak_allocated_bytes == golden.peak_allocated_bytes
    assert replayed.peak_reserved_bytes == golden.peak_reserved_bytes


# Events of both; temporaries of 512 bytes, of the singular values that a network's weights begin with; larger ones with
# each release, workspaces of cuDNN, and in 2.15 of every call of cuBLAS, which keeps none any more (one that is
# recorded as kept is among those of both); other allocations of the card alone; those of the recording alone, here the
# same two in another order.
DIFFERENCES = {
    "LU-DnCNN on deblurring": (5851, 0, (768, 768, 512, 512), 0, 0),
    "DEQ4IP on deblurring": (11377, 51, (807, 807, 755, 1025), 0, 0),
    "LUSER-SW on deblurring": (41869, 21, (1513, 1513, 1657, 2799), 0, 0),
    "LUSER-DW on deblurring": (47301, 168, (1576, 1576, 1720, 3254), 0, 0),
    "LU-DnCNN on ct": (6618, 0, (752, 752, 512, 512), 2, 2),
    "DEQ4IP on ct": (12600, 51, (785, 785, 755, 1025), 2, 2),
    "LUSER-SW on ct": (44364, 21, (1497, 1497, 1465, 2607), 2, 2),
    "LUSER-DW on ct": (49796, 168, (1560, 1560, 1528, 3062), 2, 2),
    "LU-DnCNN on mri": (6116, 0, (752, 752, 512, 512), 0, 0),
    "DEQ4IP on mri": (11842, 51, (785, 785, 755, 1025), 0, 0),
    "LUSER-SW on mri": (43862, 21, (1497, 1497, 1657, 2799), 0, 0),
    "LUSER-DW on mri": (49294, 168, (1560, 1560, 1720, 3254), 0, 0),
}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", CELLS)
def test_the_recording_differs_from_the_card_in_what_is_known(release, name):
    found = difference(release, name)
    same, small, larger, on_card, recorded = DIFFERENCES[name]
    if release == "2.15" and not name.startswith("LU-DnCNN"):
        same += 2
    assert (found.same, found.temporaries[512]) == (same, small)
    assert found.temporaries.total() - small == larger[RELEASES.index(release)]
    assert (found.on_card.total(), found.recorded.total()) == (on_card, recorded)


def with_events(*numbers):
    """Of one step with the events that a file has so."""
    golden = Golden(
        batch=2,
        peak_allocated_bytes=1024,
        peak_reserved_bytes=2**21,
        values_read=0,
        selections=0,
        lower_bounds=("cufftXtMakePlanMany",),
        setup=1,
        events=tuple(events_of(numbers)),
    )
    return Goldens(torch="2.14.1", cudnn="9.24.0", card="H200", steps=2, cells={"A on b": golden})


def test_a_golden_survives_its_file(tmp_path):
    made = with_events(512, 512, -2, -1)
    for name in ("one", "other"):
        write(made, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert read(tmp_path / "one") == made


def test_a_files_events_name_what_they_free():
    """The k-th last."""
    events = [(0, 100), (1, 200), (1, FREE), (2, 300), (0, FREE), (2, FREE)]
    assert list(events_of([100, 200, -1, 300, -3, -1])) == events


def test_a_file_keeps_its_bytes(tmp_path):
    file = FOLDER / "foreign-2.14.json.xz"
    write(read(file), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_the_order_of_frees_alone_makes_no_difference():
    assert same(with_events(4, 8, -1, -2, 4), with_events(4, 8, -2, -1, 4))
    assert not same(with_events(4, 8, -1, 4), with_events(4, 8, -2, 4))
    assert not same(with_events(4, -1, 8, -1), with_events(4, 8, -1, -2))
    assert not same(with_events(4), with_events(4).model_copy(update={"torch": "2.15.0"}))
    (one,), (other,), (else_,) = (
        with_events(*events).cells.values() for events in ((4, 8, -1, -2), (4, 8, -2, -1), (4, 8, -2))
    )
    assert same_step(one, other) and not same_step(one, else_) and not same_step(None, one)


def test_what_a_call_frees_last_makes_no_difference():
    """A gradient's thread lets go of it after the call, or just before its end."""
    kept = {"T4": [[4, 8, -1, -2], [4, -1, 8, -1]]}
    assert calls.same(kept, {"T4": [[4, 8, -2], [4, -1, 8]]})
    assert not calls.same(kept, {"T4": [[4, 8, -2], [4, 8, -1, -2]]})
    assert not calls.same(kept, {"T4": [[4, 8, 4], [4, -1, 8]]})
    assert not calls.same(kept, {"L4": kept["T4"]}) and not calls.same(kept, {"T4": kept["T4"][:1]})
