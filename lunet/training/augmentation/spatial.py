"""Spatial augmentation of a batch: affine, elastic and grid distortion in one resampling.

A warp maps each output voxel x (relative to the centre) to the input position
``A u(x) + t + d(x)``: u is the grid distortion (piecewise linear along each axis), A and t are the
affine part, and d is a cubic B-spline of random control points. This is linear in a few functions
of the last axis, so all positions of a sample are a single matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lunet.training.augmentation.look_up import look_up
from lunet.training.compute.device import send
from lunet.training.recipe import Augmentation

_LOCKED = 2  # layers of control points at the border that do not move, as in TorchIO by default
_LEAD = {2: "nkij,xi->knxj", 3: "nkijl,xi,yj->knxyl"}


@dataclass(frozen=True)
class Warp:
    """Parameters of a warp of N samples with d axes; all in voxels.

    Attributes
    ----------
    matrix
        (N, d, d): maps an offset from the centre in the output to one in the input.
    shift
        (N, d): shift in the input.
    coordinates
        Per axis (N, size): u(x) of the grid distortion, relative to the centre.
    control
        (N, d, points, ...) displacements of the B-spline's control points, or None.
    """

    matrix: Tensor
    shift: Tensor
    coordinates: tuple[Tensor, ...]
    control: Tensor | None = None

    def take(self, index: Tensor) -> Warp:
        """The warp of some of the samples."""
        control = None if self.control is None else self.control[index]
        coordinates = tuple(axis[index] for axis in self.coordinates)
        return Warp(self.matrix[index], self.shift[index], coordinates, control)

    def scaled(self, scale: Tensor, centre: Tensor | float = 0.0) -> Warp:
        """The warp whose input positions are ``scale`` times as far from ``centre``.

        Parameters
        ----------
        scale
            (d,) or (N, d); -1 mirrors the input.
        centre
            (d,): position of the input's centre.
        """
        control = self.control
        if control is not None:
            control = control * scale.reshape(-1, control.shape[1], *[1] * (control.ndim - 2))
        return Warp(
            self.matrix * scale[..., None], self.shift * scale + centre, self.coordinates, control
        )


def uniform(shape: Sequence[int], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform random numbers on the CPU, in float32."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def draw_warp(
    settings: Augmentation,
    batch: int,
    size: Sequence[int],
    spacing: Sequence[float],
    generator: torch.Generator,
) -> tuple[list[int], Warp]:
    """Draw a warp for a batch; also return the samples that it moves.

    Parameters
    ----------
    size, spacing
        Voxels and mm per axis; rotations are rotations in mm.
    """
    ndim = len(size)
    matrix = torch.eye(ndim).repeat(batch, 1, 1)
    shift = torch.zeros(batch, ndim)
    axes = [torch.arange(s) - (s - 1) / 2 for s in size]
    coordinates = [axis.float().repeat(batch, 1) for axis in axes]
    control = None
    moved = {name: _chosen(getattr(settings, name), batch, generator) for name in _PARTS}
    affine, elastic, grid = (moved[name] for name in _PARTS)
    if affine.any():
        count = int(affine.sum())
        matrix[affine] = _affine(settings, count, spacing, generator)
        share = uniform((count, ndim), -settings.translate, settings.translate, generator)
        shift[affine] = share * torch.tensor(size)
    if elastic.any():
        control = torch.zeros(batch, ndim, *[settings.elastic_points] * ndim)
        control[elastic] = _control_points(settings, int(elastic.sum()), ndim, generator)
    if grid.any():
        for axis, values in enumerate(coordinates):
            values[grid] = _stretched(settings, int(grid.sum()), size[axis], generator)
    union = (affine | elastic | grid).nonzero().flatten().tolist()
    return union, Warp(matrix, shift, tuple(coordinates), control)


_PARTS = ("affine_p", "elastic_p", "grid_distortion_p")


def _chosen(share: float, batch: int, generator: torch.Generator) -> Tensor:
    if share == 0:
        return torch.zeros(batch, dtype=torch.bool)
    return torch.rand(batch, generator=generator) < share


def _affine(
    settings: Augmentation, count: int, spacing: Sequence[float], generator: torch.Generator
) -> Tensor:
    """(count, d, d): rotation in mm and isotropic scale (above 1 enlarges what is shown)."""
    ndim = len(spacing)
    limit = math.radians(settings.degrees)
    angles = uniform((count, 1 if ndim == 2 else 3), -limit, limit, generator)
    rotation = _rotation(angles, ndim)
    scale = uniform((count, 1, 1), *settings.scale, generator)
    mm = torch.tensor(spacing, dtype=torch.float32)
    return rotation * mm / mm[:, None] / scale


def _rotation(angles: Tensor, ndim: int) -> Tensor:
    """Rotation matrices (N, d, d): about the normal (2D), about x, then y, then z (3D)."""
    planes = [(0, 1)] if ndim == 2 else [(1, 2), (2, 0), (0, 1)]
    total = torch.eye(ndim).repeat(len(angles), 1, 1)
    for angle, (a, b) in zip(angles.T, planes, strict=True):
        turn = torch.eye(ndim).repeat(len(angles), 1, 1)
        turn[:, a, a] = turn[:, b, b] = angle.cos()
        turn[:, a, b], turn[:, b, a] = -angle.sin(), angle.sin()
        total = turn @ total
    return total


def _control_points(
    settings: Augmentation, count: int, ndim: int, generator: torch.Generator
) -> Tensor:
    """(count, d, points, ...): uniform displacements in voxels, zero near the border."""
    points, limit = settings.elastic_points, settings.elastic_voxels
    free = points - 2 * _LOCKED
    inner = uniform((count, ndim, *[free] * ndim), -limit, limit, generator)
    return functional.pad(inner, [_LOCKED] * (2 * ndim))


def _stretched(settings: Augmentation, count: int, size: int, generator: torch.Generator) -> Tensor:
    """(count, size): coordinates of an axis whose cells are stretched and squeezed at random.

    The length of each of ``grid_steps`` cells is multiplied by ``1 + U(-limit, limit)``, then all
    are rescaled so that both ends stay where they are.
    """
    steps, limit = settings.grid_steps, settings.grid_limit
    lengths = 1 + uniform((count, steps), -limit, limit, generator)
    ends = functional.pad(lengths.cumsum(1) / lengths.sum(1, keepdim=True), (1, 0))
    place = torch.linspace(0, 1, size) * steps
    cell = place.long().clamp_max(steps - 1)
    return (torch.lerp(ends[:, cell], ends[:, cell + 1], place - cell) - 0.5) * (size - 1)


def factors(warp: Warp, size: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Two matrices per axis and sample whose products are the warp's input positions.

    Their shapes are (d, N, prod(size[:-1]), terms) and (N, terms, size[-1]).
    """
    count, ndim = len(warp.matrix), len(size)
    flat = [1] * (ndim - 1)
    matrix = send(warp.matrix, device).permute(2, 1, 0)
    lead = send(warp.shift, device).T.reshape(ndim, count, *flat)
    for axis in range(ndim - 1):
        place = [1, count, *flat]
        place[2 + axis] = size[axis]
        coordinates = send(warp.coordinates[axis], device).reshape(place)
        lead = lead + matrix[axis].reshape(ndim, count, *flat) * coordinates
    last = matrix[-1].reshape(ndim, count, *flat).expand_as(lead)
    terms = [lead.unsqueeze(-1), last.unsqueeze(-1)]
    rows = [torch.ones(count, 1, size[-1]), warp.coordinates[-1][:, None]]
    if warp.control is not None:
        basis = [spline_basis(s, warp.control.shape[2]) for s in size]
        leading = (send(weights, device) for weights in basis[:-1])
        terms.append(torch.einsum(_LEAD[ndim], send(warp.control, device), *leading))
        rows.append(basis[-1].T.expand(count, -1, -1))
    table = torch.cat(terms, dim=-1).reshape(ndim, count, math.prod(size[:-1]), -1)
    return table, send(torch.cat(rows, dim=1), device)


def sampling_grid(warp: Warp, size: Sequence[int], device: torch.device) -> Tensor:
    """The grid ``(N, *size, d)`` of a warp for ``torch.nn.functional.grid_sample``.

    Corners are aligned: -1 and 1 are the centres of the first and last voxel. The last axis of
    the array comes first, as ``grid_sample`` requires.
    """
    half = torch.tensor([max(s - 1, 1) / 2 for s in size])
    table, rows = factors(warp.scaled(1 / half), size, device)
    # TF32, if it is allowed, would move positions by up to a tenth of a voxel
    exact = torch.float64 if device.type == "cuda" else torch.float32
    grid = table.flip(0).to(exact) @ rows.to(exact)
    return grid.reshape(len(size), -1, *size).float().movedim(0, -1)


def spline_basis(size: int, points: int) -> Tensor:
    """(size, points): weights of the control points of a uniform cubic B-spline at each voxel.

    The points are placed as by ITK's ``BSplineTransformInitializer``: ``points - 3`` cells span the
    axis and 1/8 voxel beyond the outer voxels' faces; the first control point is one cell before.
    """
    place = (torch.arange(size)[:, None] + 0.625) / (size + 0.25) * (points - 3)
    t = (place - (torch.arange(points) - 1)).abs()
    near = 2 / 3 - t**2 + t**3 / 2
    far = (2 - t).clamp_min(0) ** 3 / 6
    return torch.where(t < 1, near, far)


def resample_batch(images: Tensor, labels: Tensor, warp: Warp) -> tuple[Tensor, Tensor]:
    """Sample images (linear) and labels (nearest) at the positions of a warp.

    Outside the image, samples are the channel's minimum and label 0.
    """
    size = images.shape[2:]
    if len(size) == 3 and images.device.type == "cpu":
        # the neighbours of an axis of one voxel are itself, as for ``grid_sample``
        scale = torch.tensor([float(s > 1) for s in size])
        centre = torch.tensor([(s + 1) / 2 for s in size])  # the first voxel is at 1
        return look_up(images, labels, *factors(warp.scaled(scale, centre), size, images.device))
    grid = sampling_grid(warp, size, images.device)
    low = images.amin(dim=tuple(range(2, images.ndim)), keepdim=True)
    moved = functional.grid_sample(images - low, grid, mode="bilinear", align_corners=True)
    nearest = functional.grid_sample(
        labels.unsqueeze(1).to(grid.dtype), grid, mode="nearest", align_corners=True
    )
    return moved.add_(low), nearest.squeeze(1).to(labels.dtype)
