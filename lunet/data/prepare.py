"""Prepares every case of a data set and writes the arrays first, the manifest last.

Two runs at the same time are safe: files are replaced atomically, and their content depends only
on the raw data and the settings.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.dataset import Case, Dataset
from lunet.data.geometry import Geometry
from lunet.data.ground_truth import label_digest, read_case_label
from lunet.data.intact import CHECKED, note_intact
from lunet.data.io.images import Scan, read_image, require_grid
from lunet.data.left_out import count_lines, counts_of
from lunet.data.prepared import MANIFEST, Manifest, crop_line
from lunet.data.preprocess import prepare_image, prepare_label
from lunet.data.settings import PreprocessSettings
from lunet.errors import DataError
from lunet.files import atomic, sha256, write_text
from lunet.own_files import claim, discard
from lunet.reading import read_object
from lunet.settings import plain

STEP = "preprocess"


def prepare_dataset(
    dataset: Dataset,
    settings: PreprocessSettings,
    out: str | Path,
    *,
    log: Callable[[str], None] = print,
) -> Manifest:
    """Prepare all cases into ``out`` and write ``out/manifest.json`` last.

    Memory: one case at a time, about four times its float32 size.

    Raises
    ------
    DataError
        If a file is missing or unusable, or if the crop cuts voxels off labels and
        ``settings.crop_labels`` is not set; the message names them. No manifest is written then.
    ConfigError
        If ``out`` holds files that no step of this package wrote.
    """
    out = Path(out)
    if not dataset.cases:
        raise DataError(where=dataset.root, found="no cases", expected="at least one is needed")
    names = [MANIFEST, *(_array("images", case) for case in dataset.cases)]
    names += [_array("labels", case) for case in dataset.cases if case.labelled]
    for line in count_lines(dataset, most=20):
        log(line)
    with claim(out, names, step=STEP, inputs=[dataset.root], alone=True) as old:
        (out / CHECKED).unlink(missing_ok=True)
        records = []
        for number, case in enumerate(dataset.cases, start=1):
            records.append(_prepare_case(case, dataset, settings, out))
            log(f"prepared {case.id} ({number}/{len(dataset.cases)})")
        _check_crop(records, settings, log)
        content = _manifest(dataset, settings, records)
        write_text(out / MANIFEST, _text(content))
        discard(out, old, step=STEP)
    return Manifest(out / MANIFEST, content)


def _array(folder: str, case: Case) -> str:
    """An array of a case, relative to the manifest's folder."""
    return f"{folder}/{case.id}.npy"


def _prepare_case(
    case: Case, dataset: Dataset, settings: PreprocessSettings, out: Path
) -> dict[str, Any]:
    channels, pixel_mm = len(dataset.task.channels), dataset.pixel_mm
    scan = read_image(case.images, channels=channels, pixel_mm=pixel_mm)
    image, geometry = prepare_image(scan, settings, name=str(case.images[0]))
    flat = dataset.task.dimensions == 2
    record: dict[str, Any] = {
        "id": case.id,
        "group": case.group,
        "labelled": case.labelled,
        "image": _array("images", case),
        "image_sha256": _save(out, _array("images", case), image, by_slice=flat),
        "label": None,
        "label_sha256": None,
        "shape": list(geometry.shape),
        "spacing": list(geometry.spacing),
        "affine": geometry.affine.tolist(),
        "geometry": geometry.as_dict(),
        "raw": {
            "images": [_relative(path, out) for path in case.images],
            "label": _relative(case.label, out) if case.label else None,
            "label_sha256": None,
        },
    }
    if case.label is not None:
        label, raw = _prepare_label(case, case.label, scan, geometry, dataset, out)
        record |= label
        record["raw"]["label_sha256"] = raw
    return record


def _prepare_label(
    case: Case, path: Path, scan: Scan, geometry: Geometry, dataset: Dataset, out: Path
) -> tuple[dict[str, Any], str]:
    """Save the prepared label; return its entries in the manifest and the raw label's digest."""
    array, affine = read_case_label(path, dataset.task, dataset.rule, pixel_mm=dataset.pixel_mm)
    require_grid(path, array.shape, affine, case.images[0], scan.array.shape[1:], scan.affine)
    prepared, lost = prepare_label(array, geometry)
    flat = dataset.task.dimensions == 2
    indices, counts = np.unique(prepared[prepared > 0], return_counts=True)
    facts = {
        "label": _array("labels", case),
        "label_sha256": _save(out, _array("labels", case), prepared, by_slice=flat),
        "foreground": int(np.count_nonzero(prepared)),
        "foreground_lost": lost,
        "voxels": {str(i): int(n) for i, n in zip(indices, counts, strict=True)},
    }
    return facts, label_digest(array, affine)


def _manifest(
    dataset: Dataset, settings: PreprocessSettings, records: list[dict[str, Any]]
) -> dict[str, Any]:
    sums = "".join(
        f"{r['id']} {r['group']} {r['image_sha256']} {r['label_sha256']}"
        f" {r['raw']['label_sha256']}\n"
        for r in records
    )
    source = dataset.root / "source.json"
    return {
        "task": dataset.task.as_dict(),
        "preprocess": plain(settings),
        "dataset": {
            "name": dataset.name,
            "counts": counts_of(dataset),
            "unit": dataset.unit,
            "pixel_mm": list(dataset.pixel_mm) if dataset.pixel_mm else None,
            "source": read_object(source) if source.exists() else None,
        },
        "labels": {
            "remap": {str(old): new for old, new in dataset.rule.remap.items()},
            "threshold": dataset.rule.threshold,
            "codes": sorted(dataset.rule.codes) if dataset.rule.codes else None,
        },
        "digest": hashlib.sha256(sums.encode()).hexdigest(),
        "cases": records,
    }


def _text(content: dict[str, Any]) -> str:
    """JSON with one line per case: the file stays small enough to be checksummed often."""
    rest = json.dumps(content | {"cases": []}, indent=2, sort_keys=True, allow_nan=False)
    lines = ",\n".join(
        json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
        for record in content["cases"]
    )
    return rest.replace('"cases": []', f'"cases": [\n{lines}\n]', 1) + "\n"


def _save(out: Path, name: str, array: NDArray[Any], *, by_slice: bool) -> str:
    """Write an array; ``by_slice`` stores each slice (last axis) contiguously.

    A slice of a volume in C order touches every page of the file, so a 2D training that reads it
    through a memory map would read whole volumes.
    """
    with atomic(out / name) as part:
        write_array(part, np.asfortranarray(array) if by_slice else np.ascontiguousarray(array))
        digest = sha256(part)
    note_intact(out, name, digest)
    return digest


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a contiguous array as ``np.save`` does, but with an error that gives the reason.

    Raises
    ------
    OSError
        With ``errno`` set, which NumPy's own error lacks on a full disk.
    """
    with open(path, "wb") as stream:
        head = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(stream, head)
        stream.write(array.ravel(order="K").view(np.uint8).data)


def _relative(path: Path, folder: Path) -> str:
    """Path from the manifest's folder, so that a whole work folder can be moved."""
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()


def _check_crop(
    records: Sequence[Mapping[str, Any]], settings: PreprocessSettings, log: Callable[[str], None]
) -> None:
    found = crop_line(records, settings.size or ())
    if found and not settings.crop_labels:
        raise DataError(
            where="preprocess.size",
            found=found,
            expected="labels must stay whole",
            action="Leave preprocess.size out (networks take any size; train.patch bounds memory),"
            " enlarge it, or accept the loss with preprocess.crop_labels: true",
        )
    if found:
        log(f"warning: {found}")
