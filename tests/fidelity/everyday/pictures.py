"""Networks for pictures, signals and volumes: classifiers, segmenters, generators, contrastive losses."""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests.fidelity.everyday.training import registered, trained

STEPS = {}
of = registered(STEPS)


def conv(channels, more, kernel=3, **options):
    return nn.Sequential(
        nn.Conv2d(channels, more, kernel, padding=kernel // 2, bias=False, **options),
        nn.BatchNorm2d(more),
        nn.ReLU(inplace=True),
    )


class Bottleneck(nn.Module):
    """x (N, C, H, W) to (N, K, H / stride, W / stride)."""

    def __init__(self, channels, more, stride=1):
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, more // 4, 1),
            conv(more // 4, more // 4, stride=stride),
            nn.Conv2d(more // 4, more, 1, bias=False),
            nn.BatchNorm2d(more),
        )
        self.past = nn.Sequential(nn.Conv2d(channels, more, 1, stride, bias=False), nn.BatchNorm2d(more))

    def forward(self, x):
        return F.relu_(self.body(x) + self.past(x))


def classifier():
    return nn.Sequential(
        *(conv(3, 32, 7, stride=2), nn.MaxPool2d(3, 2, 1), Bottleneck(32, 64), Bottleneck(64, 128, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 100)),
    )


@of
def classifier_in_bfloat16_and_channels_last(batch, device):
    net = classifier().to(device, torch.bfloat16, memory_format=torch.channels_last)

    def loss():
        x = torch.rand(batch, 3, 64, 64, device=device, dtype=torch.bfloat16)
        labels = torch.randint(100, (batch,), device=device)
        return F.cross_entropy(net(x.to(memory_format=torch.channels_last)).float(), labels, label_smoothing=0.1)

    return trained(net, loss, torch.optim.SGD, momentum=0.9, weight_decay=1e-4, nesterov=True)


@of
def classifier_of_mixed_pictures(batch, device):
    """Mixup, soft labels, and the accuracy of the batch in a log."""
    net = classifier().to(device)

    def loss():
        x, labels = torch.rand(batch, 3, 64, 64, device=device), torch.randint(100, (batch,), device=device)
        order = torch.randperm(batch, device=device)
        weight = torch.distributions.Beta(torch.tensor(0.4), torch.tensor(0.4)).sample().item()
        x = weight * x + (1 - weight) * x[order]
        logits = net(x)
        one_hot = F.one_hot(labels, 100).float()
        targets = weight * one_hot + (1 - weight) * one_hot[order]
        (logits.argmax(1) == labels).float().mean().item()
        return -(targets * logits.log_softmax(1)).sum(1).mean()

    return trained(net, loss, torch.optim.RMSprop, momentum=0.9)


@of
def segmenter_with_bilinear_layers(batch, device):
    """A pyramid whose levels are brought to one size, class weights, pixels without a label."""
    levels = nn.ModuleList([conv(3, 16), conv(16, 32, stride=2), conv(32, 64, stride=2)])
    lateral = nn.ModuleList([nn.Conv2d(n, 24, 1) for n in (16, 32, 64)])
    head = nn.Conv2d(72, 7, 3, padding=1)
    net = nn.ModuleList([levels, lateral, head]).to(device)
    weights = torch.linspace(0.5, 2, 7, device=device)

    def loss():
        x = torch.rand(batch, 3, 96, 128, device=device)
        labels = torch.randint(7, (batch, 96, 128), device=device)
        labels[:, :4] = 255
        found = []
        for level, one in zip(levels, lateral, strict=True):
            x = level(x)
            found.append(F.interpolate(one(x), (48, 64), mode="bilinear", align_corners=False))
        logits = F.interpolate(head(torch.cat(found, 1)), scale_factor=2, mode="bilinear", align_corners=True)
        return F.cross_entropy(logits, labels, weights, ignore_index=255)

    return trained(net, loss)


@of
def segmenter_with_transposed_layers(batch, device):
    """Dice and cross-entropy of masks, under bfloat16 autocast."""
    down = nn.ModuleList([conv(1, 16), conv(16, 32)])
    up = nn.ConvTranspose2d(32, 16, 2, 2)
    head = nn.Sequential(conv(32, 16), nn.Dropout2d(0.1), nn.Conv2d(16, 1, 1))
    net = nn.ModuleList([down, up, head]).to(device)

    def loss():
        x, masks = torch.rand(batch, 1, 96, 96, device=device), torch.rand(batch, 1, 96, 96, device=device) > 0.5
        with torch.autocast("cuda", torch.bfloat16):
            one = down[0](x)
            two = down[1](F.max_pool2d(one, 2))
            logits = head(torch.cat([one, up(two)], dim=1))
        chance = logits.float().sigmoid()
        shared, both = (chance * masks).sum((1, 2, 3)), (chance + masks.float()).sum((1, 2, 3))
        dice = 1 - (2 * shared + 1) / (both + 1)
        return dice.mean() + F.binary_cross_entropy_with_logits(logits.float(), masks.float())

    return trained(net, loss)


def critic_of_pictures():
    layers = [nn.Conv2d(3, 32, 4, 2, 1), nn.Conv2d(32, 64, 4, 2, 1)]
    return nn.Sequential(
        *(parametrizations.spectral_norm(layers[0]), nn.LeakyReLU(0.2, inplace=True)),
        *(parametrizations.spectral_norm(layers[1]), nn.LeakyReLU(0.2, inplace=True)),
        *(nn.Flatten(), nn.Linear(64 * 64, 1)),
    )


@of
def generator_with_hinge_loss(batch, device):
    """Two optimisers; nearest upsampling; two steps of the critic for one of the generator."""
    generator = nn.Sequential(
        *(nn.Linear(64, 64 * 64), nn.Unflatten(1, (64, 8, 8)), nn.Upsample(scale_factor=2), conv(64, 32)),
        *(nn.Upsample(scale_factor=2), conv(32, 16), nn.Conv2d(16, 3, 3, padding=1), nn.Tanh()),
    ).to(device)
    critic = critic_of_pictures().to(device)
    of_generator = torch.optim.Adam(generator.parameters(), 2e-4, betas=(0.0, 0.9))
    of_critic = torch.optim.Adam(critic.parameters(), 4e-4, betas=(0.0, 0.9))

    def step():
        for _ in range(2):
            real = torch.rand(batch, 3, 32, 32, device=device)
            with torch.no_grad():
                made = generator(torch.randn(batch, 64, device=device))
            of_critic.zero_grad()
            (F.relu(1 - critic(real)).mean() + F.relu(1 + critic(made)).mean()).backward()
            of_critic.step()
        critic.requires_grad_(False)
        of_generator.zero_grad()
        (-critic(generator(torch.randn(batch, 64, device=device))).mean()).backward()
        of_generator.step()
        critic.requires_grad_(True)

    return step


@of
def critic_with_gradient_penalty(batch, device):
    critic = nn.Sequential(
        *(nn.Conv2d(3, 32, 4, 2, 1), nn.InstanceNorm2d(32, affine=True), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(32, 64, 4, 2, 1), nn.GroupNorm(8, 64), nn.SiLU(), nn.Flatten(), nn.Linear(64 * 64, 1)),
    ).to(device)

    def loss():
        real, made = (torch.rand(batch, 3, 32, 32, device=device) for _ in range(2))
        share = torch.rand(batch, 1, 1, 1, device=device)
        between = (share * real + (1 - share) * made).requires_grad_(True)
        verdict = critic(between)
        (slope,) = torch.autograd.grad(verdict, between, torch.ones_like(verdict), create_graph=True)
        penalty = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        return critic(made).mean() - critic(real).mean() + 10 * penalty

    return trained(critic, loss, torch.optim.Adam, betas=(0.0, 0.9))


@of
def variational_autoencoder(batch, device):
    inward = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 49, 40)),
    )
    outward = nn.Sequential(
        *(nn.Linear(20, 32 * 49), nn.Unflatten(1, (32, 7, 7)), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 16, 3, 2, 1, output_padding=1), nn.ReLU()),
        nn.ConvTranspose2d(16, 1, 3, 2, 1, output_padding=1),
    )
    net = nn.ModuleList([inward, outward]).to(device)

    def loss():
        x = torch.rand(batch, 1, 28, 28, device=device)
        mean, log_variance = inward(x).chunk(2, dim=1)
        hidden = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        told = F.binary_cross_entropy(outward(hidden).sigmoid(), x, reduction="sum")
        return told - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())

    return trained(net, loss)


@of
def codebook(batch, device):
    """Vectors of a book that moves by averages; gradients go past the choice."""
    inward, outward = nn.Conv2d(3, 32, 4, 4), nn.ConvTranspose2d(32, 3, 4, 4)
    net = nn.ModuleList([inward, outward]).to(device)
    book, sums = torch.randn(256, 32, device=device), torch.randn(256, 32, device=device)
    counts = torch.ones(256, device=device)

    def loss():
        x = torch.rand(batch, 3, 64, 64, device=device)
        hidden = inward(x).permute(0, 2, 3, 1)
        rows = hidden.reshape(-1, 32)
        which = torch.cdist(rows, book).argmin(dim=1)
        chosen = F.embedding(which, book).view_as(hidden)
        with torch.no_grad():
            counts.mul_(0.99).add_(torch.bincount(which, minlength=256), alpha=0.01)
            sums.mul_(0.99).index_add_(0, which, rows, alpha=0.01)
            book.copy_(sums / counts.clamp(min=1e-5)[:, None])
        commitment = F.mse_loss(hidden, chosen.detach())
        passed = hidden + (chosen - hidden).detach()
        return F.mse_loss(outward(passed.permute(0, 3, 1, 2)), x) + 0.25 * commitment

    return trained(net, loss)


@of
def super_resolution(batch, device):
    """Shuffled pixels, reflected borders, a smooth absolute loss and one of edges."""
    net = nn.Sequential(
        *(nn.Conv2d(3, 32, 5, padding=2, padding_mode="reflect"), nn.PReLU(32)),
        *(nn.Conv2d(32, 32, 3, padding=1, padding_mode="circular"), nn.PReLU(32)),
        *(nn.Conv2d(32, 12, 3, padding=1, padding_mode="replicate"), nn.PixelShuffle(2)),
    ).to(device)

    def loss():
        fine = torch.rand(batch, 3, 64, 64, device=device)
        made = net(F.avg_pool2d(fine, 2)) + F.interpolate(F.avg_pool2d(fine, 2), scale_factor=2, mode="bicubic")
        across, down = (made - fine).diff(dim=-1), (made - fine).diff(dim=-2)
        return torch.sqrt((made - fine) ** 2 + 1e-6).mean() + 0.1 * (across.abs().mean() + down.abs().mean())

    return trained(net, loss, torch.optim.NAdam)


@of
def spatial_transformer(batch, device):
    where = nn.Sequential(nn.Conv2d(1, 8, 7), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 121, 6))
    net = nn.ModuleList([where, classifier()]).to(device)

    def loss():
        x, labels = torch.rand(batch, 1, 28, 28, device=device), torch.randint(10, (batch,), device=device)
        grid = F.affine_grid(where(x).view(-1, 2, 3), x.shape, align_corners=False)
        seen = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        return F.cross_entropy(net[1](seen.expand(-1, 3, -1, -1)), labels)

    return trained(net, loss, torch.optim.Adadelta)


@of
def separable_convolutions(batch, device):
    """Depthwise and dilated layers, squeeze and excitation, hard activations, pools of several sizes."""

    class Block(nn.Module):
        def __init__(self, channels, dilation):
            super().__init__()
            self.deep = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels)
            self.norm, self.point = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 1, groups=4)
            self.squeeze = nn.Sequential(
                *(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 8, 1), nn.ReLU6()),
                *(nn.Conv2d(8, channels, 1), nn.Hardsigmoid()),
            )

        def forward(self, x):
            y = F.hardswish(self.norm(self.deep(x)))
            return x + self.point(y * self.squeeze(y))

    net = nn.Sequential(conv(3, 32, stride=2), Block(32, 1), Block(32, 2)).to(device)
    head = nn.Linear(32 * (1 + 9 + 4), 10).to(device)
    both = nn.ModuleList([net, head])

    def loss():
        y = net(torch.rand(batch, 3, 64, 64, device=device))
        pooled = [F.adaptive_avg_pool2d(y, n).flatten(1) for n in (1, 3)] + [F.adaptive_max_pool2d(y, 2).flatten(1)]
        return F.cross_entropy(head(torch.cat(pooled, 1)), torch.randint(10, (batch,), device=device))

    return trained(both, loss, torch.optim.RMSprop, centered=True)


@of
def pictures_in_another_style(batch, device):
    """Features of a network that does not learn, their products, and total variation."""
    net = nn.Sequential(
        *(nn.ReflectionPad2d(4), nn.Conv2d(3, 16, 9), nn.InstanceNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, 2, 1), nn.InstanceNorm2d(16, affine=True, track_running_stats=True), nn.ReLU()),
        *(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(16, 3, 3, padding=1), nn.Sigmoid()),
    ).to(device)
    seen = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU())
    seen = seen.to(device).eval().requires_grad_(False)

    def products(features):
        rows = features.flatten(2)
        return rows @ rows.transpose(1, 2) / rows.shape[-1]

    style = products(seen(torch.rand(1, 3, 64, 64, device=device)))

    def loss():
        x = torch.rand(batch, 3, 64, 64, device=device)
        made = net(x)
        features, targets = seen(made), seen(x)
        variation = (made[..., 1:] - made[..., :-1]).abs().sum() + (made[..., 1:, :] - made[..., :-1, :]).abs().sum()
        styled = F.mse_loss(products(features), style.expand(batch, -1, -1))
        return F.mse_loss(features, targets) + 1e3 * styled + 1e-4 * variation

    return trained(net, loss)


@of
def volumes(batch, device):
    net = nn.Sequential(
        *(nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.LeakyReLU(inplace=True), nn.MaxPool3d(2)),
        *(nn.Conv3d(8, 16, (1, 3, 3), padding=(0, 1, 1)), nn.InstanceNorm3d(16), nn.ELU(), nn.AvgPool3d(2)),
        *(nn.ConvTranspose3d(16, 8, 2, 2), nn.Upsample(scale_factor=2, mode="trilinear"), nn.Conv3d(8, 3, 1)),
    ).to(device)

    def loss():
        x = torch.rand(batch, 1, 16, 32, 32, device=device)
        return F.cross_entropy(net(x), torch.randint(3, (batch, 16, 32, 32), device=device))

    return trained(net, loss, torch.optim.Adamax)


@of
def detector(batch, device):
    """Boxes matched by overlap, a focal loss, the hardest negatives, and boxes that are regressed."""
    net = nn.Sequential(conv(3, 32, stride=2), conv(32, 64, stride=2), conv(64, 64, stride=2)).to(device)
    to_classes, to_boxes = nn.Conv2d(64, 5 * 3, 1).to(device), nn.Conv2d(64, 4 * 3, 1).to(device)
    both = nn.ModuleList([net, to_classes, to_boxes])

    def overlap(one, other):
        low, high = torch.max(one[:, None, :2], other[None, :, :2]), torch.min(one[:, None, 2:], other[None, :, 2:])
        shared = (high - low).clamp(min=0).prod(2)
        areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (one, other)]
        return shared / (areas[0][:, None] + areas[1][None] - shared)

    def loss():
        features = net(torch.rand(batch, 3, 128, 128, device=device))
        logits = to_classes(features).permute(0, 2, 3, 1).reshape(batch, -1, 5)
        boxes = to_boxes(features).permute(0, 2, 3, 1).reshape(batch, -1, 4)
        anchors = torch.rand(boxes.shape[1], 4, device=device).cumsum(1)
        total = 0
        for one, places in zip(logits, boxes, strict=True):
            truth, classes = torch.rand(6, 4, device=device).cumsum(1), torch.randint(5, (6,), device=device)
            best, which = overlap(anchors, truth).max(dim=1)
            is_there = (best > 0.5).float()
            targets = F.one_hot(classes[which], 5) * is_there[:, None]
            entropy = F.binary_cross_entropy_with_logits(one, targets, reduction="none")
            chance = torch.exp(-entropy)
            focal = 0.25 * (1 - chance) ** 2 * entropy
            hardest = focal.sum(1).masked_fill(is_there.bool(), 0).topk(100).values.sum()
            moved = F.smooth_l1_loss(places, truth[which], reduction="none").sum(1)
            total = total + hardest + (focal.sum(1) * is_there).sum() + (moved * is_there).sum()
        return total / batch

    return trained(both, loss, torch.optim.SGD, momentum=0.9)


@of
def pairs_of_views(batch, device):
    """The loss of SimCLR: each view against all others but itself."""
    net = nn.Sequential(classifier(), nn.ReLU(), nn.Linear(100, 32)).to(device)

    def loss():
        one, other = (net(torch.rand(batch, 3, 64, 64, device=device)) for _ in range(2))
        z = F.normalize(torch.cat([one, other]), dim=1)
        scores = z @ z.T / 0.1
        itself = torch.eye(2 * batch, dtype=torch.bool, device=device)
        scores = scores.masked_fill(itself, float("-inf"))
        partners = torch.arange(2 * batch, device=device).roll(batch)
        return F.cross_entropy(scores, partners)

    return trained(net, loss)


@of
def queue_of_keys(batch, device):
    """The loss of MoCo: a network that follows by averages fills a queue."""
    net = classifier().to(device)
    follower = copy.deepcopy(net).requires_grad_(False)
    queue = F.normalize(torch.randn(100, 1024, device=device), dim=0)
    place = torch.zeros(1, dtype=torch.long)

    def loss():
        with torch.no_grad():
            for slow, fast in zip(follower.parameters(), net.parameters(), strict=True):
                slow.data = slow.data * 0.999 + fast.data * 0.001
        x = torch.rand(batch, 3, 64, 64, device=device)
        asked = F.normalize(net(x), dim=1)
        with torch.no_grad():
            keys = F.normalize(follower(x), dim=1)
        near = torch.einsum("nc,nc->n", [asked, keys]).unsqueeze(-1)
        far = torch.einsum("nc,ck->nk", [asked, queue.clone().detach()])
        logits = torch.cat([near, far], dim=1) / 0.07
        start = int(place)
        queue[:, start : start + batch] = keys.T
        place[0] = (start + batch) % 1024
        return F.cross_entropy(logits, torch.zeros(batch, dtype=torch.long, device=device))

    return trained(net, loss, torch.optim.SGD, momentum=0.9)


@of
def taught_by_a_larger_network(batch, device):
    """Divergence from a teacher, whose answers are made in inference mode."""
    teacher, net = (classifier().to(device) for _ in range(2))
    teacher.eval()

    def loss():
        x, labels = torch.rand(batch, 3, 64, 64, device=device), torch.randint(100, (batch,), device=device)
        with torch.inference_mode():
            told = F.softmax(teacher(x) / 4, dim=-1)
        logits = net(x)
        divergence = F.kl_div(F.log_softmax(logits / 4, dim=-1), told.clone(), reduction="batchmean") * 16
        return 0.7 * divergence + 0.3 * F.cross_entropy(logits, labels)

    return trained(net, loss)


@of
def patches_in_windows(batch, device):
    """Windows that are shifted, with a learned bias of positions."""
    width, heads, window = 48, 3, 8
    to_patches, inward, outward = nn.Conv2d(3, width, 4, 4), nn.Linear(width, 3 * width), nn.Linear(width, 10)
    bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
    net = nn.ModuleList([to_patches, inward, outward])
    net.register_parameter("bias", bias)
    net.to(device)
    steps = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    apart = (steps[:, :, None] - steps[:, None] + window - 1).permute(1, 2, 0)
    which = (apart[..., 0] * (2 * window - 1) + apart[..., 1]).to(device)

    def loss():
        x = to_patches(torch.rand(batch, 3, 64, 64, device=device)).permute(0, 2, 3, 1)
        x = torch.roll(x, (-4, -4), (1, 2))
        x = x.view(batch, 2, window, 2, window, width).permute(0, 1, 3, 2, 4, 5).reshape(-1, window**2, width)
        query, key, value = inward(x).reshape(-1, window**2, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        scores = query * (width // heads) ** -0.5 @ key.transpose(-2, -1)
        scores = scores + net.bias[which.view(-1)].view(window**2, window**2, heads).permute(2, 0, 1).unsqueeze(0)
        x = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, -1, width)
        return F.cross_entropy(outward(F.layer_norm(x, (width,)).mean(1)), torch.zeros(batch, device=device).long())

    return trained(net, loss)


@of
def masked_patches(batch, device):
    """Three quarters of the patches are hidden, by an order drawn at random, and told from the others."""
    inward, outward = nn.Linear(192, 64), nn.Linear(64, 192)
    layer = nn.TransformerEncoderLayer(64, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True)
    token, places = nn.Parameter(torch.zeros(1, 1, 64)), nn.Parameter(torch.zeros(1, 64, 64))
    net = nn.ModuleList([inward, outward, layer])
    net.register_parameter("token", token)
    net.register_parameter("places", places)
    net.to(device)

    def loss():
        x = F.unfold(torch.rand(batch, 3, 64, 64, device=device), 8, stride=8).transpose(1, 2)
        order = torch.rand(batch, 64, device=device).argsort(dim=1)
        back = torch.argsort(order, dim=1)
        kept = order[:, :16]
        tokens = inward(x) + net.places
        seen = layer(torch.gather(tokens, 1, kept.unsqueeze(-1).repeat(1, 1, 64)))
        full = torch.cat([seen, net.token.repeat(batch, 48, 1)], dim=1)
        full = torch.gather(full, 1, back.unsqueeze(-1).expand(-1, -1, 64)) + net.places
        hidden = torch.ones(batch, 64, device=device)
        hidden[:, :16] = 0
        hidden = torch.gather(hidden, 1, back)
        mean, var = x.mean(dim=-1, keepdim=True), x.var(dim=-1, keepdim=True)
        apart = ((outward(full) - (x - mean) / (var + 1e-6) ** 0.5) ** 2).mean(dim=-1)
        F.fold(outward(full).detach().transpose(1, 2), (64, 64), 8, stride=8).clamp_(0, 1)
        return (apart * hidden).sum() / hidden.sum()

    return trained(net, loss, betas=(0.9, 0.95))


@of
def large_kernels_and_layer_scale(batch, device):
    """Layer normalisation of channels that are moved last, GELU, blocks that are dropped for whole samples."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.deep = nn.Conv2d(width, width, 7, padding=3, groups=width)
            self.norm, self.one, self.two = (
                nn.LayerNorm(width),
                nn.Linear(width, 4 * width),
                nn.Linear(4 * width, width),
            )
            self.scale = nn.Parameter(1e-6 * torch.ones(width))

        def forward(self, x):
            y = self.norm(self.deep(x).permute(0, 2, 3, 1))
            y = (self.scale * self.two(F.gelu(self.one(y)))).permute(0, 3, 1, 2)
            keep = y.new_empty(len(y), 1, 1, 1).bernoulli_(0.9).div_(0.9)
            return x + y * keep

    net = nn.Sequential(nn.Conv2d(3, 48, 4, 4), Block(48), Block(48), nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(device)

    def loss():
        with torch.autocast("cuda", torch.float16):
            return net(torch.rand(batch, 3, 96, 96, device=device)).square().mean()

    return trained(net, loss)


@of
def fourier_layers(batch, device):
    """Products of a few frequencies with complex weights."""
    lift, lower = nn.Conv2d(1, 24, 1), nn.Conv2d(24, 1, 1)
    net = nn.ModuleList([lift, lower])
    net.register_parameter("weight", nn.Parameter(torch.randn(24, 24, 12, 12, dtype=torch.cfloat) / 24))
    net.to(device)

    def loss():
        x = lift(torch.rand(batch, 1, 64, 64, device=device))
        seen = torch.fft.rfft2(x)
        passed = torch.zeros(batch, 24, 64, 33, dtype=torch.cfloat, device=device)
        passed[:, :, :12, :12] = torch.einsum("bixy,ioxy->boxy", seen[:, :, :12, :12], net.weight)
        y = F.gelu(torch.fft.irfft2(passed, s=(64, 64)) + x)
        return F.mse_loss(lower(y), torch.rand(batch, 1, 64, 64, device=device))

    return trained(net, loss, torch.optim.Adam)


@of
def unpooled(batch, device):
    """Places of the largest, kept for the way back."""
    one, two, out = conv(3, 16), conv(16, 32), nn.Conv2d(16, 4, 3, padding=1)
    back = conv(32, 16)
    net = nn.ModuleList([one, two, back, out]).to(device)

    def loss():
        x, first = F.max_pool2d(one(torch.rand(batch, 3, 64, 64, device=device)), 2, return_indices=True)
        x, second = F.max_pool2d(two(x), 2, return_indices=True)
        x = back(F.max_unpool2d(x, second, 2))
        x = out(F.max_unpool2d(x, first, 2))
        return F.nll_loss(F.log_softmax(x, 1), torch.randint(4, (batch, 64, 64), device=device))

    return trained(net, loss, torch.optim.ASGD)


@of
def causal_convolutions(batch, device):
    """A signal through gated, dilated layers with normalised weights."""

    class Layer(nn.Module):
        def __init__(self, width, dilation):
            super().__init__()
            self.conv = parametrizations.weight_norm(nn.Conv1d(width, 2 * width, 2, dilation=dilation))
            self.on, self.dilation = nn.Conv1d(width, width, 1), dilation

        def forward(self, x):
            one, other = self.conv(F.pad(x, (self.dilation, 0))).chunk(2, 1)
            return x + self.on(torch.tanh(one) * torch.sigmoid(other))

    net = nn.Sequential(nn.Conv1d(1, 32, 1), *(Layer(32, 2**n) for n in range(5)), nn.Conv1d(32, 256, 1)).to(device)

    def loss():
        sound = torch.rand(batch, 1, 1000, device=device)
        labels = (sound[:, 0, 1:] * 255).long()
        return F.cross_entropy(net(sound)[:, :, :-1], labels)

    return trained(net, loss)


@of
def spectrogram(batch, device):
    """Windows of a signal, their spectra, and a network on the logarithms."""
    net = nn.Sequential(nn.Conv1d(129, 64, 5, 2), nn.ReLU(), nn.AdaptiveMaxPool1d(8), nn.Flatten(), nn.Linear(512, 12))
    net.to(device)
    window = torch.hann_window(256, device=device)

    def loss():
        sound = torch.randn(batch, 8000, device=device)
        seen = torch.stft(sound, 256, 64, window=window, return_complex=True)
        return F.cross_entropy(net((seen.abs() ** 2 + 1e-6).log()), torch.randint(12, (batch,), device=device))

    return trained(net, loss)
