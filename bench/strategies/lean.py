"""Keep convolutions' outputs alone, all or a share of them, and make the rest again in backward (models/lean.py)."""

from bench.strategies.strategy import Strategy


def _lean(name: str, summary: str, share: float) -> Strategy:
    return Strategy(
        name,
        summary,
        {"model": {"kept_share": share}},
        needs="can_be_lean",
        refusal="has no layers that can be made again; choose checkpoint or recomputed",
    )


LEAN = _lean("lean", "norms and activations are made again", 1.0)
LEAN_7_OF_8 = _lean("lean-7of8", "as lean, and one convolution in 8", 7 / 8)
LEAN_HALF = _lean("lean-half", "as lean, and every second convolution", 1 / 2)
LEAN_THIRD = _lean("lean-third", "as lean, and two convolutions of 3", 1 / 3)
LEAN_QUARTER = _lean("lean-quarter", "as lean, and three convolutions of 4", 1 / 4)
