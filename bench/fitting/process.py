"""The process that a step runs in: what its environment and its file tell PyTorch before the step is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.errors import UsageError
from bench.fitting.answer import Assumption
from bench.memory import Card
from bench.memory.allocator.alloc_conf import AllocatorConfig
from bench.memory.environment import alloc_conf, check_cached, cublas_workspace
from bench.memory.simulated import installed_release
from bench.memory.trace import CAPPING, CONFIGURING, told


@dataclass(frozen=True)
class Process:
    """What holds for every step of a process.

    Attributes:
        alloc_conf: PyTorch's allocator options.
        cublas_workspace: CUBLAS_WORKSPACE_CONFIG; None where it is not set.
        memory_fraction: How much of a card the allocator may take.
        obeyed: What of the environment is obeyed: "NAME=value".
    """

    alloc_conf: str = ""
    cublas_workspace: str | None = None
    memory_fraction: float = 1.0
    obeyed: tuple[str, ...] = ()

    @property
    def config(self) -> AllocatorConfig:
        """The options of PyTorch's allocator."""
        return AllocatorConfig.parse(self.alloc_conf, installed_release())

    @property
    def assumed(self) -> tuple[Assumption, ...]:
        """What is taken from the environment."""
        return tuple(Assumption(f"{each} in the environment is obeyed, as on the card") for each in self.obeyed)

    def on(self, card: Card) -> Card:
        """A card, as far as this process may take it."""
        return replace(card, memory_fraction=self.memory_fraction, cublas_workspace=self.cublas_workspace)


def process_here(said_at_import: Sequence[str] = ()) -> Process:
    """This process, in whose environment a step's file may have set something.

    Args:
        said_at_import: What the file told the allocator when it was imported, as bench.memory.trace has it.

    Raises:
        UsageError: the environment's options are not PyTorch's or not simulated, or there is no caching allocator.
    """
    options, workspace = alloc_conf(), cublas_workspace()
    texts = [options.text] if options else []
    try:
        check_cached()
        AllocatorConfig.parse(",".join(texts))
    except ValueError as error:
        where = f"{options.name} in the environment: " if options else ""
        raise UsageError(f"{where}{error}") from error
    return Process(
        alloc_conf=",".join([*texts, *told(said_at_import, CONFIGURING)]),
        cublas_workspace=workspace.text if workspace else None,
        memory_fraction=min([1.0, *map(float, told(said_at_import, CAPPING)[-1:])]),
        obeyed=tuple(str(each) for each in (options, workspace) if each),
    )
