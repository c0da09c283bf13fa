"""The folder of predictions of a study's run: a mask per case, and a list of them written last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lunet.data.folds import Fold, read_splits
from lunet.data.geometry import Geometry, geometry_from_dict
from lunet.data.io.images import is_picture, stem_of, suffix_of
from lunet.data.io.masks import mask_suffix
from lunet.data.io.write import write_nifti, write_picture
from lunet.data.prepared import MANIFEST, Manifest, PreparedCase
from lunet.errors import ConfigError, DataError
from lunet.files import write_json
from lunet.own_files import claim, note
from lunet.reading import wrong_in


class _Entry(TypedDict):
    file: str


class _List(TypedDict):
    """The entries of the list of predictions that are read."""

    cases: list[_Entry]


LIST = "predictions.json"
STEP = "predict"
"""The step that the masks belong to (:mod:`lunet.own_files`)."""
SUFFIX = ".nii.gz"
"""Suffix of the mask of a volume; a picture's mask is a picture (:func:`suffix_for`)."""
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
        raise ConfigError(
            where="--fold", found=str(fold), expected=f"{path} has the folds 0 to {len(folds) - 1}"
        )
    return folds[fold]


def subset_cases(path: str | Path, fold: int, subset: str) -> tuple[str, ...]:
    """Case ids of ``train``, ``validation``, ``test`` or ``held_out``."""
    if subset == "held_out":
        return read_splits(path).held_out
    return tuple(getattr(read_fold(path, fold), subset))


def suffix_for(image: str | Path) -> str:
    """Suffix of a study's mask of an image: NIfTI for volumes, a lossless picture for pictures."""
    return mask_suffix(image) if is_picture(image) else SUFFIX


def write_native(path: Path, mask: NDArray[np.uint8], affine: ArrayLike) -> None:
    """Write a study's mask on the grid of its image."""
    if is_picture(path):
        write_picture(path, mask)
    else:
        write_nifti(path, mask, affine)


def geometry_of(case: PreparedCase) -> Geometry:
    """The transformation of a case's raw volume into its prepared one."""
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

    A picture's mask is a picture of the same size and format (PNG for a JPEG, which is lossy).
    Nothing else in the folder is touched: masks of other cases from earlier runs (of another fold,
    for instance) stay, both in the folder and in the list.

    Raises
    ------
    ConfigError
        If a mask would replace a file that no earlier run wrote.
    DataError
        If no case is named, or the data set does not have one of them.
    """
    if not names:
        raise DataError(
            where=manifest.path, found="this subset has no cases", expected="at least one is needed"
        )
    folder = Path(out)
    masks = {f"{name}{_suffix(manifest.case(name))}": name for name in names}
    with claim(folder, [*masks, LIST], step=STEP) as others:
        (folder / LIST).unlink(missing_ok=True)
        for mask in masks:  # if this ends early, none of other weights is left beside the new ones
            (folder / mask).unlink(missing_ok=True)
        for number, (mask, name) in enumerate(masks.items(), start=1):
            case = manifest.case(name)
            write_native(folder / mask, segmenter(case), geometry_of(case).native_affine)
            note(folder, [mask], step=STEP)
            log(f"segmented {name} ({number}/{len(names)})")
        old = {file: stem_of(file) for file in others if _is_mask(file)}
        listed = [{"case": case, "file": file} for file, case in sorted((masks | old).items())]
        write_json(folder / LIST, {"cases": listed, "task": manifest.task.as_dict()})


def _suffix(case: PreparedCase) -> str:
    """Suffix of a case's mask; a manifest of imported volumes may not name the raw files."""
    return suffix_for(case.raw_images[0]) if case.record.get("raw") else SUFFIX


def _is_mask(file: str) -> bool:
    return bool(suffix_of(file)) and "/" not in file
