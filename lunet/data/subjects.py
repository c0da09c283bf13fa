"""Which cases are of one subject: a table beside the data, or what the names of files suggest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lunet.errors import DataError
from lunet.reading import read_spreadsheet

SUBJECTS = "subjects.csv"
"""Table of a data set: columns ``case`` and ``subject``, and any others, such as ``age``, ``sex``,
``site`` or ``scanner``, which are kept with the data."""
_CASES, _SUBJECTS = ("case", "id"), ("subject", "group", "patient", "participant_id")
_PATTERNS = (
    r"^(sub-[A-Za-z0-9]+)",
    r"^(.+?)[_-](?:ses|visit|scan|run|tp|time)-?\d+$",
    r"^(.+?)[_-](?:0*[0-9]|[A-Da-d]|[LR]|left|right|pre|post)$",
)


def listed_subjects(root: Path) -> dict[str, str]:
    """Case -> subject of the table in a data set's folder; empty if there is none.

    Raises
    ------
    DataError
        If the table has no such columns, or names a case twice.
    """
    path = root / SUBJECTS
    if not path.is_file():
        return {}
    rows = read_spreadsheet(path, what="a table of subjects")
    columns = {name.lower(): name for name in (rows[0] if rows else {})}
    case = next((columns[name] for name in _CASES if name in columns), None)
    subject = next((columns[name] for name in _SUBJECTS if name in columns), None)
    if case is None or subject is None:
        raise DataError(
            where=path,
            found=f"columns {', '.join(columns.values()) or 'none'}",
            expected="columns `case` and `subject` are needed",
        )
    found: dict[str, str] = {}
    for row in rows:
        if row[case] in found or not row[subject]:
            problem = "is named twice" if row[case] in found else "has no subject"
            raise DataError(
                where=path, found=f"case {row[case]} {problem}", expected="one row, one subject"
            )
        found[row[case]] = row[subject]
    return found


def subject_in(listed: Mapping[str, str], case: str, root: Path) -> str:
    """The subject of a case in a table that is not empty.

    Raises
    ------
    DataError
        If the table does not name the case.
    """
    if case not in listed:
        raise DataError(
            where=root / SUBJECTS,
            found=f"no row for case {case}",
            expected="each case has a subject",
            action="Add it, or remove the table if each case is its own subject",
        )
    return listed[case]


def suggested_pattern(names: Sequence[str]) -> tuple[str, int] | None:
    """A value for ``groups`` that unites cases by their names, and its number of subjects.

    None where no known form of names (BIDS ``sub-``, visits, numbered pairs, sides) fits all.
    """
    for pattern in _PATTERNS:
        found = [re.search(pattern, name) for name in names]
        subjects = {match.group(1) for match in found if match}
        # a single prefix is the name of the data set
        if all(found) and 1 < len(subjects) < len(names):
            return pattern, len(subjects)
    return None


def subject_lines(cases: Iterable[tuple[str, str]]) -> Iterator[str]:
    """How many subjects the cases (id, group) have, and what their names suggest."""
    pairs = list(cases)
    subjects = len({group for _, group in pairs})
    line = f"{len(pairs)} cases of {subjects} subjects"
    if subjects < len(pairs):
        yield line
        return
    suggestion = suggested_pattern([name for name, _ in pairs])
    if suggestion is None:
        yield f"{line}: each file its own (--groups, or a {SUBJECTS})"
    else:
        pattern, count = suggestion
        yield f"{line}: each file its own"
        yield (
            f"warning: the names look like {count} subjects; if they are, add "
            f"--groups '{pattern}', else cases of one subject are in training and test"
        )
