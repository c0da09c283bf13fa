"""Read tables of results as data frames, with a known type for each column."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lunet.errors import DataError, shown
from lunet.reading import read_text, rows_of

WHOLE = ("fold", "seed", "epoch", "iteration")
SHARES = ("dice", "iou", "precision", "recall")


def read_frame(
    path: str | Path, *, needed: Sequence[str], texts: Collection[str] = (), what: str
) -> pd.DataFrame:
    """A CSV table whose columns are numbers, except ``texts``; empty cells are missing values.

    Parameters
    ----------
    needed
        Columns that must exist.
    texts
        Columns that stay texts.
    what
        The table, for messages.

    Raises
    ------
    DataError
        If the file is not such a table, or a cell has the wrong kind of number: fold, seed, epoch
        and iteration are whole and not negative, overlap metrics lie between 0 and 1.
    """
    text = read_text(path, needed=what)
    rows_of(text, path, needed=needed, what=what)  # checks that no row is short; pandas would pad
    kinds = dict.fromkeys(texts, "str")
    try:
        frame = pd.read_csv(io.StringIO(text), dtype=kinds, keep_default_na=False, na_values=[""])
    except (ValueError, OverflowError) as error:
        raise DataError(
            where=path, found=f"is not a table ({error})", expected=f"{what} is needed here"
        ) from error
    for name in frame.columns:
        if name not in texts and len(frame):
            _check_numbers(frame, str(name), path)
    return frame


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        return np.nan


def _check_numbers(frame: pd.DataFrame, name: str, path: str | Path) -> None:
    numbers = frame[name].map(_number).to_numpy(np.float64)
    given = frame[name].notna().to_numpy()
    is_bool = frame[name].dtype == bool
    wrong, expected = np.isnan(numbers) & given, "a number is expected"
    if name in WHOLE:
        whole = given & (numbers >= 0) & (numbers < 2**53) & (numbers == np.floor(numbers))
        wrong, expected = ~whole, "a whole number is expected"
    elif name in SHARES or name.startswith(("dice_", "nsd_")):
        wrong = wrong | (given & ~((numbers >= -1e-9) & (numbers <= 1 + 1e-9)))
        expected = "a number from 0 to 1 is expected"
    if not is_bool and wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        value = frame[name].iloc[row]
        plain = value.item() if isinstance(value, np.generic) else value
        found = "an empty cell" if pd.isna(value) else shown(plain)
        raise DataError(
            where=f"{path}: row {row + 2}, column {name}", found=f"found {found}", expected=expected
        )


def read_texts(path: str | Path, *, what: str) -> pd.DataFrame:
    """A CSV table whose cells are all texts; an empty cell is an empty text.

    Raises
    ------
    DataError
        If the file is not a table.
    """
    text = read_text(path, needed=what)
    rows_of(text, path, what=what)
    return pd.read_csv(io.StringIO(text), dtype="str", keep_default_na=False)
