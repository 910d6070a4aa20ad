"""A plan: by which strategies a batch fits on a card, and the cheapest of them, by simulation."""

from bench.planning.cells import EXACT, plan
from bench.planning.choices import Choice, Plan
from bench.planning.steps import plan_step

__all__ = ["EXACT", "Choice", "Plan", "plan", "plan_step"]
