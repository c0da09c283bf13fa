"""Pairs predictions with references; a missing prediction counts as missed and is never skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.io.images import (
    LabelRule,
    PixelSize,
    is_hidden,
    read_label,
    require_grid,
    stem_of,
    suffix_of,
)
from lunet.errors import DataError
from lunet.inference.output import SUFFIX, subset_cases

Label = tuple[NDArray[np.uint8], NDArray[np.float64]]
RUN_COLUMNS = ("preset", "fold", "seed", "case", "group")


@dataclass(frozen=True)
class EvaluatedRun:
    """The run that the predictions come from; its values are the first cells of each row."""

    preset: str
    fold: int
    seed: int

    def head(self, case: str, group: str) -> dict[str, Any]:
        """The first cells of a row, ``RUN_COLUMNS``."""
        return {**vars(self), "case": case, "group": group}


def expected_cases(
    cases: Mapping[str, Any], splits: str | Path | None, fold: int, subset: str
) -> list[str]:
    """Cases of a fold's subset; without a split file, all labelled cases."""
    if splits is None:
        return [name for name, case in cases.items() if case.labelled]
    return list(subset_cases(splits, fold, subset))


def predictions_in(
    folder: str | Path,
    expected: Iterable[str],
    *,
    known: Iterable[str],
    log: Callable[[str], None],
) -> dict[str, Path]:
    """Case -> its mask in a run's folder.

    Masks of other cases of the data set (``known``) belong to another fold: they are counted and
    left out.

    Raises
    ------
    DataError
        If no expected case has a mask, or one belongs to no case of the data set.
    """
    names = set(expected)
    files = (path for path in Path(folder).glob("*.*") if suffix_of(path) and not is_hidden(path))
    found = {stem_of(path): path for path in files}
    if not found:
        raise DataError(
            where=folder,
            found="no predictions at all",
            expected=f"<case>{SUFFIX}, or for pictures <case>.png, are expected",
            action="Predict again",
        )
    refuse_extra(folder, sorted(set(found) - names - set(known)))
    others = sorted(set(found) - names)
    if not names & set(found):
        raise DataError(
            where=folder,
            found=f"none of the {len(names)} expected cases, but {some(others)}",
            expected=f"masks such as {min(names, default='<case>')}{SUFFIX}",
            action="Check --fold and --subset",
        )
    if others:
        log(f"{len(others)} mask(s) of cases of other folds are left out: {some(others)}")
    return {name: path for name, path in found.items() if name in names}


def refuse_extra(
    folder: str | Path,
    extra: Sequence[str],
    *,
    action: str = "Remove them, or check the folders",
) -> None:
    """Raise :class:`DataError` if there is a prediction without a reference."""
    if extra:
        raise DataError(
            where=folder,
            found=f"{len(extra)} prediction(s) without a reference: {some(extra)}",
            expected="each prediction must belong to an expected case",
            action=action,
        )


def some(names: Sequence[str]) -> str:
    """The first five names."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def read_predicted(
    path: Path | None,
    reference: Label,
    origin: str,
    rule: LabelRule,
    log: Callable[[str], None],
    *,
    pixel_mm: PixelSize | None = None,
) -> NDArray[np.uint8]:
    """The predicted indices on the reference's grid; all background if the file is missing."""
    truth, affine = reference
    if path is None:
        log(f"{origin}: no prediction, counted as missed")
        return np.zeros_like(truth)
    array, other = read_label(path, rule, pixel_mm=pixel_mm)
    if array.ndim == truth.ndim + 1 and array.shape[-1] == 1:
        array = array[..., 0]  # the mask of a picture, as NIfTI
    require_grid(path, array.shape, other, origin, truth.shape, affine)
    return array
