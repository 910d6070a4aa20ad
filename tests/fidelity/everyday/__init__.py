"""Training steps of every kind that people write, which nobody wrote for a recording: make_step(batch, device) each."""

from tests.fidelity.everyday import pictures, sequences, ways

ALL = {**pictures.STEPS, **sequences.STEPS, **ways.STEPS}
REFUSED = ("words_near_words", "factors_and_spectra", "derivatives_forward")
"""By the recording: sparse gradients, least squares. Forward derivatives are in tests/fidelity/forward.py."""
NOT_ON_THE_CARD = ("algebra", "averaged_weights", "chance")
"""By the virtual card, which has no values: a factorisation that fails, a count of 0, chances of 0."""
STEPS = {name: make_step for name, make_step in ALL.items() if name not in (*REFUSED, *NOT_ON_THE_CARD)}
