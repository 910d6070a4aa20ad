"""Tests work on tiny tensors: threads cost more than they bring, above all on a busy machine."""

import torch

torch.set_num_threads(1)
