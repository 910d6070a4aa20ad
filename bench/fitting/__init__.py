"""Does a training step fit? The answer as data, from whatever runs the step.

`Recorded` records it on tensors without data and replays the recording; `OnDevice` runs it as it is, on the virtual
card or on a GPU. Both give the largest batch per card, what one batch leaves or lacks, and what was assumed.
"""

from bench.fitting.answer import Answer, Assumption, Engine, OnCard, fit
from bench.fitting.choice import ENGINES, Step, engine_of, recorded_step
from bench.fitting.on_device import OnDevice
from bench.fitting.recorded import Recorded

__all__ = [
    "ENGINES",
    "Answer",
    "Assumption",
    "Engine",
    "OnCard",
    "OnDevice",
    "Recorded",
    "Step",
    "engine_of",
    "fit",
    "recorded_step",
]
