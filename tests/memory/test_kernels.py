"""What kernels take of their own, against calls that the virtual card answered."""

import itertools
import json
import lzma
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from bench.memory import CARDS, record
from bench.memory.recording import batches, convolving, indexing
from bench.memory.recording.device_sorting import radix_sort_bytes, scan_bytes, unique_bytes
from bench.memory.recording.recorder import events_of
from bench.memory.trace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1]))

from fidelity.calls import AllCalls, by_call
from fidelity.calls import recorded as recorded_calls
from fidelity.kernels import CALLS, Call

GOLDEN = Path(__file__).parents[1] / "golden" / "virtual" / "kernels-2.14.json.xz"
ANSWERS = json.loads(lzma.decompress(GOLDEN.read_bytes()))
aten = torch.ops.aten
OF_THE_CARD = 0.02  # of a call's peak: a sort's storage hangs on how many keys a block of the card takes


@pytest.fixture(scope="module")
def recorded():
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(batches, "installed_release", lambda: (2, 14))
        trace = record(AllCalls(CALLS))
    return {name: by_call(trace.on(CARDS[name]).at(1, Workspace.LOW))[: len(CALLS)] for name in ANSWERS}


def test_every_call_takes_what_it_takes_on_the_virtual_card(recorded):
    found = list(zip(CALLS, recorded["RTX 3080"], ANSWERS["RTX 3080"], strict=True))
    assert len(found) > 150
    assert [each for each in found if each[1] != each[2]] == []


@pytest.mark.parametrize("name", ["H200", "T4"])
def test_other_cards_differ_in_the_storage_of_sorts_alone(recorded, name):
    pairs = list(zip(recorded[name], ANSWERS[name], strict=True))
    different = [(told, took) for told, took in pairs if told != took]
    assert len(different) < 0.2 * len(pairs)
    for told, took in different:
        assert [each if each < 0 else 0 for each in told] == [each if each < 0 else 0 for each in took]
        assert peak_bytes(told) == pytest.approx(peak_bytes(took), rel=OF_THE_CARD)


def peak_bytes(events):
    """The most bytes at one time; -k frees the k-th allocation."""
    sizes = [event for event in events if event > 0]
    changes = [event if event > 0 else -sizes[-event - 1] for event in events]
    return max(itertools.accumulate(changes))


@pytest.mark.parametrize(
    ("bytes_", "expected"),
    [
        (radix_sort_bytes(2304, 8, 8, 64), 1),
        (radix_sort_bytes(2305, 8, 8, 6), 3583),
        (radix_sort_bytes(1_000_000, 8, 8, 9), 16_271_871),
        (radix_sort_bytes(1_000_000, 4, 8, 32), 12_342_527),
        (scan_bytes(7, 4), 1023),
        (scan_bytes(10_000_000, 4), 42_495),
        (scan_bytes(10_000_000, 8), 179_711),
        (unique_bytes(1_000_000), 51_199),
    ],
)
def test_storage_of_cub_on_the_virtual_rtx_3080(bytes_, expected):
    assert bytes_ == expected


TENSORS = "x = [numbers(70_000), numbers(10), numbers(200_000)]"


@pytest.mark.parametrize(
    ("call", "release", "taken"),
    [
        ("_foreach_norm(x, 2)", (2, 14), [48, 4, 4, 4]),
        ("_foreach_norm(x, 2)", (2, 15), [32, 28, 4, 4, 4]),
        ("_foreach_max(x)", (2, 14), [4, 4, 4, 48]),
        ("_foreach_max(x)", (2, 15), [32, 4, 4, 4, 28]),
        ("_foreach_norm(x, 0)", (2, 11), [4, 4, 4, 100, 4]),
        ("_foreach_norm(x, 0)", (2, 13), [48, 4, 4, 4]),
    ],
)
def test_parts_of_sums_of_lists_lie_as_each_release_has_them(monkeypatch, call, release, taken):
    """As virtual cards with these releases answered."""
    monkeypatch.setattr(batches, "installed_release", lambda: release)
    (events,) = recorded_calls([Call(f"{TENSORS}; aten.{call}")], CARDS["RTX 3080"])
    assert [event for event in events if event > 0] == taken


def sorted_sizes(rows, row):
    """What a sort of rows of float32 takes beside its two results."""
    numbers = torch.empty(rows, row, device="meta")
    step = events_of(lambda batch, device: lambda: [numbers.sort(dim=1) for _ in range(2)], 2, 1)
    sizes = [event.size_bytes for event in step if not event.is_free and "sort" in event.op]
    return sizes[len(sizes) - (len(sizes) - 1) // 2 :][2:]  # of the second call: the first meets `numbers` as well


def test_sorts_of_short_rows_many_rows_and_few():
    """By ATen/native/cuda/Sort.cpp: up to 4096 in place, one row at once, from 128 rows in segments, else twice."""
    assert sorted_sizes(3, 4096) == [4096 * 8]
    total = 4097
    assert sorted_sizes(1, 4097) == [8 * total, radix_sort_bytes(total, 4, 8, 32)]
    for rows, bits in ((2, 1), (64, 6), (65, 7), (127, 7)):
        total = rows * 4097
        assert sorted_sizes(rows, 4097) == [
            *(8 * total, 8 * total, 4 * total, radix_sort_bytes(total, 4, 8, 32)),
            radix_sort_bytes(total, 8, 8, bits),
        ]
    total = 128 * 4097
    rounded = [-(-size // 256) * 256 for size in (4 * total, 8 * total)]
    assert sorted_sizes(128, 4097) == [8 * total, sum(rounded) + 255]


@pytest.mark.parametrize(("key_bytes", "value_bytes", "tile"), [(4, 4, 4864), (2, 4, 4864), (4, 8, 2304), (8, 8, 2304)])
def test_one_block_sorts_so_many_keys(key_bytes, value_bytes, tile):
    """The virtual card's sorts of torch.randperm of int32 and int64."""
    one, more = (radix_sort_bytes(pairs, key_bytes, value_bytes, 26) for pairs in (tile, tile + 1))
    assert one == 1 < more


@pytest.mark.parametrize(("count", "value_bytes", "storage"), [(2305, 8, 37_887), (3000, 8, 45_823), (5000, 4, 50_175)])
def test_storage_of_the_sort_of_a_permutation(count, value_bytes, storage):
    """As the virtual RTX 3080 tells it: keys of 4 bytes, of 25 to 27 bits."""
    assert radix_sort_bytes(count, 4, value_bytes, 27) == storage


@pytest.mark.parametrize(("key_bytes", "value_bytes", "tile"), [(4, 4, 8192), (4, 8, 3072), (8, 8, 3840)])
def test_a_tile_of_a_sort_holds_so_many_pairs(key_bytes, value_bytes, tile):
    """Each tile more costs 256 counts of 4 bytes; in one pass no pair is kept twice."""
    ten, more = (radix_sort_bytes(pairs, key_bytes, value_bytes, 8) for pairs in (10 * tile, 10 * tile + 1))
    assert (ten, more) == (2048 + 10 * 1024 + 256 + 255, 2048 + 11 * 1024 + 256 + 255)


MATRICES = {  # shape, strides, and whether cuBLAS reads it where it is: a last stride is 1 and the other spans
    "as it is": ((6, 4), (4, 1), True),
    "transposed": ((6, 4), (1, 6), True),
    "some columns": ((6, 4), (9, 1), True),
    "some rows of a transposed one": ((6, 4), (1, 9), True),
    "every other column": ((6, 4), (8, 2), False),
    "one row for all": ((6, 4), (0, 1), False),
    "one column for all": ((6, 4), (1, 0), False),
    "rows that overlap": ((6, 4), (2, 1), False),
    "columns that overlap": ((6, 4), (1, 3), False),
    "windows": ((6, 4), (1, 1), False),
}


def copied_bytes(product, *operands):
    """What one more call of a product takes beside its result."""

    def sizes(calls):
        step = events_of(lambda batch, device: lambda: [product(*operands) for _ in range(calls)], 2, 1)
        return Counter(event.size_bytes for event in step if not event.is_free)

    more = sizes(2) - sizes(1)
    more.subtract([4 * product(*operands).numel()])
    return list(more.elements())


@pytest.mark.parametrize("case", MATRICES)
def test_matrices_are_copied_where_cublas_cannot_read_them(case):
    """As prepare_matrix_for_cublas and prepare_batch_matrix_for_cublas in ATen/native/cuda/Blas.cpp have it."""
    shape, strides, is_read = MATRICES[case]
    copies = [] if is_read else [6 * 4 * 4]
    odd = torch.empty(100, device="meta").as_strided(shape, strides)
    right, left, added = (torch.empty(*shape, device="meta") for shape in ((4, 5), (3, 6), (6, 5)))
    assert copied_bytes(torch.mm, odd, right) == copies
    assert copied_bytes(torch.mm, left, odd) == copies
    assert copied_bytes(torch.addmm, added, odd, right) == copies
    assert copied_bytes(torch.addmm, torch.empty(3, 4, device="meta"), left, odd) == copies
    copies = [2 * each for each in copies]
    odd = torch.empty(300, device="meta").as_strided((2, *shape), (100, *strides))
    right, left, added = (each.expand(2, -1, -1).contiguous() for each in (right, left, added))
    assert copied_bytes(torch.bmm, odd, right) == copies
    assert copied_bytes(torch.bmm, left, odd) == copies
    assert copied_bytes(torch.baddbmm, added, odd, right) == copies
    assert copied_bytes(torch.baddbmm, torch.empty(2, 3, 4, device="meta"), left, odd) == copies


def test_matrices_of_one_column_or_none_are_read_as_they_are():
    column = torch.empty(100, device="meta").as_strided((2, 6, 1), (6, 1, 1))
    assert copied_bytes(torch.bmm, column, torch.empty(2, 1, 5, device="meta")) == []
    assert copied_bytes(torch.bmm, column.mT, torch.empty(2, 6, 5, device="meta")) == []
    nothing = torch.empty(100, device="meta").as_strided((6, 0), (8, 2))
    assert copied_bytes(torch.mm, nothing, torch.empty(0, 5, device="meta")) == []


def test_a_softmax_s_gradient_takes_the_product_in_the_type_of_the_result():
    def make_step(batch, device):
        values = torch.zeros(batch, 256, dtype=torch.float16, device=device, requires_grad=True)
        return lambda: torch.softmax(values, 1, dtype=torch.float32).sum().backward()

    made = [event for event in events_of(make_step, 2, 1) if "_softmax_backward_data" in event.op]
    assert sorted(event.size_bytes for event in made if not event.is_free) == [2 * 256 * 2, 2 * 256 * 4]


def test_a_logsumexp_of_nothing_is_its_result_alone():
    step = events_of(lambda batch, device: lambda: torch.empty(0, 256, device=device).logsumexp(0), 2, 1)
    assert [event.size_bytes for event in step if "logsumexp" in event.op and not event.is_free] == [1024]


def test_layer_norm_copies_what_lies_scattered():
    """As the virtual card does: the input, in both passes, beside each result; and the gradient of a sum."""

    def make_step(batch, device):
        norm = torch.nn.LayerNorm(64, device=device)
        values = torch.zeros(batch, 64, 100, device=device, requires_grad=True)
        return lambda: norm(values.transpose(1, 2)).sum().backward()

    recorded = events_of(make_step, 2, 1)
    copies = [
        event.op.split(".")[1]
        for event in recorded
        if "layer_norm" in event.op and event.size_bytes == 2 * 64 * 100 * 4
    ]
    assert (copies.count("native_layer_norm"), copies.count("native_layer_norm_backward")) == (2, 3)


def test_what_lies_behind_singular_values_is_made_first():
    """U, then Vh, then the values, as the virtual card makes them."""
    events = events_of(lambda batch, device: lambda: torch.linalg.svd(torch.empty(5, 7, device=device), False), 1, 1)
    assert [event.size_bytes for event in events if event.size_bytes > 0][1:] == [4 * 5 * 5, 4 * 5 * 7, 4 * 5]


def test_normalising_nothing_takes_nothing_not_even_of_no_bytes():
    """Two batches of no images: what there is are outputs that have a size, the sums over them."""

    def make_step(batch, device):
        x, few, weight = (torch.empty(shape, device=device) for shape in ((0, 64, 10), (0, 4), (64,)))

        def step():
            aten.native_group_norm(x, weight, weight, 0, 64, 10, 4, 1e-5)
            aten.native_group_norm_backward(x, x, few, few, weight, 0, 64, 10, 4, [True] * 3)

        return step

    events = events_of(make_step, 1, 1)
    assert [event.size_bytes for event in events if not event.is_free] == [256] * 3


def test_sums_at_a_mask_and_places_take_no_more_than_they_are_told():
    """How many places a mask holds nobody knows; a sort of them is not guessed at."""
    target, values = torch.empty(40, 50, device="meta"), torch.empty(3, device="meta")
    mask, places = torch.empty(40, dtype=torch.bool, device="meta"), torch.empty(40, dtype=torch.long, device="meta")
    for indices in ([mask, places], [places, mask]):
        args = [target, indices, values, True]
        assert indexing.RULES[aten.index_put_.default](args, [target]) == [target]


@pytest.mark.parametrize(
    ("stride", "more", "is_of_cudnn"),
    [((1, 2), (1, 0), False), ((2, 2), (0, 2), False), ((2, 1), (1, 0), True), ((2, 2), (1, 1), True)],
)
def test_cudnn_has_no_transposed_convolution_that_is_padded_by_a_stride(stride, more, is_of_cudnn):
    """As `is_output_padding_big` of PyTorch's Convolution.cpp has it: along any dimension."""
    image, weight = torch.empty(2, 3, 8, 8, device="meta"), torch.empty(3, 4, 3, 3, device="meta")
    options = list(stride), [0, 0], [3, 3], True, list(more), 1
    output = aten.convolution(image, weight, None, *options)
    items = convolving.allocations(aten.convolution.default, [image, weight, None, *options], [output])
    (temporary,) = (item for item in items if isinstance(item, convolving.Temporary))
    assert (temporary.call is not None) is is_of_cudnn


def test_of_no_images_cudnn_is_not_asked():
    image, weight = torch.empty(0, 3, 8, 8, device="meta"), torch.empty(4, 3, 3, 3, device="meta")
    options = [1, 1], [0, 0], [1, 1], False, [0, 0], 1
    output = aten.convolution(image, weight, None, *options)
    assert convolving.allocations(aten.convolution.default, [image, weight, None, *options], [output]) == [output]
    args = [output, image, weight, [4], *options, [True] * 3]
    gradients = list(aten.convolution_backward(*args))
    assert convolving.allocations(aten.convolution_backward.default, args, gradients) == gradients
