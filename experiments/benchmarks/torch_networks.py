"""The networks of `--suite step` in PyTorch, layer by layer the same."""

import itertools

import torch
from torch import nn
from torch.nn import functional

from regnet_jax.models.corrnet import INTENSITY_WINDOWS


class _Layer(nn.Sequential):
    """Convolution, batch normalisation and activation."""

    def __init__(self, c_in, c_out, taps=3, padding=0, activation=nn.ReLU):
        super().__init__(
            nn.Conv3d(c_in, c_out, taps, padding=padding, bias=False),
            nn.BatchNorm3d(c_out, momentum=0.05, eps=1e-3),
            activation(),
        )


def _chain(c_in, features, **options):
    steps = itertools.pairwise([c_in, *features])
    return nn.Sequential(*(_Layer(a, b, **options) for a, b in steps))


def _resize(x, factor=2):
    return functional.interpolate(x, scale_factor=factor, mode="trilinear")


class RegNet(nn.Module):
    """The network of 2017."""

    def __init__(self):
        super().__init__()
        early = [_chain(1, (16, 16, 16)) for _ in range(4)]
        self.early = nn.ModuleList(early)
        self.full = _chain(32, (25, 30))
        self.low = _chain(32, (25, 25, 25, 30, 30, 30))
        self.merged = nn.Sequential(
            _chain(60, (60, 70, 75, 150)), _Layer(150, 150, 1), nn.Conv3d(150, 3, 1)
        )

    def forward(self, fixed, moving):
        """Predict displacements at every second voxel from voxel 26 on."""
        cut = (..., *(slice(12, -12),) * 3)
        every = (..., *(slice(None, None, 2),) * 3)
        pair = (fixed, moving)
        full = [net(x[cut]) for net, x in zip(self.early[:2], pair, strict=True)]
        low = [net(x[every]) for net, x in zip(self.early[2:], pair, strict=True)]
        full = functional.max_pool3d(self.full(torch.cat(full, 1)), 2)
        return self.merged(torch.cat([full, self.low(torch.cat(low, 1))], 1))


class UNet(nn.Module):
    """The U-Net of 2019."""

    def __init__(self):
        super().__init__()
        same = {"padding": 1}
        self.down = nn.ModuleList([_Layer(2, 12, **same), _Layer(12, 24, **same)])
        self.down.append(_Layer(24, 28, **same))
        self.bottom = _chain(28, (32, 40, 44), **same)
        self.up = nn.ModuleList([_Layer(72, 32, **same), _Layer(56, 18, **same)])
        self.up.append(_Layer(30, 12, activation=nn.ELU, **same))
        self.last = nn.Conv3d(12, 3, 1)

    def forward(self, fixed, moving):
        """Predict a displacement at every voxel."""
        x, levels = torch.cat([fixed, moving], 1), []
        for layer in self.down:
            levels.append(layer(x))
            x = functional.max_pool3d(levels[-1], 2)
        x = self.bottom(x)
        for layer in self.up:
            x = layer(torch.cat([_resize(x), levels.pop()], 1))
        return self.last(x)


class CorrNet(nn.Module):
    """The network of feature matching."""

    def __init__(self):
        super().__init__()

        def chain(c_in, *features, taps=3, stride=1):
            layers = []
            for a, b in itertools.pairwise([c_in, *features]):
                padding = taps // 2 if stride == 1 else 0
                layers.append(nn.Conv3d(a, b, taps, stride, padding))
                layers.append(nn.LeakyReLU(0.1))
            return nn.Sequential(*layers)

        self.finer = chain(24, 24, 24)
        self.quarter = nn.Sequential(chain(24, 32, taps=2, stride=2), chain(32, 32, 32))
        self.project = nn.ModuleList([nn.Conv3d(32, 32, 1), nn.Conv3d(24, 24, 1)])
        self.match = chain(125 + 32 + 3, 48, 48)
        self.wide = nn.Sequential(chain(48, 64, taps=2, stride=2), chain(64, 64, 64))
        self.context = chain(112, 48)
        self.narrow = chain(48, 16, taps=1)
        self.correct = chain(27 + 24 + 16 + 3, 32, 32)
        self.heads = nn.ModuleList([nn.Conv3d(n, 3, 3, padding=1) for n in (48, 32)])
        self.sharpness = nn.Parameter(torch.full((2,), 2.0))
        self.prior = nn.Parameter(torch.zeros(()))

    def forward(self, fixed, moving):
        """Predict a displacement at every voxel."""
        images = torch.cat([fixed, moving])
        windows = [((images - a) / (b - a)).clamp(0, 1) for a, b in INTENSITY_WINDOWS]
        half = self.finer(_space_to_channel(torch.cat(windows, 1)))
        fixed_half, moving_half = half.chunk(2)
        fixed, moving = self.quarter(half).chunk(2)
        scores = self._scores(0, fixed, moving, 2)
        steps = _offsets(2)
        penalty = self.prior.exp() * (steps**2).sum(-1)
        probabilities = torch.softmax(scores - penalty.view(1, -1, 1, 1, 1), 1)
        matched = torch.einsum("bozyx,od->bdzyx", probabilities, steps)
        x = self.match(torch.cat([scores, fixed, matched], 1))
        x = self.context(torch.cat([x, _resize(self.wide(x))], 1))
        coarse = 2 * _resize(matched + self.heads[0](x))
        scores = self._scores(1, fixed_half, _warp(moving_half, coarse), 1)
        context = self.narrow(_resize(x))
        x = self.correct(torch.cat([scores, fixed_half, context, coarse], 1))
        return 2 * _resize(coarse + self.heads[1](x))

    def _scores(self, number, fixed, moving, radius):
        project = self.project[number]
        fixed, moving = (
            functional.normalize(project(x), dim=1) for x in (fixed, moving)
        )
        padded = functional.pad(moving, (radius,) * 6)
        products = []
        for start in itertools.product(range(2 * radius + 1), repeat=3):
            sizes = zip(start, fixed.shape[2:], strict=True)
            cut = (..., *(slice(s, s + n) for s, n in sizes))
            products.append((fixed * padded[cut]).sum(1))
        return self.sharpness[number].exp() * torch.stack(products, 1)


def _offsets(radius):
    axis = torch.arange(-radius, radius + 1.0)
    return torch.cartesian_prod(axis, axis, axis)


def _space_to_channel(x):
    b, c, *n = x.shape
    x = x.reshape(b, c, n[0] // 2, 2, n[1] // 2, 2, n[2] // 2, 2)
    x = x.permute(0, 3, 5, 7, 1, 2, 4, 6)
    return x.reshape(b, 8 * c, *(size // 2 for size in n))


def _warp(x, displacement):
    axes = [torch.arange(float(n)) for n in x.shape[2:]]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None] + displacement
    scale = torch.tensor([2.0 / (n - 1) for n in x.shape[2:]]).view(1, 3, 1, 1, 1)
    grid = (grid * scale - 1).flip(1).permute(0, 2, 3, 4, 1)
    options = {"padding_mode": "border", "align_corners": True}
    return functional.grid_sample(x, grid, **options)
