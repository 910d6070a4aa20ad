"""What a program does outside of the step: nothing is saved, and no process is started.

Whoever asks whether a step fits does not train: checkpoints stay as they are, and data is loaded by this process.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter


@contextlib.contextmanager
def nothing_outside() -> Iterator[None]:
    """Within this context torch.save writes nothing, loaders have no workers, and torch.multiprocessing.spawn fails."""
    with (
        patch.object(torch, "save", lambda *args, **kwargs: None),
        patch.object(torch.multiprocessing, "spawn", _no_processes),
        patch.object(torch.multiprocessing, "start_processes", _no_processes),
        patch.object(DataLoader, "_get_iterator", _in_this_process),
    ):
        yield


def _no_processes(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("the step starts processes: give the step of one of them, as make_step(batch)")


def _in_this_process(loader: DataLoader[Any]) -> Any:
    """A loader's way through its data, without workers."""
    if loader.num_workers and loader.worker_init_fn:
        loader.worker_init_fn(0)
    alone = copy.copy(loader)
    vars(alone).update(num_workers=0, timeout=0)
    return _SingleProcessDataLoaderIter(alone)
