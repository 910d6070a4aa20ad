"""Segmentation of MONAI: https://github.com/Project-MONAI/MONAI."""

import torch
from monai.losses import DiceCELoss, DiceLoss
from monai.networks.nets import UNETR, BasicUNet, SegResNet, UNet

from tests.steps.training import updating


def segmenting(model, batch, shape, criterion, dtype=None):
    model = model.to("cuda")

    def loss():
        images = torch.randn(batch, 1, *shape, device="cuda")
        labels = torch.randint(0, 2, (batch, 1, *shape), device="cuda").float()
        with torch.autocast("cuda", dtype=dtype or torch.float16, enabled=dtype is not None):
            return criterion(model(images), labels)

    return updating(model, loss)


def residual_unet(dimensions):
    return UNet(dimensions, 1, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=2)


def unet_2d(batch):
    return segmenting(residual_unet(2), batch, (96, 96), DiceLoss(to_onehot_y=True, softmax=True))


def unet_3d(batch):
    return segmenting(residual_unet(3), batch, (32, 32, 32), DiceLoss(to_onehot_y=True, softmax=True))


def unet_3d_amp(batch):
    criterion = DiceCELoss(to_onehot_y=True, softmax=True)
    return segmenting(residual_unet(3), batch, (32, 32, 32), criterion, dtype=torch.bfloat16)


def basic_unet_3d(batch):
    model = BasicUNet(3, 1, 2, features=(8, 8, 16, 16, 32, 8))
    return segmenting(model, batch, (32, 32, 32), DiceCELoss(to_onehot_y=True, softmax=True))


def segresnet_3d(batch):
    model = SegResNet(3, init_filters=8, in_channels=1, out_channels=2, dropout_prob=0.1)
    return segmenting(model, batch, (32, 32, 32), DiceLoss(to_onehot_y=True, softmax=True))


def unetr_3d(batch):
    model = UNETR(1, 2, img_size=(32, 32, 32), feature_size=8, hidden_size=96, mlp_dim=192, num_heads=4)
    return segmenting(model, batch, (32, 32, 32), DiceLoss(to_onehot_y=True, softmax=True))
