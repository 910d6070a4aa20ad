"""What backward needs waits on the host, in pinned memory, and comes back when its turn has come."""

from bench.strategies.strategy import Strategy

HOST = Strategy("host", "saved activations on the host", {"training": {"activations": "host"}})
