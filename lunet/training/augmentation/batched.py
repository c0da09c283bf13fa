"""Augments training batches on their device, with separate random numbers for each sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from lunet.errors import ConfigError
from lunet.training.augmentation import intensity
from lunet.training.augmentation.spatial import draw_warp, resample_batch, uniform
from lunet.training.compute.device import send
from lunet.training.recipe import Augmentation

_SHARES = (
    "affine_p", "elastic_p", "grid_distortion_p", "blur_p", "low_resolution_p", 
    "gamma_p", "gamma_inverted_p", "bias_p", "brightness_p", "noise_p", "dropout_p",
)  # fmt: skip


class Augment(Protocol):
    """A function that changes images ``(B, C, *S)`` float32 and labels ``(B, *S)`` uint8."""

    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The changed batch."""
        ...


def active(settings: Augmentation) -> bool:
    """Whether the settings change anything at all."""
    return bool(settings.flip_axes) or any(getattr(settings, name) > 0 for name in _SHARES)


def check_axes(settings: Augmentation, ndim: int) -> None:
    """Refuse flips along axes that images do not have (ConfigError)."""
    wrong = [axis for axis in settings.flip_axes if axis >= ndim]
    if wrong:
        raise ConfigError(
            where="train.augmentation.flip_axes",
            found=f"found {wrong}",
            expected=f"images have {ndim} axes, from 0",
        )


class Augmenter:
    """Batched augmentation: one resampling of image and label, then intensities.

    Order: flips; affine, elastic and grid distortion in one resampling; blur and low resolution;
    gamma; bias field; brightness and contrast; noise; coarse dropout. Parameters are drawn for each
    sample, and for intensities also for each channel. Labels are only moved, by nearest neighbour.

    All parameters come from the given CPU generator, so its state is the whole random state, and
    GPU and CPU augment alike. Only the noise field is drawn on the device, from a seed that comes
    from the generator.
    """

    def __init__(
        self, settings: Augmentation, ndim: int, *, spacing: Sequence[float] | None = None
    ) -> None:
        check_axes(settings, ndim)
        self.settings = settings
        self.spacing = tuple(spacing) if spacing is not None else (1.0,) * ndim

    @torch.no_grad()
    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augmented copies of ``images`` (B, C, *S) and ``labels`` (B, *S)."""
        with torch.autocast(images.device.type, enabled=False):
            images, labels = self._move(images, labels, generator)
            for share, transform in self._intensities():
                chosen = self._choose(share, len(images), generator)
                images = _changed(images, chosen, partial(transform, generator=generator))
        return images, labels

    def _intensities(self) -> list[tuple[float, Callable[..., Tensor]]]:
        s = self.settings
        return [
            (s.blur_p, self._blur),
            (s.low_resolution_p, self._coarsen),
            (s.gamma_inverted_p, self._gamma_inverted),
            (s.gamma_p, self._gamma),
            (s.bias_p, self._bias),
            (s.brightness_p, self._brightness),
            (s.noise_p, self._noise),
            (s.dropout_p, self._dropout),
        ]

    def _choose(self, share: float, batch: int, generator: torch.Generator) -> list[int]:
        if share == 0:
            return []
        return (torch.rand(batch, generator=generator) < share).nonzero().flatten().tolist()

    def _move(
        self, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Flipped and warped copies; the warp of a sample mirrors it in the same resampling."""
        size = images.shape[2:]
        flipped = self._draw_flips(len(images), len(size), generator)
        chosen, warp = draw_warp(self.settings, len(images), size, self.spacing, generator)
        warp = warp.scaled(1 - 2 * flipped)
        if len(chosen) == len(images):
            return resample_batch(images, labels, warp)
        images, labels = images.clone(), labels.clone()
        flipped[chosen] = 0
        for axis in range(len(size)):
            mirrored = flipped[:, axis].nonzero().flatten().tolist()
            images = _changed(images, mirrored, partial(torch.flip, dims=(2 + axis,)))
            labels = _changed(labels, mirrored, partial(torch.flip, dims=(1 + axis,)))
        if chosen:
            index = torch.tensor(chosen)
            where = send(index, images.device)
            images[where], labels[where] = resample_batch(
                images[where], labels[where], warp.take(index)
            )
        return images, labels

    def _draw_flips(self, count: int, ndim: int, generator: torch.Generator) -> Tensor:
        """(count, ndim): 1 where a sample is flipped along an axis, else 0."""
        flipped = torch.zeros(count, ndim)
        axes = self.settings.flip_axes
        shares = self.settings.flip_p or (0.5,) * len(axes)
        for axis, share in zip(axes, shares, strict=True):
            flipped[self._choose(share, count, generator), axis] = 1
        return flipped

    def _blur(self, images: Tensor, generator: torch.Generator) -> Tensor:
        sigma = uniform((len(images),), *self.settings.blur_sigma, generator)
        operators = [intensity.blur_operator(s, sigma) for s in images.shape[2:]]
        return intensity.separable(images, [send(o, images.device) for o in operators])

    def _coarsen(self, images: Tensor, generator: torch.Generator) -> Tensor:
        zoom = uniform((len(images),), *self.settings.zoom, generator)
        operators = [intensity.coarse_operator(s, zoom) for s in images.shape[2:]]
        return intensity.separable(images, [send(o, images.device) for o in operators])

    def _gamma(self, images: Tensor, generator: torch.Generator) -> Tensor:
        limit = self.settings.gamma_log
        exponent = uniform(images.shape[:2], -limit, limit, generator).exp()
        return intensity.gamma(images, send(exponent, images.device))

    def _gamma_inverted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self._gamma(images.neg(), generator).neg_()

    def _bias(self, images: Tensor, generator: torch.Generator) -> Tensor:
        ndim, limit = images.ndim - 2, self.settings.bias_strength
        mask = intensity.polynomial_mask(ndim)
        values = uniform((*images.shape[:2], *mask.shape), -limit, limit, generator) * mask
        return intensity.bias_field(images, send(values, images.device))

    def _brightness(self, images: Tensor, generator: torch.Generator) -> Tensor:
        s, shape = self.settings, images.shape[:2]
        factor = 1 + uniform(shape, -s.brightness_range, s.brightness_range, generator)
        contrast = 1 + uniform(shape, -s.contrast_range, s.contrast_range, generator)
        shift = uniform(shape, -s.shift_range, s.shift_range, generator)
        values = (send(value, images.device) for value in (factor, contrast, shift))
        return intensity.brightness_contrast(images, *values)

    def _noise(self, images: Tensor, generator: torch.Generator) -> Tensor:
        s = self.settings
        std = uniform((len(images),), s.noise_std_min, s.noise_std, generator)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        return intensity.noise(images, send(std, images.device), seed)

    def _dropout(self, images: Tensor, generator: torch.Generator) -> Tensor:
        s, size = self.settings, torch.tensor(images.shape[2:])
        fewest, most = s.dropout_holes
        shape = (len(images), most, len(size))
        sides = (uniform(shape, *s.dropout_size, generator) * size).round().clamp_min(1)
        starts = (torch.rand(shape, generator=generator) * (size - sides + 1)).floor()
        count = torch.randint(fewest, most + 1, (len(images), 1, 1), generator=generator)
        sides = sides * (torch.arange(most)[:, None] < count)
        return intensity.fill_holes(images, starts.long(), (starts + sides).long())


def _changed(batch: Tensor, chosen: list[int], transform: Callable[[Tensor], Tensor]) -> Tensor:
    """The batch with the chosen samples replaced by their transform; may change it in place."""
    if len(chosen) == len(batch):
        return transform(batch)
    if chosen:
        index = send(torch.tensor(chosen), batch.device)
        batch[index] = transform(batch[index])
    return batch
