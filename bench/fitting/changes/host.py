"""What backward needs waits on the host, in pinned memory, and comes back when its turn has come."""

from functools import partial

from torch.autograd.graph import save_on_cpu

from bench.fitting.changes.change import Change, around_forward
from bench.fitting.observed import Observed


def _refusal(observed: Observed) -> str:
    return "the step keeps what backward needs on the host itself" if any(observed.host_bytes) else ""


HOST = Change("host", "saved activations on the host", partial(around_forward, partial(save_on_cpu, True)), _refusal)
