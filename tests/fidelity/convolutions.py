"""Training steps of convolutions and batch normalisation in many layouts: make_step(batch, device) by name in STEPS."""

import torch
from torch import nn
from torch.nn import functional as F

STEPS = {}
LAST = {3: torch.channels_last, 4: torch.channels_last_3d}


def of(*names, **options):
    """Register a step by its name, or one for each of the names, which it is given."""

    def register(make):
        for name in names or [make.__name__]:
            STEPS[name] = _Step(make, name if names else None, options)
        return make

    return register


class _Step:
    """Calls `loss_of(batch, device)`'s function and goes backwards."""

    def __init__(self, make, name, options):
        self.make, self.name, self.options = make, name, options

    def __call__(self, batch, device):
        function, parameters = self.make(*filter(None, [self.name]), batch, device, **self.options)

        def step():
            for parameter in parameters:
                parameter.grad = None
            function().backward()

        return step


def trained(net, images):
    return lambda: net(images()).square().mean(), list(net.parameters())


@of("image", "weight", "both", "neither", "gradient", "image_scattered", "gradient_expanded")
def one_layer(last, batch, device):
    """A convolution of which one tensor or another has its channels last."""
    net = nn.Conv2d(24, 32, 3, padding=1).to(device)
    if last in ("weight", "both"):
        net = net.to(memory_format=torch.channels_last)
    images = torch.rand(batch, 24, 20, 28, device=device)
    if last in ("image", "both"):
        images = images.contiguous(memory_format=torch.channels_last)
    if last == "image_scattered":
        images = torch.rand(batch, 28, 24, 20, device=device).permute(0, 2, 3, 1)
    images.requires_grad_()
    weights = torch.rand(batch, 32, 20, 28, device=device)
    if last == "gradient":
        weights = weights.contiguous(memory_format=torch.channels_last)

    def loss():
        output = net(images)
        return output.sum() if last == "gradient_expanded" else (output * weights).sum()

    return loss, [*net.parameters(), images]


@of("float64", "bfloat16", "float16")
def one_layer_of_type(dtype, batch, device):
    """A convolution in another type, its image's channels last."""
    dtype = getattr(torch, dtype)
    net = nn.Conv2d(24, 32, 3, padding=1).to(device, dtype)
    images = torch.rand(batch, 24, 20, 28, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    return trained(net, lambda: images.requires_grad_())


@of("one", "two", "three")
def of_dimensions(dimensions, batch, device):
    """Convolutions of signals, images and volumes, contiguous."""
    dimensions = ["one", "two", "three"].index(dimensions) + 1
    kind = getattr(nn, f"Conv{dimensions}d")
    net = nn.Sequential(kind(3, 16, 3, padding=1), nn.ReLU(), kind(16, 8, 3, stride=2)).to(device)
    return trained(net, lambda: torch.rand(batch, 3, *[16] * dimensions, device=device))


@of("up_one", "up_two", "up_three", "up_last", "up_grouped", "up_wide")
def transposed(name, batch, device):
    """Transposed convolutions."""
    dimensions = {"up_one": 1, "up_three": 3}.get(name, 2)
    kind = getattr(nn, f"ConvTranspose{dimensions}d")
    groups = 4 if name == "up_grouped" else 1
    net = nn.Sequential(
        kind(16, 32, 4, stride=2, padding=1, groups=groups), nn.ReLU(), kind(32, 8, 3, stride=2, output_padding=1)
    ).to(device)
    images = torch.rand(batch, 16, *[12] * dimensions, device=device)
    if name == "up_last":
        net, images = net.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    if name == "up_wide":
        images = torch.rand(batch, 16, 12, 20, device=device).transpose(2, 3)
    return trained(net, lambda: images.requires_grad_())


@of("depthwise", "depthwise_last", "depthwise_up", "grouped", "dilated", "one_by_one", "no_bias", "frozen")
def kinds(name, batch, device):
    """Groups, dilation, 1x1, weights that want no gradient."""
    layer = {
        "depthwise": lambda: nn.Conv2d(16, 16, 3, padding=1, groups=16),
        "depthwise_last": lambda: nn.Conv2d(16, 16, 3, padding=1, groups=16),
        "depthwise_up": lambda: nn.ConvTranspose2d(16, 16, 3, groups=16),
        "grouped": lambda: nn.Conv2d(16, 32, 3, groups=4),
        "dilated": lambda: nn.Conv2d(16, 32, 3, dilation=2),
        "one_by_one": lambda: nn.Conv2d(16, 32, 1),
        "no_bias": lambda: nn.Conv2d(16, 32, 3, bias=False),
        "frozen": lambda: nn.Conv2d(16, 32, 3).requires_grad_(False),
    }[name]()
    net = layer.to(device)
    images = torch.rand(batch, 16, 24, 24, device=device)
    if name == "depthwise_last":
        net, images = net.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    return trained(net, lambda: images.requires_grad_())


@of("penalty", "penalty_last", "penalty_up", "penalty_one", "penalty_grouped", "penalty_strided")
def gradient_penalty(name, batch, device):
    """The norm of a critic's gradient, differentiated."""
    layers = {
        "penalty_up": lambda: [nn.ConvTranspose2d(3, 16, 3, stride=2), nn.SiLU(), nn.Conv2d(16, 4, 3)],
        "penalty_one": lambda: [nn.Conv1d(3, 16, 3), nn.SiLU(), nn.Conv1d(16, 4, 3, stride=2)],
        "penalty_grouped": lambda: [nn.Conv2d(3, 16, 3), nn.SiLU(), nn.Conv2d(16, 8, 3, groups=4)],
        "penalty_strided": lambda: [nn.Conv2d(3, 16, 4, 2, 1), nn.SiLU(), nn.Conv2d(16, 8, 4, 2, 1, dilation=2)],
    }.get(name, lambda: [nn.Conv2d(3, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 8, 3, padding=1)])()
    net = nn.Sequential(*layers).to(device)
    shape = (batch, 3, 64) if name == "penalty_one" else (batch, 3, 16, 16)
    images = torch.rand(shape, device=device)
    if name == "penalty_last":
        net, images = net.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)

    def loss():
        mixed = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(net(mixed).sum(), mixed, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()

    return loss, list(net.parameters())


def twice(kind, norm, inward, outward):
    layers = [kind(inward, outward, 3, padding=1, bias=False), norm(outward), nn.ReLU(inplace=True)]
    return nn.Sequential(
        *layers, kind(outward, outward, 3, padding=1, bias=False), norm(outward), nn.ReLU(inplace=True)
    )


class UNet(nn.Module):
    """Two levels, of images or volumes."""

    def __init__(self, dimensions, width=16):
        super().__init__()
        kind, norm = getattr(nn, f"Conv{dimensions}d"), getattr(nn, f"BatchNorm{dimensions}d")
        self.pool = getattr(F, f"max_pool{dimensions}d")
        self.down, self.bottom = twice(kind, norm, 2, width), twice(kind, norm, width, 2 * width)
        self.up = getattr(nn, f"ConvTranspose{dimensions}d")(2 * width, width, 2, stride=2)
        self.mix = twice(kind, norm, 2 * width, width)
        self.head = kind(width, 3, 1)

    def forward(self, x):
        kept = self.down(x)
        x = self.up(self.bottom(self.pool(kept, 2)))
        return self.head(self.mix(torch.cat([kept, x], 1)))


@of("u_net", "u_net_last", "u_net_3d", "u_net_3d_last", "u_net_last_net_only", "u_net_3d_last_images_only")
def u_net(name, batch, device):
    """A U-Net whose net and images have their channels last, or one of them."""
    dimensions = 3 if "3d" in name else 2
    net = UNet(dimensions).to(device)
    images = torch.rand(batch, 2, *[16] * dimensions, device=device)
    last = LAST[dimensions + 1]
    if "last" in name and not name.endswith("images_only"):
        net = net.to(memory_format=last)
    if "last" in name and not name.endswith("net_only"):
        images = images.contiguous(memory_format=last)
    return trained(net, lambda: images)


@of("residual_last", "residual_last_half")
def residual(name, batch, device):
    """A residual network with strided shortcuts and pooling, its channels last."""
    last = torch.channels_last

    class Block(nn.Module):
        def __init__(self, inward, outward):
            super().__init__()
            self.first, self.second = nn.Conv2d(inward, outward, 3, 2, 1), nn.Conv2d(outward, outward, 3, 1, 1)
            self.short = nn.Conv2d(inward, outward, 1, 2)
            self.norms = nn.ModuleList(nn.BatchNorm2d(outward) for _ in range(2))

        def forward(self, x):
            y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
            return F.relu(y + self.short(x))

    net = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3), nn.MaxPool2d(3, 2, 1), Block(16, 32), Block(32, 64))
    net = nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    net = net.to(device, memory_format=last)
    images = torch.rand(batch, 3, 64, 64, device=device).contiguous(memory_format=last)
    if name == "residual_last_half":
        net, images = net.half(), images.half()
    return trained(net, lambda: images)


@of("rows_turned", "rows_turned_expanded", "last_half_weights", "last_bfloat16", "turned_no_weights", "evaluated")
def normalised(name, batch, device):
    """Batch normalisation of what lies otherwise than it likes, or in halves."""
    norm = nn.BatchNorm1d(24) if name.startswith("rows") else nn.BatchNorm2d(24, affine="no_weights" not in name)
    norm = norm.to(device)
    first = nn.Parameter(torch.rand(24, device=device))
    if name.startswith("rows"):
        images = torch.rand(batch, 40, 24, device=device).transpose(1, 2)
    elif "turned" in name:
        images = torch.rand(batch, 20, 24, 28, device=device).transpose(1, 2)
    else:
        images = torch.rand(batch, 24, 20, 28, device=device).contiguous(memory_format=torch.channels_last)
    dtype = {"last_half_weights": torch.float16, "last_bfloat16": torch.bfloat16}.get(name, torch.float32)
    if name == "last_half_weights":
        norm = norm.half()
    if name == "evaluated":
        norm.eval()
    scale = first[:, None] if name.startswith("rows") else first[:, None, None]

    def loss():
        output = norm((images * scale).to(dtype))
        return output.sum() if "expanded" in name else output.square().mean()

    return loss, [first, *norm.parameters()]
