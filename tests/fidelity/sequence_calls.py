"""Layers that cuDNN runs along a sequence, called as functions, with each set of wanted gradients; each a text."""

from tests.fidelity.kernel_limits import first_products
from tests.fidelity.kernels import Call

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1}


def made(kind, x="numbers(5, 4, 32)", layers=1, biases=True, dtype="float32", width=64):
    """Data of 32 features, states of 4 samples, and weights of so many units for each layer."""
    rows = GATES[kind] * width
    shapes = []
    for layer in range(layers):
        shapes += [f"{rows}, {width if layer else 32}", f"{rows}, {width}", *[f"{rows}"] * 2 * biases]
    x = x.replace(")", f", dtype=torch.{dtype})", 1)
    state = f"numbers({layers}, 4, {width}, dtype=torch.{dtype})"
    weights = ", ".join(f"numbers({each}, dtype=torch.{dtype})" for each in shapes)
    return f"x = {x}\nh, c = {state}, {state}\nw = [{weights}]"


def called(kind, layers=1, biases=True, dropout=0.0, trains=True, batch_first=False):
    states = "(h, c)" if kind == "lstm" else "h"
    return f"torch.{kind}(x, {states}, w, {biases}, {layers}, {dropout}, {trains}, False, {batch_first})"


IN_ONE_BLOCK = """
s = [each.numel() for each in w]
b = numbers(sum(s))
w = [part.view_as(each) for part, each in zip(b.split(s), w)]"""


def gradients(kind, before, call, wanted, given):
    needs = "".join(f"\n{each}.requires_grad_()" for each in ("x", "h", "c") if each in wanted)
    needs += "\nfor each in w: each.requires_grad_()" if "*w" in wanted else ""
    outputs = "y, h_n, c_n" if kind == "lstm" else "y, h_n"
    lines = f"{before}{needs}\n{outputs} = {call}\ng = [torch.ones_like(each) for each in ({given},)]"
    return f"{lines}; torch.autograd.grad([{given}], [{wanted}], g)"


def forward():
    for kind in GATES:
        for options in (
            {},
            {"trains": False},
            {"biases": False},
            {"layers": 2, "dropout": 0.5},
            {"layers": 2, "dropout": 0.5, "trains": False},
            {"layers": 2},
            {"dropout": 0.5},
        ):
            shape = {name: value for name, value in options.items() if name in ("layers", "biases")}
            yield f"{made(kind, **shape)}; {called(kind, **options)}"
        yield f"{made(kind)}{IN_ONE_BLOCK}; {called(kind)}"
        for dtype in ("float16", "bfloat16", "float64"):
            yield f"{made(kind, dtype=dtype)}; {called(kind)}"
        for x in ("numbers(4, 5, 32)", "numbers(5, 4, 32).transpose(0, 1)"):
            yield f"{made(kind, x)}; {called(kind, batch_first=True)}"
        yield f"{made(kind, 'numbers(5, 32, 4).transpose(1, 2)')}; {called(kind)}"
    for kind in ("lstm", "gru"):
        yield f"{made(kind)}; torch.autocast('cuda', torch.float16)({called(kind).replace('(', ')(', 1)}"
        for before in (f"{made(kind)}{IN_ONE_BLOCK}", made(kind, dtype="float16"), made(kind, dtype="bfloat16")):
            yield f"{before}; torch.autocast('cuda', torch.float16)({called(kind).replace('(', ')(', 1)}"
        for other in ("w[3] = w[2]", "w[3] = numbers(n + 4096)[4096:]", "w[0] = w[0] + 0"):
            yield f"{made(kind)}{IN_ONE_BLOCK}\nn = len(w[3])\n{other}; {called(kind)}"


def backward():
    for kind in GATES:
        sets = ("x", "h", "*w", "x, h, *w") + ("c", "x, h, c, *w") * (kind == "lstm")
        for wanted in sets:
            for given in ("y", "h_n", "y, h_n") + ("c_n", "y, c_n") * (kind == "lstm"):
                yield gradients(kind, made(kind), called(kind), wanted, given)
        for options in ({"biases": False}, {"layers": 2}):
            yield gradients(kind, made(kind, **options), called(kind, **options), "x, *w", "y")
        yield gradients(kind, made(kind) + IN_ONE_BLOCK, called(kind), "x, *w", "y")
        for x in ("numbers(4, 5, 32)", "numbers(5, 4, 32).transpose(0, 1)"):
            for given in ("y", "h_n"):
                yield gradients(kind, made(kind, x), called(kind, batch_first=True), "x, *w", given)
        scattered = gradients(kind, made(kind), called(kind), "x, *w", "y, h_n")
        for each in ("g[0]", "g[1]"):
            yield scattered.replace(";", f"\ng = [e.mT.contiguous().mT if e is {each} else e for e in g];")
        for width in (128, 160, 192, 224):
            yield gradients(kind, made(kind, width=width), called(kind), "x, *w", "y")
            yield f"{made(kind, width=width)}; {called(kind)}"
        for dtype in ("float16", "float64"):
            yield gradients(kind, made(kind, dtype=dtype), called(kind), "x, *w", "y")


def flattened():
    """Layers that are moved, whose weights go into one block, or stay one by one."""
    for layer in (
        *("LSTM(32, 64)", "GRU(32, 64, 2)", "RNN(32, 64, bidirectional=True)", "LSTM(32, 64, bias=False)"),
        *("LSTM(32, 64, proj_size=16)", "GRU(32, 7, 3, bidirectional=True)"),
        *("LSTM(32, 64).double()", "LSTM(32, 64).half()", "LSTM(32, 64).bfloat16()"),
    ):
        yield f"x = numbers(1)\nn = torch.nn.{layer}; n.to(x.device)"
    for change in (
        "n.weight_hh_l0.data = n.weight_hh_l0.data.half()",
        "n.weight_ih_l0.data = n.weight_ih_l0.data.bfloat16()",
        "n.bias_hh_l0 = n.bias_ih_l0",
        "n._flat_weights = n._flat_weights[:-1]",
    ):
        if "bias" not in change:
            yield f"x = numbers(1)\nn = torch.nn.LSTM(32, 64)\n{change}; n.to(x.device)"
        yield f"x = numbers(1)\nn = torch.nn.LSTM(32, 64).to(x.device)\n{change}; n.flatten_parameters()"
    for change in ("n._flat_weights[1] = None", "n._flat_weights = [None] * 4"):
        yield f"x = numbers(1)\nn = torch.nn.LSTM(32, 64).to(x.device)\n{change}; n.flatten_parameters()"


GROUPS = {group.__name__: tuple(map(Call, group())) for group in (first_products, forward, backward, flattened)}
CALLS = tuple(call for calls in GROUPS.values() for call in calls)
