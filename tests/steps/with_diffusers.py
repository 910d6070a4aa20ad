"""Denoisers of diffusers: https://github.com/huggingface/diffusers."""

import diffusers
import torch
from torch import nn
from torch.nn import functional

from tests.steps.training import updating


def unet2d(batch):
    model = diffusers.UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 64, 64),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    ).to("cuda")
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step():
        images = torch.randn(batch, 3, 32, 32, device="cuda")
        noise = torch.randn_like(images)
        times = torch.randint(0, 1000, (batch,), device="cuda")
        noisy = scheduler.add_noise(images, noise, times)
        loss = functional.mse_loss(model(noisy, times, return_dict=False)[0], noise)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def unet2d_conditioned_amp(batch):
    model = diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        norm_num_groups=8,
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).to("cuda")

    def loss():
        latents, texts = torch.randn(batch, 4, 16, 16, device="cuda"), torch.randn(batch, 20, 64, device="cuda")
        times = torch.randint(0, 1000, (batch,), device="cuda")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            predicted = model(latents, times, texts).sample
        return functional.mse_loss(predicted.float(), latents)

    return updating(model, loss)


def dit(batch):
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=4, attention_head_dim=32, num_layers=3, sample_size=16, patch_size=2, in_channels=4
    ).to("cuda")

    def loss():
        latents = torch.randn(batch, 4, 16, 16, device="cuda")
        times, classes = (torch.randint(0, 1000, (batch,), device="cuda") for _ in range(2))
        predicted = model(latents, timestep=times, class_labels=classes).sample
        return functional.mse_loss(predicted, torch.randn_like(predicted))

    return updating(model, loss)


def autoencoder(batch):
    model = diffusers.AutoencoderKL(
        block_out_channels=(16, 32),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ).to("cuda")

    def loss():
        images = torch.randn(batch, 3, 32, 32, device="cuda")
        posterior = model.encode(images).latent_dist
        return functional.mse_loss(model.decode(posterior.sample()).sample, images) + posterior.kl().mean()

    return updating(model, loss)
