"""Orbits of a group that is small enough to write down."""

from __future__ import annotations

import numpy as np

from bench.operators.equivariant import Orbits


def test_a_reflection_has_the_smaller_half_as_representatives():
    orbits = Orbits(np.array([[0, 4], [1, 3], [2, 2], [3, 1], [4, 0]]))
    assert orbits.representatives.tolist() == [0, 1, 2]
    assert orbits.places.tolist() == [0, 2, 5, 3, 1]
