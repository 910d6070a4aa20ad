"""Training over several processes, recorded in one: what this rank's card holds.

Within `ranks_alone`, a process group is one whose collectives have ended when they begin, whatever backend and however
many ranks a program asks for. DistributedDataParallel's reducer is PyTorch's own; its check that all ranks have the
same parameters brings their number and shapes to the host (verify_params_across_processes of
torch/csrc/distributed/c10d/reducer.cpp). What NCCL itself takes lies beside PyTorch's allocator.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

dist: Any = torch.distributed
META = torch.device("meta")
BACKEND = "alone"

_on_cards_alone: weakref.WeakSet[Any] = (
    weakref.WeakSet()
)  # groups for which the program asked for NCCL and nothing else


@contextlib.contextmanager
def ranks_alone() -> Iterator[None]:
    """Within this context, process groups are made that speak to nobody, and stay."""
    if not dist.is_available():
        yield
        return
    from torch.distributed import distributed_c10d as c10d

    begin, objects_go_by = c10d.init_process_group, c10d._get_object_coll_device
    with (
        patch.object(c10d, "_get_object_coll_device", lambda group=None: _objects_on(group) or objects_go_by(group)),
        patch.object(c10d, "init_process_group", _alone(begin)),
        patch.object(dist, "init_process_group", _alone(begin)),
        patch.object(dist, "_verify_params_across_processes", _read_parameters(dist._verify_params_across_processes)),
        patch.object(dist.Logger, "set_runtime_stats_and_log", lambda logger: None),  # it knows no such device's clock
    ):
        yield


def _alone(begin: Any) -> Any:
    def init(backend: Any = None, *args: Any, rank: int = -1, world_size: int = -1, **kwargs: Any) -> None:
        if BACKEND not in dist.Backend.backend_list:
            dist.Backend.register_backend(BACKEND, _group, devices=["cpu", "cuda", "meta"])
        rank = int(os.environ.get("RANK", 0)) if rank < 0 else rank
        world_size = int(os.environ.get("WORLD_SIZE", rank + 1)) if world_size < 0 else world_size
        begin(BACKEND, rank=rank, world_size=world_size, store=dist.HashStore())
        if backend == dist.Backend.NCCL:
            _on_cards_alone.add(dist.group.WORLD)

    return init


def _objects_on(group: Any) -> str | None:
    """Where objects are sent: by the card, in a group that has no other way; None if PyTorch is to say it."""
    return "cuda" if (group or dist.group.WORLD) in _on_cards_alone else None


def _group(store: Any, rank: int, size: int, timeout: Any) -> Any:
    from torch._C import _distributed_c10d

    as_work: Any = _distributed_c10d._create_work_from_future  # type: ignore[attr-defined]

    def done(result: Any) -> Any:
        future: torch.futures.Future[Any] = torch.futures.Future()
        future.set_result(result)
        return as_work(future)

    base: Any = dist.ProcessGroup

    class Alone(base):
        """A rank that waits for no other; what others would send is not known.

        As ProcessGroupNCCL's watchdog lets go of what a backward pass summed, it is held until a later one sums: the
        first buckets are there until then, beside those that the second step makes in the order of its gradients.
        """

        _held: Sequence[Tensor] = ()
        _held_by = -1

        def getBackendName(self) -> str:  # noqa: N802 - as PyTorch calls it
            return BACKEND

        @property
        def group_name(self) -> str:  # a mesh of devices asks for it
            return str(dist.distributed_c10d._world.pg_names[self])

        def barrier(self, *options: Any, **named: Any) -> Any:
            return done(None)

        def allreduce(self, tensors: Sequence[Tensor], options: Any = None) -> Any:
            backward_pass = torch._C._current_graph_task_id()
            if backward_pass != -1:
                earlier = self._held if backward_pass == self._held_by else ()
                self._held, self._held_by = (*earlier, *tensors), backward_pass
            return done(tensors)

        def broadcast(self, tensors: Sequence[Tensor], options: Any = None) -> Any:
            return done(tensors)

        allreduce_coalesced = allreduce
        reduce = broadcast

        def allgather(self, outputs: Any, inputs: Any, options: Any = None) -> Any:
            _in_one(outputs)
            return self.gather(outputs, inputs)

        def gather(self, outputs: Any, inputs: Any, options: Any = None) -> Any:
            for received, sent in zip(outputs, inputs, strict=False):
                _receive(received, sent)
            return done(outputs)

        def scatter(self, outputs: Any, inputs: Any, options: Any = None) -> Any:
            return done(outputs)

        def reduce_scatter(self, outputs: Any, inputs: Any, options: Any = None) -> Any:
            _in_one(inputs)
            return done(outputs)

        allgather_coalesced = alltoall = scatter
        _allgather_base = _reduce_scatter_base = scatter
        allgather_into_tensor_coalesced = reduce_scatter_tensor_coalesced = scatter

        def alltoall_base(self, output: Tensor, *others: Any) -> Any:
            return done(output)

        def send(self, tensors: Sequence[Tensor], *others: Any) -> Any:
            return done(tensors)

        recv = send

    return Alone(rank, size)


def _in_one(tensors: Sequence[Sequence[Tensor]]) -> None:
    """For a moment, one tensor of all of a list, as NCCL takes it (ProcessGroupNCCL::allgather, reduce_scatter).

    Tensors that differ in size are sent one by one.
    """
    for each in tensors:
        if all(other.shape == each[0].shape for other in each):
            each[0].new_empty((len(each), *each[0].shape))


def _receive(received: Sequence[Tensor], sent: Tensor) -> None:
    """What ranks send is taken to be what this one does, as where they gather their numbers or objects."""
    every = sent.expand(len(received), *sent.shape)
    whole = received[0]._base
    if whole is not None and whole.numel() == every.numel():  # then all of it is known, or nothing
        whole.view(every.shape).copy_(every)
        return
    for each in received:
        if each.shape == sent.shape:  # others are of other ranks
            each.copy_(sent)


def _read_parameters(verify: Any) -> Any:
    def read(group: Any, parameters: Sequence[Tensor], logger: Any = None) -> None:
        if not parameters or not parameters[0].is_meta:
            verify(group, parameters, logger)
            return
        count = torch.tensor([len(parameters)]).to(META)
        for each in [count.clone() for _ in range(group.size())]:
            each.item()
        shapes = [number for each in parameters for number in (*each.shape, *each.stride())]
        torch.tensor(shapes).to(META).cpu()

    return read
