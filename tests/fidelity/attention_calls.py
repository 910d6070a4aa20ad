"""Calls of attention at the limits of its kernels' memory, for virtual cards of six kinds to answer; each a text."""

from tests.fidelity.kernels import Call

CARDS = ("T4", "A100 40GB", "RTX 3080", "RTX 4090", "H100 SXM", "RTX 5090")


def _attention(
    dtype="float16",
    batch=2,
    heads=4,
    of_keys=None,
    length=64,
    keys=None,
    width=64,
    of_values=None,
    mask="",
    dropout=0.0,
    causal=False,
    swapped="",
    trains=True,
):
    """The forward pass, and the backward pass of its result.

    `mask` adds numbers; `swapped` names what lies with heads behind rows, as after a projection: the query, key or
    value, the gradient "g".
    """
    of_keys, keys, of_values = of_keys or heads, keys or length, of_values or width
    shapes = {"q": (heads, length, width), "k": (of_keys, keys, width), "v": (of_keys, keys, of_values)}
    made = ""
    for name, (each, rows, columns) in shapes.items():
        order = (rows, each) if name in swapped else (each, rows)
        made += f"{name} = numbers({batch}, {order[0]}, {order[1]}, {columns}, dtype=torch.{dtype})"
        made += ".transpose(1, 2)" * (name in swapped) + "\n"
    made += "".join(f"{name}.requires_grad_()\n" for name in shapes if trains)
    if mask:
        made += f"m = {mask}\n"
    options = f"{'m' if mask else None}, {dropout}, {causal}, enable_gqa={of_keys != heads}"
    call = f"torch.nn.functional.scaled_dot_product_attention(q, k, v, {options})"
    yield f"{made[:-1]}; {call}"
    if trains:
        g = f"numbers({batch}, {heads}, {length}, {of_values}, dtype=torch.{dtype})"
        if "g" in swapped:
            g = f"numbers({batch}, {length}, {heads}, {of_values}, dtype=torch.{dtype}).transpose(1, 2)"
        yield f"{made}y = {call}\ng = {g}; torch.autograd.grad(y, [q, k, v], g)"


def _mask(heads, rows, columns, dtype="float16"):
    return f"numbers({heads}, {rows}, {columns}, dtype=torch.{dtype})"


def _all():
    for width in (10, 32, 64, 72, 96, 104, 128, 136, 192, 256):
        yield from _attention(width=width)
        yield from _attention(width=width, dropout=0.1)
        yield from _attention(width=width, mask=_mask(1, 64, 64))
        yield from _attention(width=width, mask=_mask(1, 64, 64), dropout=0.1)
        if width % 4 == 0:
            yield from _attention("float32", width=width)
    for width, of_values in ((64, 128), (128, 64), (64, 136), (136, 64), (128, 256)):
        yield from _attention(width=width, of_values=of_values, mask=_mask(1, 64, 64))
        yield from _attention("float32", width=width, of_values=of_values)
    for length in (63, 64, 65, 128, 129):
        yield from _attention(length=length)
        yield from _attention(length=length, mask=_mask(1, length, length))
        yield from _attention("float32", length=length, width=128)
    for swapped in ("g", "qkv", "qkvg"):
        yield from _attention(swapped=swapped)
        yield from _attention(swapped=swapped, mask=_mask(4, 64, 64))
        yield from _attention("float32", swapped=swapped)
        yield from _attention("float32", swapped=swapped, of_keys=2)
    for of_keys in (1, 2):
        for dtype in ("float16", "float32"):
            yield from _attention(dtype, of_keys=of_keys)  # as test_attention_calls.py looks for them
            yield from _attention(dtype, of_keys=of_keys, keys=128, mask=_mask(1, 64, 128, dtype))
    # Gradients of keys that the kernel sums in memory: as many parts as keys and places for them allow.
    for batch, keys in ((1, 63), (1, 64), (1, 65), (1, 192), (17, 192), (67, 256), (201, 64)):
        yield from _attention(batch=batch, heads=1, keys=keys, width=136, mask=_mask(1, 64, keys))
    # Few rows of work: keys are split.
    for width in (64, 72, 128, 136, 192):
        for keys in (64, 65, 128, 129, 256, 257, 600, 4096):
            yield from _attention(batch=1, heads=1, length=16, keys=keys, width=width, trains=False)
    for work in (34, 53, 87, 88, 108, 109, 172, 173, 204, 205, 211, 212, 271, 272):
        yield from _attention(batch=1, heads=work, length=64, keys=4096, trains=False)
        yield from _attention(batch=1, heads=work, length=65, keys=1000, width=128, trains=False)
    yield from _attention(batch=1, heads=57, keys=10_240, trains=False)  # 2 parts are 0.85 as good as the best, of 3080
    for keys in (32_768, 32_769, 40_000, 70_000):
        yield from _attention(batch=1, heads=1, length=16, keys=keys, trains=False)
    yield from _attention(causal=True)
    yield from _attention(mask="numbers(2, 4, 64, 64, dtype=torch.float16)")
    yield from _attention("float32", causal=True, dropout=0.1)
    yield from _attention(mask="numbers(64, 64) > 0")
    yield from _attention(length=60, mask="numbers(60, 60) > 0")
    yield from _attention("float32", length=60, mask=_mask(4, 60, 60, "float32"))


CALLS = tuple(map(Call, _all()))
