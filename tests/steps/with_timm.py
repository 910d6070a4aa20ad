"""Image classifiers of timm: https://github.com/huggingface/pytorch-image-models."""

import timm
import torch
from torch.nn import functional

from tests.steps.training import updating


def classifier(name, batch, size=64, dtype=None, channels_last=False, recomputes=False, **options):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = timm.create_model(name, num_classes=100, **options).to("cuda", memory_format=layout)
    model.set_grad_checkpointing(recomputes)

    def loss():
        images = torch.randn(batch, 3, size, size, device="cuda").to(memory_format=layout)
        labels = torch.randint(0, 100, (batch,), device="cuda")
        with torch.autocast("cuda", dtype=dtype or torch.float16, enabled=dtype is not None):
            return functional.cross_entropy(model(images), labels)

    return updating(model, loss)


def resnet18(batch):
    return classifier("resnet18", batch)


def resnet50_channels_last_amp(batch):
    return classifier("resnet50", batch, dtype=torch.bfloat16, channels_last=True)


def resnet50_checkpointed(batch):
    return classifier("resnet50", batch, recomputes=True)


def vit_tiny(batch):
    return classifier("vit_tiny_patch16_224", batch, img_size=64)


def vit_tiny_amp_with_dropout(batch):
    options = {"drop_rate": 0.1, "attn_drop_rate": 0.1, "drop_path_rate": 0.1}
    return classifier("vit_tiny_patch16_224", batch, dtype=torch.bfloat16, img_size=64, **options)


def convnext_atto(batch):
    return classifier("convnext_atto", batch, drop_path_rate=0.1)


def swin_tiny(batch):
    options = {"embed_dim": 48, "depths": (2, 2, 2, 2)}
    return classifier("swin_tiny_patch4_window7_224", batch, size=112, img_size=112, **options)


def efficientnet_b0(batch):
    return classifier("efficientnet_b0", batch)


def mobilenetv3_small(batch):
    return classifier("mobilenetv3_small_100", batch)
