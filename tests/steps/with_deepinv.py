"""Imaging inverse problems of deepinv: https://github.com/deepinv/deepinv."""

import deepinv
import torch
from deepinv.models import DnCNN, DRUNet, UNet
from deepinv.optim.data_fidelity import L2
from deepinv.optim.prior import PnP
from deepinv.physics import BlurFFT, Denoising, GaussianNoise, Inpainting
from deepinv.physics.blur import gaussian_blur
from torch.nn import functional

from tests.steps.training import updating

SHAPE = (3, 64, 64)


def blur():
    return BlurFFT(SHAPE, filter=gaussian_blur(sigma=1.0).to("cuda"), device="cuda")


def denoiser():
    return PnP(denoiser=DnCNN(3, 3, depth=5, nf=32, pretrained=None, device="cuda"))


def restoring(model, physics, batch):
    def loss():
        images = torch.rand(batch, *SHAPE, device="cuda")
        return functional.mse_loss(model(physics(images), physics), images)

    return updating(model, loss)


def numbers(steps):
    return {"stepsize": [1.0] * steps, "g_param": [0.1] * steps, "lambda": 1.0}


def unrolled_gradient_descent(batch):
    model = deepinv.unfolded.unfolded_builder(
        "PGD",
        params_algo=numbers(4),
        trainable_params=["stepsize", "g_param"],
        data_fidelity=L2(),
        max_iter=4,
        prior=denoiser(),
        device="cuda",
    )
    return restoring(model.to("cuda"), Denoising(GaussianNoise(0.1), device="cuda"), batch)


def unrolled_splitting_of_a_blur(batch):
    model = deepinv.unfolded.unfolded_builder(
        "HQS",
        params_algo=numbers(3),
        trainable_params=["stepsize"],
        data_fidelity=L2(),
        max_iter=3,
        prior=denoiser(),
        device="cuda",
    )
    return restoring(model.to("cuda"), blur(), batch)


def equilibrium(batch):
    model = deepinv.unfolded.DEQ_builder(
        "PGD",
        params_algo={"stepsize": [1.0], "g_param": [0.1], "lambda": 1.0},
        trainable_params=["stepsize", "g_param"],
        data_fidelity=L2(),
        max_iter=6,
        jacobian_free=True,  # its other way does not run in deepinv 0.5
        prior=denoiser(),
    )
    return restoring(model.to("cuda"), blur(), batch)


def denoiser_for_plug_and_play(batch):
    model = DRUNet(nc=(16, 16, 32, 32), nb=1, pretrained=None, device="cuda")

    def loss():
        images = torch.rand(batch, *SHAPE, device="cuda")
        return functional.mse_loss(model(images + 0.1 * torch.randn_like(images), 0.1), images)

    return updating(model, loss)


def inpainting_by_a_network(batch):
    network = UNet(3, 3, scales=3).to("cuda")
    model = deepinv.models.ArtifactRemoval(network, device="cuda")
    return restoring(model, Inpainting(SHAPE, mask=0.5, device="cuda"), batch)
