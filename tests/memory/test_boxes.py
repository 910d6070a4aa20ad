"""Boxes that torchvision keeps, and products of groups of rows, against torchvision's and PyTorch's own kernels.

The peaks are those of torchvision 0.29.1 and torch 2.14.1 on the virtual RTX 3080.
"""

import importlib.util
import warnings

import pytest
import torch
from torch import nn

from bench.fitting import Recorded
from bench.memory import CARDS
from bench.memory.forms import as_make_step
from bench.memory.recording.boxes import kept
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of

CARD = CARDS["RTX 3080"]


@pytest.fixture(scope="module")
def nms():
    """torchvision's, or where that is not installed an operation of its name."""
    if importlib.util.find_spec("torchvision"):
        import torchvision

        yield torchvision.ops.nms
        return
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield torch.ops.torchvision.nms
    library._destroy()


def peaks_at_64(make_step):
    probe = Recorded(as_make_step(make_step), first=CARD).needed(CARD, 64)
    return probe.peak_allocated_bytes, probe.peak_reserved_bytes


def test_a_step_that_keeps_boxes_takes_what_the_kernel_takes(nms):
    def make_step(batch):
        model = nn.Linear(4, 4).cuda()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def step():
            boxes = model(torch.rand(batch * 1000, 4, device="cuda"))
            places = nms(boxes.detach(), torch.rand(batch * 1000, device="cuda"), 0.5)
            boxes[places].sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    recorded = Recorded(as_make_step(make_step), first=CARD)
    probe = recorded.needed(CARD, 64)
    assert (probe.peak_allocated_bytes, probe.peak_reserved_bytes) == (533_968_384, 543_162_368)
    assert any("selects by value" in each.what for each in recorded.assumed([CARD]))


@pytest.mark.parametrize(("count", "expected"), [(3, 3), (0, 0)])
def test_of_boxes_without_values_all_may_be_kept(nms, count, expected):
    found = []

    def make_step(batch, device):
        boxes, scores = torch.rand(count, 4, device=device), torch.rand(count, device=device)
        return lambda: found.append(nms(boxes, scores, 0.5))

    with on_cuda(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events_of(make_step, 2, 1)
    assert (found[0].shape, found[0].dtype) == ((expected,), torch.int64)


def test_boxes_are_kept_by_operations_that_give_the_best_first(monkeypatch):
    """With data, and a mask of which all holds."""
    monkeypatch.setattr(torch, "empty", torch.ones)
    scores = torch.tensor([0.2, 0.9, 0.5])
    assert kept(torch.rand(3, 4), scores, 0.5).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("dtype", "peaks"), [(torch.float32, (4_244_992, 6_291_456)), (torch.bfloat16, (2_123_264, 4_194_304))]
)
def test_products_of_groups_of_rows(dtype, peaks):
    def make_step(batch):
        weights = torch.rand(4, 64, 48, device="cuda", requires_grad=True, dtype=dtype)
        ends = torch.tensor([1, 2, 3, 4], dtype=torch.int32, device="cuda") * 16 * batch
        optimizer = torch.optim.SGD([weights], 0.1)

        def step():
            rows = torch.rand(batch * 64, 64, device="cuda", requires_grad=True, dtype=dtype)
            torch._grouped_mm(rows, weights, offs=ends).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    assert peaks_at_64(make_step) == peaks


FORMS = {  # shapes, and shape and strides of the product; rows begin at 16 bytes
    "rows with a matrix each": ((12, 8), (3, 8, 5), (12, 5), (8, 1)),
    "columns with rows": ((6, 12), (12, 8), (3, 6, 8), (48, 8, 1)),
    "matrices with columns": ((3, 6, 8), (8, 12), (6, 12), (16, 1)),
    "matrices with matrices": ((3, 6, 8), (3, 8, 5), (3, 6, 5), (48, 8, 1)),
}


@pytest.mark.parametrize(("one", "other", "shape", "strides"), FORMS.values(), ids=FORMS)
def test_what_such_a_product_is(one, other, shape, strides):
    found = []

    def make_step(batch, device):
        ends = torch.tensor([4, 8, 12], dtype=torch.int32, device=device)
        both = [torch.rand(each, device=device, dtype=torch.bfloat16) for each in (one, other)]
        return lambda: found.append(torch._grouped_mm(*both, offs=ends if len(one) + len(other) < 6 else None))

    with on_cuda():
        events_of(make_step, 2, 1)
    assert (found[0].shape, found[0].stride(), found[0].dtype) == (shape, strides, torch.bfloat16)


def test_such_a_product_of_numbers_that_lie_apart_is_refused_as_on_a_card():
    def make_step(batch, device):
        rows, others = torch.rand(1, 1, device=device).expand(8, 16), torch.rand(2, 16, 8, device=device)
        ends = torch.tensor([4, 8], dtype=torch.int32, device=device)
        return lambda: torch._grouped_mm(rows, others, offs=ends)

    with on_cuda(), pytest.raises(RuntimeError, match="Invalid strides/sizes"):
        events_of(make_step, 2, 1)
