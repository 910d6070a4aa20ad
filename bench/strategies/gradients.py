"""How a gradient passes a fixed point; bench.models.implicit has the variants and their sources."""

from bench.strategies.strategy import Strategy


def _gradient(name: str, summary: str) -> Strategy:
    return Strategy(
        name,
        summary,
        {"model": {"gradient": name}},
        needs="has_fixed_points",
        refusal="has no fixed point; choose checkpoint",
    )


TWO_GRAPH = _gradient("two-graph", "two graphs of each fixed point's map, as its authors keep them")
RECOMPUTED = _gradient("recomputed", "the graph of a fixed point's map is made again in backward")
JACOBIAN_FREE = _gradient("jacobian-free", "no solve in backward")
PHANTOM = _gradient("phantom", "a few damped steps from the solution are taken for the gradient")
