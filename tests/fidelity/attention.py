"""Training steps of one scaled_dot_product_attention each: a make_step(batch, device) by name in STEPS."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional

HALF, FULL = torch.float16, torch.float32


def attend(
    batch,
    device,
    dtype=HALF,
    heads=4,
    of_keys=None,
    heads_of_values=None,
    length=64,
    keys=None,
    width=32,
    of_values=None,
    mask=None,
    dropout=0.0,
    causal=False,
    trains=True,
    projected=False,
    summed=False,
    of_three=False,
    grouped=None,
):
    """`mask` names what is added to the products; `projected`: from one product of matrices, as in most networks.

    `of_three`: without a batch; `grouped` says so of heads that differ, or, if false, does not.
    """
    keys, of_keys = keys or length, of_keys or heads
    heads_of_values = heads_of_values or of_keys
    grouped = of_keys != heads if grouped is None else grouped

    def rand(*shape, requires_grad=trains):
        shape = shape if of_three else (batch, *shape)
        return torch.rand(shape, device="cuda", dtype=dtype, requires_grad=requires_grad)

    def inputs():
        if not projected:
            query, key = rand(heads, length, width), rand(of_keys, keys, width)
            return query, key, rand(heads_of_values, keys, of_values or width)
        parts = rand(length, 3 * heads * width).split(heads * width, -1)
        return [part.view(batch, length, heads, width).transpose(1, 2) for part in parts]

    masks = {
        None: lambda: None,
        "of booleans": lambda: torch.ones(length, keys, device="cuda", dtype=torch.bool).tril(),
        "of numbers": lambda: rand(1, length, keys, requires_grad=False),
        "learned": lambda: rand(heads, length, keys),
    }

    def step():
        output = functional.scaled_dot_product_attention(*inputs(), masks[mask](), dropout, causal, enable_gqa=grouped)
        if projected:
            output = output.transpose(1, 2).reshape(batch, length, heads * width) * 2
        if trains:
            (output if summed else output.square()).sum().backward()

    return step


class Block(nn.Module):
    """A transformer's block, as in a small language model."""

    def __init__(self, width, heads):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.projections, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rest = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.heads = heads

    def forward(self, values):
        batch, length, width = values.shape
        parts = self.projections(self.norms[0](values)).chunk(3, -1)
        heads = [part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts]
        attended = functional.scaled_dot_product_attention(*heads, is_causal=True)
        values = values + self.output(attended.transpose(1, 2).reshape(batch, length, width))
        return values + self.rest(self.norms[1](values))


def language_model(batch, device):
    """A small GPT in float16. (With autocast, a card frees the weights it cast in the order of their addresses.)"""
    model = nn.Sequential(nn.Embedding(256, 128), *(Block(128, 4) for _ in range(2)), nn.Linear(128, 256)).to(
        "cuda", HALF
    )
    optimizer = torch.optim.AdamW(model.parameters())

    def step():
        tokens = torch.randint(0, 256, (batch, 65), device="cuda")
        functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


STEPS = {
    "plain": attend,
    "bfloat16": partial(attend, dtype=torch.bfloat16),
    "float32": partial(attend, dtype=FULL),
    "causal": partial(attend, causal=True),
    "causal_float32": partial(attend, dtype=FULL, causal=True),
    "causal_of_other_keys": partial(attend, causal=True, length=32, keys=64),
    "dropout": partial(attend, dropout=0.1),
    "dropout_of_an_eighth": partial(attend, dropout=0.125),
    "dropout_float32": partial(attend, dtype=FULL, dropout=0.1),
    "grouped": partial(attend, of_keys=2),
    "grouped_float32": partial(attend, dtype=FULL, of_keys=2),
    "projected": partial(attend, projected=True),
    "projected_float32": partial(attend, dtype=FULL, projected=True),
    "projected_mask": partial(attend, mask="of booleans", projected=True),
    "without_gradient": partial(attend, trains=False),
    "without_gradient_float32": partial(attend, dtype=FULL, trains=False),
    "odd_length": partial(attend, length=100),
    "width_20": partial(attend, width=20),
    "width_80": partial(attend, width=80),
    "width_96": partial(attend, width=96, mask="of numbers"),
    "width_128": partial(attend, width=128, mask="of numbers"),
    "width_200": partial(attend, width=200),
    "width_256": partial(attend, width=256),
    "width_512": partial(attend, width=512),
    "width_200_float32": partial(attend, dtype=FULL, width=200),
    "wide_values": partial(attend, of_values=64),
    "booleans": partial(attend, mask="of booleans"),
    "numbers": partial(attend, mask="of numbers"),
    "learned": partial(attend, mask="learned"),
    "odd_booleans": partial(attend, mask="of booleans", length=99),
    "odd_numbers": partial(attend, mask="of numbers", length=100),
    "long": partial(attend, length=1024, heads=2),
    "long_mask": partial(attend, length=512, width=128, heads=2, mask="of numbers"),
    "many_heads": partial(attend, length=512, width=128, heads=16, mask="of numbers"),
    "summed": partial(attend, summed=True),
    "summed_float32": partial(attend, dtype=FULL, summed=True),
    "of_three": partial(attend, of_three=True),
    "of_three_float32": partial(attend, dtype=FULL, of_three=True),
    "of_three_float64": partial(attend, dtype=torch.float64, of_three=True),
    "of_three_causal": partial(attend, causal=True, of_three=True),
    "of_three_dropout": partial(attend, dropout=0.1, of_three=True),
    "of_three_booleans": partial(attend, mask="of booleans", of_three=True),
    "of_three_numbers": partial(attend, mask="of numbers", of_three=True),
    "of_three_learned": partial(attend, mask="learned", of_three=True),
    "of_three_grouped": partial(attend, of_keys=2, of_three=True),
    "of_three_width_20": partial(attend, width=20, of_three=True),
    "one_head_of_keys": partial(attend, of_keys=1, grouped=False),
    "one_head_of_keys_float32": partial(attend, dtype=FULL, of_keys=1, grouped=False),
    "one_head_of_keys_float64": partial(attend, dtype=torch.float64, of_keys=1, grouped=False),
    "more_heads_of_values": partial(attend, of_keys=2, heads_of_values=4),
    "fewer_heads_of_values": partial(attend, heads_of_values=2, grouped=True),
    "language_model": language_model,
}
