"""Calls at the limits of what kernels take: sizes at which it changes, forms that few programs use; each a text."""

import itertools

from tests.fidelity.kernels import Call

LAST = ".to(memory_format=torch.channels_last)"


def first_products():
    """After which cuBLAS has its workspaces, one for each of PyTorch's threads."""
    made = "a = numbers(2, 2).requires_grad_()\ny = torch.mm(a, a)\ng = torch.ones_like(y)"
    yield f"{made}; torch.autograd.grad(y, [a], g)"


def batch_normalisation():
    """By PyTorch's own kernels or cuDNN's, as torch.batch_norm chooses, and its backward pass."""
    for shape, layout in (
        ("4, 16, 24, 24", ""),
        ("4, 16, 24, 24", LAST),
        ("4, 24, 16", ".transpose(1, 2)"),
        ("8, 16", ""),
    ):
        for dtype, weights in (
            ("float32", "float32"),
            ("float64", "float64"),
            ("float16", "float32"),
            ("bfloat16", "bfloat16"),
        ):
            if dtype != "float32" and shape == "8, 16":
                continue
            x = f"x = numbers({shape}, dtype=torch.{dtype}){layout}\nr = numbers(16, dtype=torch.{weights})"
            w = f"w = numbers(16, dtype=torch.{weights})"
            of_cudnn = dtype in ("float32", "float16") and layout == LAST
            for training in (True, False):
                if of_cudnn and training:
                    continue  # cuDNN's workspace is not known
                options = f"r, r, {training}, 0.1, 1e-5, True"
                yield f"{x}; torch.batch_norm(x, None, None, {options})"
                yield f"{x}\n{w}; torch.batch_norm(x, w, w, {options})"
                yield f"{x}\n{w}; torch.batch_norm(x, w, None, {options})"
                for wanted in (["x"], ["x", "w"], ["w", "b"], ["x", "w", "b"], ["b"]):
                    made = f"{x}\n{w}\nb = {w[4:]}"
                    made += "".join(f"\n{each}.requires_grad_()" for each in wanted)
                    made += f"\ny = torch.batch_norm(x, w, b, {options})\ng = torch.ones_like(y)"
                    yield f"{made}; torch.autograd.grad(y, [{', '.join(wanted)}], g)"
                made = (
                    f"{x}\nx.requires_grad_()\ny = torch.batch_norm(x, None, None, {options})\ng = torch.ones_like(y)"
                )
                yield f"{made}; torch.autograd.grad(y, [x], g)"


def group_and_layer_normalisation():
    for shape, channels in (((0, 64, 10), 64), ((2, 64, 10), 64), ((2, 64, 1), 64)):
        x, w, m = f"x = numbers{shape}", "w = numbers(64)", f"m = numbers({shape[0]}, 4)"
        sizes = f"{shape[0]}, {channels}, {shape[2]}, 4"
        for weights in ("w, w", "w, None", "None, w", "None, None"):
            yield f"{x}\n{w}; aten.native_group_norm(x, {weights}, {sizes}, 1e-5)"
        for mask in itertools.product((True, False), repeat=3):
            yield f"{x}\n{w}\n{m}; aten.native_group_norm_backward(x, x, m, m, w, {sizes}, {list(mask)})"
    y = "x = numbers(2, 64, 96)\nw = numbers(64)\nm = numbers(2, 96, 1)\ng = numbers(2, 96, 64)"
    scattered = f"{y}\nx = x.transpose(1, 2)"
    yield f"{scattered}; aten.native_layer_norm(x, [64], w, w, 1e-5)"
    for gradient, source in (("g", "x"), ("x", "g"), ("x", "x")):
        yield (
            f"{scattered}; aten.native_layer_norm_backward({gradient}, {source}, [64], m, m, w, w, [True, True, True])"
        )
    y = "x = numbers(64, 96)\nw = numbers(96)\nr = numbers(64, 1)\ng = numbers(96, 64).t()"
    for gradient in ("x", "g"):
        for mask in ([True, True], [True, False], [False, True]):
            yield f"{y}; aten._fused_rms_norm_backward({gradient}, x, [96], r, w, {mask})"


def indexing():
    """Of rows that one kernel sums, of so many that a sort goes twice over them, and of nothing."""
    for n, rows in ((4989, 166), (4990, 166), (9000, 271), (9000, 272)):
        for dtype in ("float32", "bfloat16"):
            y = f"g = numbers({n}, 96, dtype=torch.{dtype})\ni = places({n})"
            yield f"{y}; aten.embedding_dense_backward(g, i, {rows}, -1, False)"
    for n in (320 * 480, 320 * 480 + 1):
        yield f"g = numbers({n}, 4)\ni = places({n}); aten.embedding_dense_backward(g, i, 300, -1, False)"
    y = "g = numbers(5000, 4)\ni = places(2, 5000).t()[:, 0]"
    yield f"{y}; aten.embedding_dense_backward(g, i, 300, -1, False)"
    for shape, where in (
        ((256,), "[i]"),
        ((257,), "[i]"),
        ((400,), "[i]"),
        ((1,), "[i]"),
        ((100, 96), "[i]"),
        ((4, 100, 96), "[None, i]"),
        ((3, 100, 2), "[None, i]"),
        ((100, 5, 96), "[i, None]"),
        ((10, 20, 96), "[i, i]"),
        ((40, 50, 2), "[i, i]"),
        ((100, 3), "[None, i]"),
    ):
        for accumulates in (True, False):
            x = f"x = numbers{shape}\ni = places(3000)\ng = torch.zeros_like(x[{where[1:-1].replace('None', ':')}])"
            yield f"{x}; aten._index_put_impl_(x, {where}, g, {accumulates}, True)"
            yield f"{x}; aten.index_put_(x, {where}, g, {accumulates})"
    yield "x = numbers(9, 4)\ni = places(0)\ng = numbers(0, 4); aten._index_put_impl_(x, [i], g, True, True)"
    yield "x = numbers(9, 4)\ni = places(0)\ng = numbers(0, 4); aten.index_put_(x, [i], g, True)"
    y = "x = numbers(9, 4)\ni = places(3000)\ng = numbers(4, 3000).t()"
    yield f"{y}; aten._index_put_impl_(x, [i], g, True, True)"
    y = "x = numbers(9, 4)\ni = places(3000)\ng = numbers(4).expand(3000, 4)"
    yield f"{y}; aten._index_put_impl_(x, [i], g, True, True)"
    for index in (
        "torch.tensor(3)",
        "torch.tensor([3])",
        "torch.arange(5)",
        "places(3)",
        "places(3, dtype=torch.int32)",
    ):
        yield f"x = numbers(9, 4)\ni = {index}; aten.index(x, [i])"
        yield f"x = numbers(9, 4)\ni = {index}; aten.index(x, [None, i])"
    yield "w = numbers(9, 4)\ni = places(7, 5).t(); aten.embedding(w, i)"
    yield "w = numbers(9, 4)\ni = places(7, 5); aten.embedding(w, i)"


def sorting():
    for options in ("", ", 0", ", 0, True", ", 1", ", -2", ", descending=True"):
        yield f"x = numbers(5000, 7); aten.sort(x{options})"
    for options in ("dim=0", "dim=1", "descending=True, dim=0", "dim=-2"):
        yield f"x = numbers(5000, 7); aten.sort.stable(x, stable=True, {options})"
        yield f"x = numbers(5000, 7); aten.sort.stable(x, stable=False, {options})"
    for shape in ("", "0", "3, 0", "1", "1, 1", "0, 3"):
        yield f"x = numbers({shape}); aten.sort(x)"
        yield f"x = numbers({shape}); aten.cumsum(x, 0)"
    for rows in (1, 2, 127, 128, 129):
        yield f"x = numbers({rows}, 4097); aten.sort(x, -1)"
    for dtype in ("int64", "int32", "int16", "float64", "uint8", "float16"):
        for shape in ("10000", "3, 10000", "3840 * 4", "3840 * 4 + 1", "3072 * 4", "3072 * 4 + 1"):
            yield f"x = numbers({shape}, dtype=torch.{dtype}); aten.sort(x, -1)"
    for dtype, tile, multiple in (
        ("float16", 3840, 64),
        ("bfloat16", 3840, 64),
        ("float32", 1920, 32),
        ("float64", 896, 16),
        ("complex64", 896, 16),
        ("complex128", 384, 16),
        ("int64", 896, 16),
        ("int32", 896, 16),
    ):
        for more in (0, 1):  # 32 tiles more are counted
            yield f"x = numbers({tile * (30 * multiple - 32) + more}, dtype=torch.{dtype}); aten.cumsum(x, 0)"
    for more in (0, 1):
        yield f"x = places({3840 * 480 + more}, dtype=torch.uint8); aten.cumsum(x, 0, dtype=torch.uint8)"
    for x in ("numbers(40, 50)", "numbers(1, 50)", "numbers(50, 2)[:, :1]", "places(40, 50, dtype=torch.int32).t()"):
        for dim in (0, 1, -1):
            yield f"x = {x}; aten.cumsum(x, {dim})"
            yield f"x = {x}; aten.cumsum(x, {dim}, dtype=torch.float64)"
    for n in (640 * 320, 640 * 320 + 1, 4096, 4097, 1, 0):
        yield f"x = places({n}); aten.nonzero(x)"


def matrices():
    for matrices in ("1, 5, 5", "2, 5, 5", "3, 4, 5, 5", "0, 5, 5"):
        made = f"a = numbers({matrices})\nb = numbers({matrices[:-1]}1)"
        yield f"{made}; aten.linalg_cholesky_ex(a)"
        yield f"{made}; aten.linalg_solve_triangular(a, b, upper=True)"
        yield f"{made}; aten.cholesky_solve(b, a)"
    for matrices, length in itertools.product((7, 8, 9), (63, 64, 65)):
        made = f"a = numbers({matrices}, {length}, {length})\nb = numbers({matrices}, {length}, 2)"
        yield f"{made}; aten.linalg_solve_triangular(a, b, upper=True)"
    for length in (65_535, 65_536, 65_537, 3 * 65_536, 3 * 65_536 + 1):
        for operation in ("_foreach_norm(x)", "_foreach_norm(x, 2)", "_foreach_norm(x, 3)", "_foreach_max(x)"):
            yield f"x = [numbers({length})]; aten.{operation}"
            yield f"x = [numbers({length}), numbers(3)]; aten.{operation}"
    for tensors in (
        "numbers(50, 40).t()",
        "numbers(50, 40)[:, ::2]",
        "numbers(5, 40)[:, :20], numbers(3)",
        "numbers(3), numbers(2, 2)[:, :1]",
        "numbers(40).expand(2, 40)",
        "numbers(2, 3, 4).permute(2, 0, 1)",
        "numbers(3, 2)[:, 0]",
    ):
        for order in (1, 2, "2.0", 3, "float('inf')"):
            yield f"x = [{tensors}]; aten._foreach_norm(x, {order})"
    for shapes in (("6, 4", "4, 5"), ("6, 1", "1, 5"), ("1, 4", "4, 1"), ("0, 4", "4, 5"), ("6, 0", "0, 5")):
        one, other = shapes
        yield f"a = numbers({one})\nb = numbers({other}); aten.mm(a, b)"
        yield f"a = numbers({one})[..., ::1]\nb = numbers({other}).t().contiguous().t(); aten.mm(a, b)"
        yield f"a = numbers({one}).expand(3, -1, -1)\nb = numbers({other}).expand(3, -1, -1); aten.bmm(a, b)"
    for call in ("aten.mv(a, b)", "aten.mv(a.t().contiguous().t(), b)", "aten.dot(b, b)"):
        yield f"a = numbers(6, 4)\nb = numbers(4); {call}"
    yield "x = numbers(5, 2, 4)\nw = numbers(3, 4, 6)\nb = numbers(6); aten.conv_tbc(x, w, b, 1)"


def losses_and_images():
    for loss in ("mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "soft_margin_loss"):
        weight = "None, " if loss == "binary_cross_entropy" else ""
        for shape in ("8, 64, 100", "2_000_000", "", "3"):
            for reduction in (0, 1, 2):
                made = f"x = numbers({shape})\ny = numbers({shape})"
                yield f"{made}; aten.{loss}(x, y, {weight}{reduction})"
    for loss in ("mse_loss", "smooth_l1_loss", "huber_loss"):
        for one, other in (("8, 6400", "1, 6400"), ("8, 6400", "6400"), ("8, 6400", "")):
            for reduction in (0, 1, 2):
                yield f"x = numbers({one})\ny = numbers({other}); aten.{loss}(x, y, {reduction})"
    for loss in ("mse_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"):
        yield f"x = numbers(64, 64_000)\ny = numbers(64_000); aten.{loss}(x, y, 1)"
    yield "x = numbers(100, 40); aten.native_dropout(x, 0.5, True)"
    yield "x = numbers(100, 40, dtype=torch.bfloat16); aten.native_dropout(x, 0.5, True)"
    for x in ("numbers(2, 4, 12, 12)", f"numbers(2, 4, 12, 12){LAST}", "numbers(2, 4, 12, 12)[..., ::2]"):
        for kernel, stride in ((3, 1), (2, 2), (1, 1), (3, 4)):
            yield f"x = {x}; aten.im2col(x, [{kernel}] * 2, [1, 1], [0, 0], [{stride}] * 2)"
    for stride, places in ((1, 100), (3, 16)):
        for x in (f"numbers(2, 36, {places})", f"numbers(2, {places}, 36).transpose(1, 2)"):
            yield f"x = {x}; aten.col2im(x, [12] * 2, [3, 3], [1, 1], [0, 0], [{stride}] * 2)"
    for operation in ("x.sum()", "x.sum(0)", "x.mean(1)", "x.amax(1)", "x.any()", "x.var(1)", "x.logsumexp(0)"):
        yield f"x = numbers(0, 5); {operation}"
    for operation in ("x.sum(0, dtype=torch.float64)", "x.mean(0, dtype=torch.float32)", "x.max()", "x.argmax()"):
        yield f"x = numbers(900, 700, dtype=torch.bfloat16).t(); {operation}"
    last = f"x = numbers(4, 16, 24, 24){LAST}"
    yield f"{last}; aten.pixel_unshuffle(x, 2).contiguous()"
    yield f"{last}; aten.native_group_norm(x, None, None, 4, 16, 576, 4, 1e-5)[0].contiguous()"
    yield "x = numbers(400, 30); aten.log_sigmoid_forward(x)"
    yield "x = numbers(400, 30).t(); aten.log_sigmoid_forward(x)"
    low = "x = numbers(400, 30, dtype=torch.float16).t()\ny = numbers(30, 400)"
    yield f"{low}; (x + y).t().contiguous()"
    yield f"{low}; (y * x).t().contiguous()"
    yield f"{low}; (x * 2).t().contiguous()"
    yield f"{low}; (x * x).t().contiguous()"
    yield "x = numbers(30, dtype=torch.float16).expand(400, 30)\ny = numbers(30, 400).t(); (x + y).t().contiguous()"


def written_by_others():
    """What PyTorch writes by other operations, and otherwise for a card."""
    for shape, dim in (("4, 5", 0), ("4, 5", 1), ("1", 0), ("2", 0), ("4, 1", 1), ("1, 4", 1), ("0, 4", 1), ("", 0)):
        made = f"x = numbers({shape}).requires_grad_()\ny = x.cumprod({dim})\ng = torch.ones_like(y)"
        yield f"{made}; torch.autograd.grad(y, [x], g)"
    for p, trains in itertools.product((0.0, 0.5, 1.0), (True, False)):
        for shape in ("40, 50", "0"):
            yield f"x = numbers({shape}); torch.dropout(x, {p}, {trains})"
    for function, dtype in itertools.product(("softmax", "log_softmax"), ("float16", "bfloat16", "float32")):
        made = f"x = numbers(40, 50, dtype=torch.{dtype})"
        for option in ("", ", dtype=torch.float32", ", dtype=torch.float64"):
            yield f"{made}; torch.{function}(x, 1{option})"
    for classes in ("places(5)", "places(0)", "places(2, 3)", "places()"):
        for number in ("1", "7") if classes == "places(0)" else ("", "1", "7"):
            yield f"i = {classes}; aten.one_hot(i{', ' * bool(number)}{number})"
    yield "x = numbers(40, 50).requires_grad_()\ny = aten.mish(x)\ng = numbers(40, 50); torch.autograd.grad(y, [x], g)"


def convolutions():
    """Of nothing, and by PyTorch's own kernels: others take a workspace of cuDNN's, which a call does not tell."""
    for layout, wanted in itertools.product(("", LAST), ("x", "w", "b", "x, w, b")):
        x = f"x = numbers(0, 16, 8, 8){layout}\nw = numbers(8, 16, 3, 3)\nb = numbers(8)"
        yield f"{x}; torch.conv2d(x, w, b)"
        needs = "".join(f"\n{each}.requires_grad_()" for each in wanted.split(", "))
        y = "y = torch.conv2d(x, w, b)\ng = torch.ones_like(y)"
        yield f"{x}{needs}\n{y}; torch.autograd.grad(y, [{wanted}], g)"
    made = "w = numbers(16, 1, 3, 3)\nb = numbers(16)\n"
    for image in ("2, 16, 8, 8", "0, 16, 8, 8"):
        for layout in ("", LAST):
            if image[0] == "2" and layout:
                continue  # which cuDNN takes
            x = f"{made}x = numbers({image}){layout}"
            yield f"{x}; torch.conv2d(x, w, b, 1, 1, 1, 16)"
            for wanted in ("x", "w", "b", "x, w", "w, b", "x, b", "x, w, b"):
                needs = "".join(f"\n{each}.requires_grad_()" for each in wanted.split(", "))
                for gradient in (
                    "torch.ones_like(y)",
                    "torch.ones_like(y).transpose(2, 3).contiguous().transpose(2, 3)",
                ):
                    y = f"y = torch.conv2d(x, w, b, 1, 1, 1, 16)\ng = {gradient}"
                    yield f"{x}{needs}\n{y}; torch.autograd.grad(y, [{wanted}], g)"


def cells():
    """Of recurrent layers, with each set of wanted gradients; sums of 30,000 rows are staged."""
    for cell, gates, batch in (("lstm", 80, 4), ("lstm", 80, 30_000), ("gru", 60, 4), ("gru", 60, 30_000)):
        made = f"x = numbers({batch}, 12)\nh, c = numbers({batch}, 20), numbers({batch}, 20)\n"
        made += f"i, r, b, d = numbers({gates}, 12), numbers({gates}, 20), numbers({gates}), numbers({gates})"
        states = "[h, c]" if cell == "lstm" else "h"
        for biases in ("b, d", "None, None"):
            yield f"{made}; aten.{cell}_cell(x, {states}, i, r, {biases})"
            for wanted in ("x", "h", "i", "i, r", "x, h, i, r"):
                needs = "".join(f"\n{each}.requires_grad_()" for each in wanted.split(", "))
                y = f"y = aten.{cell}_cell(x, {states}, i, r, {biases})" + "[0]" * (cell == "lstm")
                yield f"{made}{needs}\n{y}\ng = torch.ones_like(y); torch.autograd.grad(y, [{wanted}], g)"


def rearranging():
    for x in ("numbers(40, 50)", "numbers(50, 40).t()", "numbers(40, 50)[:, ::2]"):
        for call in ("x.roll(3)", "x.roll(3, 0)", "x.roll((3, 4), (0, 1))", "x.roll((3, 4, 5), (0, 1, 0))"):
            yield f"x = {x}; {call}"
    for count in (0, 1, 2, 4096, 4097, 50_000, 70_000, 300_000):
        for dtype in ("int64", "int32"):
            yield f"x = numbers(1); torch.randperm({count}, dtype=torch.{dtype}, device=x.device)"
    for call in (
        "torch.pow(1, x)",
        "torch.pow(2, x)",
        "torch.pow(1.0, x)",
        "torch.pow(2.5, x)",
        "torch.normal(x, 1.0)",
    ):
        yield f"x = numbers(40, 50); {call}"
    for how, others in itertools.product(("mean", "sum", "amax"), ("", ", include_self=False")):
        yield f'x = numbers(40, 50)\ni = places(3, 50)\ny = numbers(3, 50); x.scatter_reduce(0, i, y, "{how}"{others})'


def lookups():
    made = "w = numbers(300, 16).requires_grad_()\n"
    for n, scales in itertools.product((100, 3072, 3073, 9000), (True, False)):
        y = f"{made}i = places({n})\ny = torch.nn.functional.embedding(i, w, scale_grad_by_freq={scales})"
        yield f"{y}\ng = torch.ones_like(y); torch.autograd.grad(y, [w], g)"
    for n, mode, scales in itertools.product((100, 9000), ("sum", "mean", "max"), (True, False)):
        if mode == "max" and scales:
            continue  # which PyTorch refuses
        options = f'o, mode="{mode}", scale_grad_by_freq={scales}'
        y = f"{made}i, o = places({n}), places(7)\ny = torch.nn.functional.embedding_bag(i, w, {options})"
        yield f"{y}\ng = torch.ones_like(y); torch.autograd.grad(y, [w], g)"
    for n in (100, 4096, 4097, 9000):
        yield f"w = numbers(300, 16)\ni = places({n}); aten.embedding_renorm_(w, i, 1.0, 2.0)"
    for reduction in (0, 1, 2):
        for x in ("numbers(400, 30)", "numbers(30)"):
            labels = "places(400)" if "," in x else "places()"
            yield f"x = {x}\ni = {labels}; aten.multi_margin_loss(x, i, 1, 1.0, None, {reduction})"
            yield f"x = {x}\ni = {labels}; aten.nll_loss_forward(x, i, None, {reduction}, -100)"
        x = "x = numbers(400, 30).requires_grad_()\ni = places(400, 2)[:, 0]"
        yield f"{x}; aten.nll_loss_forward(x, i, None, {reduction}, -100)"
        y = f"{x}\ny = aten.nll_loss_forward(x, i, None, {reduction}, -100)[0]\ng = torch.ones_like(y)"
        yield f"{y}; torch.autograd.grad(y, [x], g)"
    for x, call in itertools.product(("numbers(1)", "numbers(2)", "numbers(1, 2)", "numbers(2, 1)"), ("any", "all")):
        yield f"x = {x}; x.{call}()"
        yield f"x = {x}; x.{call}(0)"


def reductions():
    """Of types, and along dimensions, that are seldom reduced."""
    for shape in ("300_000, 8", "8, 300_000"):
        for dtype in ("complex64", "complex128"):
            for call in ("x.sum()", "x.sum(0)", "x.sum(1)", "x.prod(0)", "x.mean(1)", "torch.linalg.vector_norm(x)"):
                yield f"x = numbers({shape}, dtype=torch.{dtype}); {call}"
            yield f"x = numbers({shape}, dtype=torch.{dtype}); torch.linalg.vector_norm(x, dim=0)"
        for call in (
            *("x.prod(0)", "x.prod(1)", "x.any(0)", "x.any(1)", "x.all(0)", "x.all(1)", "x.any((0, 1))"),
            *("aten.any.dims(x, [0])", "aten.all.dims(x, [0])", "aten.any.dims(x, [1])", "aten.all.dims(x, [1])"),
            *("x.amax(0)", "x.var(0)", "x.argmax(0)", "x.aminmax()", "x.logsumexp(0)", "x.logsumexp(1)"),
        ):
            for dtype in ("float32", "float16"):
                yield f"x = numbers({shape}, dtype=torch.{dtype}); {call}"
        yield f"x = numbers({shape}, dtype=torch.float16); aten.sum(x, [0], dtype=torch.float32)"
        yield f"x = numbers({shape}, dtype=torch.float16); aten.sum(x, [0], dtype=torch.float64)"
        yield f"x = numbers({shape}, dtype=torch.complex64); aten.linalg_vector_norm(x, 2, [0], dtype=torch.complex128)"
    for dim, results in ((0, 8), (1, 300_000)):
        yield f"x = numbers(300_000, 8)\no = places({results}); aten.argmax.out(x, {dim}, out=o)"
    for dtype, rows in (("float32", 700_000), ("float16", 1_400_000)):  # more than 2 GiB: two kernels
        yield f"x = numbers({rows}, 1024, dtype=torch.{dtype}); x.aminmax(dim=0)"


def gradients():
    """What a formula, or a program's hook, makes and goes on with, which is written into in some alone."""
    made = "x = numbers(40, 50).requires_grad_()\ni = places(3)\ng = numbers(40, 50)\nh = x * 2\n"
    for call in (
        "aten.index_fill(h, 0, i, 0.0)",
        "aten.index_add(h, 0, i, numbers(3, 50))",
        "aten.index_copy(h, 0, i, numbers(3, 50))",
        "aten.put(h, i, numbers(3))",
        "aten.index_put(h, [i], numbers(3, 50))",
        "aten.scatter(h, 0, places(3, 50), numbers(3, 50))",
        "aten.masked_fill(h, places(40, 50, dtype=torch.bool), 0.0)",
    ):
        yield f"{made}y = {call}.exp(); torch.autograd.grad(y, [x], g)"
    for loss in (
        "h.exp() + h.sin()",
        "h.gather(0, places(3, 50)).exp()",
        "h[i].exp() + h[:3]",
        "h.take(places(3)).exp()",
        "h.max(1).values.exp()",
    ):
        yield f"{made}y = ({loss}).sum(); torch.autograd.grad(y, [x])"
    for call in ("var_mean", "std_mean"):
        given = "s = numbers(40)\nv, m = "
        yield f"{made}{given}torch.{call}(h, 1); torch.autograd.grad([v, m], [x], [s, s])"
        yield f"{made}{given}torch.{call}(h, 1); torch.autograd.grad([v], [x], [s])"
    for call in (
        "aten.index_add(torch.zeros_like(given), 0, i, given[:3])",
        "aten.index_fill(torch.zeros_like(given), 0, i, 1.0)",
        "aten.add(torch.zeros_like(given), given)",
        "aten.add(given * 2, given)",
        "aten.mul(given.exp(), given)",
    ):
        yield f"{made}h.register_hook(lambda given: {call})\ny = h.exp(); torch.autograd.grad(y, [x], g)"


def selecting():
    """By masks that hold nowhere, which both a card and a recording know."""
    made = "x = numbers(40, 50)\nm = places(40, 50, dtype=torch.bool)\nr, c = m[:, 0].clone(), m[0].clone()"
    for mask in ("m", "m.to(torch.uint8)", "m.t()", "r"):
        yield f"{made}; aten.nonzero({mask})"
    for call in (
        "x[m]",
        "x.t()[m.t()]",
        "aten.index(x, [r])",
        "aten.index(x, [None, c])",
        "aten.index(x, [r, c])",
        "aten.index(x, [r, places(1)])",
        "aten.index(x, [places(1), c])",
        "aten.masked_select(x, m)",
        "aten.masked_select(x, m[:1])",
        "aten.masked_select(x[:1], m)",
        "aten.index_put_(x, [m], numbers(1))",
        "aten.index_put_(x, [m], numbers(1), True)",
        "aten.index_put_(x, [m], numbers(0))",
        "aten.index_put_(x, [r], numbers(1))",
        "aten.index_put_(x, [r, c], numbers(1))",
        "aten.index_put_(x, [r, places(1)], numbers(1))",
        "aten._index_put_impl_(x, [m], numbers(0), False, True)",
        "aten.index_put_(x, [m], torch.tensor(0.0))",
        "aten.index_put_(x, [m], numbers(), True)",
        "aten.index_put_(x, [None, c], torch.tensor(0.0), False)",
    ):
        yield f"{made}; {call}"


GROUPS = {
    group.__name__: tuple(map(Call, group()))
    for group in (
        first_products,
        batch_normalisation,
        group_and_layer_normalisation,
        indexing,
        sorting,
        matrices,
        losses_and_images,
        written_by_others,
        convolutions,
        cells,
        rearranging,
        lookups,
        reductions,
        gradients,
        selecting,
    )
}
CALLS = tuple(call for calls in GROUPS.values() for call in calls)
