"""Steps whose memory people have published, as they describe them; weights are random.

Where the figure is older than PyTorch 2.0, gradients are set to zero and not to None, as zero_grad did then: they stay
during the forward pass.
"""

from unittest import mock

import timm
import torch
import torchvision
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel


def _measured(model, batch):
    """As pytorch-tools measures: SGD with momentum and weight decay; the images are given, and have gradients too."""
    model = model.cuda().train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4, foreach=False)
    images = torch.ones((batch, 3, 224, 224), requires_grad=True).cuda()

    def step():
        loss = model(images).mean()
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()

    return step


def resnet50(batch):
    return _measured(torchvision.models.resnet50(), batch)


def vgg16_bn(batch):
    return _measured(torchvision.models.vgg16_bn(), batch)


def se_resnext50(batch):
    return _measured(timm.create_model("seresnext50_32x4d"), batch)


def efficientnet_b0(batch):
    return _measured(timm.create_model("efficientnet_b0"), batch)


def efficientnet_b1(batch):
    return _measured(timm.create_model("efficientnet_b1"), batch)


def efficientnet_b2(batch):
    return _measured(timm.create_model("efficientnet_b2"), batch)


def efficientnet_b3(batch):
    return _measured(timm.create_model("efficientnet_b3"), batch)


def _small_images(model, optimizer, batch):
    """As xMem trains: 86 x 86 pixels, no gradients in the forward pass, results kept until those of the next step."""
    model = model.cuda().train()
    optimizer = optimizer(model.parameters(), lr=0.001)
    kept = {}

    def step():
        optimizer.zero_grad()
        kept["images"] = torch.rand(batch, 3, 86, 86).cuda()
        kept["labels"] = torch.zeros(batch, dtype=torch.int64).cuda()
        kept["scores"] = model(kept["images"])
        kept["loss"] = torch.nn.functional.cross_entropy(kept["scores"], kept["labels"])
        kept["loss"].backward()
        optimizer.step()
        kept["best"] = kept["scores"].max(1)

    return step


def convnext_tiny(batch):
    return _small_images(torchvision.models.convnext_tiny(), torch.optim.SGD, batch)


def convnext_tiny_adam(batch):
    return _small_images(torchvision.models.convnext_tiny(), torch.optim.Adam, batch)


def convnext_base(batch):
    return _small_images(torchvision.models.convnext_base(), torch.optim.SGD, batch)


def mobilenet_v3_large(batch):
    return _small_images(torchvision.models.mobilenet_v3_large(num_classes=10), torch.optim.AdamW, batch)


def mnasnet(batch):
    return _small_images(torchvision.models.MNASNet(1.0, num_classes=10), torch.optim.SGD, batch)


def _with_adamw(model, inputs, sets_to_none=True):
    model.cuda().train()
    optimizer = torch.optim.AdamW(model.parameters())

    def step():
        model(**inputs()).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=sets_to_none)

    return step


class _SoftmaxUntil110(torch.autograd.Function):
    """Up to PyTorch 1.10 it kept its input too (SoftmaxBackward0 in its torch/csrc/autograd/generated/Functions.h)."""

    @staticmethod
    def forward(ctx, scores, dim):
        result = torch.softmax(scores, dim)
        ctx.save_for_backward(scores, result)
        ctx.dim = dim
        return result

    @staticmethod
    def backward(ctx, gradient):
        scores, result = ctx.saved_tensors
        return torch._softmax_backward_data(gradient, result, ctx.dim, scores.dtype), None


def bert_large(batch):
    """As PyTorch 1.10 ran it."""
    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    model = BertForSequenceClassification(BertConfig(**sizes, attn_implementation="eager"))

    def inputs():
        tokens = torch.randint(0, 30000, (batch, 512), device="cuda")
        labels = torch.randint(0, 2, (batch,), device="cuda")
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}

    step = _with_adamw(model, inputs, sets_to_none=False)

    def step_of_then():
        with mock.patch("torch.nn.functional.softmax", lambda scores, dim: _SoftmaxUntil110.apply(scores, dim)):
            step()

    return step_of_then


def gpt2(batch):
    def inputs():
        tokens = torch.randint(0, 50257, (batch, 512), device="cuda")
        return {"input_ids": tokens, "labels": tokens}

    return _with_adamw(GPT2LMHeadModel(GPT2Config()), inputs)
