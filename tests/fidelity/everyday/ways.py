"""Ways to train: optimisers, gradients of gradients, functions of one's own, hooks, algebra."""

import copy
import itertools
import math

import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from tests.fidelity.everyday.training import registered, trained

STEPS = {}
of = registered(STEPS)


def perceptron(inward=32, width=64, outward=10, layers=2, activation=nn.ReLU):
    sizes = [inward, *[width] * layers]
    hidden = [each for one, two in itertools.pairwise(sizes) for each in (nn.Linear(one, two), activation())]
    return nn.Sequential(*hidden, nn.Linear(width, outward))


def classified(net, batch, device):
    x, labels = torch.rand(8 * batch, 32, device=device), torch.randint(10, (8 * batch,), device=device)
    return F.cross_entropy(net(x), labels)


@of
def many_optimisers(batch, device):
    """One after the other on one network, with the options that choose other kernels."""
    net = perceptron().to(device)
    optimizers = [
        torch.optim.Adam(net.parameters(), foreach=False, amsgrad=True),
        torch.optim.AdamW(net.parameters(), maximize=True),
        torch.optim.Adam(net.parameters(), fused=True),
        torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, fused=True),
        torch.optim.SGD(net.parameters(), 0.1, foreach=False, dampening=0.1, momentum=0.5),
        torch.optim.Adagrad(net.parameters(), fused=True),
        torch.optim.NAdam(net.parameters(), decoupled_weight_decay=True, weight_decay=0.1),
        torch.optim.RAdam(net.parameters(), foreach=False),
        torch.optim.Rprop(net.parameters()),
        torch.optim.ASGD(net.parameters(), foreach=False),
        torch.optim.Adamax(net.parameters(), foreach=False),
        torch.optim.Adadelta(net.parameters(), foreach=False),
        torch.optim.RMSprop(net.parameters(), momentum=0.5, centered=True, foreach=False),
        torch.optim.Adam(net.parameters(), capturable=True),
    ]

    def step():
        for optimizer in optimizers:
            optimizer.zero_grad()
            classified(net, batch, device).backward()
            optimizer.step()

    return step


@of
def orthogonal_updates(batch, device):
    """Matrices by Muon, the others by AdamW."""
    net = perceptron().to(device)
    matrices = torch.optim.Muon([each for each in net.parameters() if each.dim() == 2], lr=0.02)
    others = torch.optim.AdamW([each for each in net.parameters() if each.dim() < 2])

    def step():
        classified(net, batch, device).backward()
        for optimizer in (matrices, others):
            optimizer.step()
            optimizer.zero_grad()

    return step


@of
def closures(batch, device):
    """LBFGS without and with a line search."""
    net = perceptron().to(device)
    plain = torch.optim.LBFGS(net.parameters(), max_iter=3, history_size=4)
    x, labels = torch.rand(8 * batch, 32, device=device), torch.randint(10, (8 * batch,), device=device)

    def closure():
        plain.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        return loss

    def step():
        plain.step(closure)

    return step


@of
def scaled_halves(batch, device):
    """GradScaler with a fused optimiser, accumulated gradients, and two losses."""
    net = perceptron(activation=nn.GELU).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    scaler = torch.amp.GradScaler()

    def step():
        for _ in range(2):
            with torch.autocast(device_type="cuda", dtype=torch.float16):
                one, other = classified(net, batch, device), net(torch.rand(batch, 32, device=device)).pow(2).mean()
            scaler.scale(one / 2).backward(retain_graph=True)
            scaler.scale(other / 2).backward()
        scaler.unscale_(optimizer)
        total = torch.nn.utils.get_total_norm([each.grad for each in net.parameters()], foreach=True)
        torch.nn.utils.clip_grads_with_norm_(net.parameters(), 1.0, total)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=False)

    return step


@of
def sharpness(batch, device):
    """Gradients at weights that were moved uphill first."""
    net = perceptron().to(device)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)

    def step():
        classified(net, batch, device).backward()
        with torch.no_grad():
            norm = torch.norm(torch.stack([each.grad.norm(p=2) for each in net.parameters()]), p=2)
            moves = [each.grad * (0.05 / (norm + 1e-12)) for each in net.parameters()]
            for weight, move in zip(net.parameters(), moves, strict=True):
                weight.add_(move)
        optimizer.zero_grad()
        classified(net, batch, device).backward()
        with torch.no_grad():
            for weight, move in zip(net.parameters(), moves, strict=True):
                weight.sub_(move)
        optimizer.step()
        optimizer.zero_grad()

    return step


@of
def averaged_weights(batch, device):
    """Averages of weights, whose batch normalisation sees the data once more, then an evaluation."""
    net = nn.Sequential(nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10)).to(device)
    average = torch.optim.swa_utils.AveragedModel(net)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    schedule = torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05)

    def step():
        optimizer.zero_grad()
        classified(net, batch, device).backward()
        optimizer.step()
        average.update_parameters(net)
        schedule.step()
        torch.optim.swa_utils.update_bn([torch.rand(8 * batch, 32, device=device) for _ in range(2)], average)
        average.eval()
        with torch.inference_mode():
            labels = torch.randint(10, (8 * batch,), device=device)
            told = average(torch.rand(8 * batch, 32, device=device)).softmax(1)
            best = told.topk(5, dim=1).indices
            hits = best.eq(labels[:, None]).any(1).sum()
            confusion = torch.zeros(10, 10, dtype=torch.long, device=device)
            confusion.index_put_((labels, best[:, 0]), torch.ones_like(labels), accumulate=True)
            return hits.item(), (confusion.diag() / confusion.sum(1).clamp(min=1)).mean().item()

    return step


@of
def gradients_of_each_sample(batch, device):
    """Clipped one by one, with noise, by vmap of grad."""
    net = perceptron().to(device)
    weights = {name: each.detach() for name, each in net.named_parameters()}

    def loss_of(weights, x, label):
        return F.cross_entropy(functional_call(net, weights, (x[None],)), label[None])

    def step():
        x, labels = torch.rand(8 * batch, 32, device=device), torch.randint(10, (8 * batch,), device=device)
        each = vmap(grad(loss_of), in_dims=(None, 0, 0))(weights, x, labels)
        norms = torch.stack([one.flatten(1).norm(dim=1) for one in each.values()]).norm(dim=0)
        share = (1.0 / (norms + 1e-6)).clamp(max=1.0)
        for name, weight in weights.items():
            total = torch.einsum("n,n...->...", share, each[name]) + torch.randn_like(weight)
            weight.sub_(0.1 * total / len(x))

    return step


@of
def ensemble(batch, device):
    """Several networks at once, by vmap over their weights."""
    nets = [perceptron().to(device) for _ in range(4)]
    weights, buffers = stack_module_state(nets)
    skeleton = copy.deepcopy(nets[0]).to("meta")
    optimizer = torch.optim.Adam(weights.values())

    def run(weights, buffers, x):
        return functional_call(skeleton, (weights, buffers), (x,))

    def step():
        x = torch.rand(8 * batch, 32, device=device)
        told = vmap(run, in_dims=(0, 0, None))(weights, buffers, x)
        optimizer.zero_grad()
        told.square().mean().backward()
        optimizer.step()

    return step


@of
def inner_steps(batch, device):
    """Weights that are moved within the loss, and gradients through that."""
    net = perceptron(1, 40, 1, activation=nn.Tanh).to(device)

    def loss():
        total = 0
        for _ in range(2):
            weights = dict(net.named_parameters())
            x = torch.rand(5 * batch, 1, device=device)
            for _ in range(2):
                inner = F.mse_loss(functional_call(net, weights, (x,)), torch.sin(x))
                slopes = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
                weights = {name: w - 0.01 * g for (name, w), g in zip(weights.items(), slopes, strict=True)}
            total = total + F.mse_loss(functional_call(net, weights, (x,)), torch.sin(x))
        return total

    return trained(net, loss)


@of
def differential_equation(batch, device):
    """What a network says of heat is differentiated twice."""
    net = perceptron(2, 40, 1, 3, nn.Tanh).to(device)

    def loss():
        x, t = (torch.rand(50 * batch, 1, device=device, requires_grad=True) for _ in range(2))
        u = net(torch.cat([x, t], 1))
        u_x, u_t = torch.autograd.grad(u, (x, t), torch.ones_like(u), create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x, x, torch.ones_like(u_x), create_graph=True)
        edge = net(torch.cat([torch.zeros_like(x), t.detach()], 1))
        return (u_t - 0.1 * u_xx).pow(2).mean() + edge.pow(2).mean()

    return trained(net, loss)


@of
def along_a_flow(batch, device):
    """A differential equation, integrated; its trace by a probe."""
    net = perceptron(3, 32, 2, 2, nn.Softplus).to(device)

    def loss():
        z, area = torch.randn(20 * batch, 2, device=device).requires_grad_(), 0
        for place in range(4):
            t = torch.full((len(z), 1), place / 4, device=device)

            def slope(z, t=t):
                return net(torch.cat([z, t], 1))

            one = slope(z)
            two = slope(z + one / 8)
            three = slope(z + two / 8)
            four = slope(z + three / 4)
            probe = torch.randint_like(z, 2) * 2 - 1
            area = area + (torch.autograd.grad(one, z, probe, create_graph=True)[0] * probe).sum(1) / 4
            z = z + (one + 2 * two + 2 * three + four) / 24
        logs = torch.distributions.MultivariateNormal(
            torch.zeros(2, device=device), torch.eye(2, device=device)
        ).log_prob(z)
        return -(logs + area).mean()

    return trained(net, loss)


@of
def coupled_layers(batch, device):
    """A normalising flow: mixed channels whose determinant counts, halves that move each other."""
    nets = nn.ModuleList(perceptron(4, 32, 8) for _ in range(2))
    nets.register_parameter("mix", nn.Parameter(torch.linalg.qr(torch.randn(8, 8))[0]))
    nets.to(device)

    def loss():
        x, area = torch.rand(16 * batch, 8, device=device), 0
        for net in nets:
            x = x @ nets.mix
            area = area + torch.linalg.slogdet(nets.mix)[1]
            one, other = x.chunk(2, 1)
            scale, shift = net(one).chunk(2, 1)
            scale = torch.tanh(scale)
            x = torch.cat([one, other * scale.exp() + shift], 1).flip(1)
            area = area + scale.sum(1)
        return (0.5 * (x**2 + math.log(2 * math.pi)).sum(1) - area).mean()

    return trained(nets, loss)


@of
def gaussian_process(batch, device):
    """A kernel of all pairs, its factor, the likelihood, and a prediction."""
    net = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in ("length", "scale", "noise")}).to(device)

    def loss():
        x, y = torch.rand(30 * batch, 2, device=device), torch.rand(30 * batch, 1, device=device)
        apart = torch.cdist(x / net["length"].exp(), x / net["length"].exp()).pow(2)
        kernel = net["scale"].exp() * torch.exp(-0.5 * apart)
        kernel = kernel + (net["noise"].exp() + 1e-4) * torch.eye(len(x), device=device)
        factor = torch.linalg.cholesky(kernel)
        solved = torch.cholesky_solve(y, factor)
        return 0.5 * (y * solved).sum() + factor.diagonal().log().sum()

    return trained(net, loss)


@of
def algebra(batch, device):
    """Solutions, inverses, factors and spectra of small matrices."""
    net = nn.Linear(16, 16).to(device)

    def loss():
        a = net(torch.rand(batch, 16, 16, device=device))
        b = a @ a.mT + 16 * torch.eye(16, device=device)
        solved = torch.linalg.solve(b, a)
        inverse = torch.linalg.inv(b)
        values = torch.linalg.eigvalsh(b)
        q, r = torch.linalg.qr(b)
        powers = torch.matrix_exp(a / 16)
        return solved.sum() + inverse.sum() + values.sum() + (q @ r).mean() + powers.mean() + torch.logdet(b).sum()

    return trained(net, loss)


@of
def factors_and_spectra(batch, device):
    """Low rank by singular values, eigenvectors, determinants, least squares, norms of matrices."""
    net = nn.Linear(12, 20).to(device)

    def loss():
        a = net(torch.rand(batch, 30, 12, device=device))
        u, s, vh = torch.linalg.svd(a, full_matrices=False)
        low = (u[..., :4] * s[..., None, :4]) @ vh[..., :4, :]
        values, vectors = torch.linalg.eigh(a.mT @ a)
        exact = torch.linalg.lstsq(a.detach(), torch.rand(batch, 30, 2, device=device)).solution
        nuclear = torch.linalg.matrix_norm(a, "nuc").mean()
        return low.square().mean() + (values * vectors[..., 0]).mean() + exact.mean() * 0 + nuclear

    return trained(net, loss)


@of
def phases(batch, device):
    """Complex numbers: a transform, magnitudes, conjugates, angles, and layers of complex weights."""
    net = nn.Linear(32, 32, dtype=torch.cfloat).to(device)

    def loss():
        x = torch.randn(batch, 32, 32, dtype=torch.cfloat, device=device)
        y = net(torch.fft.fftshift(torch.fft.fft2(x, norm="ortho"), dim=(-2, -1)))
        z = torch.fft.ifft2(torch.complex(y.real * 2, y.imag) * y.conj(), norm="ortho")
        return z.abs().mean() + torch.angle(y).mean() * 0.1 + torch.view_as_real(y).square().mean()

    return trained(net, loss, torch.optim.Adam)


class Rounded(torch.autograd.Function):
    """Rounds; the gradient goes through where numbers are small."""

    @staticmethod
    def forward(ctx, x, limit):
        ctx.save_for_backward(x)
        ctx.limit = limit
        return torch.round(x.clamp(-limit, limit) * 8) / 8

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= ctx.limit), None


class SwishInPlace(torch.autograd.Function):
    """x sigmoid(x), written into x."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.clone())
        ctx.mark_dirty(x)
        return x.mul_(torch.sigmoid(x))

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        chance = torch.sigmoid(x)
        return gradient * (chance * (1 + x * (1 - chance)))


@of
def functions_of_their_own(batch, device):
    net = perceptron().to(device)

    def loss():
        x = SwishInPlace.apply(net[0](torch.rand(8 * batch, 32, device=device)))
        return Rounded.apply(net[4](net[3](net[2](x))), 1.0).square().mean()

    return trained(net, loss)


class LossInParts(torch.autograd.Function):
    """Cross-entropy whose logits are made part by part, and their gradients at once."""

    @staticmethod
    def forward(ctx, x, weight, labels):
        of_x, of_weight = torch.empty_like(x), torch.zeros_like(weight)
        total = x.new_zeros(())
        for rows, classes, into in zip(x.chunk(4), labels.chunk(4), of_x.chunk(4), strict=True):
            logits = rows @ weight.t()
            largest = logits.amax(1, keepdim=True)
            sums = (logits - largest).exp_().sum(1, keepdim=True).log_().add_(largest)
            total += (sums.squeeze(1) - logits.gather(1, classes[:, None]).squeeze(1)).sum()
            logits.sub_(sums).exp_()
            logits.scatter_add_(1, classes[:, None], torch.full_like(sums, -1))
            logits.div_(len(x))
            torch.mm(logits, weight, out=into)
            of_weight.addmm_(logits.t(), rows)
        ctx.save_for_backward(of_x, of_weight)
        return total / len(x)

    @staticmethod
    def backward(ctx, gradient):
        of_x, of_weight = ctx.saved_tensors
        return of_x.mul_(gradient), of_weight.mul_(gradient), None


@of
def loss_in_parts(batch, device):
    body, head = perceptron(outward=48), nn.Linear(48, 3000, bias=False)
    net = nn.ModuleList([body, head]).to(device)

    def loss():
        labels = torch.randint(3000, (40 * batch,), device=device)
        return LossInParts.apply(body(torch.rand(40 * batch, 32, device=device)), head.weight, labels)

    return trained(net, loss)


@of
def hooks(batch, device):
    """Of modules and tensors, forward and backward; the optimiser runs as gradients arrive."""
    net = perceptron(layers=3).to(device)
    seen = {}
    net[0].register_forward_hook(lambda module, args, output: seen.update(activation=output.detach().clone()))
    net[2].register_full_backward_hook(lambda module, inward, outward: seen.update(gradient=outward[0].norm()))
    net[4].register_forward_pre_hook(lambda module, args: (args[0] * 1.0,))
    optimizers = {each: torch.optim.Adam([each], foreach=False) for each in net.parameters()}

    def update(weight):
        optimizers[weight].step()
        optimizers[weight].zero_grad()

    for weight in net.parameters():
        weight.register_post_accumulate_grad_hook(update)

    def step():
        x = torch.rand(8 * batch, 32, device=device)
        hidden = net[0](x)
        hidden.register_hook(lambda gradient: gradient.clamp(-1, 1))
        hidden.retain_grad()
        net[1:](hidden).square().mean().backward()
        return seen["gradient"].item() + hidden.grad.abs().mean().item()

    return step


@of
def written_in_place(batch, device):
    """Slices assigned, masks filled, views written into, results with a place given."""
    net = perceptron().to(device)
    kept = torch.zeros(8 * batch, 10, device=device)
    norm = torch.zeros((), device=device)

    def loss():
        x = torch.rand(8 * batch, 32, device=device)
        x[:, 0] = 1
        x[::2, 4:8] *= 2
        x[x > 0.9] = 0.9
        x.masked_fill_(x < 0.1, 0.1)
        hidden = net[0](x)
        hidden = hidden.clone()
        hidden[:, :32] = hidden[:, 32:].relu()
        hidden.view(-1, 8, 8).transpose(1, 2).mul_(0.5)
        out = net[2:](hidden)
        kept.copy_(out.detach())
        torch.add(kept, 1, out=kept)
        norm.lerp_(kept.norm(), 0.1)
        return out.square().mean() / (1 + norm)

    return trained(net, loss)


@of
def kept_graph(batch, device):
    """Two backward passes through one graph, weights of losses by their gradients, a detached branch."""
    body = perceptron(outward=16).to(device)
    heads = nn.ModuleList(nn.Linear(16, 1) for _ in range(2)).to(device)
    optimizer = torch.optim.AdamW([*body.parameters(), *heads.parameters()])
    weights = torch.ones(2, device=device)

    def step():
        hidden = body(torch.rand(8 * batch, 32, device=device))
        losses = [head(hidden).square().mean() for head in heads]
        norms = []
        for loss in losses:
            slopes = torch.autograd.grad(loss, body[0].weight, retain_graph=True)
            norms.append(slopes[0].norm())
        weights.copy_(torch.softmax(torch.stack(norms), 0) * 2)
        optimizer.zero_grad()
        losses[0].mul(weights[0]).backward(retain_graph=True)
        (losses[1] * weights[1] + heads[0](hidden.detach()).mean()).backward()
        optimizer.step()

    return step


@of
def checkpoints_of_both_kinds(batch, device):
    net = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.1), nn.ReLU()) for _ in range(6))).to(device)

    def loss():
        x = torch.rand(32 * batch, 64, device=device, requires_grad=True)
        x = checkpoint_sequential(net[:4], 2, x, use_reentrant=True)
        x = checkpoint(net[4], x, use_reentrant=False, preserve_rng_state=False)
        return checkpoint(lambda y: net[5](y).square(), x, use_reentrant=False).mean()

    return trained(net, loss)


@of
def normalised_weights(batch, device):
    """Weights of a norm, orthogonal ones, spectral ones of the old kind, pruned ones."""
    layers = [nn.Linear(32, 32) for _ in range(4)]
    net = nn.Sequential(
        parametrizations.weight_norm(layers[0], dim=0),
        *(nn.ELU(), parametrizations.orthogonal(layers[1])),
        *(nn.ELU(), nn.utils.spectral_norm(layers[2])),
        *(nn.ELU(), prune.l1_unstructured(layers[3], "weight", amount=0.5)),
    ).to(device)
    return trained(net, lambda: net(torch.rand(8 * batch, 32, device=device)).square().mean())


@of
def many_losses(batch, device):
    """Those of torch.nn that are seldom called."""
    net = perceptron().to(device)

    def loss():
        one, two, three = (net(torch.rand(8 * batch, 32, device=device)) for _ in range(3))
        signs = torch.randint(2, (8 * batch,), device=device) * 2.0 - 1
        chances = torch.randint(2, one.shape, device=device).float()
        return (
            F.triplet_margin_loss(one, two, three, swap=True)
            + F.cosine_embedding_loss(one, two, signs)
            + F.margin_ranking_loss(one[:, 0], two[:, 0], signs, margin=0.1)
            + F.hinge_embedding_loss(three[:, 0], signs)
            + F.poisson_nll_loss(one, two.detach().abs())
            + F.gaussian_nll_loss(one, two.detach(), three.detach().square())
            + F.multilabel_soft_margin_loss(one, chances)
            + F.multi_margin_loss(two, torch.randint(10, (8 * batch,), device=device))
            + F.soft_margin_loss(three, chances * 2 - 1)
            + F.kl_div(one.log_softmax(1), two.log_softmax(1), log_target=True, reduction="batchmean")
            + F.pairwise_distance(one, two).mean()
            + F.cosine_similarity(one, two).mean()
        )

    return trained(net, loss)


@of
def chance(batch, device):
    """Ways to drop and to draw."""
    net = perceptron().to(device)

    def loss():
        x = F.alpha_dropout(net[:2](torch.rand(8 * batch, 32, device=device)), 0.1, training=True)
        x = F.feature_alpha_dropout(x, 0.1, training=True)
        x = F.rrelu(net[2](x), training=True)
        x = F.dropout1d(x.view(-1, 8, 8), 0.2).flatten(1)
        chosen = F.gumbel_softmax(net[4](x), tau=0.5, hard=True)
        drawn = torch.multinomial(chosen.detach() + 0.1, 1)
        noise = (
            torch.empty_like(chosen).exponential_()
            + torch.bernoulli(chosen.detach())
            + torch.normal(0.0, chosen.detach())
        )
        policy = torch.distributions.Bernoulli(probs=chosen.mean(1).clamp(0.01, 0.99))
        return (chosen * noise).mean() + chosen.gather(1, drawn).mean() - policy.log_prob(policy.sample()).mean()

    return trained(net, loss)


@of
def derivatives_forward(batch, device):
    """Products with a Jacobian, a whole one, and a trace of a Hessian."""
    net = perceptron(4, 16, 4, 2, nn.Tanh).to(device)

    def loss():
        x = torch.rand(batch, 4, device=device)
        _, along = jvp(net, (x,), (torch.ones_like(x),))
        whole = vmap(jacrev(net))(x)
        return along.square().mean() + whole.square().mean()

    return trained(net, loss)


@of
def counted_and_sorted(batch, device):
    """Histograms, places in sorted edges, quantiles, running maxima, products of several kinds."""
    net = perceptron().to(device)
    edges = torch.linspace(0, 1, 9, device=device)

    def loss():
        x = net(torch.rand(8 * batch, 32, device=device))
        with torch.no_grad():
            bins = torch.bucketize(x.sigmoid(), edges)
            counts = torch.bincount(bins.flatten(), minlength=10).float()
            levels = torch.quantile(x, torch.tensor([0.1, 0.9], device=device), dim=0)
            places = torch.searchsorted(levels.mean(1), x.flatten())
            spread = torch.histc(x, 10) + counts
        running = x.cummax(0).values + x.cumprod(1) + x.clamp(levels[0], levels[1])
        outer = torch.outer(x[:, 0], x[:, 1]).trace() + torch.kron(x[:4, :4], x[:2, :2]).mean()
        cross = torch.linalg.cross(x[:, :3], x[:, 3:6]).mean() + torch.tensordot(x, x, dims=([0], [0])).mean()
        return running.mean() + outer + cross + 0 * (spread.sum() + places.sum())

    return trained(net, loss)


@of
def lazily_shaped(batch, device):
    """Layers that learn their shape at the first call, lists of parameters, buffers, a bilinear layer."""
    net = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(16)).to(
        device
    )
    both = nn.Bilinear(16, 16, 4).to(device)
    scales = nn.ParameterList(nn.Parameter(torch.ones(4)) for _ in range(3)).to(device)
    net(torch.rand(batch, 3, 16, 16, device=device))
    optimizer = torch.optim.SGD([*net.parameters(), *both.parameters(), *scales], 0.1)

    def step():
        hidden = net(torch.rand(batch, 3, 16, 16, device=device))
        out = both(hidden, hidden.flip(1))
        for scale in scales:
            out = torch.addcmul(out, out, scale)
        optimizer.zero_grad()
        out.logsumexp(1).mean().backward()
        optimizer.step()

    return step


@of
def fake_integers(batch, device):
    """Weights and activations as if of eight bits."""
    net = perceptron().to(device)
    scale, zero = torch.full((64,), 0.05, device=device), torch.zeros(64, dtype=torch.int32, device=device)

    def loss():
        x = torch.rand(8 * batch, 32, device=device)
        weight = torch.fake_quantize_per_channel_affine(net[0].weight, scale, zero, 0, -128, 127)
        x = F.relu(F.linear(x, weight, net[0].bias))
        x = torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255)
        return net[2:](x).square().mean()

    return trained(net, loss)


@of
def unrolled_reconstruction(batch, device):
    """Gradient steps on the data, with learned sizes and a network in between, and total variation."""
    nets = nn.ModuleList(
        nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1)) for _ in range(3)
    )
    nets.register_parameter("sizes", nn.Parameter(torch.full((3,), 0.1)))
    nets.to(device)
    kernel = torch.full((1, 1, 5, 5), 1 / 25, device=device)

    def loss():
        image = torch.rand(batch, 1, 48, 48, device=device)
        seen = F.conv2d(image, kernel, padding=2) + 0.01 * torch.randn_like(image)
        x = seen.clone()
        for number, net in enumerate(nets):
            with torch.enable_grad():
                moved = x.detach().requires_grad_() if number == 0 else x
                apart = 0.5 * (F.conv2d(moved, kernel, padding=2) - seen).square().sum()
                (slope,) = torch.autograd.grad(apart, moved, create_graph=True)
            x = x - nets.sizes[number] * slope
            x = x + net(x)
        return F.l1_loss(x, image)

    return trained(nets, loss)
