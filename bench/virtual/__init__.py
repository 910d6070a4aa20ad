"""The virtual card: PyTorch's own CUDA code on a card that is not there.

A CUDA build of PyTorch runs whole training steps in a process whose CUDA driver, runtime and maths libraries are
answered by a small library (bench/virtual/source): memory is counted, nothing is computed. Dispatch, autograd,
autocast, the kernels' own host code and the caching allocator are PyTorch's; cuDNN is the real one.
docs/VIRTUAL-CARD.md tells what is real and what is not.

    engine = VirtualEngine(make_step, card)   # the protocol of CudaEngine and SimulatedEngine
    boundary = largest_batch(engine)

No GPU is needed, and none is touched.
"""

from bench.virtual.device import VirtualDevice, VirtualMeasurement
from bench.virtual.engine import VirtualEngine
from bench.virtual.figures import NoVirtualCardError

__all__ = ["NoVirtualCardError", "VirtualDevice", "VirtualEngine", "VirtualMeasurement"]
