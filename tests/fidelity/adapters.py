"""Gradients of adapters on a language model in four bits: its memory was recorded on a card; in our own words.

A transformer of 1.1 billion parameters, frozen: 22 pre-norm blocks with RMSNorm, rotary positions, attention of 32
heads on 4 of keys and values, SwiGLU. Its matrices are packed, two numbers in a byte, and unpacked for each product;
queries and values have adapters of rank 16. What is computed follows the events of the history
(tests/fidelity/histories.py): one forward and one backward pass over 1,000 tokens, with torch 2.1, and no optimiser.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

VOCABULARY, WIDTH, FEED_FORWARD, BLOCKS = 32_000, 2048, 5632, 22
HEADS, GROUPS, HEAD_WIDTH = 32, 4, 64
RANK, SCALE, DROPPED = 16, 2.0, 0.05
CONTEXT = 1000
BATCH = 1  # of the history
PACKED = 64  # numbers that share one scale


def forward_and_backward(batch, device):
    """Forward and backward in a process that has used cuBLAS in both threads."""
    take_workspaces_of_cublas(device)
    model = Model(device)
    tokens = torch.zeros(batch, CONTEXT, dtype=torch.int64, device=device)
    kept = []  # loss and logits live until the next call

    def step():
        for parameter in model.parameters():
            parameter.grad = None
        kept[:] = model(tokens)
        kept[0].backward()

    return step


def take_workspaces_of_cublas(device):
    """One in each of the two threads of a training step."""
    weight = torch.zeros(1, 1, device=device, requires_grad=True)
    (torch.zeros(2, 1, device=device) @ weight).sum().backward()


def loss_of(logits, tokens):
    """Each token is told by those before it."""
    logits, tokens = _sliced(logits.narrow(-2, 0, logits.shape[-2] - 1), -1).contiguous(), tokens[..., 1:].contiguous()
    return nn.functional.cross_entropy(logits.view(-1, VOCABULARY), tokens.view(-1))


class Model(nn.Module):
    """Tokens (batch, CONTEXT) to their loss, and logits (batch, CONTEXT, VOCABULARY)."""

    def __init__(self, device):
        super().__init__()
        read = {"dtype": torch.float16, "device": device}
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, **read)
        self.blocks = nn.ModuleList(Block(device) for _ in range(BLOCKS))
        self.norm = Norm(device)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False, **read)
        for layer in (self.embedding, self.head):
            layer.float().requires_grad_(False)

    def forward(self, tokens):
        x = self.embedding(tokens).requires_grad_()  # so that there are gradients although all layers are frozen
        positions = torch.arange(CONTEXT, device=x.device)
        for block in self.blocks:
            x = block(x, positions[None])
        x = self.norm(x)
        del positions
        logits = self.head(x)
        return loss_of(logits, tokens), logits


class Block(nn.Module):
    """x + attention, then + feed-forward, each of a norm."""

    def __init__(self, device):
        super().__init__()
        self.attention = Attention(device)
        self.feed_forward = FeedForward(device)
        self.attention_norm = Norm(device)
        self.feed_forward_norm = Norm(device)

    def forward(self, x, positions):
        before = x
        x = self.attention_norm(x)
        x = self.attention(x, positions)
        x = before + x
        before = x
        x = self.feed_forward_norm(x)
        x = self.feed_forward(x)
        x = before + x
        return x


class Norm(nn.Module):
    def __init__(self, device):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH, device=device), requires_grad=False)

    def forward(self, x):
        variance = _Mean.apply(x.pow(2))
        x = x * torch.rsqrt(variance + 1e-5)
        return self.weight * x


class _Mean(torch.autograd.Function):
    """The mean over the last dimension as torch 2.1 carried it out: it keeps its input until backward."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.mean(-1, keepdim=True)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient.expand(x.shape) / x.shape[-1]


class Packed(nn.Module):
    """A frozen matrix in four bits: numbers, their scales, and what sixteen numbers stand for."""

    def __init__(self, inputs, outputs, device):
        super().__init__()
        self.shape = outputs, inputs
        self.register_buffer("numbers", torch.empty(inputs * outputs // 2, 1, dtype=torch.uint8, device=device))
        self.register_buffer("scales", torch.empty(inputs * outputs // PACKED, device=device))
        self.register_buffer("meanings", torch.empty(16, device=device))

    def forward(self, x):
        return _Product.apply(x, self)

    def unpacked(self, dtype):
        """The matrix, in halves first: one kernel fills them."""
        return torch.empty(self.shape, dtype=torch.float16, device=self.numbers.device).to(dtype)


class _Product(torch.autograd.Function):
    """x times a packed matrix; x is held as long as the graph, beside what is saved for backward."""

    @staticmethod
    def forward(ctx, x: Tensor, packed: Packed) -> Tensor:
        result = nn.functional.linear(x, packed.unpacked(x.dtype))
        ctx.held = x, packed
        return result

    @staticmethod
    def backward(ctx, gradient):
        _, packed = ctx.held
        return torch.matmul(gradient, packed.unpacked(gradient.dtype)), None


class Adapted(nn.Module):
    """A packed matrix, plus a product of two small ones of which a tenth of the input is dropped before."""

    def __init__(self, inputs, outputs, device):
        super().__init__()
        self.packed = Packed(inputs, outputs, device)
        self.dropout = nn.Dropout(DROPPED)
        self.down = nn.Linear(inputs, RANK, bias=False, device=device)
        self.up = nn.Linear(RANK, outputs, bias=False, device=device)

    def forward(self, x):
        result = self.packed(x)
        result = result.clone()
        more = self.up(self.down(self.dropout(x))) * SCALE
        result = result + more
        return result


class FeedForward(nn.Module):
    def __init__(self, device):
        super().__init__()
        self.gate = Packed(WIDTH, FEED_FORWARD, device)
        self.value = Packed(WIDTH, FEED_FORWARD, device)
        self.out = Packed(FEED_FORWARD, WIDTH, device)

    def forward(self, x):
        return self.out(nn.functional.silu(self.gate(x)) * self.value(x))


class Attention(nn.Module):
    def __init__(self, device):
        super().__init__()
        self.query = Adapted(WIDTH, WIDTH, device)
        self.key = Packed(WIDTH, GROUPS * HEAD_WIDTH, device)
        self.value = Adapted(WIDTH, GROUPS * HEAD_WIDTH, device)
        self.out = Packed(WIDTH, WIDTH, device)
        self.register_buffer("frequencies", torch.ones(HEAD_WIDTH // 2, device=device))

    def forward(self, x, positions):
        query, key, value = self.query(x), self.key(x), self.value(x)
        query, key, value = _heads(query), _heads(key), _heads(value)
        cos, sin = self._rotations(positions)
        query, key = _turned(query, key, cos.unsqueeze(1), sin.unsqueeze(1))
        key = _repeated(key)
        value = _repeated(value)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).contiguous().flatten(2))

    @torch.no_grad()
    def _rotations(self, positions):
        """Cosine and sine of every angle, (1, CONTEXT, HEAD_WIDTH)."""
        positions = positions[:, None, :].float()
        angles = (self.frequencies[None, :, None] @ positions).transpose(1, 2)
        both = torch.cat((angles, angles), dim=-1)
        return both.cos(), both.sin()


def _heads(x):
    """(batch, CONTEXT, heads * HEAD_WIDTH) to (batch, heads, CONTEXT, HEAD_WIDTH)."""
    return x.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2)


def _turned(query, key, cos, sin):
    query_turned = (query * cos) + (_half_turned(query) * sin)
    key_turned = (key * cos) + (_half_turned(key) * sin)
    return query_turned, key_turned


def _half_turned(x):
    half = HEAD_WIDTH // 2
    one, other = x[..., :half], x[..., half:]
    return torch.cat((-other, one), dim=-1)


def _repeated(x):
    """Each head of keys or values, once for each of its queries' heads."""
    batch, groups, context, width = x.shape
    times = HEADS // groups
    x = _sliced(x).unsqueeze(2)
    return x.expand(batch, groups, times, context, width).reshape(batch, HEADS, context, width)


def _sliced(x, *dims):
    """x[:, :, ...] as torch 2.1 carried it out: a slice, and a copy of its gradient, for each colon."""
    for dim in dims or range(x.dim()):
        x = x.narrow(dim, 0, x.shape[dim])
    return x
