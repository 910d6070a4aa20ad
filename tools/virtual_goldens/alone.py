"""Run a training step on the virtual card with a PyTorch that bench is too new for. Nothing of bench is imported here.

tools/virtual_goldens/older.py starts it with the card preloaded, and writes to its standard input what to do. The last
line that it prints is what the card saw.
"""

import ctypes
import importlib
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))


def main():
    """As bench.virtual.worker does it, with what every release of PyTorch has."""
    asked = json.load(sys.stdin)
    library = ctypes.CDLL(None)
    for name, value in asked["numbers"].items():
        assert library.virtual_card_set(name.encode(), ctypes.c_int64(value)) == 0, name
    assert library.virtual_card_describe(asked["name"].encode(), asked["cudnn_json"].encode()) == 0
    unknown = ctypes.create_string_buffer(256)
    library.virtual_card_report_to(unknown, len(unknown))
    library.virtual_card_lower_bounds.restype = ctypes.c_char_p

    make_step = getattr(importlib.import_module(asked["module"]), asked["function"])
    torch.cuda.memory._record_memory_history(context=None, max_entries=sys.maxsize)
    step = make_step(asked["batch"], torch.device("cuda"))
    setup = len(trace())
    for _ in range(asked["steps"]):
        before = library.virtual_card_values_read(), library.virtual_card_selections()
        step()
        after = library.virtual_card_values_read(), library.virtual_card_selections()
    statistics = torch.cuda.memory_stats()
    answer = {
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "unknown": unknown.value.decode(),
        "peak_allocated_bytes": statistics["allocated_bytes.all.peak"],
        "peak_reserved_bytes": statistics["reserved_bytes.all.peak"],
        "values_read": after[0] - before[0],
        "selections": after[1] - before[1],
        "lower_bounds": library.virtual_card_lower_bounds().decode().split(),
        "setup": setup,
        "trace": trace(),
    }
    print("\n" + json.dumps(answer))


def trace():
    """Allocations and frees so far."""
    entries = torch.cuda.memory._snapshot()["device_traces"][0]
    return [
        {key: entry[key] for key in ("action", "addr", "size")}
        for entry in entries
        if entry["action"] in ("alloc", "free_completed")
    ]


if __name__ == "__main__":
    main()
