"""Calls of operations whose kernels take memory of their own, for the virtual card to answer; each a text."""

import math

import torch

aten = torch.ops.aten


def numbers(*shape, dtype=torch.float32, device):
    return torch.empty(shape, dtype=dtype, device=device)


def places(*shape, dtype=torch.int64, device):
    return torch.zeros(shape, dtype=dtype, device=device)


class Call(str):
    """`arguments; call` in Python: new tensors from numbers(...) and places(...), then the operation on them."""

    def prepared(self, device):
        """The call, with its arguments made."""
        arguments, operation = self.split(";")
        names = {
            "aten": aten,
            "torch": torch,
            "numbers": lambda *shape, **options: numbers(*shape, device=device, **options),
            "places": lambda *shape, **options: places(*shape, device=device, **options),
        }
        exec(arguments.strip(), names)
        return lambda: eval(operation.strip(), names)


def _normalisation():
    for dtype in ("float32", "bfloat16"):
        for n, c, pixels in ((2, 64, 16384), (2, 48, 96), (4, 64, 1), (200, 64, 10)):
            x, m = f"x = numbers({n}, {c}, {pixels}, dtype=torch.{dtype})", f"m = numbers({n}, 4, dtype=torch.{dtype})"
            w = f"w = numbers({c}, dtype=torch.{dtype})"
            sizes = f"{n}, {c}, {pixels}, 4"
            yield f"{x}\n{w}; aten.native_group_norm(x, w, w, {sizes}, 1e-5)"
            yield f"{x}; aten.native_group_norm(x, None, None, {sizes}, 1e-5)"
            for mask in ((True, True, True), (True, False, False), (False, True, True)):
                yield f"{x}\n{w}\n{m}; aten.native_group_norm_backward(x, x, m, m, w, {sizes}, {list(mask)})"
            yield f"{x}\n{m}; aten.native_group_norm_backward(x, x, m, m, None, {sizes}, [True, False, False])"
    x = "x = numbers(2, 96, 48, 64)"
    m = "m = numbers(2, 4)"
    yield f"{x}; aten.native_group_norm(x.transpose(1, 3), None, None, 2, 64, 4608, 4, 1e-5)"
    g = "g = numbers(1).expand(2, 96, 48, 64)"
    yield f"{x}\n{m}\n{g}; aten.native_group_norm_backward(g, x, m, m, None, 2, 96, 3072, 4, [True, False, False])"
    for layout in ("x", "x.transpose(1, 3)"):
        y = f"{x}\nx = {layout}\nw = numbers(x.shape[1])\ng = numbers(*x.shape)\ne = numbers(1).expand(x.shape)"
        yield f"{y}; aten.native_batch_norm(x, None, None, None, None, True, 0.1, 1e-5)"
        if layout == "x":  # of the other, a net's would be cuDNN's
            yield f"{y}; aten.native_batch_norm(x, w, w, w, w, True, 0.1, 1e-5)"
        for gradient in ("g", "x", "e"):
            of_norm = "None, None, None, w, w, True, 1e-5, [True, False, False]"
            yield f"{y}; aten.native_batch_norm_backward({gradient}, x, {of_norm})"
    for shape in ((4, 512, 96), (2, 48, 96), (8, 8192)):
        y = f"x = numbers{shape}\nw = numbers({shape[-1]})\nm = numbers({', '.join(map(str, shape[:-1]))}, 1)"
        yield f"{y}; aten.native_layer_norm(x, [{shape[-1]}], w, w, 1e-5)"
        yield f"{y}; aten.native_layer_norm_backward(x, x, [{shape[-1]}], m, m, w, w, [True, True, True])"


def _indexing():
    for n in (7, 50, 2000):
        x, i, g = "x = numbers(2, 48, 96)", f"i = places({n})", f"g = numbers(2, {n}, 96)"
        yield f"{x}\n{i}; aten.index(x, [None, i])"
        yield f"{x}\n{i}\n{g}; aten._index_put_impl_(x, [None, i], g, True, True)"
        yield f"{x}\n{i}\n{g}; aten._index_put_impl_(x, [None, i], g, False, True)"
        yield f"{x}\n{i}\n{g}; aten.index_put_(x, [None, i], g, True)"
        yield f"{x}\n{i}\n{g}; aten.index_put_(x, [None, i], g, False)"
        yield f"{x}\n{i}\n{g}; aten.index_add_(x, 1, i, g)"
        y, v = "x = numbers(4000, 96)", f"v = numbers({n})"
        yield f"{y}\n{i}\n{v}; aten._index_put_impl_(x, [i, i], v, True, True)"
        yield f"{y}\n{i}\n{v}; aten._index_put_impl_(x, [torch.arange({n}), i], v, True, True)"
        yield f"{y}\n{i}; aten.index(x, [torch.arange({n}), i])"
        yield f"{y}\n{i}; aten.index_select(x, 0, i)"
    for rows in (48, 300, 70_000):
        for n in (2304, 3000, 32_000, 100_000):
            y = f"x = numbers({rows}, 4)\ni = places({n})\ng = numbers({n}, 4)"
            yield f"{y}; aten._index_put_impl_(x, [i], g, True, True)"
    for rows, n, width in ((64, 50, 96), (64, 3072, 768), (64, 3073, 96), (300, 8192, 768), (50_257, 32_768, 768)):
        for dtype in ("float32", "bfloat16"):
            y = f"g = numbers({n}, {width}, dtype=torch.{dtype})\ni = places({n})"
            yield f"{y}; aten.embedding_dense_backward(g, i, {rows}, -1, False)"
    y = "g = numbers(1).expand(5000, 96)\ni = places(5000, dtype=torch.int32)"
    yield f"{y}; aten.embedding_dense_backward(g, i, 300, 0, False)"


def _sorting():
    for shape in ((2, 48, 96), (3, 2000), (2, 5000), (1, 100_000), (7,), (4096, 1025), (2, 3, 70_000), (300, 5000)):
        x = f"x = numbers({', '.join(map(str, shape))},)"
        yield f"{x}; aten.sort(x, -1, False)"
        yield f"{x}; aten.sort.stable(x, stable=True, dim=-1)"
        if math.prod(shape) < 10**6:
            yield f"{x}; aten.sort(x, 0, True)"
        for scan in ("cumsum", "cumprod", "logcumsumexp"):
            yield f"{x}; aten.{scan}(x, -1)"
        yield f"{x}; aten.cummax(x, -1)"
        yield f"{x}; aten.kthvalue(x, 3)"
    for dtype in ("float32", "int64", "bfloat16"):
        for n in (7, 10_000, 1_000_000):
            yield f"x = numbers({n}, dtype=torch.{dtype}); aten.cumsum(x, 0)"


def _layouts():
    """Pooling, upsampling, softmax and normalisation where image, gradient or both have their channels last."""
    contiguous, last = "contiguous_format", "channels_last"
    for image, gradient in ((contiguous, last), (last, contiguous), (last, last)):
        x = f"x = numbers(4, 16, 24, 24).to(memory_format=torch.{image})"
        g, u, h = (
            f"{name} = numbers(4, 16, {size}, {size}).to(memory_format=torch.{gradient})"
            for name, size in (("g", 12), ("u", 48), ("h", 24))
        )
        i = f"i = places(4, 16, 12, 12).to(memory_format=torch.{image})"
        yield f"{x}\n{g}\n{i}; aten.max_pool2d_with_indices_backward(g, x, [2, 2], [2, 2], [0, 0], [1, 1], False, i)"
        yield f"{x}\n{g}; aten.avg_pool2d_backward(g, x, [2, 2], [2, 2], [0, 0], False, True, None)"
        yield f"{x}\n{g}; aten._adaptive_avg_pool2d_backward(g, x)"
        yield f"{x}\n{h}; aten._softmax_backward_data(h, x, 1, torch.float32)"
        yield f"{x}\n{h}; aten._log_softmax_backward_data(h, x, 1, torch.float32)"
        m = "m = numbers(4, 4)\nw = numbers(16)"
        yield f"{x}\n{h}\n{m}; aten.native_group_norm_backward(h, x, m, m, w, 4, 16, 576, 4, [True, True, True])"
        if gradient == last:
            yield f"{u}; aten.upsample_nearest2d_backward(u, [48, 48], [4, 16, 24, 24])"
            yield f"{u}; aten.upsample_bilinear2d_backward(u, [48, 48], [4, 16, 24, 24], False)"
            yield f"{u}; aten.upsample_bicubic2d_backward(u, [48, 48], [4, 16, 24, 24], False)"
        if image == gradient:
            yield f"{x}; aten._softmax(x, 1, False)"
            yield f"{x}; aten._log_softmax(x, 1, False)"
            yield f"{x}; aten.reflection_pad2d(x, [1, 1, 1, 1])"
            yield f"{x}; aten.native_group_norm(x, None, None, 4, 16, 576, 4, 1e-5)"
        for dtype in ("float32", "bfloat16"):
            y = f"{x}\n{h}\nm = numbers(16)\nx, h, w = (each.to(torch.{dtype}) for each in (x, h, m))"
            yield f"{y}; aten.native_batch_norm(x, None, None, None, None, True, 0.1, 1e-5)"
            of_norm = "None, None, None, m, m, True, 1e-5, [True, False, False]"
            yield f"{y}; aten.native_batch_norm_backward(h, x, {of_norm})"
    x = "x = numbers(4, 16, 12, 12, 12).to(memory_format=torch.channels_last_3d)"
    yield f"{x}; aten.avg_pool3d(x, [2, 2, 2], [2, 2, 2])"
    yield f"{x}; aten.adaptive_max_pool3d(x, [2, 2, 2])"
    yield f"{x}\ng = x[:, :, :6, :6, :6]; aten._adaptive_avg_pool3d_backward(g, x)"
    yield f"{x}; aten.native_batch_norm(x, None, None, None, None, True, 0.1, 1e-5)"
    yield f"{x}; aten.native_batch_norm(x.bfloat16(), None, None, None, None, True, 0.1, 1e-5)"


def _others():
    for matrices in ((5, 5), (3, 5, 5), (2, 40, 5, 5)):
        made = f"a = numbers{matrices}\nb = numbers({', '.join(map(str, matrices[:-1]))}, 1)"
        yield f"{made}; aten.linalg_cholesky_ex(a)"
        yield f"{made}; aten.linalg_solve_triangular(a, b, upper=True)"
        yield f"{made}; aten.cholesky_solve(b, a)"
    for dtype in ("float32", "bfloat16"):
        made = f"x = [numbers(*shape, dtype=torch.{dtype}) for shape in ((196_608,), (77,), (3, 3), (70_000,))]"
        for order in (1, 2, float("inf")):
            yield f"{made}; aten._foreach_norm(x, float('{order}'))"
        yield f"{made}; aten._foreach_max(x)"
        made = f"x = numbers(4, 8, 512, 512, dtype=torch.{dtype})"
        yield f"{made}; aten._softmax_backward_data(x, x, -1, torch.{dtype})"
        yield f"{made}; aten._log_softmax_backward_data(x, x, -1, torch.{dtype})"
        yield f"{made}; aten._softmax(x, -1, False)"
        yield f"{made}; aten.logsumexp(x, [-1])"
        yield f"{made}; aten.logsumexp(x, [0, 1], True)"
        made = f"x = numbers(64, 1000, 96, dtype=torch.{dtype})\nw = numbers(96, dtype=torch.{dtype})"
        yield f"{made}; aten.rms_norm(x, [96], w)"
        made = (
            f"x = numbers(1, dtype=torch.{dtype}).expand(4, 4, 50, 98)\ny = numbers(4, 4, 48, 96, dtype=torch.{dtype})"
        )
        yield f"{made}; aten.reflection_pad2d_backward(x, y, [1, 1, 1, 1])"
        yield f"{made}; aten._adaptive_avg_pool2d_backward(x, y)"
    made = "x = numbers(8, 64, 100, 100)\ny = numbers(8, 64, 100, 100)"
    for loss in ("mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "soft_margin_loss"):
        yield f"{made}; aten.{loss}(x, y)"
    made = "x = numbers(8, 64, 112, 112)\nw = numbers(32, 64, 1, 1)\ng = numbers(8, 32, 112, 112)"
    options = "[32], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, False, True]"
    for layout in ("contiguous_format", "channels_last"):
        laid_out = "\n".join(f"{each} = {each}.to(memory_format=torch.{layout})" for each in "xg")
        yield f"{made}\n{laid_out}; aten.convolution_backward(g, x, w, {options})"


CALLS = tuple(Call(text) for text in (*_normalisation(), *_indexing(), *_sorting(), *_layouts(), *_others()))
