"""The metrics contract: one reference, one prediction, one row per label.

Native space, millimetres, and a rule for every empty mask: see :func:`evaluate_case`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from lunet.metrics import overlap, surface
from lunet.metrics.catalog import case_columns, known_metrics, names_of, nsd_column
from lunet.metrics.inputs import (
    UNIT_SPACING,
    Labels,
    checked_arrays,
    checked_labels,
    checked_spacing,
    checked_tolerances,
    checked_volume,
    crop_to_foreground,
    joint_masks,
)
from lunet.metrics.overlap import Counts, Mask, centre_distance, count
from lunet.own_code import import_own
from lunet.task import Length

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
_MM3_PER_ML = 1000.0


def evaluate_case(
    reference: ArrayLike,
    prediction: ArrayLike,
    *,
    spacing: Sequence[float] = UNIT_SPACING,
    labels: Labels | None = None,
    tolerances: Sequence[float] = (1.0,),
    voxel_volume: float | None = None,
    unit: Length = "mm",
) -> pd.DataFrame:
    """Metrics of one predicted label map against its reference.

    Parameters
    ----------
    reference, prediction
        Class indices (integers) or a boolean mask, 2D or 3D, of one shape, in native space.
    spacing
        Voxel size in mm, in the order of the array axes.
    labels
        Name of each row -> its class index, or several for a region (their union), for example
        ``{"core": 1, "whole": (1, 2, 3)}``. Without it, binary arrays get one row ``foreground``.
    tolerances
        Tolerances of the normalised surface Dice (NSD) in mm, one column ``nsd_<tol>`` each.
    voxel_volume
        Volume of a voxel in mm^3 (in 2D mm^2), if it is not the product of ``spacing`` (shear).
    unit
        ``px`` if the images have no physical size: all lengths are then numbers of pixels, volumes
        are numbers of voxels, and the columns say so (``hd95_px``, ``nsd_1_px``, ``volume_px``).

    Returns
    -------
    A row per label with the columns of :func:`case_columns`: ``label``; ``dice``, ``iou``,
    ``precision``, ``recall``; ``hd``, ``hd95``, ``assd``, ``masd`` in mm on border voxels;
    ``nsd_<tol>`` on the sub-voxel surface; ``volume_ml``, ``volume_reference_ml``, their difference
    ``volume_error_ml`` and its share ``volume_error_relative`` of the reference (a 2D pixel is
    1 mm thick); ``centre_distance`` of the centres of mass in mm; ``status``:

    ========== ========== ========== =========================================================
    status     reference  prediction values
    ========== ========== ========== =========================================================
    ok         present    present    as defined in :mod:`lunet.metrics.surface` and ``overlap``
    missed     present    empty      overlap and NSD 0, distances = the image diagonal in mm
    spurious   empty      present    the same; ``volume_error_relative`` is NaN (no reference)
    both_empty empty      empty      volumes 0, else NaN: left out of means, but counted
    ========== ========== ========== =========================================================

    The image diagonal is ``sqrt(sum((voxels * spacing)^2))`` over the axes of the whole array.

    Raises
    ------
    DataError
        If shapes, types, spacing, labels or tolerances do not fit.
    """
    import pandas as pd  # takes a quarter of a second, which `lunet evaluate` spares

    rows = measure_case(
        reference,
        prediction,
        spacing=spacing,
        labels=labels,
        tolerances=tolerances,
        voxel_volume=voxel_volume,
        unit=unit,
    )
    return pd.DataFrame(rows, columns=case_columns(checked_tolerances(tolerances), unit))


def measure_case(
    reference: ArrayLike,
    prediction: ArrayLike,
    *,
    spacing: Sequence[float] = UNIT_SPACING,
    labels: Labels | None = None,
    tolerances: Sequence[float] = (1.0,),
    voxel_volume: float | None = None,
    unit: Length = "mm",
) -> list[Row]:
    """The rows of :func:`evaluate_case`: column -> a text, or a number (float)."""
    pair = checked_arrays(reference, prediction)
    steps = checked_spacing(spacing, pair[0].ndim)
    wanted = checked_labels(labels, pair)
    limits = checked_tolerances(tolerances)
    size = math.prod(steps) if voxel_volume is None else checked_volume(voxel_volume)
    size *= 1 if unit == "mm" else _MM3_PER_ML  # one by one, not in thousands
    near = crop_to_foreground(pair, wanted)
    columns = dict(zip(case_columns(limits), case_columns(limits, unit), strict=True))
    rows = (
        _row(name, *joint_masks(near, indices), pair[0].shape, steps, limits, size)
        for name, indices in wanted.items()
    )
    return [{new: _plain(row[old]) for old, new in columns.items()} for row in rows]


def _plain(value: Any) -> str | float:
    """A cell as text or float; the metric of an installed package may return None or a whole."""
    if isinstance(value, str):
        return value
    return math.nan if value is None else float(value)


def _row(
    name: str,
    reference: Mask,
    prediction: Mask,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    tolerances: tuple[float, ...],
    voxel_volume: float,
) -> Row:
    """One row; the masks are cropped to their joint box, ``shape`` is the shape before cropping."""
    counts = count(reference, prediction)
    status = _status(counts)
    worst = math.hypot(*(n * s for n, s in zip(shape, spacing, strict=True)))
    return {
        "label": name,
        "status": status,
        **_volumes(counts, voxel_volume),
        **(
            _both_present(reference, prediction, counts, spacing, tolerances)
            if status == "ok"
            else _contract(status, worst, tolerances)
        ),
    }


def _status(counts: Counts) -> str:
    if counts.reference and counts.prediction:
        return "ok"
    if counts.reference:
        return "missed"
    return "spurious" if counts.prediction else "both_empty"


def _volumes(counts: Counts, voxel_volume: float) -> Row:
    found = counts.prediction * voxel_volume / _MM3_PER_ML
    expected = counts.reference * voxel_volume / _MM3_PER_ML
    error = found - expected if counts.reference or counts.prediction else math.nan
    relative = error / expected if counts.reference else math.nan
    return dict(zip(names_of("volume"), (found, expected, error, relative), strict=True))


def _both_present(
    reference: Mask,
    prediction: Mask,
    counts: Counts,
    spacing: tuple[float, ...],
    tolerances: tuple[float, ...],
) -> Row:
    found = surface.surface_distances(reference, prediction, spacing=spacing, tolerances=tolerances)
    return {
        **{name: _function(overlap, name)(counts) for name in names_of("overlap")},
        **{name: _function(surface, name)(found.a, found.b) for name in names_of("border")},
        **dict(zip(map(nsd_column, tolerances), found.nsd, strict=True)),
        "centre_distance": centre_distance(reference, prediction, spacing),
    }


def _function(module: ModuleType, name: str) -> Callable[..., float]:
    """The function of a metric: in the module of its kind, or of an installed package."""
    place, _, own = known_metrics()[name].function.partition(":")
    found: Callable[..., float] = getattr(import_own(place) if place else module, own or name)
    return found


def _contract(status: str, worst: float, tolerances: tuple[float, ...]) -> Row:
    """Values where a mask is empty: the worst possible, or NaN if there was nothing to find."""
    undefined = status == "both_empty"
    shares = (*names_of("overlap"), *map(nsd_column, tolerances))
    distances = names_of("border", "centre")
    return {
        **dict.fromkeys(shares, math.nan if undefined else 0.0),
        **dict.fromkeys(distances, math.nan if undefined else worst),
    }
