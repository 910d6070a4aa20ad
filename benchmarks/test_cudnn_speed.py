"""What cuDNN's answers cost: from the library, a call at a time, and from the shipped file.

pytest benchmarks/test_cudnn_speed.py --benchmark-only
"""

import itertools

import pytest

from bench.memory.cudnn import backend, cache
from bench.memory.cudnn.heuristics import CachedCudnn, LiveCudnn
from bench.memory.gpus import CARDS

VERSION = "9.20.0"
MOST_MS = 15  # what a query of the library may take, median


@pytest.fixture(scope="module")
def calls():
    """Every convolution of the default suite, at one batch after the other."""
    shipped = cache.read(VERSION, "H200").calls
    return [call.with_images(images) for images in range(1, 60, 3) for call in shipped]


@pytest.mark.parametrize("card", ["RTX 3080", "H200"])
def test_library(benchmark, card, calls):
    try:
        backend.load()
    except backend.NotAtHandError as missing:
        pytest.skip(str(missing))
    source, next_call = LiveCudnn(CARDS[card]), itertools.cycle(calls).__next__
    benchmark.pedantic(lambda: source.candidates(next_call()), rounds=len(calls), warmup_rounds=5)
    if benchmark.stats:
        assert 1e3 * benchmark.stats.stats.median <= MOST_MS


def test_shipped_answer(benchmark, calls):
    source, next_call = CachedCudnn(CARDS["H200"], cudnn_version=VERSION), itertools.cycle(calls).__next__
    benchmark(lambda: source.candidates(next_call()))


def test_reading_the_shipped_file(benchmark):
    def forget():
        cache._lines.cache_clear()
        cache.read.cache_clear()

    benchmark.pedantic(cache.read, (VERSION, "H200"), setup=forget, rounds=5)
