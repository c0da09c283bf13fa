"""The folder of predictions of a study's run: a mask per case, and a list of them written last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from lunet.data.folds import Fold, read_splits
from lunet.data.geometry import Geometry, geometry_from_dict
from lunet.data.io.write import write_nifti
from lunet.data.prepared import MANIFEST, Manifest, PreparedCase
from lunet.errors import ConfigError, DataError
from lunet.files import write_json
from lunet.own_files import claim
from lunet.reading import read_record, wrong_in


class _Entry(TypedDict):
    file: str


class _List(TypedDict):
    """What is read of the list of predictions."""

    cases: list[_Entry]


LIST = "predictions.json"
SUFFIX = ".nii.gz"
Segmenter = Callable[[PreparedCase], NDArray[np.uint8]]


def read_fold(path: str | Path, fold: int) -> Fold:
    """Fold ``fold`` of a split file.

    Raises
    ------
    ConfigError
        If there is no such fold.
    """
    folds = read_splits(path).folds
    if not 0 <= fold < len(folds):
        raise ConfigError("--fold", str(fold), f"{path} has the folds 0 to {len(folds) - 1}")
    return folds[fold]


def subset_cases(path: str | Path, fold: int, subset: str) -> tuple[str, ...]:
    """Case ids of ``train``, ``validation``, ``test`` or ``held_out``."""
    if subset == "held_out":
        return read_splits(path).held_out
    return tuple(getattr(read_fold(path, fold), subset))


def geometry_of(case: PreparedCase) -> Geometry:
    """Where the prepared volume of a case lies in its raw one."""
    where = f"{case.folder / MANIFEST}: case {case.id}"
    with wrong_in(where):
        return geometry_from_dict(case.record.get("geometry") or {})


def write_predictions(
    manifest: Manifest,
    names: Sequence[str],
    segmenter: Segmenter,
    out: str | Path,
    *,
    log: Callable[[str], None] = print,
) -> None:
    """Segment the named cases into ``out/<case>.nii.gz`` (uint8, native grid), then list them.

    Nothing else in the folder is touched.

    Raises
    ------
    ConfigError
        If a mask would replace a file that no earlier run wrote, or the folder holds an earlier
        run's masks of other cases (of another fold, for instance).
    DataError
        If no case is named or the data set does not have it.
    """
    if not names:
        raise DataError(manifest.path, "this subset has no cases", "at least one is needed")
    folder = Path(out)
    masks = [f"{name}{SUFFIX}" for name in names]
    others = claim(folder, masks, former=_listed(folder / LIST))
    if others:
        found = f"{folder} holds masks of other cases by an earlier run ({others[0]}, ...)"
        raise ConfigError("--out", found, "a folder for these cases alone", "Name another folder")
    (folder / LIST).unlink(missing_ok=True)
    entries: list[dict[str, Any]] = []
    for number, name in enumerate(names, start=1):
        case = manifest.case(name)
        mask = segmenter(case)
        write_nifti(folder / f"{name}{SUFFIX}", mask, geometry_of(case).native_affine)
        entries.append({"case": name, "file": f"{name}{SUFFIX}"})
        log(f"segmented {name} ({number}/{len(names)})")
    write_json(folder / LIST, {"cases": entries, "task": manifest.task.as_dict()})


def _listed(path: Path) -> list[str]:
    """Masks that the list of an earlier run names; runs older than the marker have only this."""
    return [entry["file"] for entry in read_record(path, _List)["cases"]] if path.is_file() else []
