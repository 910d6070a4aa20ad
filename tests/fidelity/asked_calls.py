"""Calls whose arguments a card asks for values, that draw or that move numbers; each a text.

What is asked follows from the call itself, and a card is told of it what a recording knows.
"""

import itertools

from tests.fidelity.kernel_limits import first_products
from tests.fidelity.kernels import Call

ONES = "torch.ones({}, device=x.device, dtype=x.dtype)"


def inspections():
    for x in ("numbers(40, 50)", "numbers(40, 50, dtype=torch.float64)", "numbers(50)", "numbers(0, 50)"):
        made = f"x = {x}\nd = {ONES.format('x.shape')}"
        yield f"{made}; torch.normal(0.0, d)"
        yield f"{made}; torch.normal(x, d)"
        yield f"{made}; torch.normal(x, 1.0)"
    yield f"x = numbers(40, 50)\nd = {ONES.format('50')}; torch.normal(x, d)"
    yield f"x = numbers(50)\nd = {ONES.format('(40, 50)')}; torch.normal(x, d)"
    for x, dtype in itertools.product(("40, 50", "50", "300_000", "1, 50"), ("float32", "float64", "float16")):
        for number, replaces in ((1, False), (3, False), (1, True), (3, True)):
            if x == "300_000" and (dtype != "float32" or number > 1):
                continue
            yield f"x = numbers({x}, dtype=torch.{dtype}); torch.multinomial(x, {number}, {replaces})"
    for options in ("1", "3", "2, True"):
        yield f"x = numbers(50, 40).t(); torch.multinomial(x, {options})"
    yield "x = numbers(300_000); torch.multinomial(x, 3, True)"
    for i in ("places(300)", "places(300, dtype=torch.int32)", "places(300, 2)[:, 0]", "places(1)", "places(0)"):
        for weights in ("None", "numbers(n)", "numbers(n, dtype=torch.float64)", "places(n)"):
            for least in (0, 10):
                yield f"i = {i}\nn = len(i)\nw = {weights}; torch.bincount(i, w, {least})"
    yield "x = numbers(1)\ni = torch.arange(30, device=x.device); torch.bincount(i, None, 10)"
    yield "x = numbers(1)\ni = torch.arange(30, device=x.device); torch.bincount(i, None, 100)"
    for needs, zero in itertools.product(
        ("", "\nx.requires_grad_()"), ("places(40, dtype=torch.int32)", "numbers(40)")
    ):
        made = f"x = numbers(40, 50){needs}\ns = numbers(40)\nz = {zero}.zero_()"
        yield f"{made}; torch.fake_quantize_per_channel_affine(x, s, z, 0, -128, 127)"
    for x in ("numbers(5, 5)", "numbers(3, 5, 5)", "numbers(2, 3, 5, 5)"):
        yield f"x = {x}; torch.linalg.cholesky(x)"


def drawn_and_moved():
    for count in (30_083, 30_084, 35_000, 42_500, 42_600):
        yield f"x = numbers(1); torch.randperm({count}, device=x.device)"
    yield "x = numbers(1); torch.randperm(76_801, dtype=torch.int32, device=x.device)"
    yield "x = numbers(1); torch.randperm(2_000_000_000, device=x.device)"
    for x in ("numbers(40)", "numbers(40, 50)", "numbers(2, 3, 4)", "numbers(4, 3, 2).permute(2, 1, 0)"):
        yield f"x = {x}; x.roll(1)"
        yield f"x = {x}; x.roll(1, -1)"
        yield f"x = {x}; x.flip(0)"
    for x in ("numbers(40, 50)", "numbers(50, 40).t()", "numbers(300)"):
        for dim in (0, -1):
            yield f"x = {x}; x.topk(3, {dim})"
            yield f"x = {x}; x.topk(3, {dim}, sorted=False)"
    for n in (36_864, 36_865):  # runs of equal places are counted 2,304 at once
        made = f"w = numbers(300, 4).requires_grad_()\nx = places({n})"
        y = "y = torch.nn.functional.embedding(x, w, scale_grad_by_freq=True)\ng = torch.ones_like(y)"
        yield f"{made}\n{y}; torch.autograd.grad(y, [w], g)"
    for n in (69_905 * 3840, 69_905 * 3840 + 1, 2 * 69_905 * 3840 + 1):
        yield f"x = places({n}); aten.sort(x)"


def losses_of_sequences():
    """Whose gradient is made by one kernel, or, of long or many ones, by several (LossCTC.cu)."""
    for frames, batch, classes in ((200, 16, 60), (200, 16, 65), (50, 4, 30), (220, 2, 20), (10, 180, 30)):
        made = f"x = numbers({frames}, {batch}, {classes}).requires_grad_()\nt = places({batch}, 9)"
        loss = f"torch.ctc_loss(x, t, [{frames}] * {batch}, [5] * {batch})"
        yield f"{made}; {loss}"
        yield f"{made}\ny = {loss}\ng = torch.ones_like(y); torch.autograd.grad(y, [x], g)"


def groups_of_rows():
    for columns in (16, 20, 136):
        x = "x = numbers(32, 64, dtype=torch.bfloat16)\no = places(3, dtype=torch.int32)"
        yield f"{x}\nw = numbers(3, {columns}, 64, dtype=torch.bfloat16).mT; torch._grouped_mm(x, w, offs=o)"
        w = f"w = numbers({columns}, 64, dtype=torch.bfloat16).mT\nx = x.t().contiguous().t()"
        yield f"{x}\n{w}; torch._grouped_mm(x, w, offs=o)"
        batch = f"x = numbers(3, 32, 64, dtype=torch.bfloat16)\nw = numbers(3, {columns}, 64, dtype=torch.bfloat16).mT"
        yield f"{batch}; torch._grouped_mm(x, w)"


def laid_out_otherwise():
    """Products of matrices that cuBLAS does not read where they lie, and of columns with rows, without it."""
    for batch, inner in ((3, 1), (3, 2), (1, 2), (1, 1)):
        made = f"a = numbers({batch}, 6, {inner})\nb = numbers({batch}, {inner}, 10)[..., ::2]"
        yield f"{made}; aten.bmm(a, b)"
        yield f"{made}\nc = numbers({batch}, 6, 5); aten.baddbmm(c, a, b)"
        yield f"{made}; aten.mm(a[0], b[0])"
    for shape, strides in (
        ((3, 1, 5), (5, 0, 1)),
        ((3, 5, 1), (5, 1, 0)),
        ((3, 1, 5), (0, 5, 1)),
        ((3, 1, 1), (1, 0, 0)),
    ):
        made = f"a = numbers(3, 6, {shape[1]})\nb = numbers(3, 5).as_strided({shape}, {strides})"
        yield f"{made}\nc = numbers(3, 6, {shape[2]}); aten.baddbmm(c, a, b)"
        yield f"{made}; aten.mm(a[0], b[0])"
    for size in (8, 9):
        made = f"g = numbers(2, 3, {size}, 8).transpose(2, 3)"
        yield f"{made}; aten.upsample_bilinear2d_backward(g, [8, {size}], [2, 3, 8, 8], False)"


GROUPS = {
    group.__name__: tuple(map(Call, group()))
    for group in (first_products, inspections, drawn_and_moved, losses_of_sequences, groups_of_rows, laid_out_otherwise)
}
CALLS = tuple(call for calls in GROUPS.values() for call in calls)
