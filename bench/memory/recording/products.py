"""Which operations multiply matrices by cuBLAS, and so make it take its workspace."""

from __future__ import annotations

import torch

aten = torch.ops.aten

CUBLAS_OPS = {
    getattr(packet, overload)
    for packet in (
        aten.mm,
        aten.addmm,
        aten.addmm_,
        aten.bmm,
        aten.baddbmm,
        aten.baddbmm_,
        aten.mv,
        aten.addmv,
        aten.dot,
        aten.linalg_solve_triangular,
    )
    for overload in packet.overloads()
}
