"""A marker stands at the beginning of each step."""

import torch

from bench.memory.recording.marks import MARKER_BYTES, marked
from bench.memory.recording.recorder import events_of


def test_each_step_begins_with_a_marker_and_gives_what_it_gave():
    def make_step(batch, device):
        kept = torch.empty(batch, device=device)
        return lambda: (torch.empty(2 * batch, device=device), kept)[1]

    events = events_of(marked(make_step), 100, 2)
    assert MARKER_BYTES == 503  # no tensor of float32 or float16 has as many, and histories are read by it
    assert [event.size_bytes for event in events if event.size_bytes > 0] == [400, 503, 800, 503, 800]
    assert marked(make_step)(5, torch.device("meta"))().shape == (5,)
    assert marked(lambda batch, device: "no step")(5, torch.device("meta")) == "no step"
