"""The catalog of metrics: name, title, unit, better side, definition, source and twin of each.

Columns, tables, figures, claims, tests and the checks of a configuration read this table. A new
metric is one row here and one function with its name: of :class:`lunet.metrics.overlap.Counts` in
:mod:`lunet.metrics.overlap`, or of the distances between the borders in
:mod:`lunet.metrics.surface`. This module imports no library, so that a
configuration is checked without NumPy.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from lunet.errors import ConfigError, shown
from lunet.own_code import load_entry
from lunet.task import Length, of_pictures

STATUSES = ("ok", "missed", "spurious", "both_empty")
"""Status of a row in the per-case table. A missed structure is a false negative, a spurious one a
false positive."""

Kind = Literal["overlap", "border", "surface", "volume", "centre"]
"""What a metric is computed from, which decides its value where a mask is empty.

``overlap``: counts of voxels; ``border``: distances between border voxels; ``surface``: the
sub-voxel surface, with a tolerance; ``volume``; ``centre``: centres of mass. Where one mask is
empty, overlap and surface are 0 and distances the image's diagonal."""

GROUP = "lunet.metrics"
_FUNCTION = re.compile(r"[\w.]+\.\w+:\w+")
_NSD = "nsd_"
_ML, _PX = "_ml", "_px"


@dataclass(frozen=True)
class Metric:
    """One row of the catalog.

    Attributes
    ----------
    name
        Column of the per-case table.
    title
        Name for readers, without its unit.
    kind
        What it is computed from.
    better
        Which side is better; ``neither`` for plain sizes, which cannot be compared.
    definition
        Formula, with the masks R (reference) and P (prediction).
    source
        Where the definition is from.
    twin
        Another implementation that the tests compare this one with, or empty.
    unit
        ``mm``, ``ml``, or empty for a share; margins and differences have the same unit. Images
        without a physical size have columns of their own, in ``px`` (:func:`column_in`).
    compared
        Title of the magnitude, only for errors around zero. Comparisons and rankings use the
        magnitude of such an error; summaries keep its sign.
    needs_reference
        Whether it has no value where the reference is empty.
    function
        ``my_package.metrics:hd99``, for a metric of an installed package; empty for one of this
        package, whose function has the metric's name.
    """

    name: str
    title: str
    kind: Kind
    better: Literal["higher", "lower", "neither"]
    definition: str
    source: str
    twin: str = ""
    unit: str = ""
    compared: str = ""
    needs_reference: bool = False
    function: str = ""

    @property
    def signed(self) -> bool:
        """Whether it is an error around zero."""
        return bool(self.compared)

    @property
    def best(self) -> float:
        """The value of a perfect prediction, for a metric with a better side."""
        return 1.0 if self.better == "higher" else 0.0


_RELOADED = "Maier-Hein et al., Nat. Methods 21:195, 2024"
_MONAI_HD, _MONAI_SD = "MONAI compute_hausdorff_distance", "MONAI compute_average_surface_distance"
_ROWS = (
    Metric(
        "dice",
        "Dice",
        "overlap",
        "higher",
        definition="2 |R and P| / (|R| + |P|)",
        source="Dice 1945",
        twin="MedPy dc",
    ),
    Metric(
        "iou",
        "IoU",
        "overlap",
        "higher",
        definition="|R and P| / |R or P|",
        source="Jaccard 1912",
        twin="MedPy jc",
    ),
    Metric(
        "precision",
        "Precision",
        "overlap",
        "higher",
        definition="|R and P| / |P|",
        source=_RELOADED,
        twin="MedPy precision",
    ),
    Metric(
        "recall",
        "Recall",
        "overlap",
        "higher",
        definition="|R and P| / |R|, the sensitivity",
        source=_RELOADED,
        twin="MedPy recall",
    ),
    Metric(
        "hd",
        "HD",
        "border",
        "lower",
        definition="largest distance from a border voxel of one mask to the border of the other",
        source="Huttenlocher et al., IEEE TPAMI 15:850, 1993",
        twin=_MONAI_HD,
        unit="mm",
    ),
    Metric(
        "hd95",
        "HD95",
        "border",
        "lower",
        definition="larger of the 95th percentiles of the border distances of both directions",
        source=_RELOADED,
        twin=f"{_MONAI_HD}(percentile=95)",
        unit="mm",
    ),
    Metric(
        "assd",
        "ASSD",
        "border",
        "lower",
        definition="mean of the border distances of both directions together",
        source=_RELOADED,
        twin=f"{_MONAI_SD}(symmetric=True)",
        unit="mm",
    ),
    Metric(
        "masd",
        "MASD",
        "border",
        "lower",
        definition="mean of the two directions' mean border distances",
        source=_RELOADED,
        twin="mean of MedPy asd of both directions",
        unit="mm",
    ),
    Metric(
        "nsd",
        "NSD at {tolerance} mm",
        "surface",
        "higher",
        definition="share of both surfaces' area that lies within the tolerance of the other one",
        source="Nikolov et al., arXiv:1809.04430",
        twin="surface-distance compute_surface_dice_at_tolerance",
    ),
    Metric(
        "volume_ml",
        "Volume",
        "volume",
        "neither",
        definition="volume of P",
        source="count of voxels times their volume",
        unit="ml",
    ),
    Metric(
        "volume_reference_ml",
        "Reference volume",
        "volume",
        "neither",
        definition="volume of R",
        source="count of voxels times their volume",
        unit="ml",
    ),
    Metric(
        "volume_error_ml",
        "Volume error",
        "volume",
        "lower",
        definition="volume of P - volume of R",
        source=_RELOADED,
        unit="ml",
        compared="Absolute volume error",
    ),
    Metric(
        "volume_error_relative",
        "Relative volume error",
        "volume",
        "lower",
        definition="(volume of P - volume of R) / volume of R",
        source=_RELOADED,
        compared="Absolute relative volume error",
        needs_reference=True,
    ),
    Metric(
        "centre_distance",
        "Centre distance",
        "centre",
        "lower",
        definition="distance between the centres of mass",
        source=_RELOADED,
        unit="mm",
    ),
)
METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}
"""Name -> row, in the order of the columns; ``nsd`` stands for one column per tolerance."""


def known_metrics() -> dict[str, Metric]:
    """:data:`METRICS`, and the rows that entry points of the group ``lunet.metrics`` name.

    Raises
    ------
    ConfigError
        If an entry point cannot be loaded or names something else.
    """
    return METRICS | plugins()


@functools.cache
def plugins() -> dict[str, Metric]:
    """The metrics of installed packages."""
    return {entry.name: _plugin(entry) for entry in entry_points(group=GROUP)}


def _plugin(entry: EntryPoint) -> Metric:
    row = load_entry(entry)
    is_row = isinstance(row, Metric) and row.name == entry.name and row.name not in METRICS
    if not is_row or row.kind not in ("overlap", "border") or not _FUNCTION.fullmatch(row.function):
        raise ConfigError(
            where=f"entry point {entry.name} of {GROUP} ({entry.value})",
            found=f"is {shown(row)}",
            expected="a Metric of a new name, the entry point's, of the kind overlap or border and "
            "with a function such as my_package.metrics:hd99",
        )
    found: Metric = row
    return found


def find_metric(name: str) -> Metric | None:
    """The row for a column of the per-case table (also ``nsd_2``, ``hd95_px``), if it is one."""
    if name.endswith(_PX) and name not in known_metrics():
        return _in_pixels(name)
    if not name.startswith(_NSD):
        return known_metrics().get(name) if name != "nsd" else None
    tolerance = name.removeprefix(_NSD)
    if not _is_tolerance(tolerance):
        return None
    row = METRICS["nsd"]
    return dataclasses.replace(row, name=name, title=row.title.format(tolerance=tolerance))


def column_in(name: str, unit: Length) -> str:
    """The column of a metric for images whose distances are in this unit, from either column.

    In pixels, ``hd95`` is ``hd95_px`` and ``volume_error_ml`` ``volume_error_px``; shares stay.
    """
    base = _physical(name) if name.endswith(_PX) else name
    row = find_metric(base)
    if unit == "mm" or row is None or not (row.unit or row.kind == "surface"):
        return base
    return base.removesuffix(_ML) + _PX


def _physical(name: str) -> str:
    """The column in mm or ml that a column in pixels stands for."""
    base = name.removesuffix(_PX)
    return base + _ML if base + _ML in METRICS else base


def _in_pixels(name: str) -> Metric | None:
    """The row of a column in pixels; volumes of pictures are areas."""
    row = find_metric(_physical(name))
    if row is None or column_in(row.name, "px") != name:
        return None
    return dataclasses.replace(
        row, name=name, unit="px" * bool(row.unit), title=_of_pictures(row.title),
        compared=_of_pictures(row.compared), definition=_of_pictures(row.definition),
    )  # fmt: skip


def _of_pictures(text: str) -> str:
    text = of_pictures(text).replace(" mm", " px")
    return text.replace("Volume", "Area").replace("volume", "area")


def _is_tolerance(text: str) -> bool:
    """Whether :func:`nsd_column` writes a tolerance this way, so that a column has one name."""
    try:
        number = float(text)
    except ValueError:
        return False
    return math.isfinite(number) and number >= 0 and nsd_column(number) == _NSD + text


def nsd_column(tolerance: float) -> str:
    """Name of the NSD column at a tolerance in mm: ``nsd_1`` for 1.0, ``nsd_0.5`` for 0.5."""
    return f"{_NSD}{tolerance:g}"


def names_of(*kinds: Kind) -> tuple[str, ...]:
    """Names of the metrics of these kinds, in the order of the columns."""
    return tuple(row.name for row in known_metrics().values() if row.kind in kinds)


def is_of(name: str, *kinds: Kind) -> bool:
    """Whether a column (also ``nsd_2``) is a metric of one of these kinds."""
    row = find_metric(name)
    return row is not None and row.kind in kinds


def metric_columns(tolerances: Sequence[float] = (1.0,), unit: Length = "mm") -> list[str]:
    """Columns of all metrics in their order, with one NSD column per tolerance in this unit."""
    columns: list[str] = []
    for name in known_metrics():
        columns += map(nsd_column, tolerances) if name == "nsd" else [name]
    return [column_in(name, unit) for name in columns]


def case_columns(tolerances: Sequence[float] = (1.0,), unit: Length = "mm") -> list[str]:
    """Columns of :func:`lunet.metrics.case.evaluate_case` in their order."""
    return ["label", *metric_columns(tolerances, unit), "status"]


def direction(name: str) -> int:
    """1 if a higher value is better, -1 if a lower value (for a signed error: magnitude) is.

    Raises
    ------
    ConfigError
        If the metric is unknown or has no better side (a volume).
    """
    row = find_metric(name)
    if row is None or row.better == "neither":
        expected = f"it has no better side; known: {', '.join(metric_columns())}"
        raise ConfigError(where="metric", found=f"found {name!r}", expected=expected)
    return 1 if row.better == "higher" else -1


def is_signed(name: str) -> bool:
    """Whether the metric is an error around zero, whose magnitude is compared."""
    row = find_metric(name)
    return row is not None and row.signed


def title(name: str) -> str:
    """Name of a metric with its unit: ``HD95 (mm)``, ``NSD at 1 px``; an unknown name as it is."""
    row = find_metric(name)
    return name if row is None else _with_unit(row.title, row)


def compared_title(name: str) -> str:
    """As :func:`title`, for the quantity that is compared: ``Absolute volume error (ml)``."""
    row = find_metric(name)
    return name if row is None else _with_unit(row.compared or row.title, row)


def compared_name(name: str) -> str:
    """As :func:`compared_title`, without the unit, for the start of a sentence."""
    row = find_metric(name)
    return name if row is None else row.compared or row.title


def _with_unit(text: str, row: Metric) -> str:
    return f"{text} ({row.unit})" if row.unit else text


def unit_suffix(name: str) -> str:
    """The unit after a value in a sentence: `` mm``, `` ml``, `` px`` or nothing."""
    row = find_metric(name)
    return f" {row.unit}" if row is not None and row.unit else ""
