"""Training steps of well-known networks, for tools that predict memory to be held side by side."""

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision

IMAGE_SHAPE = 3, 224, 224
NETWORKS = {
    "resnet50": torchvision.models.resnet50,
    "efficientnet_b0": torchvision.models.efficientnet_b0,
    "vit_b_16": torchvision.models.vit_b_16,
    "convnext_tiny": lambda: timm.create_model("convnext_tiny"),
    "unet_resnet34": lambda: smp.Unet("resnet34", encoder_weights=None, classes=10),
}


def _trained(network, batch):
    with torch.device("cuda"):
        model = NETWORKS[network]().train()
    optimizer = torch.optim.Adam(model.parameters())
    images = torch.randn(batch, *IMAGE_SHAPE, device="cuda")

    def step():
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()

    return step


def resnet50(batch):
    return _trained("resnet50", batch)


def efficientnet_b0(batch):
    return _trained("efficientnet_b0", batch)


def vit_b_16(batch):
    return _trained("vit_b_16", batch)


def convnext_tiny(batch):
    return _trained("convnext_tiny", batch)


def unet_resnet34(batch):
    return _trained("unet_resnet34", batch)
