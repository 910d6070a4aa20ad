"""Flash attention with few rows of queries splits its keys: as many parts as on the virtual card, an RTX 3080."""

import pytest
import torch

from bench.memory.gpus import CARDS
from bench.memory.recording.on_cuda import on_cuda
from bench.memory.recording.recorder import events_of


# torch 2.14.1's own CUDA code: 7 and 3 parts, where a factor of 0.84 gives 3 and 3, and one of 0.86 gives 7 and 7.
@pytest.mark.parametrize(
    ("keys", "allocated"),
    [
        (6400, [286720, 28672000, 286720, 8960, 62720, 4014080, 16, 8]),
        (5120, [286720, 22937600, 286720, 8960, 26880, 1720320, 16, 8]),
    ],
)
def test_as_many_parts_as_on_a_card(keys, allocated):
    def make_step(batch, device):
        query = torch.empty(1, 35, 64, 64, device=device, dtype=torch.float16)
        others = torch.empty(1, 35, keys, 64, device=device, dtype=torch.float16)
        return lambda: torch.nn.functional.scaled_dot_product_attention(query, others, others)

    with on_cuda(CARDS["RTX 3080"]):
        events = events_of(make_step, 1, 1)
    assert [event.size_bytes for event in events if not event.is_free] == allocated
