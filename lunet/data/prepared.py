"""Prepared volumes on disk: a manifest, and arrays that are checked and memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from lunet.data.ids import require_different, require_id
from lunet.data.intact import require_intact
from lunet.errors import DataError, nearest
from lunet.reading import read_record
from lunet.settings import Millimetres, Size
from lunet.task import Length, Task, TaskForm, task_from_dict

if TYPE_CHECKING:
    import numpy as np

MANIFEST = "manifest.json"
_AGAIN = "Prepare the data set again"


class _About(TypedDict):
    name: NotRequired[str | None]
    source: NotRequired[dict[str, Any] | None]
    unit: NotRequired[Length]
    pixel_mm: NotRequired[tuple[Millimetres, Millimetres] | None]


class AboutForm(TypedDict):
    """The part of a manifest that describes the data as a whole, for reports and releases."""

    dataset: NotRequired[_About]
    digest: NotRequired[str]
    task: NotRequired[dict[str, Any]]
    preprocess: NotRequired[dict[str, Any]]


class _Raw(TypedDict):
    images: list[str]
    label: str | None


class CaseRecord(TypedDict):
    """The entries of a case in a manifest that are read."""

    id: str
    group: str
    labelled: bool
    image: str
    image_sha256: NotRequired[str]
    label: str | None
    label_sha256: NotRequired[str | None]
    shape: list[Size]
    spacing: list[Millimetres]
    foreground: NotRequired[int]
    foreground_lost: NotRequired[int]
    raw: NotRequired[_Raw]
    geometry: NotRequired[dict[str, Any]]


class ManifestForm(TypedDict):
    """The entries of ``manifest.json`` that are read."""

    task: TaskForm
    preprocess: dict[str, Any]
    digest: str
    cases: list[CaseRecord]
    dataset: NotRequired[_About]


@dataclass(frozen=True)
class PreparedCase:
    """One prepared case.

    Attributes
    ----------
    folder
        Folder of the manifest.
    id, group, labelled
        As in :class:`lunet.data.dataset.Case`.
    shape, spacing
        Spatial shape in voxels and voxel size in mm of the prepared volume.
    record
        The case's entry in the manifest, with checksums, affine, raw files and geometry.
    """

    folder: Path
    id: str
    group: str
    labelled: bool
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    record: Mapping[str, Any]

    def image(self) -> np.memmap[Any, np.dtype[np.float32]]:
        """Image (channel, x, y, z) float32, memory-mapped and read-only.

        The map keeps its file open for as long as it lives, so do not open many cases at once.

        Raises
        ------
        DataError
            If the file is missing, or is not what was prepared.
        """
        return self._map("image")

    def label(self) -> np.memmap[Any, np.dtype[np.uint8]]:
        """Class indices (x, y, z) uint8, memory-mapped and read-only.

        Raises
        ------
        DataError
            If the case has no label, or its file is missing or is not what was prepared.
        """
        if not self.labelled:
            raise DataError(
                where=self.folder / MANIFEST,
                found=f"case {self.id} has no label",
                expected="one is needed",
            )
        return self._map("label")

    def _map(self, part: str) -> Any:
        name, digest = self.record[part], self.record.get(f"{part}_sha256")
        if not isinstance(digest, str):
            where, found = self.folder / MANIFEST, f"case {self.id} has no {part}_sha256"
            raise DataError(
                where=where,
                found=found,
                expected="one is needed to check its content",
                action=_AGAIN,
            )
        require_intact(self.folder, name, digest)
        return _map(self.folder / name, self.shape, "float32" if part == "image" else "uint8")

    @property
    def raw_images(self) -> tuple[Path, ...]:
        """The raw image files."""
        return tuple(self.folder / name for name in self._raw["images"])

    @property
    def raw_label(self) -> Path | None:
        """The raw label file, if any."""
        name = self._raw["label"]
        return self.folder / name if name else None

    @property
    def _raw(self) -> Mapping[str, Any]:
        """The section ``raw`` of the record, which an imported manifest may lack."""
        if "raw" not in self.record:
            raise DataError(
                where=self.folder / MANIFEST,
                found=f"case {self.id} names no raw files",
                expected="",
                action=_AGAIN,
            )
        raw: Mapping[str, Any] = self.record["raw"]
        return raw


@dataclass(frozen=True)
class Manifest:
    """What was prepared, with which settings, from which files."""

    path: Path
    content: Mapping[str, Any]

    @cached_property
    def task(self) -> Task:
        """Channels, labels and regions."""
        return task_from_dict(self.content["task"], f"{self.path}: task")

    @property
    def preprocess(self) -> Mapping[str, Any]:
        """The preprocessing settings, as plain values."""
        preprocess: Mapping[str, Any] = self.content["preprocess"]
        return preprocess

    @property
    def unit(self) -> Length:
        """Unit of distances: ``px`` if the images have no physical size."""
        unit: Length = (self.content.get("dataset") or {}).get("unit", "mm")
        return unit

    @property
    def pixel_mm(self) -> tuple[float, float] | None:
        """Size of a pixel in mm, for pictures of a known size."""
        size = (self.content.get("dataset") or {}).get("pixel_mm")
        return None if size is None else (size[0], size[1])

    @property
    def digest(self) -> str:
        """SHA-256 over the checksums of all cases."""
        return str(self.content["digest"])

    @cached_property
    def cases(self) -> dict[str, PreparedCase]:
        """Id -> case, in the order of the data set."""
        return {record["id"]: self._case(record) for record in self.content["cases"]}

    def case(self, name: str) -> PreparedCase:
        """The case with this id.

        Raises
        ------
        DataError
            If there is none.
        """
        if name not in self.cases:
            advice = nearest(name, self.cases) if len(self.cases) < 50 else ""
            raise DataError(
                where=self.path,
                found=f"no case {name!r}",
                expected=advice,
                action=_AGAIN,
            )
        return self.cases[name]

    def _case(self, record: Mapping[str, Any]) -> PreparedCase:
        return PreparedCase(
            folder=self.path.parent,
            id=require_id(record["id"], self.path),
            group=record["group"],
            labelled=record["labelled"],
            shape=tuple(record["shape"]),
            spacing=tuple(record["spacing"]),
            record=record,
        )


def read_manifest(path: str | Path) -> Manifest:
    """Read ``manifest.json`` (or the folder that holds it).

    Raises
    ------
    DataError
        If it is missing or is not a manifest of prepared volumes.
    """
    path = Path(path)
    path = path / MANIFEST if path.is_dir() else path
    content = read_record(path, ManifestForm)
    require_different(((case["id"], case["image"]) for case in content["cases"]), path)
    for case in content["cases"]:
        if case["labelled"] and not case["label"]:
            raise DataError(
                where=path,
                found=f"case {case['id']} has no label file",
                expected="one is needed: it is marked as labelled",
            )
    return Manifest(path, content)


def _map(path: Path, shape: tuple[int, ...], kind: str) -> Any:
    import numpy as np  # a quarter of the start of a step that reads no voxels

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(
            where=path, found="missing", expected="the manifest names it", action=_AGAIN
        ) from error
    except (ValueError, EOFError, OverflowError, SyntaxError, TypeError, TokenError) as error:
        raise DataError(
            where=path, found=f"damaged ({error})", expected="a .npy array", action=_AGAIN
        ) from error
    if array.dtype != kind or array.shape[-len(shape) :] != shape:
        found = f"{array.dtype} of shape {array.shape}"
        expected = f"the manifest says {kind} of {shape}"
        raise DataError(where=path, found=found, expected=expected, action=_AGAIN)
    return array


def cropped_labels(cases: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Cases of a manifest whose crop cut voxels off the label -> share cut off, worst first."""
    shares = {}
    for case in cases:
        lost = case.get("foreground_lost", 0)
        if lost > 0:
            shares[case["id"]] = lost / (lost + case.get("foreground", 0))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def crop_line(cases: Sequence[Mapping[str, Any]], size: Sequence[int]) -> str:
    """What the crop to ``size`` cuts off labels, in words; empty if nothing."""
    lost = cropped_labels(cases)
    if not lost:
        return ""
    some = [f"{name} {percent(share)}" for name, share in lost.items()][:5]
    return (
        f"the crop to {'x'.join(map(str, size))} voxels cuts label voxels off {len(lost)} of"
        f" {len(cases)} cases: {', '.join(some)}{', ...' if len(lost) > 5 else ''}"
    )


def percent(share: float) -> str:
    """A share above 0, in whole percent."""
    return f"{100 * share:.0f} %" if share >= 0.01 else "below 1 %"
