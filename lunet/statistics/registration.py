"""What a study stated before its first training, and what has changed since.

``protocol.json`` is written once, before the first training, and never replaced
(:mod:`lunet.study.protocol`). This module compares it with what is reported now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from lunet.files import canonical_json
from lunet.reading import read_record
from lunet.settings import Within

COMPARED = ("metric", "margin", "reference", "pairs", "confidence", "failure")
"""Keys of the settings of statistics that decide what is claimed."""
GRID = ("presets", "folds", "seeds")


class _Statistics(TypedDict):
    pairs: NotRequired[list[list[str]] | Literal["all"]]


class _Stated(TypedDict):
    statistics: _Statistics
    presets: list[str]
    folds: list[int]
    seeds: list[int]


class Protocol(TypedDict):
    """What is read of a ``protocol.json``; other keys are kept unchecked."""

    stated: _Stated
    digest: str
    time: str
    trained: NotRequired[Annotated[int, Within(0)]]
    settings: dict[str, Any]
    settings_digest: str


@dataclass(frozen=True)
class Registration:
    """How the protocol of a study relates to the comparisons that are made now.

    Attributes
    ----------
    time
        When the protocol was written, UTC; empty if the study has none.
    changes
        What differs now, such as ``margin was 0.01``.
    earlier
        Number of trainings that had finished before it was written.
    """

    time: str = ""
    changes: tuple[str, ...] = ()
    earlier: int = 0

    @property
    def is_beforehand(self) -> bool:
        """Whether everything was stated before the first training, and still holds."""
        return bool(self.time) and not self.changes and not self.earlier

    @property
    def when(self) -> str:
        """A phrase about when the settings were stated."""
        if not self.time:
            return "there is no protocol.json, so it is unknown when this was stated"
        if self.changes:
            return f"the protocol of {self.time} states something else"
        if self.earlier:
            trainings = "1 training" if self.earlier == 1 else f"{self.earlier} trainings"
            return f"stated on {self.time}, after {trainings} had finished"
        return f"stated before the runs, on {self.time}"

    @property
    def sentence(self) -> str:
        """Added to every claim; empty if nothing has changed."""
        if not self.changes:
            return ""
        return f"Changed after the runs: {'; '.join(self.changes)}."


def digest(stated: Any) -> str:
    """SHA-256 of plain JSON values."""
    return hashlib.sha256(canonical_json(stated).encode()).hexdigest()


def read_protocol(path: str | Path) -> Protocol:
    """The content of a ``protocol.json``.

    Raises
    ------
    DataError
        If it is damaged or of another form.
    """
    return read_record(path, Protocol)


def registration(
    protocol: Mapping[str, Any] | None,
    statistics: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    *,
    finished: Iterable[str] = (),
    left_out: Collection[str] = (),
) -> Registration:
    """Compare a protocol with what is reported now.

    Parameters
    ----------
    protocol
        Content of ``protocol.json``; None if there is none.
    statistics
        The current settings of statistics, as plain values.
    grid
        ``presets``, ``folds`` and ``seeds`` that are reported now, in any order; a key that is
        missing is not compared.
    finished
        When the reported trainings ended (UTC, ISO 8601).
    left_out
        Rows that these results cannot have (the atlas prior and external rows, on another data
        set); they and the comparisons with them in the protocol are ignored.
    """
    if protocol is None:
        return Registration()
    stated = protocol["stated"]
    was, now = (_without(one, left_out) for one in (stated["statistics"], statistics))
    changes = [
        f"{key} was {_value_text(was.get(key))}"
        for key in COMPARED
        if key in was and canonical_json(was.get(key)) != canonical_json(now.get(key))
    ]
    changes += [
        f"{key} were {_value_text(stated[key])}"
        for key in GRID
        if key in grid and set(map(str, stated[key])) - {*left_out} != set(map(str, grid[key]))
    ]
    if digest(stated) != protocol["digest"]:
        changes.append("protocol.json was edited")
    time = str(protocol["time"])
    earlier = sum(1 for moment in finished if moment < time)
    return Registration(time, tuple(changes), max(earlier, int(protocol.get("trained", 0))))


def _without(statistics: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    """The settings without the comparisons with some rows."""
    kept, pairs = dict(statistics), statistics.get("pairs", ())
    if left_out and pairs != "all":
        kept["pairs"] = [list(pair) for pair in pairs if not {*left_out} & {*pair}]
    if left_out and statistics.get("reference") in left_out:
        kept["reference"] = None
    return kept


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_pair, value)) if value else "none"
    return str(value)


def _pair(value: Any) -> str:
    return " against ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
