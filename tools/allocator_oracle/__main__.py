"""Run events through PyTorch's own allocator, check golden traces against it, or write those of the suite's steps."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.allocator_oracle import suite_steps
from tools.allocator_oracle.oracle import Oracle


def golden(oracle: Oracle, question: dict[str, Any]) -> dict[str, Any]:
    """A golden trace: the question (total_bytes, memory_fraction, alloc_conf, events) with the oracle's answers."""
    total_bytes, fraction, alloc_conf = (question[k] for k in ("total_bytes", "memory_fraction", "alloc_conf"))
    answers = oracle.run(question["events"], total_bytes, fraction, alloc_conf)
    return {
        "torch": oracle.release,
        "total_bytes": total_bytes,
        "memory_fraction": fraction,
        "alloc_conf": alloc_conf,
        "events": question["events"],
        "expected": [None if answer is None else list(answer) for answer in answers.after],
        "peak": {"allocated": answers.peak_allocated_bytes, "reserved": answers.peak_reserved_bytes},
    }


def run(arguments: argparse.Namespace) -> int:
    """Write a golden trace, or print it."""
    question = {
        "total_bytes": arguments.total_bytes,
        "memory_fraction": arguments.memory_fraction,
        "alloc_conf": arguments.alloc_conf,
        "events": json.loads(arguments.events.read_text()),
    }
    text = json.dumps(golden(Oracle(arguments.torch_lib), question))
    if arguments.output:
        arguments.output.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        print(text)
    return 0


def check(arguments: argparse.Namespace) -> int:
    """Ask the oracle again and report golden traces of its release that it answers otherwise."""
    oracle = Oracle(arguments.torch_lib)
    checked = different = 0
    for path in arguments.traces:
        with gzip.open(path) as file:
            trace = json.load(file)
        if trace["torch"] == oracle.release:
            checked += 1
            if golden(oracle, trace) != trace:
                different += 1
                print(f"{path}: torch {oracle.release} answers otherwise")
    print(f"torch {oracle.release}: {checked} golden traces checked, {different} differ")
    return 1 if different else 0


def suite(arguments: argparse.Namespace) -> int:
    """Write the golden traces of the default suite's steps."""
    suite_steps.write([Oracle(torch_lib) for torch_lib in arguments.torch_lib], arguments.output)
    return 0


def build(arguments: argparse.Namespace) -> int:
    """Compile the driver and say where it is; the other commands do so by themselves."""
    print(Oracle(arguments.torch_lib).folder / "driver")
    return 0


def main() -> int:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m tools.allocator_oracle", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(function: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = commands.add_parser(function.__name__, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(function=function)
        return sub

    one: dict[str, Any] = {
        "type": Path,
        "required": True,
        "metavar": "DIR",
        "help": "torch/lib of an unpacked CUDA wheel",
    }
    command(build).add_argument("--torch-lib", **one)

    sub = command(run)
    sub.add_argument("events", type=Path, help='JSON: [["a", id, bytes], ["f", id], ["e"], ...]')
    sub.add_argument("--torch-lib", **one)
    sub.add_argument("--total-bytes", type=int, required=True)
    sub.add_argument("--memory-fraction", type=float, default=1.0)
    sub.add_argument("--alloc-conf", help="as in PYTORCH_ALLOC_CONF")
    sub.add_argument("--output", type=Path, help="a file NAME.json.gz; otherwise it is printed")

    sub = command(check)
    sub.add_argument("traces", type=Path, nargs="+", help="files NAME.json.gz")
    sub.add_argument("--torch-lib", **one)

    sub = command(suite)
    sub.add_argument("--torch-lib", action="append", **one)
    sub.add_argument("--output", type=Path, required=True, help="the folder to write to")

    arguments = parser.parse_args()
    return int(arguments.function(arguments))


if __name__ == "__main__":
    sys.exit(main())
