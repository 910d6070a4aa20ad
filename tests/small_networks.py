"""Sizes at which the tests that go over all architectures run those whose own are large."""

from dataclasses import fields

from bench import models
from bench.models.architectures.humus_net import HUMUSOptions

SIZES = {
    "humus_net": HUMUSOptions(width=8, depths=(2,), heads=(2,), bottleneck_depth=2, bottleneck_heads=4, window=2),
}


def small(options):
    """The options, with these sizes."""
    own = {each.name: getattr(options, each.name) for each in fields(options) if each.name not in SIZES}
    return models.Options(**own, **SIZES)
