"""What the virtual card costs, in a python that has a CUDA build of PyTorch: named by BENCH_CUDA_PYTHON.

BENCH_CUDA_PYTHON=.venv-cuda/bin/python pytest benchmarks/test_virtual_card_speed.py --benchmark-only

extra_info has the bounds' numbers: the whole table in units of `import torch` of that build, the seconds of a probe,
the ratio of batch 200 to batch 2, and the largest process.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

PYTHON = os.environ.get("BENCH_CUDA_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="BENCH_CUDA_PYTHON names no python with a CUDA build of PyTorch")

ROOT = Path(__file__).parents[1]
CELLS = [
    f"{architecture} on {task}"
    for task in ("deblurring", "ct", "mri")
    for architecture in ("LU-DnCNN", "DEQ4IP", "LUSER-SW", "LUSER-DW")
]
PROBES = """
import json, resource, sys, time
from bench import config
from bench.cells import suite
from bench.memory import card_of_capacity
from bench.stages.memory import running_engine
architecture, task = sys.argv[1].split(" on ")
(cell,) = suite.cells(config.load(config.default_path()), [architecture], [task])
engine = running_engine("virtual", cell, card_of_capacity("10TiB"))  # memory is no limit
engine.probe(2)  # starts the process
seconds = {}
for batch in (2, 200):
    start = time.perf_counter()
    assert engine.probe(batch).fits
    seconds[batch] = time.perf_counter() - start
print(json.dumps([seconds, max(seen.host_bytes for seen in engine.measurements.values())]))
"""


def run(*arguments):
    return subprocess.run(
        [PYTHON, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ).stdout


def import_seconds():
    """The least of three."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run("-c", "import torch")
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def test_whole_table(benchmark, tmp_path):
    """4 architectures x 3 tasks x 3 caps, by search."""
    command = ["run", "--engine", "virtual", "--stages", "memory", "--fresh", "--jobs", "2", "--output"]
    benchmark.pedantic(lambda: run("-m", "bench", *command, str(tmp_path)), rounds=1, warmup_rounds=0)
    benchmark.extra_info["imports_of_torch"] = benchmark.stats["min"] / import_seconds()


@pytest.mark.parametrize("cell", CELLS)
def test_probe(benchmark, cell):
    answer = benchmark.pedantic(lambda: run("-c", PROBES, cell), rounds=1)
    seconds, host_bytes = json.loads(answer)
    benchmark.extra_info["probe_seconds"] = seconds
    benchmark.extra_info["ratio_of_batches"] = seconds["200"] / seconds["2"]
    benchmark.extra_info["host_MiB"] = host_bytes / 2**20
