"""What no recording can describe: errors, and how PyTorch's own are told from those of the user's program."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator

import torch

from bench.memory.recording.on_cuda import is_on_cuda


class NotRecordableError(Exception):
    """The step cannot be described by one trace, or cannot run on tensors without data."""


class DependsOnBatchError(NotRecordableError):
    """No trace describes every batch: what the step does depends on how large it is."""


class FailsAtBatchError(NotRecordableError):
    """The step runs at one batch, and not at another."""


class GrowsError(NotRecordableError):
    """The step keeps more memory each time it is called, on whatever device."""


class NotAlikeError(NotRecordableError):
    """The step does not allocate the same each time it is called."""


# What PyTorch says where an operation needs data that a meta tensor does not have; in each of its own places.
_MISSING_DATA = re.compile(
    r"Tensor\.item\(\) cannot be called on meta tensors"
    r"|Cannot copy out of meta tensor; no data!"
    r"|(\S+: )?attempted to run this operator with Meta tensors"
    r"|Could not run '\S+' (with arguments from|from) the 'Meta' backend"
    r"|The register_meta function for \S+ raises unimplemented"
    r"|cannot repeat_interleave a meta tensor"
    r"|Tensor on device (meta is not on the expected device|\S+ is not on the expected device meta)"
    r"|Trying to use forward AD with (\S+) that does not support it"
    r"|Expected all tensors to be on the same device, but .*\bmeta\b"
)


_MIXTURE = re.compile(r"Tensor on device|Expected all tensors to be on the same device")
_NO_FORWARD = re.compile(r"Trying to use forward AD with (\S+) that does not support it")
_NO_FORMULA = re.compile(r"(\S+): attempted to run this operator with Meta tensors")


def is_of_missing_data(error: Exception) -> bool:
    """Whether PyTorch itself says that tensors without data cannot do this, and not the user's program."""
    return type(error) in (NotImplementedError, RuntimeError) and _MISSING_DATA.match(str(error)) is not None


def without_data(error: Exception) -> str:
    """What cannot be recorded, and what to do, of an error for which `is_of_missing_data` holds."""
    if _MIXTURE.match(str(error)):
        return f"the step uses tensors of the card and of the host together, of which some were not moved: {error}"
    if found := _NO_FORMULA.match(str(error)):
        return (
            f"the step needs the value of a tensor: how large the result of {found[1]} is, nobody knows without "
            "data; leave it out of the step, or ask a virtual card (--engine virtual)"
        )
    if found := _NO_FORWARD.match(str(error)):
        return (
            f"the step needs the forward derivative of {found[1]}, which PyTorch has as a script alone, and scripts "
            "are left out of a recording: ask a virtual card (--engine virtual)"
        )
    return f"the step needs the value of a tensor, or what tensors without data cannot do: {error}"


@contextlib.contextmanager
def autocast_refused() -> Iterator[None]:
    """Autocast does nothing to tensors without data; a recording that went on in float32 would be wrong.

    Where there is no GPU it says so itself, in a warning.
    """
    if is_on_cuda():
        yield
        return
    message = "torch.autocast has no effect on tensors without data: convert the model, as by model.bfloat16()"
    enter = torch.autocast.__enter__

    def refuse(autocast: torch.autocast) -> object:
        if autocast.device == "cuda" and autocast._enabled:
            raise NotRecordableError(message)
        return enter(autocast)

    torch.autocast.__enter__ = refuse  # type: ignore[method-assign]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*Disabling autocast")
            yield
    except UserWarning as warning:
        if "autocast" not in str(warning):
            raise
        raise NotRecordableError(message) from warning
    finally:
        torch.autocast.__enter__ = enter  # type: ignore[method-assign]
