"""How a prepared volume lies in its raw one: orientation, spacing, crop and pad.

Only numbers are computed here; :mod:`lunet.data.resampling` moves the voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
from nibabel.orientations import (
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from lunet.errors import ConfigError, DataError
from lunet.reading import typed
from lunet.settings import Size, Within

# Spacings that differ by less than this share count as equal: headers store float32.
SAME_SPACING = 1e-3
LARGEST_MM = 1e6
"""Largest spacing or offset, a kilometre: beyond it float32 runs out of digits."""
MOST_VOXELS = 2**33
"""Largest prepared volume: 32 GiB of float32."""
_MISSING = "Prepare the data set again: it was prepared by another version"


_Factor = Annotated[float, Within(1e-9, 1e9)]
_Affine = Annotated[float, Within(-1e9, 1e9)]


class GeometryForm(TypedDict):
    """What :meth:`Geometry.as_dict` writes to a file."""

    native_shape: list[Size]
    native_affine: list[list[_Affine]]
    codes: str
    factor: list[_Factor]
    resampled: list[Size]
    offset: list[Annotated[int, Within(-(2**20), 2**20)]]
    shape: list[Size]


@dataclass(frozen=True)
class Geometry:
    """The transformation of a raw volume into its prepared one, exact in shape and affine.

    Raw -> axes permuted and flipped to ``codes`` -> resampled by ``factor`` to ``resampled``
    voxels about the same centre -> moved by ``offset`` voxels into ``shape``.

    Attributes
    ----------
    native_shape, native_affine
        Spatial shape of the raw volume and its affine (4, 4), mm.
    codes
        Axis codes of the prepared volume such as ``RAS``; ``keep`` leaves the axes alone.
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
    codes: str
    factor: tuple[float, ...]
    resampled: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def orientation(self) -> tuple[tuple[int, int], ...]:
        """Position and direction of each raw axis in the prepared volume, in nibabel's form."""
        return _turn(np.array(self.native_affine), self.codes, len(self.native_shape))

    @property
    def oriented_shape(self) -> tuple[int, ...]:
        """Shape after the axes were permuted, before resampling."""
        places = [place for place, _ in self.orientation]
        return tuple(self.native_shape[places.index(axis)] for axis in range(len(places)))

    @property
    def oriented_affine(self) -> NDArray[np.float64]:
        """Affine (4, 4) after the axes were permuted, mm."""
        ndim = len(self.native_shape)
        turn = np.eye(4)
        axes = inv_ornt_aff(np.array(self.orientation, float), self.native_shape)
        turn[:ndim, :ndim], turn[:ndim, 3] = axes[:ndim, :ndim], axes[:ndim, ndim]
        return np.array(self.native_affine) @ turn

    @property
    def resampled_affine(self) -> NDArray[np.float64]:
        """Affine (4, 4) after resampling, before crop and pad, mm."""
        ndim = len(self.native_shape)
        sizes, factor = np.array(self.oriented_shape), np.array(self.factor)
        scale = np.eye(4)
        scale[range(ndim), range(ndim)] = factor
        # source index of target voxel 0 when both volumes share their centre
        scale[:ndim, 3] = (sizes - 1) / 2 - factor * (np.array(self.resampled) - 1) / 2
        return self.oriented_affine @ scale

    @property
    def affine(self) -> NDArray[np.float64]:
        """Affine (4, 4) of the prepared volume, mm."""
        move = np.eye(4)
        move[: len(self.offset), 3] = -np.array(self.offset)
        return self.resampled_affine @ move

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size of the prepared volume in mm, one per axis."""
        return spacing_of(self.affine)[: len(self.shape)]

    @property
    def resamples(self) -> bool:
        """Whether the spacing changes at all."""
        return any(value != 1 for value in self.factor)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; :func:`geometry_from_dict` reads them back."""
        return {
            "native_shape": list(self.native_shape),
            "native_affine": [list(row) for row in self.native_affine],
            "codes": self.codes,
            "factor": list(self.factor),
            "resampled": list(self.resampled),
            "offset": list(self.offset),
            "shape": list(self.shape),
        }


def geometry_from_dict(value: Mapping[str, Any]) -> Geometry:
    """Rebuild a :class:`Geometry` from :meth:`Geometry.as_dict`.

    Raises
    ------
    DataError
        If a value is missing or malformed.
    """
    missing = sorted({field.name for field in fields(Geometry)} - set(value))
    if missing:
        raise DataError(
            where="geometry",
            found=f"no {missing[0]!r}",
            expected="a geometry written by `lunet preprocess`",
            action=_MISSING,
        )
    found = typed(value, GeometryForm, "geometry")
    affine = tuple(map(tuple, found["native_affine"]))
    axes = {len(found[key]) for key in ("native_shape", "factor", "resampled", "offset", "shape")}
    if axes not in ({2}, {3}) or [len(row) for row in affine] != [4, 4, 4, 4]:
        raise DataError(
            where="geometry",
            found=f"{sorted(axes)} axes",
            expected="2 or 3, and an affine of 4 x 4",
        )
    return Geometry(
        native_shape=tuple(found["native_shape"]),
        native_affine=affine,
        codes=found["codes"],
        factor=tuple(found["factor"]),
        resampled=tuple(found["resampled"]),
        offset=tuple(found["offset"]),
        shape=tuple(found["shape"]),
    )


def plan_geometry(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    *,
    orientation: str = "RAS",
    spacing: tuple[float, ...] | Literal["keep"] = "keep",
    size: tuple[int, ...] | None = None,
    crop: bool = True,
) -> Geometry:
    """Decide how a raw volume of ``shape`` and ``affine`` is brought to the wanted grid.

    ``spacing`` and ``size`` may name fewer axes than the volume has: the last ones are kept.
    Pictures (two axes) keep their orientation. Without ``crop`` smaller volumes are padded to
    ``size`` and larger ones stay whole.

    Raises
    ------
    DataError
        If the affine is singular or not finite.
    ConfigError
        If ``orientation`` is not a set of axis codes, or too many axes are named.
    """
    ndim = len(shape)
    if 0 in shape:
        raise DataError(
            where="image",
            found=f"shape {tuple(shape)}",
            expected="every axis needs at least one voxel",
        )
    _check_affine(affine)
    turn = _turn(affine, orientation, ndim)
    places = [place for place, _ in turn]
    turned_shape = [shape[places.index(axis)] for axis in range(ndim)]
    turned_spacing = [spacing_of(affine)[places.index(axis)] for axis in range(ndim)]
    factor, resampled = _factors(turned_shape, turned_spacing, spacing)
    wanted = _extend("size", size or (), resampled)
    if not crop:
        wanted = tuple(max(pair) for pair in zip(wanted, resampled, strict=True))
    return Geometry(
        native_shape=tuple(int(n) for n in shape),
        native_affine=tuple(tuple(float(v) for v in row) for row in affine),
        codes="keep" if ndim == 2 else orientation.upper().replace("KEEP", "keep"),
        factor=factor,
        resampled=resampled,
        offset=tuple(_centre(new, old) for new, old in zip(wanted, resampled, strict=True)),
        shape=wanted,
    )


def _check_affine(affine: NDArray[np.float64]) -> None:
    if not is_invertible(affine):
        raise DataError(
            where="affine", found=f"{affine.tolist()}", expected="it must be invertible"
        )
    spacing, offset = spacing_of(affine), np.abs(affine[:3, 3]).max()
    if max(spacing) > LARGEST_MM or min(spacing) < 1 / LARGEST_MM or offset > LARGEST_MM:
        sizes = " x ".join(f"{v:.4g}" for v in spacing)
        found = f"voxels of {sizes} mm, {offset:.4g} mm from the origin"
        raise DataError(
            where="affine",
            found=found,
            expected=f"at most {LARGEST_MM:g} mm, and voxels above 1e-06 mm",
        )


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Voxel sizes in mm of an affine (4, 4)."""
    x, y, z = np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(axis=0))
    return float(x), float(y), float(z)


def voxel_volume(affine: NDArray[np.float64], ndim: int = 3) -> float:
    """Volume of a voxel in mm^3, or with ``ndim=2`` the area of a pixel in mm^2.

    The determinant, not the product of the spacing: the two differ where the grid is sheared.
    """
    axes = np.asarray(affine, float)[:3, :ndim]
    return math.sqrt(max(float(np.linalg.det(axes.T @ axes)), 0.0))


def is_invertible(affine: NDArray[np.float64]) -> bool:
    """Whether an affine is finite and maps voxels to distinct points."""
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
        raise ConfigError(
            where="preprocess.orientation",
            found=repr(codes),
            expected="axis codes such as RAS, or keep",
        )
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
        raise ConfigError(
            where="preprocess.spacing",
            found=str(list(targets)),
            expected="voxel sizes must be above 0 mm",
        )
    factor = tuple(1.0 if abs(t / s - 1) < SAME_SPACING else t / s for t, s in pairs)
    resampled = tuple(
        n if f == 1 else max(1, round(n / f)) for n, f in zip(shape, factor, strict=True)
    )
    if math.prod(resampled) > MOST_VOXELS:
        found = f"{math.prod(shape)} voxels become {math.prod(resampled)}"
        expected = f"at most {MOST_VOXELS} are allowed"
        raise DataError(
            where="preprocess.spacing",
            found=found,
            expected=expected,
            action="Correct it or the image's spacing",
        )
    return factor, resampled


def _extend(name: str, values: Sequence[Any], rest: Sequence[Any]) -> tuple[Any, ...]:
    if len(values) > len(rest):
        raise ConfigError(
            where=f"preprocess.{name}",
            found=f"{len(values)} values",
            expected=f"at most one for each of the {len(rest)} axes",
        )
    return (*values, *rest[len(values) :])


def _centre(new: int, old: int) -> int:
    """New index of voxel 0; an odd voxel is padded or cropped at the front, as in TorchIO."""
    return -((old - new) // 2) if new >= old else -((old - new + 1) // 2)
