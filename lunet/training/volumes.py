"""Holds prepared volumes on the device, in the host's memory or on disk, and gathers batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lunet.errors import DataError
from lunet.task import Task
from lunet.training.compute.device import send
from lunet.training.memory import available_memory

Window = tuple[slice, ...]
LARGEST_ROUNDING = 1 / 500
"""Largest change of a voxel by float16, as a share of its image's standard deviation."""


class VolumeCase(Protocol):
    """The parts of a prepared case that are needed; both arrays are usually memory-mapped.

    A map keeps a file open, and a process may have only about a thousand open files, so a map is
    opened when it is needed and released after it was copied.
    """

    @property
    def id(self) -> str:
        """Name of the case."""

    def image(self) -> np.ndarray:
        """(channel, x, y, z) float32."""

    def label(self) -> np.ndarray:
        """(x, y, z) uint8."""


@dataclass(frozen=True)
class Batch:
    """The samples of one step.

    Attributes
    ----------
    image, label
        (batch, channel, \\*spatial) float32 and (batch, \\*spatial) uint8, on the device.
    cases
        Name of the case of each sample.
    """

    image: Tensor
    label: Tensor
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Volumes:
    """Images and labels of some cases.

    Attributes
    ----------
    names
        Case names.
    images, labels
        Per case (channel, x, y, z) float32 (or float16, see ``half``) and (x, y, z) uint8: tensors
        if ``resident``, else arrays that are mapped again on each access.
    shapes
        Spatial shape of each case, voxels.
    device
        Device of the gathered batches.
    resident
        Whether all volumes are in memory: that of ``device``, or the host's.
    half
        Whether images are rounded to float16, wherever they are; batches are float32.
    """

    names: tuple[str, ...]
    images: Sequence[Tensor] | Sequence[np.ndarray]
    labels: Sequence[Tensor] | Sequence[np.ndarray]
    shapes: tuple[tuple[int, ...], ...]
    device: torch.device
    resident: bool
    half: bool = False

    @property
    def on_device(self) -> bool:
        """Whether a batch needs neither a disk nor a copy from the host."""
        first = self.images[0] if self.resident else None
        return isinstance(first, Tensor) and first.device.type == self.device.type

    @property
    def place(self) -> str:
        """``device``, ``host`` or ``disk``."""
        return "device" if self.on_device else "host" if self.resident else "disk"

    def crop(self, case: int, window: Window) -> tuple[Tensor, Tensor]:
        """Image and label of one window of a case; only the window is read from disk."""
        image = self.images[case][(slice(None), *window)]
        label = self.labels[case][window]
        if self.resident:
            return image, label  # type: ignore[return-value]
        return (
            torch.from_numpy(np.array(image, dtype=_type(half=self.half))),
            torch.from_numpy(np.array(label, dtype=np.uint8)),
        )

    def gather(
        self, crops: Sequence[tuple[int, Window]], *, size: Sequence[int], squeeze: bool
    ) -> Batch:
        """A batch of windows, padded with zeros at their ends to ``size`` voxels.

        ``squeeze`` drops the last axis (slices for a 2D network).
        """
        images, labels = zip(*(self.crop(case, window) for case, window in crops), strict=True)
        image = torch.stack([_padded(item, size) for item in images])
        label = torch.stack([_padded(item, size) for item in labels])
        if squeeze:
            image, label = image.squeeze(-1), label.squeeze(-1)
        names = tuple(self.names[case] for case, _ in crops)
        if not self.on_device:
            image, label = send(image, self.device), send(label, self.device)
        return Batch(image.float(), label, names)


def load_volumes(
    cases: Sequence[VolumeCase],
    task: Task,
    *,
    device: torch.device,
    place: str = "auto",
    budget: int | None = None,
    half: bool = False,
) -> Volumes:
    """Open cases, check them against the task, and load them into memory if they fit.

    Parameters
    ----------
    cases
        Prepared cases; each must have a label.
    task
        Defines the number of channels and the allowed class indices.
    device
        Device of the batches.
    place
        Where the volumes are held: ``device``, ``host``, ``disk``, or ``auto`` for the first of
        these where they fit.
    budget
        Bytes that they may use there; by default half of the free memory.
    half
        Hold images as float16, after a check that this changes next to nothing.

    Raises
    ------
    DataError
        If the number of channels is wrong, image and label differ in shape, float16 changes an
        image too much or, for volumes that are loaded into memory, a value is not finite or a class
        index is not in the task.
    """
    images = _Maps([case.image for case in cases], axes=4)
    labels = _Maps([case.label for case in cases], axes=3)
    names = tuple(case.id for case in cases)
    shapes, size = [], 0
    for name, image, label in zip(names, images, labels, strict=True):
        _check_shapes(name, image, label, task)
        shapes.append(tuple(image.shape[1:]))
        size += (2 if half else 4) * image.size + label.size
        if half:
            check_rounding(name, image)
    home = _home(place, size, device, budget)
    if home is None:
        return Volumes(names, images, labels, tuple(shapes), device, resident=False, half=half)
    held: tuple[list[Tensor], list[Tensor]] = ([], [])
    for name, image, label in zip(names, images, labels, strict=True):
        check_values(name, image, label, task)
        held[0].append(torch.from_numpy(np.array(image, dtype=_type(half=half))).to(home))
        held[1].append(torch.from_numpy(np.array(label, dtype=np.uint8)).to(home))
    return Volumes(names, *held, tuple(shapes), device, resident=True, half=half)


def _type(*, half: bool) -> type[np.floating]:
    return np.float16 if half else np.float32


def _home(place: str, size: int, device: torch.device, budget: int | None) -> torch.device | None:
    """The device that holds ``size`` bytes of volumes; None if they stay on disk."""
    host = torch.device("cpu")
    if place != "auto":
        return {"device": device, "host": host, "disk": None}[place]
    for home in dict.fromkeys((device, host)):
        if size <= (available_memory(home) // 2 if budget is None else budget):
            return home
    return None


class _Maps(Sequence[np.ndarray]):
    """A sequence of arrays, each of which is opened on access."""

    def __init__(self, openers: Sequence[Callable[[], np.ndarray]], *, axes: int) -> None:
        self._openers, self._axes = openers, axes

    def __len__(self) -> int:
        return len(self._openers)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> _Maps: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | _Maps:
        if isinstance(index, slice):
            return _Maps(self._openers[index], axes=self._axes)
        return _as_volume(self._openers[index](), self._axes)


def _as_volume(array: np.ndarray, axes: int) -> np.ndarray:
    """A picture as a volume of one slice; a volume unchanged."""
    return array[..., None] if array.ndim == axes - 1 else array


def check_values(name: str, image: np.ndarray, label: np.ndarray, task: Task) -> None:
    """Refuse values that are not finite and class indices that are not in the task."""
    bad = int(image.size - np.isfinite(image).sum())
    if bad:
        raise DataError(
            where=f"case {name}",
            found=f"{bad} values of the image are NaN or infinite",
            expected="finite values are needed",
            action="Check the raw file with `lunet audit`, then repair it or leave out the case",
        )
    present = np.flatnonzero(np.bincount(np.asarray(label).ravel(), minlength=256))
    unknown = sorted(set(present.tolist()) - {0, *task.labels.values()})
    if unknown:
        raise DataError(
            where=f"case {name}",
            found=f"class indices {unknown} in the label",
            expected=f"the task declares {task.labels}",
            action="Declare them in task.labels or correct the label",
        )


def check_rounding(name: str, image: np.ndarray) -> None:
    """Refuse an image that float16 changes by more than :data:`LARGEST_ROUNDING`."""
    known = image[np.isfinite(image)]
    with np.errstate(over="ignore"):
        changes = np.abs(known.astype(np.float16).astype(np.float32) - known)
    largest = float(changes.max(initial=0))
    spread = float(np.std(known, dtype=np.float64)) if known.size else 0.0
    if not largest <= LARGEST_ROUNDING * spread:  # also where it overflows
        raise DataError(
            where=f"case {name}",
            found=f"float16 changes a voxel by {largest:.3g}, and the standard deviation of the "
            f"image is {spread:.3g}",
            expected=f"at most {LARGEST_ROUNDING:g} of it is accepted",
            action="Set train.images: fp32, or normalise intensities (preprocess)",
        )


def _check_shapes(name: str, image: np.ndarray, label: np.ndarray, task: Task) -> None:
    if image.ndim != 4 or image.shape[0] != len(task.channels):
        channels = ", ".join(task.channels)
        raise DataError(
            where=f"case {name}",
            found=f"image of shape {tuple(image.shape)}",
            expected=(
                f"(channel, x, y, z) with {len(task.channels)} channels ({channels}) is needed"
            ),
        )
    if image.shape[1:] != label.shape:
        found = f"image of {tuple(image.shape[1:])} and label of {tuple(label.shape)} voxels"
        raise DataError(where=f"case {name}", found=found, expected="they must have the same shape")


def _padded(item: Tensor, size: Sequence[int]) -> Tensor:
    missing = [want - have for want, have in zip(size, item.shape[-len(size) :], strict=True)]
    if not any(missing):
        return item
    amounts = [amount for gap in reversed(missing) for amount in (gap // 2, gap - gap // 2)]
    return functional.pad(item, amounts)
