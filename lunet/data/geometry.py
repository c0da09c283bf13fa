"""Where a prepared volume lies in its raw one: orientation, spacing, crop and pad, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray
from scipy import ndimage

from lunet.errors import ConfigError, DataError

# Spacings that differ by less than this share are one: headers keep float32.
SAME_SPACING = 1e-3
_HALF_WIDTH = 2 * np.sqrt(2 * np.log(2))  # full width at half maximum of a unit Gaussian


@dataclass(frozen=True)
class Geometry:
    """The way from a raw volume to its prepared one, exact in shape and affine.

    Raw -> axes permuted and flipped by ``orientation`` -> resampled by ``factor`` to
    ``resampled`` voxels about the same centre -> moved by ``offset`` voxels into ``shape``.

    Attributes
    ----------
    native_shape, native_affine
        Spatial shape of the raw volume and its affine (4, 4), mm.
    orientation
        nibabel's orientation transform, (axes, 2) as nested tuples: for each raw axis its place
        and direction in the prepared volume.
    factor
        Raw voxels per prepared voxel along each prepared axis.
    resampled
        Shape after resampling.
    offset
        Prepared index of voxel 0 of the resampled volume; negative where it is cropped.
    shape
        Shape of the prepared volume.
    """

    native_shape: tuple[int, ...]
    native_affine: tuple[tuple[float, ...], ...]
    orientation: tuple[tuple[int, int], ...]
    factor: tuple[float, ...]
    resampled: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def oriented_shape(self) -> tuple[int, ...]:
        """Shape after the axes were permuted, before resampling."""
        places = [place for place, _ in self.orientation]
        return tuple(self.native_shape[places.index(axis)] for axis in range(len(places)))

    @property
    def affine(self) -> NDArray[np.float64]:
        """Affine (4, 4) of the prepared volume, mm."""
        native = np.array(self.native_affine)
        ndim = len(self.shape)
        turn = np.eye(4)
        axes = inv_ornt_aff(np.array(self.orientation, float), self.native_shape)
        turn[:ndim, :ndim], turn[:ndim, 3] = axes[:ndim, :ndim], axes[:ndim, ndim]
        scale = np.eye(4)
        scale[range(ndim), range(ndim)] = self.factor
        scale[:ndim, 3] = self._start(self.factor, self.oriented_shape, self.resampled)
        move = np.eye(4)
        move[:ndim, 3] = -np.array(self.offset)
        return native @ turn @ scale @ move

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size of the prepared volume in mm, one per axis."""
        return spacing_of(self.affine)[: len(self.shape)]

    @property
    def resamples(self) -> bool:
        """Whether the spacing changes at all."""
        return any(value != 1 for value in self.factor)

    @staticmethod
    def _start(
        factor: Sequence[float], source: Sequence[int], target: Sequence[int]
    ) -> NDArray[np.float64]:
        """Source index of target voxel 0 when both volumes share their centre."""
        return (np.array(source) - 1) / 2 - np.array(factor) * (np.array(target) - 1) / 2

    def forward(self, array: NDArray[Any], *, order: int) -> NDArray[Any]:
        """Raw (x, y, z) to the resampled grid, before crop and pad; float32 unless kept as is."""
        turned = apply_orientation(array, np.array(self.orientation, float))
        if not self.resamples:
            return turned
        start = self._start(self.factor, self.oriented_shape, self.resampled)
        return _zoom(turned, self.factor, start, self.resampled, order)

    def backward(self, array: NDArray[Any], *, fill: float = 0) -> NDArray[Any]:
        """Prepared (x, y, z) to the raw grid by linear interpolation; ``fill`` where cropped."""
        whole = place(array, [-n for n in self.offset], self.resampled, fill=fill)
        if self.resamples:
            inverse = [1 / value for value in self.factor]
            start = self._start(inverse, self.resampled, self.oriented_shape)
            whole = _zoom(whole, inverse, start, self.oriented_shape, 1)
        return np.ascontiguousarray(apply_orientation(whole, self._back()))

    def _back(self) -> NDArray[np.float64]:
        """nibabel's orientation transform from the prepared axes to the raw ones."""
        pairs = [(axis, sign) for axis, (_, sign) in enumerate(self.orientation)]
        places = [place for place, _ in self.orientation]
        return np.array([pairs[places.index(axis)] for axis in range(len(places))], float)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; :func:`geometry_from_dict` is the way back."""
        return {
            "native_shape": list(self.native_shape),
            "native_affine": [list(row) for row in self.native_affine],
            "orientation": [list(pair) for pair in self.orientation],
            "factor": list(self.factor),
            "resampled": list(self.resampled),
            "offset": list(self.offset),
            "shape": list(self.shape),
        }


def geometry_from_dict(value: Mapping[str, Any]) -> Geometry:
    """Rebuild a :class:`Geometry` from :meth:`Geometry.as_dict`."""
    return Geometry(
        native_shape=tuple(value["native_shape"]),
        native_affine=tuple(tuple(map(float, row)) for row in value["native_affine"]),
        orientation=tuple((int(place), int(sign)) for place, sign in value["orientation"]),
        factor=tuple(map(float, value["factor"])),
        resampled=tuple(value["resampled"]),
        offset=tuple(value["offset"]),
        shape=tuple(value["shape"]),
    )


def plan_geometry(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    *,
    orientation: str = "RAS",
    spacing: tuple[float, ...] | Literal["keep"] = "keep",
    size: tuple[int, ...] | None = None,
) -> Geometry:
    """Decide how a raw volume of ``shape`` and ``affine`` is brought to the wanted grid.

    ``spacing`` and ``size`` may name fewer axes than the volume has: the last ones are kept.
    Pictures (two axes) keep their orientation.

    Raises
    ------
    DataError
        If the affine is singular or not finite.
    ConfigError
        If ``orientation`` is no set of axis codes, or too many axes are named.
    """
    ndim = len(shape)
    if not is_invertible(affine):
        raise DataError("affine", f"{np.round(affine, 4).tolist()}", "it must be invertible")
    turn = _turn(affine, orientation, ndim)
    places = [place for place, _ in turn]
    turned_shape = [shape[places.index(axis)] for axis in range(ndim)]
    turned_spacing = [spacing_of(affine)[places.index(axis)] for axis in range(ndim)]
    factor, resampled = _factors(turned_shape, turned_spacing, spacing)
    wanted = _extend("size", size or (), resampled)
    return Geometry(
        native_shape=tuple(int(n) for n in shape),
        native_affine=tuple(tuple(float(v) for v in row) for row in affine),
        orientation=turn,
        factor=factor,
        resampled=resampled,
        offset=tuple(_centre(new, old) for new, old in zip(wanted, resampled, strict=True)),
        shape=wanted,
    )


def place(
    array: NDArray[Any], offset: Sequence[int], shape: Sequence[int], *, fill: float = 0
) -> NDArray[Any]:
    """Put ``array`` into a new one of ``shape`` at ``offset``; what sticks out is cut off."""
    if tuple(array.shape) == tuple(shape) and not any(offset):
        return array
    result = np.full(shape, fill, dtype=array.dtype)
    into, out_of = [], []
    for start, old, new in zip(offset, array.shape, shape, strict=True):
        low, high = max(start, 0), min(start + old, new)
        into.append(slice(low, max(low, high)))
        out_of.append(slice(low - start, max(low, high) - start))
    result[tuple(into)] = array[tuple(out_of)]
    return result


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Voxel sizes in mm of an affine (4, 4)."""
    x, y, z = np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(axis=0))
    return float(x), float(y), float(z)


def is_invertible(affine: NDArray[np.float64]) -> bool:
    """Whether an affine is finite and maps voxels to distinct places."""
    return bool(np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9)


def corner_shift(
    shape: Sequence[int], one: NDArray[np.float64], other: NDArray[np.float64]
) -> float:
    """Largest distance in mm between the corners of a volume under two affines."""
    extents = [*shape, 1, 1, 1][:3]
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(extents) - 1
    moved = corners @ (np.asarray(one) - np.asarray(other)).T
    return float(np.sqrt((moved[:, :3] ** 2).sum(axis=1)).max())


def _turn(affine: NDArray[np.float64], codes: str, ndim: int) -> tuple[tuple[int, int], ...]:
    if codes == "keep" or ndim == 2:
        return tuple((axis, 1) for axis in range(ndim))
    wanted = codes.upper()
    if len(wanted) != 3 or any(not set(pair) & set(wanted) for pair in ("LR", "AP", "IS")):
        raise ConfigError("preprocess.orientation", repr(codes), "axis codes such as RAS, or keep")
    transform = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(wanted)))
    return tuple((int(place), int(sign)) for place, sign in transform)


def _factors(
    shape: Sequence[int],
    spacing: Sequence[float],
    wanted: tuple[float, ...] | Literal["keep"],
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    targets = _extend("spacing", () if wanted == "keep" else wanted, spacing)
    pairs = list(zip(targets, spacing, strict=True))
    if any(target <= 0 for target in targets):
        raise ConfigError("preprocess.spacing", str(list(targets)), "voxel sizes are above 0 mm")
    factor = tuple(1.0 if abs(t / s - 1) < SAME_SPACING else t / s for t, s in pairs)
    return factor, tuple(
        n if f == 1 else max(1, round(n / f)) for n, f in zip(shape, factor, strict=True)
    )


def _extend(name: str, values: Sequence[Any], rest: Sequence[Any]) -> tuple[Any, ...]:
    if len(values) > len(rest):
        raise ConfigError(f"preprocess.{name}", f"{len(values)} values", f"{len(rest)} axes exist")
    return (*values, *rest[len(values) :])


def _centre(new: int, old: int) -> int:
    return (new - old) // 2 if new >= old else -((old - new) // 2)


def _zoom(
    array: NDArray[Any],
    factor: Sequence[float],
    start: NDArray[np.float64],
    shape: tuple[int, ...],
    order: int,
) -> NDArray[np.float32]:
    """Sample at ``start + factor * index``; beyond the border the nearest voxel goes on."""
    source = array.astype(np.float32, copy=False)
    widths = [np.sqrt(max(f * f - 1, 0)) / _HALF_WIDTH for f in factor]
    if any(widths):  # against aliasing where the grid gets coarser (Cardoso et al., MICCAI 2015)
        source = ndimage.gaussian_filter(source, widths, mode="nearest")
    return ndimage.affine_transform(
        source, np.array(factor), start, output_shape=shape, order=order, mode="nearest"
    )
