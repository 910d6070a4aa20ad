"""Training steps as other people write them, small: each a make_step(batch, device), by name in STEPS."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

STEPS = {}


def of(make_step):
    """Register a step."""
    STEPS[make_step.__name__] = make_step
    return make_step


class SelfAttention(nn.Module):
    """x (batch, tokens, width) to the same, each token of all before it."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        parts = self.inward(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts, is_causal=True)
        return self.outward(mixed.transpose(1, 2).flatten(-2))


class Residual(nn.Module):
    """x + f(norm(x))."""

    def __init__(self, norm, f):
        super().__init__()
        self.norm, self.f = norm, f

    def forward(self, x):
        return x + self.f(self.norm(x))


def perceptron(width, factor=4, dropout=0.0):
    return nn.Sequential(
        nn.Linear(width, factor * width), nn.GELU(), nn.Linear(factor * width, width), nn.Dropout(dropout)
    )


@of
def language_model_with_amp(batch, device):
    """Half precision with a scaler, fused attention, clipping, and a loss that is printed."""
    width, context, vocabulary = 256, 256, 1000
    blocks = (
        layer
        for _ in range(4)
        for layer in (
            Residual(nn.LayerNorm(width), SelfAttention(width, 4)),
            Residual(nn.LayerNorm(width), perceptron(width)),
        )
    )
    net = nn.Sequential(nn.Embedding(vocabulary, width), *blocks, nn.LayerNorm(width), nn.Linear(width, vocabulary))
    net = net.to(device)
    optimizer = torch.optim.AdamW(net.parameters())
    scaler = torch.amp.GradScaler(device.type)

    def step():
        tokens = torch.randint(vocabulary, (batch, context + 1), device=device)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.float16):
            logits = net(tokens[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return f"{loss.item():.3f}"

    return step


@of
def language_model_in_bfloat16(batch, device):
    """All weights in bfloat16, a fused optimiser."""
    width, context, vocabulary = 128, 512, 500
    layers = [Residual(nn.LayerNorm(width), SelfAttention(width, 2)) for _ in range(3)]
    net = nn.Sequential(nn.Embedding(vocabulary, width), *layers, nn.Linear(width, vocabulary))
    net = net.to(device, torch.bfloat16)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)

    def step():
        tokens = torch.randint(vocabulary, (batch, context), device=device)
        loss = F.cross_entropy(net(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


class VisionTransformer(nn.Module):
    """Images (batch, 3, 64, 64) to 10 logits each."""

    def __init__(self, width=192):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 65, width))
        layer = nn.TransformerEncoderLayer(width, 3, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(images), -1, -1), tokens], 1) + self.positions
        return self.head(self.layers(tokens)[:, 0])


@of
def vision_transformer(batch, device):
    net = VisionTransformer().to(device)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)

    def step():
        images, labels = torch.rand(batch, 3, 64, 64, device=device), torch.randint(10, (batch,), device=device)
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels, label_smoothing=0.1).backward()
        optimizer.step()
        schedule.step()

    return step


def twice(inward, outward):
    """Two convolutions with batch normalisation."""
    return nn.Sequential(
        *(nn.Conv2d(inward, outward, 3, padding=1, bias=False), nn.BatchNorm2d(outward), nn.ReLU(inplace=True)),
        *(nn.Conv2d(outward, outward, 3, padding=1, bias=False), nn.BatchNorm2d(outward), nn.ReLU(inplace=True)),
    )


class UNet(nn.Module):
    """Images (batch, 3, 128, 128) to logits of 5 classes for every pixel."""

    def __init__(self, width=32):
        super().__init__()
        self.down = nn.ModuleList(twice(width * 2**level // 2 if level else 3, width * 2**level) for level in range(3))
        self.up = nn.ModuleList(nn.ConvTranspose2d(width * 2**n, width * 2**n // 2, 2, stride=2) for n in (2, 1))
        self.mix = nn.ModuleList(twice(width * 2**n, width * 2**n // 2) for n in (2, 1))
        self.head = nn.Conv2d(width, 5, 1)

    def forward(self, x):
        kept = []
        for down in self.down[:-1]:
            kept.append(down(x))
            x = F.max_pool2d(kept[-1], 2)
        x = self.down[-1](x)
        for up, mix in zip(self.up, self.mix, strict=True):
            x = mix(torch.cat([kept.pop(), up(x)], 1))
        return self.head(x)


@of
def u_net_channels_last(batch, device):
    """Under bfloat16 autocast, the channels last in memory."""
    net = UNet().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True)

    def step():
        images = torch.rand(batch, 3, 128, 128, device=device).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(5, (batch, 128, 128), device=device)
        with torch.autocast(device.type, torch.bfloat16):
            loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


@of
def recurrent_cells(batch, device):
    """Words, one after the other, through two LSTM cells."""
    width, words = 128, 20
    embedding, head = nn.Embedding(300, width), nn.Linear(width, 300)
    cells = nn.ModuleList(nn.LSTMCell(width, width) for _ in range(2))
    net = nn.ModuleList([embedding, cells, head]).to(device)
    optimizer = torch.optim.RMSprop(net.parameters())

    def step():
        text = torch.randint(300, (words + 1, batch), device=device)
        states = [None, None]
        loss = 0
        for now, following in pairwise(text):
            x = embedding(now)
            for place, cell in enumerate(cells):
                states[place] = cell(x, states[place])
                x = states[place][0]
            loss = loss + F.cross_entropy(head(x), following)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(net.parameters(), 1.0)
        optimizer.step()

    return step


@of
def contrastive(batch, device):
    """Two encoders; the logits are of all pairs, and so grow with the square of the batch."""
    one, other = (nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 64)).to(device) for _ in range(2))
    scale = nn.Parameter(torch.tensor(2.0, device=device))
    optimizer = torch.optim.Adam([*one.parameters(), *other.parameters(), scale])

    def step():
        images, texts = torch.rand(batch, 512, device=device), torch.rand(batch, 512, device=device)
        logits = scale.exp() * F.normalize(one(images), dim=-1) @ F.normalize(other(texts), dim=-1).t()
        labels = torch.arange(batch, device=device)
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            scale.clamp_(0, 4.6)

    return step


@of
def checkpointed(batch, device):
    """Blocks that are run again in the backward pass, with dropout."""
    blocks = nn.ModuleList(Residual(nn.LayerNorm(256), perceptron(256, dropout=0.1)) for _ in range(6)).to(device)
    optimizer = torch.optim.Adam(blocks.parameters(), amsgrad=True)

    def step():
        x = torch.rand(batch, 128, 256, device=device)
        for block in blocks:
            x = checkpoint(block, x, use_reentrant=False)
        optimizer.zero_grad()
        x.square().mean().backward()
        optimizer.step()

    return step


@of
def accumulated(batch, device):
    """A batch of four parts, whose gradients add up before the update."""
    net = nn.Sequential(nn.Conv2d(1, 16, 5), nn.GroupNorm(4, 16), nn.SiLU(), nn.Flatten(), nn.Linear(16 * 576, 10))
    net = net.to(device)
    optimizer = torch.optim.Adagrad(net.parameters())

    def step():
        optimizer.zero_grad()
        for _ in range(4):
            images, labels = torch.rand(batch, 1, 28, 28, device=device), torch.randint(10, (batch,), device=device)
            (F.cross_entropy(net(images), labels) / 4).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    return step


@of
def adversarial(batch, device):
    """A generator and a discriminator, each with an optimiser of its own."""
    generator = nn.Sequential(
        *(nn.ConvTranspose2d(64, 64, 4), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh()),
    ).to(device)
    critic = nn.Sequential(
        *(nn.Conv2d(3, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2)),
        *(nn.Flatten(), nn.utils.spectral_norm(nn.Linear(64 * 16, 1))),
    ).to(device)
    of_generator, of_critic = (torch.optim.Adam(net.parameters(), betas=(0.5, 0.999)) for net in (generator, critic))

    def judged(images, as_real):
        verdict = critic(images)
        return F.binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, as_real))

    def step():
        real, noise = torch.rand(batch, 3, 16, 16, device=device), torch.rand(batch, 64, 1, 1, device=device)
        made = generator(noise)
        of_critic.zero_grad()
        (judged(real, 1.0) + judged(made.detach(), 0.0)).backward()
        of_critic.step()
        of_generator.zero_grad()
        judged(made, 1.0).backward()
        of_generator.step()

    return step


class Denoiser(nn.Module):
    """Noisy images (batch, 3, 32, 32) and their times (batch,) to the noise."""

    def __init__(self, width=64):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.inward, self.outward = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.before = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.after = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.register_buffer("frequencies", torch.linspace(0, 8, width // 2).exp())

    def forward(self, x, times):
        angles = times[:, None] * self.frequencies
        shift = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        x = self.inward(x)
        x = x + self.before(x + shift[:, :, None, None])
        tokens = x.flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        x = x + mixed.transpose(1, 2).unflatten(-1, x.shape[2:])
        return self.outward(x + self.after(x))


@of
def diffusion_with_average(batch, device):
    """A denoiser, and the running average of its weights."""
    net = Denoiser().to(device)
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999))
    optimizer = torch.optim.AdamW(net.parameters())

    def step():
        images, times = torch.rand(batch, 3, 32, 32, device=device), torch.rand(batch, device=device)
        noise = torch.randn_like(images)
        noisy = torch.lerp(images, noise, times[:, None, None, None])
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(net(noisy, times), noise).backward()
        optimizer.step()
        average.update_parameters(net)

    return step
