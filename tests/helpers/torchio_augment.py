"""Augmentation by TorchIO's per-sample transforms: what the batched one is checked against.

Flips, affine, elastic, blur, low resolution (one axis at a time), gamma, bias field and noise are
TorchIO's, in the order of the batched augmentation. What TorchIO lacks (grid distortion, inverted
gamma, brightness and contrast, coarse dropout) is done by the batched augmentation afterwards.
TorchIO's gamma acts on ``sign(x) |x|``, the batched one between minimum and maximum.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torchio as tio
from torch import Tensor

from lunet.training.augmentation.batched import Augmenter, active, check_axes
from lunet.training.recipe import Augmentation


class TorchioAugmenter:
    """Same call as :class:`lunet.training.augmentation.batched.Augmenter`; on the CPU, by case.

    TorchIO draws from torch's global generator; it is seeded for each batch from the given one and
    put back afterwards, so that the given generator's state is the whole random state.
    """

    def __init__(
        self, settings: Augmentation, ndim: int, *, spacing: Sequence[float] | None = None
    ) -> None:
        check_axes(settings, ndim)
        self.ndim = ndim
        self.settings = settings
        self.mm = [*(spacing or (1.0,) * ndim), 1.0][:3]
        rest = replace(
            Augmentation(),
            **{name: getattr(settings, name) for name in _BATCHED},
        )
        self.rest = Augmenter(rest, ndim, spacing=spacing) if active(rest) else None

    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augmented copies of ``images`` (B, C, *S) and ``labels`` (B, *S), on their device."""
        seed = int(torch.randint(2**62, (1,), generator=generator))
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The maximum displacement is larger")
            torch.manual_seed(seed)
            transform = tio.Compose(_transforms(self.settings, images.shape[2:], self.mm))
            pairs = [
                self._case(transform, image, label)
                for image, label in zip(images.cpu(), labels.cpu(), strict=True)
            ]
        moved = torch.stack([image for image, _ in pairs]).to(images)
        mapped = torch.stack([label for _, label in pairs]).to(labels)
        return self.rest(moved, mapped, generator) if self.rest else (moved, mapped)

    def _case(
        self, transform: tio.Transform, image: Tensor, label: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One case; TorchIO's images have three axes, so a slice is a volume of one."""
        shape = (*image.shape, 1)[:4]
        affine = np.diag([*self.mm, 1.0])
        subject = tio.Subject(
            image=tio.ScalarImage(tensor=image.reshape(shape), affine=affine),
            label=tio.LabelMap(tensor=label.reshape(1, *shape[1:]), affine=affine),
        )
        changed: Any = transform(subject)
        moved, mapped = changed["image"].data, changed["label"].data
        return moved.reshape(image.shape), mapped.reshape(label.shape)


_BATCHED = (
    "grid_distortion_p", "grid_steps", "grid_limit", "gamma_inverted_p", "gamma_log",
    "brightness_p", "brightness_range", "contrast_range", "shift_range",
    "dropout_p", "dropout_holes", "dropout_size",
)  # fmt: skip


def _transforms(
    settings: Augmentation, size: Sequence[int], mm: Sequence[float]
) -> list[tio.Transform]:
    """TorchIO's transforms, each with its share; ranges are always given explicitly."""
    s = settings
    flips = zip(s.flip_axes, s.flip_p or (0.5,) * len(s.flip_axes), strict=True)
    chain = [tio.RandomFlip(axes=axis, flip_probability=share) for axis, share in flips]
    choices = [
        (s.affine_p, lambda p: _affine(s, size, mm, p)),
        (s.elastic_p, lambda p: _elastic(s, size, mm, p)),
        (s.blur_p, lambda p: tio.RandomBlur(std=_sextet(s.blur_sigma, mm), p=p)),
        (s.low_resolution_p, lambda p: _coarse(s, len(size), p)),
        (s.gamma_p, lambda p: tio.RandomGamma(log_gamma=s.gamma_log, p=p)),
        (s.bias_p, lambda p: tio.RandomBiasField(coefficients=s.bias_strength, order=3, p=p)),
        (s.noise_p, lambda p: tio.RandomNoise(mean=0, std=(s.noise_std_min, s.noise_std), p=p)),
    ]
    return [*chain, *(make(share) for share, make in choices if share > 0)]


def _affine(
    settings: Augmentation, size: Sequence[int], mm: Sequence[float], share: float
) -> tio.Transform:
    shifts = [settings.translate * s * step for s, step in zip(size, mm, strict=False)]
    return tio.RandomAffine(
        scales=settings.scale,
        degrees=settings.degrees,
        translation=_symmetric(shifts),
        isotropic=True,
        center="image",
        default_pad_value="minimum",
        image_interpolation="linear",
        label_interpolation="nearest",
        p=share,
    )


def _elastic(
    settings: Augmentation, size: Sequence[int], mm: Sequence[float], share: float
) -> tio.Transform:
    limits: Any = [settings.elastic_voxels * step for _, step in zip(size, mm, strict=False)]
    return tio.RandomElasticDeformation(
        num_control_points=settings.elastic_points,
        max_displacement=tuple([*limits, 0.0][:3]),
        locked_borders=2,
        image_interpolation="linear",
        label_interpolation="nearest",
        p=share,
    )


def _coarse(settings: Augmentation, ndim: int, share: float) -> tio.Transform:
    low, high = settings.zoom
    return tio.RandomAnisotropy(
        axes=tuple(range(ndim)), downsampling=(1 / high, 1 / low), scalars_only=True, p=share
    )


def _symmetric(limits: Sequence[float]) -> Any:
    """(-a, a, -b, b, -c, c) of the limits per axis; 0 for the axis that a slice lacks."""
    return tuple(sign * limit for limit in (*limits, 0.0)[:3] for sign in (-1, 1))


def _sextet(voxels: Sequence[float], mm: Sequence[float]) -> Any:
    """A range in voxels as TorchIO's range per axis in mm."""
    return tuple(bound * step for step in mm for bound in voxels)
