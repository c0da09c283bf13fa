"""The results of an audit: findings, and the facts of a case that the cohort checks compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
COLUMNS = ("severity", "check", "case", "file", "field", "found", "expected", "command")
REPAIR = "lunet repair RAW --out FIXED"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes
    ----------
    severity
        ``error`` stops a study, ``warning`` should be looked at, ``info`` is normal for some data
        sets.
    check
        Name of the check, the same in every run.
    case, file
        Where: case id (empty for the whole data set) and file.
    field
        Field of the header, of the listing or of the values.
    found, expected
        What is there, and what is allowed.
    command
        What fixes it: a command, or the key to change.
    """

    severity: Severity
    check: str
    case: str = ""
    file: str = ""
    field: str = ""
    found: str = ""
    expected: str = ""
    command: str = ""

    def as_row(self) -> dict[str, str]:
        """A row of ``findings.csv``."""
        return {name: str(getattr(self, name)) for name in COLUMNS}

    def line(self) -> str:
        """One line for a terminal."""
        place = " ".join(part for part in (self.case, self.file, self.field) if part)
        advice = f" [{self.command}]" if self.command else ""
        return f"{self.severity}: {self.check}: {place}: {self.found}; {self.expected}{advice}"


@dataclass(frozen=True)
class FindingSite:
    """Where something is found: case id and file; empty for the whole data set."""

    case: str = ""
    file: str = ""

    def finding(
        self,
        severity: Severity,
        check: str,
        field: str,
        found: str,
        expected: str,
        command: str = "",
    ) -> Finding:
        """A finding at this site."""
        return Finding(severity, check, self.case, self.file, field, found, expected, command)

    def error(
        self, check: str, field: str, found: str, expected: str, command: str = ""
    ) -> Finding:
        """A finding that stops a study."""
        return self.finding("error", check, field, found, expected, command)

    def warning(
        self, check: str, field: str, found: str, expected: str, command: str = ""
    ) -> Finding:
        """A finding that should be looked at."""
        return self.finding("warning", check, field, found, expected, command)

    def info(self, check: str, field: str, found: str, expected: str, command: str = "") -> Finding:
        """A finding that is normal for some data sets."""
        return self.finding("info", check, field, found, expected, command)


@dataclass(frozen=True)
class ChannelFacts:
    """Intensities of one channel of one case.

    ``low`` and ``high`` are the percentiles 0.5 and 99.5, ``histogram`` counts the bins between;
    ``saturated`` is the share of voxels that have the largest value.
    """

    dtype: str
    minimum: float
    maximum: float
    low: float
    high: float
    mean: float
    deviation: float
    saturated: float
    histogram: tuple[int, ...]


@dataclass(frozen=True)
class LabelFacts:
    """One label of one case.

    Attributes
    ----------
    volumes
        Class index -> ml.
    centroids
        Class index -> centre of mass as a share of the volume's extent, RAS+ axes.
    touches
        Class index -> number of faces of the volume that it touches.
    place
        Share of foreground in the cells of a coarse grid over the volume, RAS+ axes, flattened.
    digest
        Checksum of the class indices.
    """

    volumes: Mapping[int, float]
    centroids: Mapping[int, tuple[float, ...]]
    touches: Mapping[int, int]
    place: NDArray[np.float32]
    digest: str


@dataclass(frozen=True)
class CaseFacts:
    """What is known of a readable case."""

    id: str
    group: str
    files: tuple[str, ...]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    axes: str
    channels: tuple[ChannelFacts, ...]
    digest: str
    pattern: NDArray[np.float32]
    label_file: str = ""
    label: LabelFacts | None = None
    thumbnail: NDArray[np.uint8] | None = field(default=None, repr=False)


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """Severity -> number of findings."""
    return {name: sum(f.severity == name for f in findings) for name in SEVERITIES}


def numbers(values: Sequence[float] | NDArray[Any], limit: int = 8) -> str:
    """Values as a short text: ``0, 1, 2, ... (12 values)``."""
    shown = ", ".join(f"{float(value):.6g}" for value in values[:limit])
    return shown if len(values) <= limit else f"{shown}, ... ({len(values)} values)"


def times(shape: Sequence[float] | NDArray[Any]) -> str:
    """A shape or spacing as text: ``35 x 51 x 35``."""
    return " x ".join(f"{value:.6g}" for value in shape)


# Largest share of the cases that still counts as exceptions.
RARE = 0.1
# Robust deviations (in units of 1.4826 x median absolute deviation) that make an outlier.
FAR = 6.0
# Fewest cases in which outliers can be recognised.
FEW = 5


def is_rare(count: int, total: int) -> bool:
    """Whether ``count`` cases are few enough to be exceptions among ``total``."""
    return 2 * count < total and count <= max(1, RARE * total)


def outliers(values: Sequence[float] | NDArray[Any], floor: float) -> NDArray[np.bool_]:
    """Which values are far from the median: FAR robust deviations, each at least ``floor``."""
    array = np.asarray(values, dtype=float)
    distance = np.abs(array - np.median(array))
    deviation = max(1.4826 * float(np.median(distance)), floor)
    return np.asarray(distance > FAR * deviation)
