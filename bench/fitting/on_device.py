"""A step run as it is: what engines `virtual` and `cuda` answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

from bench.fitting.answer import Assumption, contexts_assumed
from bench.fitting.process import Process
from bench.fitting.recorded import Recorded
from bench.memory import Boundary, Card, MakeStep, Probe, largest_batch
from bench.memory.explaining.explain import Explanation
from bench.memory.measuring.cuda import CudaEngine
from bench.memory.recording.recorder import STEPS
from bench.memory.search import where_room_ends
from bench.virtual import VirtualEngine, VirtualMeasurement
from bench.virtual.explained import explain_on_card
from bench.virtual.figures import kernels_of


class OnDevice:
    """A step run as it is: on the virtual card, or on a GPU whose allocator is capped.

    `recorded` is the step as it was recorded, which tells where a search starts, what the step reads back, and, if
    `process` is not given, what its file told PyTorch. `said` is assumed beside what its runs tell.
    """

    def __init__(
        self,
        engine: type[CudaEngine],
        make_step: MakeStep,
        steps: int = STEPS,
        process: Process | None = None,
        recorded: Recorded | None = None,
        said: Sequence[Assumption] = (),
    ) -> None:
        self.name = engine.name
        self._is_virtual = issubclass(engine, VirtualEngine)
        self.recorded = recorded
        self._said = said
        self._seen: list[CudaEngine] = []
        self._process = process or (recorded.process if recorded else Process())
        self._of: Callable[..., CudaEngine] = partial(
            engine, make_step, steps=steps, alloc_conf=self._process.alloc_conf
        )

    def seen(self, card: Card) -> Card:
        """A card, as far as the process and, where it is recorded, the step may take it."""
        return self.recorded.seen(card) if self.recorded else self._process.on(card)

    def largest(self, card: Card) -> Boundary:
        """The largest batch, every probe of which is a run; where the recording says the same, two runs show it."""
        guess = self._guess(card)
        is_others = self.recorded is not None and self.name != CudaEngine.name
        return largest_batch(self._engine(card, guess), trusted=guess if is_others else None)

    def probe(self, card: Card, batch: int) -> Probe:
        """One run."""
        return self._engine(card).probe(batch)

    def needed(self, card: Card, batch: int) -> Probe:
        """One run on a card of the same kernels with memory without a limit; on a GPU, with all that it has."""
        if self.name == CudaEngine.name:
            return self.probe(card, batch)
        return self._engine(card.without_limit()).probe(batch)

    def made_of(self, card: Card, batch: int) -> Explanation | None:
        """What the recording says of it, where there is one."""
        return self.recorded.made_of(card, batch) if self.recorded else None

    def explained(self, card: Card, batch: int) -> Explanation | None:
        """What the virtual card's own peak of a batch is made of, with the recording's names and lines.

        None without a recording of this batch. Where it does not fit, the moment at which memory runs out is explained.

        Raises:
            ProbeFailedError: the step neither fits nor runs out of memory.
            TooDifferentError: the recording and the card have too little in common.
        """
        engine = self._engine(card)
        located = self.recorded.located(card, batch) if self.recorded else None
        if located is None or not isinstance(engine, VirtualEngine):
            return None
        return explain_on_card(engine, located[0], batch, located[1])

    def assumed(self, cards: Sequence[Card]) -> tuple[Assumption, ...]:
        """The values that the step read or selected by, sizes that are not known, and what stands for what."""
        seen = [each for engine in self._seen for each in engine.measurements.values()]
        virtual = [each for each in seen if isinstance(each, VirtualMeasurement)]
        as_recorded = [each for each in virtual if self.recorded and not each.strays]
        alone = [each for each in virtual if each not in as_recorded]
        read = max((each.values_read for each in alone), default=0)
        selections = max((each.selections for each in alone), default=0)
        assumed = [*contexts_assumed(cards), *self._process.assumed, *self._said]
        if self._is_virtual:
            capacities = [card for card in cards if card.compute_capability is None]
            assumed += [Assumption(f"{card.name} has the kernels of an {kernels_of(card).name}") for card in capacities]
        if as_recorded and self.recorded:
            assumed += [each for each in self.recorded.said if each.is_value]
        if read:
            what = f"the {read} values that the step reads back from the card are taken as 0"
            assumed.append(Assumption(what, is_value=True))
        if selections:
            what = f"the {selections} times that the step selects elements by value, it selects none"
            assumed.append(Assumption(what, is_value=True))
        unknown = sorted({name for each in virtual for name in each.lower_bounds})
        if unknown:
            assumed.append(Assumption(f"{', '.join(unknown)} ask for buffers of unknown size: taken as 0 bytes"))
        if any(each.upper_bounds for each in virtual):
            what = "cuFFT's work areas, of unknown size, are taken as twice the larger of input and output"
            assumed.append(Assumption(what))
        return tuple(assumed)

    def _engine(self, card: Card, guess: int = 1) -> CudaEngine:
        reads = {"reads_at": partial(self.recorded.reads, card)} if self.recorded and self._is_virtual else {}
        self._seen.append(self._of(self._process.on(card), first_guess=guess, **reads))
        return self._seen[-1]

    def _guess(self, card: Card) -> int:
        if self.recorded:
            return self.recorded.largest(card).batch
        if self.name == CudaEngine.name:
            return 1
        endless = self._engine(card.without_limit())

        @cache
        def room_bytes(batch: int) -> int:
            return card.usable_bytes - endless.probe(batch).peak_reserved_bytes

        return where_room_ends(room_bytes, 8)
