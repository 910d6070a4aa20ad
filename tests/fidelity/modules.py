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
    "log_softmax": lambda x, y: (F.log_softmax(x, -1) * y).sum(),
    "softmax_of_columns": lambda x, y: (x.softmax(1) * y).sum(),
    "layernorm_affine": lambda x, y: (F.layer_norm(x, (96,), y[0, 0, 0], y[0, 0, 1]) * y).sum(),
    "rms_affine": lambda x, y: (F.rms_norm(x, (96,), y[0, 0, 0].clone().requires_grad_()) * y).sum(),
    "batchnorm_affine": lambda x, y: (F.batch_norm(x, None, None, *weights(y, 2), training=True) * y).sum(),
    "batchnorm_of_rows": lambda x, y: F.batch_norm(x.flatten(0, 2), None, None, *weights(y, 96), training=True).sum(),
    "batchnorm_running": lambda x, y: (
        F.batch_norm(x, *(each.detach() for each in weights(y, 2)), *weights(y, 2), training=True).sin().sum()
    ),
    "groupnorm_affine": lambda x, y: (F.group_norm(x, 2, *weights(y, 2)) * y).sum(),
    "instance_affine": lambda x, y: (F.instance_norm(x, weight=y[0, 0, 0, :2], bias=y[0, 0, 1, :2]) * y).sum(),
    "huber_sum": lambda x, y: F.huber_loss(x, y, reduction="sum"),
    "l1_sum": lambda x, y: F.l1_loss(x, y, reduction="sum"),
    "hinge": lambda x, y: F.hinge_embedding_loss(x, y),
    "cosine_embedding": lambda x, y: F.cosine_embedding_loss(x.flatten(0, 2), y.flatten(0, 2), y.flatten(0, 2)[:, 0]),
    "triplet": lambda x, y: F.triplet_margin_loss(x.flatten(0, 2), y.flatten(0, 2), y.flatten(0, 2) + 1),
    "poisson": lambda x, y: F.poisson_nll_loss(x, y),
    "margin_ranking": lambda x, y: F.margin_ranking_loss(x, y, y),
    "multilabel": lambda x, y: F.multilabel_soft_margin_loss(x.flatten(1), y.flatten(1)),
    "ce_of_images": lambda x, y: F.cross_entropy(x, torch.zeros_like(x[:, 0], dtype=torch.long)),
    "ce_smooth": lambda x, y: F.cross_entropy(
        x.flatten(0, 2), torch.zeros(x.shape[0] * 96, dtype=torch.long, device=x.device), label_smoothing=0.1
    ),
    "bce_logits": lambda x, y: F.binary_cross_entropy_with_logits(x, y),
    "focal": lambda x, y: ((1 - x.sigmoid()) ** 2 * F.binary_cross_entropy_with_logits(x, y, reduction="none")).mean(),
    "dice": lambda x, y: 1 - 2 * (x.sigmoid() * y).sum((2, 3)).mean() / (x.sigmoid() + y).sum((2, 3)).mean(),
    "total_variation": lambda x, y: x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean(),
    "gelu_tanh": lambda x, y: F.gelu(x, approximate="tanh").sum(),
    "silu": lambda x, y: F.silu(x).sum(),
    "mish": lambda x, y: F.mish(x).sum(),
    "elu": lambda x, y: F.elu(x).sum(),
    "hardswish": lambda x, y: F.hardswish(x).sum(),
    "leaky": lambda x, y: F.leaky_relu(x).sum(),
    "relu6": lambda x, y: F.relu6(x).sum(),
    "glu": lambda x, y: F.glu(x).sum(),
    "tanh": lambda x, y: x.tanh().sum(),
    "shuffle": lambda x, y: F.pixel_shuffle(torch.cat([x, y], 1), 2).sin().sum(),
    "unfold": lambda x, y: F.unfold(x, 3, padding=1).sin().sum(),
    "bicubic": lambda x, y: F.interpolate(x, scale_factor=2, mode="bicubic").sin().sum(),
    "nearest": lambda x, y: F.interpolate(x, scale_factor=2).sin().sum(),
    "down": lambda x, y: F.interpolate(x, size=(24, 48), mode="bilinear", antialias=True).sin().sum(),
    "grid": lambda x, y: F.grid_sample(x, y.permute(0, 2, 3, 1), align_corners=False).sin().sum(),
    "pad_constant": lambda x, y: F.pad(x, (1, 1, 1, 1)).sin().sum(),
    "pad_replicate": lambda x, y: F.pad(x, (1, 1, 1, 1), mode="replicate").sum(),
    "pad_circular": lambda x, y: F.pad(x, (1, 1, 1, 1), mode="circular").sum(),
    "adaptive_max": lambda x, y: F.adaptive_max_pool2d(x, 6).sin().sum(),
    "lp_pool": lambda x, y: F.lp_pool2d(x, 2, 2).sum(),
    "std": lambda x, y: x.std((2, 3)).sum() + x.var().sum(),
    "median": lambda x, y: x.median(-1).values.sum(),
    "topk": lambda x, y: x.topk(3).values.sin().sum(),
    "cumprod": lambda x, y: x.cumprod(-1).sum(),
    "roll": lambda x, y: (x.roll(3, -1) * y).sum(),
    "flip": lambda x, y: (x.flip(-1) * y).sum(),
    "repeat": lambda x, y: x.repeat(1, 2, 1, 1).sin().sum(),
    "repeat_interleave": lambda x, y: x.repeat_interleave(2, 1).sin().sum(),
    "where": lambda x, y: torch.where(y > 0, x, y).sin().sum(),
    "clamp": lambda x, y: x.clamp(0, 1).sum(),
    "outer": lambda x, y: torch.cdist(x[:, 0], y[:, 0]).sum(),
    "norm_of_gradient": lambda x, y: x.flatten(1).norm(dim=1).mean(),
    "attention": lambda x, y: (F.softmax(x @ y.transpose(-1, -2) / 10, -1) @ y).sum(),
    "one_hot": lambda x, y: (F.one_hot(torch.zeros_like(x[..., 0], dtype=torch.long), 96) * x).sum(),
    "masked": lambda x, y: (x.masked_fill(y > 0, float("-inf")).softmax(-1) * y).sum(),
    "weight_norm": lambda x, y: (x @ torch._weight_norm(y[0, 0].requires_grad_(), y[0, 0, :, :1], 0).t()).sum(),
    "einsum": lambda x, y: torch.einsum("abcd,abed->abce", x, y).sum(),
}


def weights(y, channels):
    """A weight and a bias that want gradients."""
    return (y[0, 0, 0, :channels].clone().requires_grad_() for _ in range(2))


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
