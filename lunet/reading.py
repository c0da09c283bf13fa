"""Read JSON and tables safely; every such file is read here (YAML: :mod:`lunet.reading_yaml`).

A file may come from anybody and may be damaged. Its size, depth and numbers are bounded before
anything works with them, and a message of one line names the file, the key or row, what was found
and what is expected. Images and arrays have their own readers (:mod:`lunet.data.io`).
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

from lunet.errors import ConfigError, DataError, LunetError, shown
from lunet.settings import convert

MOST_BYTES = 512 << 20
"""Largest JSON file or table; the manifest of 100,000 cases has about 100 MB."""
DEEPEST = 100
_DIGITS = 40
_LONGEST_HEADER = 1 << 20
_BOMS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_SAVE = "Save it as UTF-8"
_SEPARATOR_LINE = re.compile(r"\Asep=[,;\t]\r?\n", re.IGNORECASE)
_PIECE = 1 << 20
Form = TypeVar("Form")
Fault = type[LunetError]


def read_text(
    path: str | Path,
    *,
    needed: str = "a text file",
    most: int = MOST_BYTES,
    fault: Fault = DataError,
) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises
    ------
    fault
        If the file is missing, is a folder, is larger than ``most`` bytes, or is not UTF-8 text;
        the message names the encoding or the line.
    """
    return _decoded(_content(path, needed, most, fault), path, needed, fault)


def _content(path: str | Path, needed: str, most: int, fault: Fault) -> bytes:
    try:
        with open(path, "rb") as stream:
            content = _up_to(stream, most + 1)
    except FileNotFoundError as error:
        raise fault(
            where=path, found="the file is missing", expected=f"{needed} is needed here"
        ) from error
    except IsADirectoryError as error:
        raise fault(where=path, found="is a folder", expected=f"{needed} is needed here") from error
    except ValueError as error:  # a name that holds a zero byte
        raise fault(where=shown(str(path)), found=f"is not a file name ({error})") from error
    if len(content) > most:
        raise fault(
            where=path, found=f"has more than {most} bytes", expected=f"{needed} is needed here"
        )
    return content


def _up_to(stream: IO[bytes], most: int) -> bytes:
    """Read at most ``most`` bytes; ``read(most)`` would allocate all of them at once."""
    pieces, left = [], most
    while left and (piece := stream.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _decoded(content: bytes, path: object, needed: str, fault: Fault) -> str:
    for mark, name in _BOMS.items():
        if content.startswith(mark):
            raise fault(
                where=path,
                found=f"is {name} text",
                expected=f"{needed} in UTF-8 is needed here",
                action=_SAVE,
            )
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise fault(
            where=path,
            found=f"holds a zero byte in line {line}",
            expected=f"{needed} is needed here",
        )
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02x} in line {line} is not UTF-8"
        expected = f"{needed} in UTF-8 is needed here (this may be Latin-1 or Windows-1252)"
        raise fault(where=path, found=found, expected=expected, action=_SAVE) from error


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises
    ------
    DataError
        If the file is missing or :func:`parse_json` refuses it.
    """
    return parse_json(read_text(path, needed="a JSON file"), path)


def read_object(path: str | Path) -> dict[str, Any]:
    """The content of a JSON file that holds one object.

    Raises
    ------
    DataError
        If the file is missing, is not JSON, or holds something else.
    """
    found: dict[str, Any] = typed(read_json(path), dict[str, Any], path)
    return found


def read_record(path: str | Path, form: type[Form]) -> Form:
    """The content of a JSON file, checked and converted by :func:`lunet.settings.convert`.

    Raises
    ------
    DataError
        If the file is missing or not JSON, or if a key is missing or has another type.
    """
    return typed(read_json(path), form, path)


def typed(value: Any, form: type[Form], where: object) -> Form:
    """A value read from the file ``where``, checked by :func:`lunet.settings.convert`.

    Raises
    ------
    DataError
        If a key is missing or wrong; the message names the file and the key.
    """
    with wrong_in(where):
        found: Form = convert(form, value)
    return found


@contextmanager
def wrong_in(where: object) -> Iterator[None]:
    """Add the file ``where`` to errors about a key that are raised in the block.

    Raises
    ------
    DataError
        Instead of a :class:`lunet.errors.ConfigError` or a :class:`DataError` without the file.
    """
    try:
        yield
    except (ConfigError, DataError) as error:
        place = f"{where}: {error.where}" if error.where else str(where)
        raise DataError(
            where=place, found=error.found, expected=error.expected, action=error.action
        ) from error


def parse_json(text: str, where: object, fault: Fault = DataError) -> Any:
    """The value of a JSON text; ``where`` is named in messages.

    Raises
    ------
    fault
        If it is not JSON, is nested more than 100 levels deep, holds a number that is not finite
        or has more than 40 digits, or gives a key twice with different values.
    """
    try:
        value = json.loads(
            text,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unequivocal,
        )
    except RecursionError as error:
        raise fault(
            where=where, found="is nested too deeply", expected=f"at most {DEEPEST} levels"
        ) from error
    except ValueError as error:
        found = f"is not JSON ({error})" if text.strip() else "is empty"
        raise fault(where=where, found=found, expected="JSON is needed here") from error
    if text.count("[") + text.count("{") > DEEPEST and _is_deep(value):
        raise fault(where=where, found="is nested too deeply", expected=f"at most {DEEPEST} levels")
    return value


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits:.40} is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _unequivocal(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if seen.setdefault(key, value) != value:
                raise ValueError(f"the key {shown(key)} is given twice")
    return found


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        parts = (part.values() if isinstance(part, dict) else part for part in level)
        level = [item for part in parts for item in part if isinstance(item, dict | list)]
    return bool(level)


def read_rows(
    path: str | Path, *, needed: Sequence[str] = (), separators: str = ",", what: str = "a table"
) -> list[dict[str, str]]:
    """Rows of a table (CSV with a header line) as texts; empty lines are skipped.

    Parameters
    ----------
    needed
        Columns that must exist.
    separators
        Characters that may separate the columns; the one that occurs most in the header is used.
    what
        The table, for messages.

    Raises
    ------
    DataError
        If the file is missing or not UTF-8 text, a needed column is missing, a column appears
        twice, or a row has more or fewer cells than the header.
    """
    return rows_of(
        read_text(path, needed=what), path, needed=needed, separators=separators, what=what
    )


def read_spreadsheet(path: str | Path, *, what: str) -> list[dict[str, str]]:
    """Rows of a table as spreadsheets of all countries save it, else as :func:`read_rows`.

    It may be UTF-8, UTF-16 with its mark or Windows-1252, with commas, semicolons or tabs; Excel's
    first line ``sep=;`` is left out.

    Raises
    ------
    DataError
        As of :func:`read_rows`.
    """
    content = _content(path, what, MOST_BYTES, DataError)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:
        encoding = "utf-8" if _is_utf8(content) else "cp1252"
    try:
        recoded = content.decode(encoding).encode()
    except UnicodeDecodeError as error:
        raise DataError(
            where=path, found=f"is no text ({error})", expected=f"{what} is needed here"
        ) from error
    text = _SEPARATOR_LINE.sub("", _decoded(recoded, path, what, DataError))
    return rows_of(text, path, separators=",;\t", what=what)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def rows_of(
    text: str, path: object, *, needed: Sequence[str] = (), separators: str = ",", what: str
) -> list[dict[str, str]]:
    """Like :func:`read_rows`, for a text that was read already."""
    head = text.split("\n", 1)[0]
    separator = max(separators, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        stripped = ([cell.strip() for cell in line] for line in reader)
        lines = [(reader.line_num, line) for line in stripped if any(line)]
    except csv.Error as error:
        raise DataError(
            where=path, found=f"line {reader.line_num}: {error}", expected=f"{what} is needed here"
        ) from error
    if not lines:
        raise DataError(where=path, found="is empty", expected=f"{what} is needed here")
    header = lines[0][1]
    _check_header(header, needed, path, what)
    for number, line in lines[1:]:
        if len(line) != len(header):
            found, expected = f"{len(line)} cells", f"the header has {len(header)}"
            raise DataError(where=f"{path}, line {number}", found=found, expected=expected)
    return [dict(zip(header, line, strict=True)) for _, line in lines[1:]]


def _check_header(header: list[str], needed: Sequence[str], path: object, what: str) -> None:
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(
            where=path, found=f"column {shown(twice[0])} appears twice", expected="each once"
        )
    missing = [name for name in needed if name not in header]
    if missing:
        found = f"no column {', '.join(missing)} (columns: {', '.join(header[:12])})"
        raise DataError(where=path, found=found, expected=f"{what} is needed here")


def header_of(path: str | Path) -> list[str]:
    """Column names of a CSV table, from its first line.

    Raises
    ------
    DataError
        If the line is not UTF-8 text.
    """
    with open(path, "rb") as stream:
        line = stream.readline(_LONGEST_HEADER)
    text = _decoded(line, path, "a table", DataError)
    return [name.strip() for name in next(csv.reader([text.strip()]), [])]


def number_in(row: Mapping[str, str], column: str, where: object) -> float:
    """The finite number in a cell.

    Raises
    ------
    DataError
        If the cell holds anything else.
    """
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        place, found = f"{where}: column {column}", f"found {shown(row[column])}"
        raise DataError(where=place, found=found, expected="a number is expected")
    return value
