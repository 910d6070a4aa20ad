"""What `bench fit` costs for large models by recording: processor time, in times of `import torch`, and memory.

pytest benchmarks/test_fit_speed.py --benchmark-only (with the packages of the extra [steps])
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from cold import COMMAND

STEPS = Path(__file__).with_name("large_steps.py")
VIT = (
    "--model",
    "timm:vit_base_patch16_224",
    "--input",
    "3x224x224",
    "--loss",
    "cross_entropy",
    "--optimizer",
    "adamw",
)

FITS = {
    "GPT-2 small, float16 autocast": (f"{STEPS}:gpt2_small",),
    "ViT-B/16, bfloat16 autocast": (*VIT, "--amp", "bf16"),
    "LoRA of a decoder of 6.7 billion parameters": (f"{STEPS}:lora_of_7b",),
}


def processor_seconds_and_mib(*command):
    """What a command takes of the processor, and its most memory."""
    pid = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    )
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


@pytest.mark.skipif(
    not all(map(find_spec, ("timm", "transformers", "peft"))), reason="needs timm, transformers and peft"
)
@pytest.mark.parametrize("arguments", FITS.values(), ids=FITS)
def test_fit_of_a_large_model(benchmark, arguments):
    importing, _ = processor_seconds_and_mib(sys.executable, "-c", "import torch")
    found = []

    def run():
        found.append(
            processor_seconds_and_mib(*COMMAND, "fit", *arguments, "--gpu", "RTX 4090", "--engine", "simulated")
        )

    benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["times_import_torch_by_processor"] = round(found[0][0] / importing, 1)
    benchmark.extra_info["MiB"] = round(found[0][1])
