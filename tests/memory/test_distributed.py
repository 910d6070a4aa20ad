"""DistributedDataParallel in one process, recorded: its buckets, as PyTorch's own CUDA code has them."""

import weakref

import pytest
import torch
from torch import distributed as dist
from torch import nn

from bench.fitting import Recorded
from bench.memory import CARDS
from bench.memory.forms import as_make_step
from bench.memory.recording import distributed
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of
from bench.memory.recording.values import reads_noted

CARD = CARDS["RTX 3080"]


@pytest.fixture(autouse=True)
def group_destroyed():
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def of_ranks(ranks, wraps=nn.parallel.DistributedDataParallel):
    def make_step(batch):
        if not dist.is_initialized():
            dist.init_process_group("nccl", init_method="tcp://127.0.0.1:1", rank=0, world_size=ranks)
        model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(1024, 1024), nn.GELU()))).cuda()
        model = wraps(model, device_ids=[0]) if wraps else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def step():
            optimizer.zero_grad(set_to_none=True)
            model(torch.randn(batch, 64, 1024, device="cuda")).square().mean().backward()
            optimizer.step()
            if wraps is None:
                dist.all_reduce(torch.zeros(2**18, device="cuda"))

        return step

    return as_make_step(make_step)


def test_buckets_are_those_of_a_card():
    """torch 2.14.1 on the virtual card, one rank."""
    probe = Recorded(of_ranks(1)).probe(CARD, 100)
    assert (probe.peak_allocated_bytes, probe.peak_reserved_bytes) == (453_329_920, 497_025_024)


def test_a_rank_of_many_holds_as_much():
    """But for the numbers that others would send."""
    assert abs(Recorded(of_ranks(8)).probe(CARD, 100).peak_allocated_bytes - 453_329_920) <= 8 * 512


def test_what_the_reducer_reads_is_known():
    with on_cuda(), reads_noted() as reads:
        events_of(of_ranks(1), 2, 1)
    count, shapes, *_ = reads
    assert count == (8, (8).to_bytes(8, "little"))
    expected = [1024, 1024, 1024, 1, 1024, 1] * 4
    assert torch.frombuffer(bytearray(shapes.content), dtype=torch.int64).tolist() == expected


def test_what_is_summed_is_let_go_of():
    """A step that sums something of its own, four times as often as is recorded, keeps none of it."""
    assert Recorded(of_ranks(1, wraps=None), steps=8).probe(CARD, 1).fits


def test_what_a_backward_pass_summed_is_held_until_another_sums():
    """As NCCL's watchdog holds it, also where nobody else does."""
    sums, alive = [], []

    def make_step(batch, device):
        if not dist.is_initialized():
            dist.init_process_group("nccl", rank=0, world_size=1)
        source = torch.zeros(3, device="cuda", requires_grad=True)

        def sum_two(gradient):
            for _ in range(2):
                made = torch.zeros(4, device="cuda")
                dist.all_reduce(made, async_op=True)
                sums.append(weakref.ref(made))

        def step():
            product = source * 1
            product.register_hook(sum_two)
            product.sum().backward()
            (source * 1).sum().backward()  # sums nothing
            alive.append([each() is not None for each in sums])

        return step

    with on_cuda():
        events_of(make_step, 1, 3)
    assert alive == [[True] * 2, [False] * 2 + [True] * 2, [False] * 4 + [True] * 2]


def test_a_build_without_distribution_has_nothing_to_replace(monkeypatch):
    monkeypatch.setattr(dist, "is_available", lambda: False)
    begin = dist.init_process_group
    with on_cuda():
        assert dist.init_process_group is begin


def test_outside_a_recording_groups_are_pytorchs():
    begin = dist.init_process_group
    with on_cuda():
        assert dist.init_process_group is not begin
    assert dist.init_process_group is begin


@pytest.mark.parametrize(
    ("environment", "arguments", "found"),
    [
        ({}, {}, (0, 1)),
        ({"RANK": "2"}, {}, (2, 3)),
        ({"RANK": "3", "WORLD_SIZE": "8"}, {}, (3, 8)),
        ({"RANK": "3", "WORLD_SIZE": "8"}, {"rank": 0, "world_size": 2}, (0, 2)),
        ({"RANK": "3", "WORLD_SIZE": "8"}, {"rank": 1}, (1, 8)),
        ({"WORLD_SIZE": "8"}, {"world_size": 1}, (0, 1)),
    ],
)
def test_a_rank_is_the_one_that_is_asked_for_or_the_environments(monkeypatch, environment, arguments, found):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with on_cuda():
        dist.init_process_group("nccl", **arguments)
        assert (dist.get_rank(), dist.get_world_size()) == found


def test_no_ranks_at_all_are_refused_as_by_pytorch(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    with on_cuda(), pytest.raises(AssertionError, match="world_size must be positive"):
        dist.init_process_group("nccl", rank=0, world_size=0)


COLLECTIVES = {
    "barrier": lambda x, many: dist.barrier(async_op=True).wait(),
    "broadcast": lambda x, many: dist.broadcast(x, 0, async_op=True).wait(),
    "reduce": lambda x, many: dist.reduce(x, 0, async_op=True).wait(),
    "all_reduce": lambda x, many: dist.all_reduce(x, async_op=True).wait(),
    "gather": lambda x, many: dist.gather(x, list(many.chunk(2)), async_op=True).wait(),
    "scatter": lambda x, many: dist.scatter(x, list(many.chunk(2)), async_op=True).wait(),
    "all_gather": lambda x, many: dist.all_gather(list(many.chunk(2)), x, async_op=True).wait(),
    "all_gather of two sizes": lambda x, many: dist.all_gather([many[:10], x], x[:10], async_op=True).wait(),
    "all_gather_into_tensor": lambda x, many: dist.all_gather_into_tensor(many, x, async_op=True).wait(),
    "reduce_scatter_tensor": lambda x, many: dist.reduce_scatter_tensor(x, many, async_op=True).wait(),
    "reduce_scatter": lambda x, many: dist.reduce_scatter(x, list(many.chunk(2)), async_op=True).wait(),
    "reduce_scatter of two sizes": lambda x, many: dist.reduce_scatter(x, [x, many], async_op=True).wait(),
    "all_to_all": lambda x, many: dist.all_to_all(list(many.chunk(2)), list(many.chunk(2)), async_op=True).wait(),
    "all_to_all_single": lambda x, many: dist.all_to_all_single(many, many.clone(), async_op=True).wait(),
    "send": lambda x, many: dist.isend(x, 1).wait(),
    "recv": lambda x, many: dist.irecv(x, 1).wait(),
}


@pytest.mark.parametrize("name", COLLECTIVES)
def test_a_collective_waits_for_nobody_and_takes_nothing(name):
    """But for one tensor of a list that NCCL takes as such; what is sent by all to all, the program copies."""
    sizes = []

    def make_step(batch, device):
        if not dist.is_initialized():
            dist.init_process_group("nccl", rank=0, world_size=2)
        x, many = torch.zeros(1000, device="cuda"), torch.zeros(2000, device="cuda")
        return lambda: sizes.append(COLLECTIVES[name](x, many))

    with on_cuda():
        events = events_of(make_step, 1, 1)
    assert len(sizes) == 1
    found = [event.size_bytes for event in events if event.size_bytes > 0]
    assert found == [4000, 8000, *[8000] * (name in ("all_gather", "reduce_scatter", "all_to_all_single"))]


def test_parameters_on_the_host_are_verified_by_pytorch():
    """One rank: the reducer's own check is run, and finds nothing wrong; nothing is read of a card."""
    with on_cuda(), reads_noted() as reads:
        dist.init_process_group("nccl", rank=0, world_size=1)
        verified = []

        def verify(*args):
            verified.append(args)

        read = distributed._read_parameters(verify)
        group, host, meta = dist.group.WORLD, torch.zeros(3), torch.zeros(3, device="meta")
        read(group, [host, host], "logger")
        read(group, [], "logger")
        events_of(lambda batch, device: lambda: read(group, [meta]), 1, 1)
    assert verified == [(group, [host, host], "logger"), (group, [], "logger")]
    assert [each.size_bytes for each in reads] == [8, 16]


@pytest.mark.parametrize("ranks", [1, 3])
def test_objects_of_ranks_are_this_ones(ranks):
    """With NCCL they go by the card: the size, the content and the size once more are read for each rank."""
    received = []

    def make_step(batch, device):
        dist.init_process_group("nccl", rank=0, world_size=ranks)

        def step():
            gathered = [None] * ranks
            dist.all_gather_object(gathered, {"lost": 1.5})
            received.append(gathered)

        return step

    with on_cuda(), reads_noted() as reads:
        events_of(make_step, 2, 1)
    assert received[-1] == [{"lost": 1.5}] * ranks
    (size_bytes,) = {read.size_bytes for read in reads} - {1, 8}  # sizes, and which is the largest
    assert [read.size_bytes for read in reads[-2:]] == [size_bytes, 8]
    assert all(read.content is not None for read in reads)


@pytest.mark.parametrize(("backend", "expected"), [("nccl", "cuda"), ("gloo", "cpu"), (None, "cpu")])
def test_objects_go_as_the_program_asked(backend, expected):
    with distributed.ranks_alone():
        dist.init_process_group(backend, rank=0, world_size=1)
        assert dist.distributed_c10d._get_object_coll_device() == expected
        assert dist.distributed_c10d._get_object_coll_device(dist.new_group()) == "cpu"


def test_numbers_of_ranks_are_this_ones():
    """In a tensor for all of them first (ProcessGroupNCCL::allgather)."""

    def make_step(batch, device):
        dist.init_process_group("nccl", rank=0, world_size=2)

        def step():
            mine = torch.full((3,), 7.0, device="cuda")
            both = [torch.zeros(3, device="cuda") for _ in range(2)]
            dist.all_gather(both, mine)
            assert [each.tolist() for each in both] == [[7.0] * 3] * 2

        return step

    with on_cuda():
        sizes = [event.size_bytes for event in events_of(make_step, 2, 1) if event.size_bytes > 0]
    assert sizes == [12, 12, 12, 24]


def test_a_mesh_of_devices_is_made_of_the_group():
    with distributed.ranks_alone():
        dist.init_process_group("nccl", rank=0, world_size=2)
        mesh = dist.init_device_mesh("cuda", (2,))
        assert mesh.get_group() is dist.group.WORLD and mesh.size() == 2
