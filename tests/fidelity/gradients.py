"""Training steps whose gradients meet: each a make_step(batch, device), by name in STEPS. Float32, kept in `held`."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

STEPS = {}
FORWARD = {}


class Gradients:
    """A make_step: `forward(x, weight, bias, held)` gives the loss; x has batch x 48 x 96 numbers."""

    def __init__(self, name):
        self.name = name

    def __call__(self, batch, device):
        weight = torch.rand(64, 96, device=device, requires_grad=True)
        bias = torch.rand(64, device=device, requires_grad=True)
        source = torch.rand(batch, 48, 96, device=device)
        held = []

        def step():
            held.clear()
            weight.grad = bias.grad = None
            x = source.clone().requires_grad_()
            loss = FORWARD[self.name](x, weight, bias, held)
            if loss is not None:
                loss.backward()

        return step


def of(forward):
    """Register a step."""
    FORWARD[forward.__name__] = forward
    STEPS[forward.__name__] = Gradients(forward.__name__)
    return forward


@of
def twice(x, weight, bias, held):
    h = x * 2
    return (h.exp() * h.sin()).sum()


@of
def thrice(x, weight, bias, held):
    h = x * 2
    return (h.exp() + h.sin() * h.cos() + h.square()).mean()


@of
def by_itself(x, weight, bias, held):
    h = x * 2
    return (h * h + torch.cat([h, h]).sum()).sum()


@of
def shared_weights(x, weight, bias, held):
    for _ in range(3):
        x = functional.linear(functional.linear(x, weight), weight.t().contiguous())
    return x.sum()


@of
def linear_of_non_dense(x, weight, bias, held):
    return functional.linear(x.unsqueeze(1).expand(-1, 2, -1, -1).transpose(1, 2), weight, bias).exp().sum()


@of
def views(x, weight, bias, held):
    h = x * 2
    return (h[:, 1:].exp().sum() + h.transpose(1, 2).sin().sum() + h.flatten(1).cos().sum()) * 2


@of
def expanded(x, weight, bias, held):
    h = x * 2
    return h.sum() + h.mean() + h.exp().sum()


@of
def not_dense(x, weight, bias, held):
    h = (x * 2).transpose(1, 2)
    return (h.exp() * weight[:1].t()).sum() + (h.sin() * h).sum() + h[..., ::2].cos().sum()


@of
def hook_that_keeps(x, weight, bias, held):
    h = x * 2
    a, b, c = h.exp(), h.sin(), h * 3
    for part in (a, b, c):
        part.register_hook(held.append)
    h.register_hook(held.append)
    return (a.sin() * 1 + b.exp() + c).sum()


@of
def gradient_is_kept(x, weight, bias, held):
    h = x * 2
    h.retain_grad()
    held.append(h)
    return (h.exp() * h.sin() + h).sum()


@of
def twice_differentiated(x, weight, bias, held):
    h = functional.linear(x, weight, bias).tanh()
    (gradient,) = torch.autograd.grad((h.exp() * h.sin()).sum(), x, create_graph=True)
    return (gradient.square().sum() + h.sum()) * 2


class Scaled(torch.autograd.Function):
    """A function of somebody's own, whose formula adds."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        cosine = x.cos()
        return gradient * cosine + gradient.exp() * cosine + gradient


@of
def custom_function(x, weight, bias, held):
    h = x * 2
    return (Scaled.apply(h) * h + Scaled.apply(h)).sum()


@of
def checkpointed(x, weight, bias, held):
    h = x * 2
    for _ in range(2):
        h = h + checkpoint(lambda y: (y.exp() * y.sin()).tanh() + y, h, use_reentrant=False)
    return h.sum()


@of
def checkpointed_reentrant(x, weight, bias, held):
    h = x * 2
    for _ in range(2):
        h = h + checkpoint(lambda y: (y.exp() * y.sin()).tanh() + y, h, use_reentrant=True)
    return h.sum()


@of
def graph_is_kept(x, weight, bias, held):
    h = x * 2
    loss = (h.exp() * h.sin()).sum()
    loss.backward(retain_graph=True)
    loss.backward()


@of
def largest_of_rows(x, weight, bias, held):
    h = x * 2
    return h.amax(-1).sum() + h.max(-1).values.exp().sum() + h.min(1).values.sum() + h.max()


@of
def sorted_and_chosen(x, weight, bias, held):
    h = x * 2
    return h.topk(5).values.sum() + h.kthvalue(3).values.sum() + h.cummax(-1).values.sum()


@of
def indexed(x, weight, bias, held):
    places = torch.zeros(7, dtype=torch.long, device=x.device)
    h = x * 2
    return h[:, places].exp().sum() + h.index_select(1, places).sum() + weight[places].sum()


@of
def gathered(x, weight, bias, held):
    places = torch.zeros(x.shape[0], 5, 96, dtype=torch.long, device=x.device)
    return (x * 2).gather(1, places).exp().sum() + x.take(places).sum()


@of
def binary_cross_entropy(x, weight, bias, held):
    target = torch.rand_like(x)
    return functional.binary_cross_entropy_with_logits(x * 2, target)


@of
def weighted_binary_cross_entropy(x, weight, bias, held):
    target = torch.rand_like(x)
    positive = torch.rand(96, device=x.device)
    return functional.binary_cross_entropy_with_logits(x * 2, target, weight=target, pos_weight=positive)


@of
def norms(x, weight, bias, held):
    h = x * 2
    return torch.linalg.vector_norm(h, dim=-1).sum() + h.norm(1) + h.std(-1).sum() + h.logsumexp(-1).sum()


@of
def attention_with_a_mask(x, weight, bias, held):
    heads = (x @ weight.t()).unflatten(-1, (4, 16)).transpose(1, 2)
    scores = heads @ heads.transpose(-1, -2)
    return scores.masked_fill(scores > 0, 0).softmax(-1).matmul(heads).sum()


@of
def normalised(x, weight, bias, held):
    h = functional.layer_norm(x, (96,), weight[0], weight[1])
    h = functional.group_norm(h, 4, weight.flatten()[:48], weight.flatten()[48:96]) + h
    return functional.silu(h).mul(functional.gelu(h)).sum() + nn.functional.glu(h).sum()
