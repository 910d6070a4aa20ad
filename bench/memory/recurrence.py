"""What cuDNN takes for a recurrent layer: weights, reserve and workspace, from its shapes alone.

cuDNN publishes no formula. These were found from 4,000 answers of cudnnGetRNNTempSpaceSizes and
cudnnGetRNNWeightSpaceSize about calls drawn at random, for cuDNN 9.24 on the virtual card, and are equal for 9.19, 9.20
and 9.26 but where `SIMPLER` says. Sixty calls on four cards had
the same answers on each. The weights and the reserve are exact for all of
them, but that parts begin at multiples of 32 bytes: 31 bytes too much at most where the rows of a part do not. The
workspace is exact where widths are multiples of 16 (else at most 512 bytes too much), but for

* several layers in one direction, trained on sequences of more than 16 steps: at most a hidden state of all steps too
  much (16 of 1,098 calls);
* sequences of different lengths, projections, and layers that the card may run persistently: a bound.
"""

from __future__ import annotations

from typing import NamedTuple

KINDS = ("relu", "tanh", "lstm", "gru")  # as cuDNN numbers them
SIMPLER = (2, 15)  # the release of PyTorch whose cuDNN (9.26) runs small layers with the workspace of others

_ALIGNED_BYTES = 32
_HEADER_BYTES = 256
_MATRICES_BYTES = 8 * 2**20  # for products of matrices, where layers do not follow each other in one direction
_ROUNDED_BYTES = 512  # of all parts together, where widths are odd


class _Kind(NamedTuple):
    """Numbers of each unit.

    Gates; of a step what is kept of gates and of states; states of one step; more of them in a forward pass, also of
    small layers, and in a backward pass; what small layers took of all steps in both before cuDNN 9.26.
    """

    gates: int
    kept_gates: int
    kept_states: int
    states: int
    forward: int
    small_forward: int
    backward: int
    small_steps: tuple[int, int]


_RNN = _Kind(1, 1, 0, 1, 1, 1, 1, (4, 9))
_OF_KIND = {
    "relu": _RNN,
    "tanh": _RNN,
    "lstm": _Kind(4, 4, 1, 2, 6, 3, 3, (16, 12)),
    "gru": _Kind(3, 6, 0, 1, 3, 1, 1, (12, 14)),
}


class Workspace(NamedTuple):
    """A workspace in bytes, and whether cuDNN takes this much, not less."""

    size_bytes: int
    is_exact: bool


class Layers(NamedTuple):
    """Recurrent layers and what they run on.

    Attributes:
        kind: one of KINDS.
        inputs: numbers of each step that come in.
        width: units of a layer.
        projected: numbers of each step that go out, in one direction; the width without a projection.
        layers: how many, one after the other.
        directions: 1 or 2.
        steps: of the longest sequence.
        batch: sequences.
        samples: steps of all sequences together.
        is_packed: whether sequences of different lengths follow each other without padding.
        drops: whether something would be dropped between layers, also where there is one.
        trains: whether a backward pass follows.
        dtype: float16, bfloat16, float32 or float64.
        element_bytes: of a number.
    """

    kind: str
    inputs: int
    width: int
    projected: int
    layers: int
    directions: int
    steps: int
    batch: int
    samples: int
    is_packed: bool
    drops: bool
    trains: bool
    dtype: str
    element_bytes: int

    @property
    def weights(self) -> int:
        """Numbers of all weights in one block: matrices, two biases for each gate, projections."""
        gates = _OF_KIND[self.kind].gates
        biases = 2 * gates * self.width * self.layers * self.directions
        projections = self.projected * self.width * self.layers * self.directions if self._is_projected else 0
        return self._matrices + biases + projections

    @property
    def reserve_bytes(self) -> int:
        """What is kept for the backward pass: gates and states, what goes from layer to layer, what was dropped."""
        if not self.trains:
            return 0
        kind = _OF_KIND[self.kind]
        numbers = [kind.kept_gates * self.width * self.layers, kind.kept_states * self.width * self.layers]
        numbers.append((self.layers - 1) * self.width)
        if self._is_projected:
            numbers += [self.width * self.layers, self.projected * self.layers]
        times, of_one = (self.samples, 1) if self.is_packed else (self.batch, self.steps)
        of_one *= self.directions * self.element_bytes
        size_bytes = _HEADER_BYTES + sum(_aligned(8 * each * of_one, times) for each in numbers if each)
        if self.drops:
            bits = self.steps * self.projected * self.directions
            size_bytes += (self.layers - 1) * self.directions * _aligned(bits, self.batch)
        return size_bytes

    def workspace(self, in_backward: bool, release: tuple[int, int]) -> Workspace:
        """What a pass takes for itself, as PyTorch of a release asks for it."""
        is_small = self._is_small(in_backward)
        took_more = is_small and release < SIMPLER
        size_bytes = self._fixed_bytes + self._numbers(is_small, took_more) * self.element_bytes
        if any(width % 16 for width in (self.inputs, self.width, self.projected)):
            size_bytes += _ROUNDED_BYTES
        if not is_small and self._may_persist:
            return Workspace(5 * size_bytes, False)
        if not self._is_projected and not self.is_packed:
            return Workspace(size_bytes, True)
        return Workspace(_ROUNDED_BYTES + size_bytes + self._bound * self.element_bytes, False)

    @property
    def _fixed_bytes(self) -> int:
        is_alone = self.layers == 1 or self.directions == 2
        products = _MATRICES_BYTES * self.layers * self.directions if is_alone else 0
        matrices = self._matrices * self.element_bytes
        return _HEADER_BYTES + products + matrices + _aligned(64, self.batch)

    @property
    def _matrices(self) -> int:
        """Numbers of the gates' matrices."""
        gates = _OF_KIND[self.kind].gates * self.width * self.directions
        of_layers = [self.inputs, *[self.directions * self.projected] * (self.layers - 1)]
        return sum(gates * (inputs + self.projected) for inputs in of_layers)

    def _numbers(self, is_small: bool, took_more: bool) -> int:
        """Numbers of the larger pass: what goes in and out, all steps' gates, and states of one step."""
        kind, both = _OF_KIND[self.kind], self.directions == 2
        samples = self.steps * self.batch
        one, all_ = self.batch * self.width * self.layers, samples * self.width
        around = samples * (self.inputs + self.directions * self.width)
        states = kind.small_forward if is_small else kind.forward
        inputs = max(self.inputs, self.width)
        if both:
            forward = around + (2 * kind.gates + 4) * all_ + (2 * states + 4 + 4 * kind.states) * one
            widest = 4 * inputs + (2 if self.layers == 1 else 4) * self.width
            backward = 2 * around + widest * samples + (2 * kind.backward + 4 + 8 * kind.states) * one
        else:
            forward = around + (kind.gates + self.drops) * all_ + (states + is_small + 2 * kind.states) * one
            sums = 2 if is_small and self.layers > 1 else 1
            backward = 2 * around + inputs * samples + sums * all_
            backward += (kind.backward + is_small + 4 * kind.states) * one
        if took_more:
            forward += kind.small_steps[0] * all_
            backward += kind.small_steps[1] * all_
        return max(forward, backward) if self.trains else forward

    @property
    def _bound(self) -> int:
        """Numbers by which no answer exceeded the rule, of projections and of sequences of different lengths."""
        numbers = 0
        one = self.layers * self.directions * self.batch * self.width
        samples = self.steps * self.batch
        if self._is_projected:
            numbers += self.layers * self.directions * self.width * self.projected + 12 * one
            numbers += 4 * self.directions * samples * self.width
        if self.is_packed:
            numbers += 2 * samples * (self.inputs + self.directions * self.width) + 4 * one
        return numbers

    @property
    def _is_projected(self) -> bool:
        return self.projected != self.width

    def _is_small(self, in_backward: bool) -> bool:
        """Whether cuDNN runs small layers in one kernel (use_rnn_persist_small_h in PyTorch's cudnn/RNN.cpp)."""
        if self._is_projected or self.is_packed or self.dtype not in ("float16", "float32"):
            return False  # in bfloat16 cuDNN takes the workspace of others
        widest = 192 if self.kind in ("lstm", "gru") else 384
        return self.width <= (widest * 2 // 3 if in_backward else widest)

    @property
    def _may_persist(self) -> bool:
        """Whether some card runs it in one kernel of all steps (use_persist_common_heuristics, ..._device_...)."""
        is_one = self.layers == self.directions == 1 and not self.is_packed and not self._is_projected
        is_even = not self.width % 128 and not self.inputs % 128 and not self.batch % 8
        is_fit = self.dtype == "float16" and self.width <= 1024 and self.batch <= 128
        return is_one and is_even and is_fit and self.kind != "gru"


def _aligned(row_bits: int, rows: int) -> int:
    """A part that ends at a multiple of 32 bytes; where one of its rows does not, the most that it can take.

    So it is affine in the rows, as a trace of every batch wants it, but for bits.
    """
    size_bytes = -(-row_bits * rows // 8)
    return size_bytes if row_bits % (8 * _ALIGNED_BYTES) == 0 else size_bytes + _ALIGNED_BYTES - 1
