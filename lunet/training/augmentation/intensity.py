"""Intensity augmentation of a batch ``(N, C, *S)``, each sample with its own parameters.

Blur, coarsening and bias fields are separable, so each is a small matrix product per axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_FIELD = {2: "ncij,xi,yj->ncxy", 3: "ncijl,xi,yj,zl->ncxyz"}


def separable(images: Tensor, operators: Sequence[Tensor]) -> Tensor:
    """Apply a linear operator along each axis: ``operators[j]`` is (N, size_j, size_j)."""
    count, size = len(images), images.shape[2:]
    for axis, operator in enumerate(operators):
        rest = math.prod(size[axis + 1 :])
        flat = images.reshape(count, -1, size[axis], rest)
        last = rest == 1  # one large product instead of many thin ones
        images = flat.squeeze(3) @ operator.mT if last else operator.unsqueeze(1) @ flat
    return images.reshape(count, -1, *size)


def blur_operator(size: int, sigma: Tensor) -> Tensor:
    """(N, size, size): Gaussian blur of ``sigma`` voxels (N,), renormalised at the border."""
    place = torch.arange(size, dtype=torch.float32)
    distance = (place[:, None] - place) / sigma[:, None, None]
    weights = torch.exp(-0.5 * distance**2)
    return weights / weights.sum(2, keepdim=True)


def coarse_operator(size: int, zoom: Tensor) -> Tensor:
    """(N, size, size): nearest-neighbour sampling at ``size * zoom`` points, then linear back."""
    operators = []
    for factor in zoom.tolist():
        points = max(2, round(size * factor)) if size > 1 else 1
        centres = (torch.arange(points) + 0.5) * size / points - 0.5
        place = ((torch.arange(size) + 0.5) * points / size - 0.5).clamp(0, points - 1)
        back = (1 - (place[:, None] - torch.arange(points)).abs()).clamp_min(0)
        operator = torch.zeros(size, size)
        operator.index_add_(1, centres.round().long().clamp(0, size - 1), back)
        operators.append(operator)
    return torch.stack(operators)


def gamma(images: Tensor, exponent: Tensor) -> Tensor:
    """Gamma curve that keeps each channel's minimum and maximum; ``exponent`` is (N, C)."""
    axes = tuple(range(2, images.ndim))
    low, high = images.amin(axes, keepdim=True), images.amax(axes, keepdim=True)
    width = (high - low).clamp_min(1e-7)
    # log2 and exp2 take half of the time of pow on a CPU
    curve = (images - low).div_(width).log2_().mul_(_over_space(exponent, images)).exp2_()
    return curve.mul_(width).add_(low)


def bias_field(images: Tensor, coefficients: Tensor) -> Tensor:
    """Multiply with the exponential of a polynomial of the position in [-1, 1] along each axis.

    ``coefficients`` is (N, C, order + 1, order + 1, ...), zero for terms above the order; the field
    is the same as TorchIO's.
    """
    order = coefficients.shape[-1]
    powers = [
        torch.linspace(-1, 1, s, device=images.device)[:, None]
        ** torch.arange(order, device=images.device)
        for s in images.shape[2:]
    ]
    field = torch.einsum(_FIELD[images.ndim - 2], coefficients, *powers)
    return images * field.exp_()


def polynomial_mask(ndim: int, order: int = 3) -> Tensor:
    """(order + 1, ...) mask of the terms whose exponents add up to at most ``order``."""
    exponents = torch.arange(order + 1)
    total = sum(torch.meshgrid(*[exponents] * ndim, indexing="ij"))
    return total <= order  # type: ignore[return-value]


def brightness_contrast(images: Tensor, factor: Tensor, contrast: Tensor, shift: Tensor) -> Tensor:
    """``((x - mean) contrast + mean) factor + shift``; parameters are (N, C)."""
    mean = images.mean(dim=tuple(range(2, images.ndim)))
    offset = mean * (1 - contrast) * factor + shift
    return images * _over_space(factor * contrast, images) + _over_space(offset, images)


def noise(images: Tensor, std: Tensor, seed: int) -> Tensor:
    """Add Gaussian noise of standard deviation ``std`` (N,), drawn on the images' device."""
    generator = torch.Generator(images.device).manual_seed(seed)
    field = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return field.mul_(std.reshape(-1, *[1] * (images.ndim - 1))).add_(images)


def fill_holes(images: Tensor, starts: Tensor, stops: Tensor) -> Tensor:
    """Set boxes to the channel's minimum; ``starts`` and ``stops`` are (N, holes, d) voxels."""
    low = images.amin(dim=tuple(range(2, images.ndim)), keepdim=True)
    filled = images.clone()
    for sample, (first, last) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        for start, stop in zip(first, last, strict=True):
            box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
            filled[sample][(slice(None), *box)] = low[sample]
    return filled


def _over_space(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(*values.shape, *[1] * (images.ndim - 2))
