"""Training steps whose memory strangers recorded on their cards, in our own words, each as make_step(batch, device).

A transformer of 2.7 billion parameters, written out: pre-norm blocks with RMSNorm, rotary positions, attention and
SwiGLU by einsum, AdamW as a loop. What is computed follows the events of the histories (tests/fidelity/histories.py).
All were recorded at batch 4. A step allocates what the recorded one does, its first state of the optimiser included.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, einsum, nn

VOCABULARY, WIDTH, FEED_FORWARD, BLOCKS, HEADS = 10_000, 2560, 10_240, 32, 32
HEAD_WIDTH = WIDTH // HEADS
BATCH = 4  # of every history


def forward_128(batch, device):
    """One forward pass at context 128."""
    return _make_step(batch, device, 128, trains=False)


def forward_512_mixed(batch, device):
    """One forward pass at context 512 under bfloat16 autocast, in a process that has multiplied matrices before."""
    return _make_step(batch, device, 512, trains=False, after=product_of_one_number, autocast=True)


def full_step_128(batch, device):
    """Forward, backward and the first update at context 128."""
    return _make_step(batch, device, 128)


def full_step_256(batch, device):
    """The same at context 256, in the process that did 128 before."""
    return _make_step(batch, device, 256, after=full_step_128)


def full_step_512(batch, device):
    """The same at context 512, in the process that did 256 before."""
    return _make_step(batch, device, 512, after=full_step_256)


def full_step_256_alone(batch, device):
    """At context 256, in a process that has used cuBLAS and nothing else: for recordings, which empty no cache."""
    return _make_step(batch, device, 256, after=full_step_of_one_number)


def full_step_512_alone(batch, device):
    """The same at context 512."""
    return _make_step(batch, device, 512, after=full_step_of_one_number)


def _make_step(batch, device, context, trains=True, after=None, autocast=False):
    if after:
        after(batch, device)()
    model = Transformer(context, device)
    parameters = list(model.parameters())
    tokens = torch.zeros(batch, context, dtype=torch.int64, device=device)
    if after and device.type == "cuda":  # here the history begins
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.empty_cache()
    moments = {}
    kept = []  # logits and loss live until the next step

    def step():
        for parameter in parameters:
            parameter.grad = None
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            kept[:] = [model(tokens)]
        if trains:
            kept.append(cross_entropy(kept[0], tokens))
            kept[1].backward()
            update(parameters, moments)

    return step


def product_of_one_number(batch, device):
    """Let cuBLAS take its workspace."""
    return lambda: torch.zeros(2, 1, device=device) @ torch.zeros(1, 1, device=device)


def full_step_of_one_number(batch, device):
    """Let cuBLAS take its workspaces, one in each of the two threads of a training step."""
    weight = torch.zeros(1, 1, device=device, requires_grad=True)
    return lambda: (torch.zeros(2, 1, device=device) @ weight).sum().backward()


class Transformer(nn.Module):
    """Tokens (batch, context) to logits (batch, context, VOCABULARY)."""

    def __init__(self, context, device):
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(VOCABULARY, WIDTH, device=device))
        self.blocks = nn.ModuleList(Block(context, device) for _ in range(BLOCKS))
        self.norm = Norm(device)
        self.head = Linear(WIDTH, VOCABULARY, device)

    def forward(self, tokens):
        x = self.embedding[tokens]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Block(nn.Module):
    """x + attention, then + feed-forward, each of a norm."""

    def __init__(self, context, device):
        super().__init__()
        self.attention_norm = Norm(device)
        self.attention = Attention(context, device)
        self.feed_forward_norm = Norm(device)
        self.feed_forward = FeedForward(device)

    def forward(self, x):
        y = self.attention_norm(x)
        y = self.attention(y)
        x = x + y
        y = self.feed_forward_norm(x)
        y = self.feed_forward(y)
        return x + y


class Linear(nn.Module):
    """einsum("oi,...i->...o", weight, x) as torch 2.6 carried it out: later releases may swap the operands."""

    def __init__(self, inputs, outputs, device):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, device=device))

    def forward(self, x: Tensor) -> Tensor:
        weight, x = _cast(self.weight), _cast(x)
        columns = x.flatten(0, -2).t()
        return torch.bmm(weight[None], columns[None]).squeeze(0).t().unflatten(0, x.shape[:-1])


def _cast(operand):
    """An operand as autocast gives it to einsum."""
    kind = operand.device.type
    return operand.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else operand


class Norm(nn.Module):
    def __init__(self, device):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH, device=device))

    def forward(self, x):
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        normed = x / (length**2 / WIDTH + 1e-5).sqrt()
        result = einsum("i,...i->...i", self.weight, normed)
        return result.to(x.dtype)


class FeedForward(nn.Module):
    def __init__(self, device):
        super().__init__()
        self.gate = Linear(WIDTH, FEED_FORWARD, device)
        self.out = Linear(FEED_FORWARD, WIDTH, device)
        self.value = Linear(WIDTH, FEED_FORWARD, device)

    def forward(self, x):
        gate = self.gate(x)
        value = self.value(x)
        return self.out(torch.sigmoid(gate) * gate * value)


class Attention(nn.Module):
    def __init__(self, context, device):
        super().__init__()
        self.query = Linear(WIDTH, WIDTH, device)
        self.key = Linear(WIDTH, WIDTH, device)
        self.value = Linear(WIDTH, WIDTH, device)
        self.out = Linear(WIDTH, WIDTH, device)
        self.register_buffer("rotations", torch.zeros(2, context, HEAD_WIDTH // 2, device=device))

    def forward(self, x):
        batch, context, _ = x.shape
        query, key, value = self.query(x), self.key(x), self.value(x)
        query, key, value = _heads(query), _heads(key), _heads(value)
        positions = torch.arange(context, device=x.device)
        turned_query = self._turned(query, positions.expand(batch, context))
        turned_key = self._turned(key, positions.expand(batch, context))
        later = ~torch.triu(torch.ones(context, context, device=x.device), diagonal=1).bool()
        mixed = _attend(turned_query, turned_key, value, later.expand(batch, HEADS, context, context))
        mixed = mixed.transpose(1, 2).reshape(batch, context, WIDTH)
        result = self.out(mixed)
        del query, key, turned_query, turned_key, value, positions, later
        return result

    def _turned(self, x, positions):
        """Each pair of features turned by its position's angle: x (batch, heads, context, HEAD_WIDTH)."""
        cos, sin = (table[positions].unsqueeze(1) for table in self.rotations)
        turned = torch.zeros_like(x)
        turned[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        turned[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return turned


def _heads(x):
    """(batch, context, WIDTH) to (batch, heads, context, HEAD_WIDTH)."""
    return x.unflatten(-1, (HEADS, HEAD_WIDTH)).transpose(1, 2)


def _attend(query, key, value, is_seen):
    scores = einsum("...qd,...kd->...qk", query, key) / math.sqrt(HEAD_WIDTH)
    scores = scores.masked_fill(is_seen == 0, -math.inf)
    weights = _softmax(scores)
    return einsum("...qk,...kd->...qd", weights, value)


def _softmax(x):
    largest = x.max(dim=-1, keepdim=True).values
    exponentials = (x - largest).exp()
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def cross_entropy(logits, targets):
    """The mean over all positions; an index made on the host, as in the histories."""
    logits, targets = logits.flatten(0, 1), targets.flatten()
    largest = logits.max(dim=-1, keepdim=True).values
    logits = logits - largest
    normaliser = logits.exp().sum(dim=-1)
    chosen = logits[torch.arange(len(targets)), targets]
    losses = normaliser.log() - chosen
    return losses.mean()


def update(parameters, moments):
    """AdamW, parameter by parameter; `moments` are made at the first update."""
    change = None
    for parameter in parameters:
        if parameter not in moments:
            moments[parameter] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        first, second = moments[parameter]
        with torch.no_grad():
            first.mul_(0.9).add_(parameter.grad, alpha=0.1)
            second.mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
            change = first / second.sqrt().add_(1e-8)
            parameter.add_(change, alpha=-1e-3)
            parameter.mul_(1 - 1e-5)
