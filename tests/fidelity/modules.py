"""Training steps of one layer or loss each: a make_step(batch, device) by name in STEPS, float32."""

import torch
from torch.nn import functional as F

FORWARD = {
    "mse": lambda x, y: F.mse_loss(x, y),
    "mse_sum": lambda x, y: F.mse_loss(x, y, reduction="sum"),
    "mse_none": lambda x, y: F.mse_loss(x, y, reduction="none").mean(),
    "smooth": lambda x, y: F.smooth_l1_loss(x, y),
    "huber": lambda x, y: F.huber_loss(x, y),
    "l1": lambda x, y: F.l1_loss(x, y),
    "soft_margin": lambda x, y: F.soft_margin_loss(x, y),
    "bce": lambda x, y: F.binary_cross_entropy(x, y),
    "ce": lambda x, y: F.cross_entropy(
        x.flatten(0, 2), torch.zeros(x.shape[0] * 48 * 2, dtype=torch.long, device=x.device)
    ),
    "kl": lambda x, y: F.kl_div(x, y, reduction="batchmean"),
    "dropout": lambda x, y: (F.dropout(x, 0.5) * y).sum(),
    "logsig": lambda x, y: F.logsigmoid(x).sum(),
    "softplus": lambda x, y: F.softplus(x).sum(),
    "prelu": lambda x, y: F.prelu(x, y[0, 0, 0, :1].detach().requires_grad_()).sum(),
    "gelu": lambda x, y: F.gelu(x).sum(),
    "cosine": lambda x, y: F.cosine_similarity(x, y, dim=-1).sum(),
    "normalize": lambda x, y: F.normalize(x, dim=-1).sum(),
    "var": lambda x, y: x.var(-1).sum(),
    "layernorm": lambda x, y: F.layer_norm(x, (96,)).sum(),
    "batchnorm": lambda x, y: F.batch_norm(x.transpose(1, 3), None, None, training=True).sum(),
    "groupnorm": lambda x, y: (F.group_norm(x, 2) * y).sum(),
    "instance": lambda x, y: F.instance_norm(x).sum(),
    "cumsum": lambda x, y: x.cumsum(-1).sum(),
    "maxpool": lambda x, y: F.max_pool2d(x, 2).sum(),
    "avgpool": lambda x, y: F.avg_pool2d(x, 2).sum(),
    "adapt": lambda x, y: F.adaptive_avg_pool2d(x, 1).sum(),
    "interp": lambda x, y: F.interpolate(x, scale_factor=2, mode="bilinear").sum(),
    "pad": lambda x, y: F.pad(x, (1, 1, 1, 1), mode="reflect").sum(),
    "sort": lambda x, y: x.sort(-1).values.sum(),
    "argmax": lambda x, y: (x.argmax(-1) * 1).float().sum() + x.sum(),
    "softmax": lambda x, y: x.softmax(-1).sum(),
    "embedding": lambda x, y: F.embedding(
        torch.zeros(x.shape[0], 50, dtype=torch.long, device=x.device), x.flatten(0, 2)
    ).sum(),
    "rms": lambda x, y: F.rms_norm(x, (96,)).sum(),
    "amax": lambda x, y: x.amax(-1).sum(),
    "einsum": lambda x, y: torch.einsum("abcd,abed->abce", x, y).sum(),
}


class Module:
    """`FORWARD[name](x, y)` gives the loss of two tensors of batch x 2 x 48 x 96 numbers; x wants a gradient."""

    def __init__(self, name):
        self.name = name

    def __call__(self, batch, device):
        source = torch.rand(batch, 2, 48, 96, device=device)
        other = torch.rand(batch, 2, 48, 96, device=device)

        def step():
            FORWARD[self.name](source.clone().requires_grad_(), other).backward()

        return step


STEPS = {name: Module(name) for name in FORWARD}
