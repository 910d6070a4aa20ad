"""Segmentation models: https://github.com/qubvel-org/segmentation_models.pytorch."""

import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

from tests.steps.training import updating


def segmenting(model, batch, criterion=functional.binary_cross_entropy_with_logits):
    model = model.cuda()

    def loss():
        images = torch.randn(batch, 3, 96, 96, device="cuda")
        return criterion(model(images), torch.randint(0, 2, (batch, 1, 96, 96), device="cuda").float())

    return updating(model, loss)


def unet(batch):
    return segmenting(smp.Unet("resnet18", encoder_weights=None), batch)


def unet_dice(batch):
    return segmenting(smp.Unet("resnet18", encoder_weights=None), batch, smp.losses.DiceLoss("binary"))


def fpn_focal(batch):
    return segmenting(smp.FPN("resnet18", encoder_weights=None), batch, smp.losses.FocalLoss("binary"))


def deeplabv3plus(batch):
    return segmenting(smp.DeepLabV3Plus("resnet18", encoder_weights=None), batch)
