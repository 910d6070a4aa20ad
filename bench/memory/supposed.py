"""A step recorded once, and held against itself where its answers are.

What a large prime divides is, in a step at so large a batch, the batch's; all else is constant. From one recording that
gives a trace for every batch. It is a supposition until the step has been recorded at two other batches and does there
what the trace says: then it is the fit through all three. Where those two are the largest batch that fits and the next
one, nothing is recorded that has not to be recorded anyway.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bench.memory.recording.metadata import OutputCache
from bench.memory.recording.recorder import STEPS, MakeStep, events_beside
from bench.memory.recording.refusals import DependsOnBatchError
from bench.memory.trace import Trace, agrees, proportional

PRIME = 37  # samples: no size of a layer or an image is likely to be a multiple of it


def supposed(make_step: MakeStep, steps: int = STEPS, cache: OutputCache | None = None) -> Trace:
    """Record `steps` training steps at one batch, as a trace for every batch that `prove` has to show.

    `cache` as of `bench.memory.recording.record`.

    Raises:
        FailsAtBatchError: the step does not run at this batch.
        NotRecordableError: as from `record`.
    """
    return proportional(PRIME, events_beside(make_step, PRIME, steps, cache))


def prove(make_step: MakeStep, trace: Trace, batches: Iterable[int], cache: OutputCache | None = None) -> None:
    """Record the first call at these batches, of which two are needed, and hold a trace of `supposed` against them.

    Of later calls it is seen that they allocate nothing whose like the first does not.

    Raises:
        DependsOnBatchError: it is not as supposed, or that cannot be shown so.
        FailsAtBatchError: the step does not run at one of them.
        NotRecordableError: as from `record`.
    """
    others = sorted({*batches} - {PRIME})
    if len(others) < 2:
        raise DependsOnBatchError(f"two batches beside {PRIME} have to show how sizes grow, got {others}")
    for batch in others:
        events = events_beside(make_step, batch, 1, cache)
        if not agrees(trace, batch, events):
            raise DependsOnBatchError(f"sizes at batch {batch} are not what those at batch {PRIME} let suppose")
    if not _repeats(trace, len(events)):
        raise DependsOnBatchError("a later call allocates what the first does not")


def _repeats(trace: Trace, first: int) -> bool:
    """Whether each allocation after the `first` events has a like among these: an operation and a size."""
    columns = (trace.op, trace.base, trace.slope, trace.is_workspace, trace.call, trace.staged)
    rows = np.stack([column.astype(np.int64) for column in columns], axis=1)
    is_first = np.arange(len(trace)) < first
    likes = set(map(tuple, rows[is_first & ~trace.is_free].tolist()))
    return likes.issuperset(map(tuple, rows[~is_first & ~trace.is_free].tolist()))
