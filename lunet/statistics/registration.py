"""What a study stated before its first training, and what of it has changed since.

``protocol.json`` is written once, before the first training, and never replaced
(:mod:`lunet.study.protocol`). Here it is read beside the results that are compared now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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
    """What the protocol of a study says of the comparisons that are made now.

    Attributes
    ----------
    time
        When it was written, UTC; empty where the study has no protocol.
    changes
        What differs now, each as ``margin: was 0.01``.
    earlier
        Trainings that had finished before it was written.
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
        """A phrase that says when the protocol was stated."""
        if not self.time:
            return "no protocol.json says when it was stated"
        if self.changes:
            return f"the protocol of {self.time} stated otherwise"
        if self.earlier:
            trainings = "1 training" if self.earlier == 1 else f"{self.earlier} trainings"
            return f"stated on {self.time}, after {trainings} had finished"
        return f"stated before the runs, on {self.time}"

    @property
    def sentence(self) -> str:
        """What stands beside every claim: empty where nothing has changed since."""
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
    left_out: str = "",
) -> Registration:
    """Compare a protocol with what is reported now.

    Parameters
    ----------
    protocol
        Content of ``protocol.json``; None where there is none.
    statistics
        The settings of statistics that hold now, as plain values.
    grid
        ``presets``, ``folds`` and ``seeds`` that are reported now, in any order; a key that is
        missing is not compared.
    finished
        When the reported trainings ended (UTC, ISO 8601).
    left_out
        A preset that these results cannot have (the atlas prior, on another data set): what the
        protocol asks of it is not missed.
    """
    if protocol is None:
        return Registration()
    stated = protocol["stated"]
    was, now = (_asked(one, left_out) for one in (stated["statistics"], statistics))
    changes = [
        f"{key} was {_told(was.get(key))}"
        for key in COMPARED
        if key in was and canonical_json(was.get(key)) != canonical_json(now.get(key))
    ]
    changes += [
        f"{key} were {_told(stated[key])}"
        for key in GRID
        if key in grid and set(map(str, stated[key])) != set(map(str, grid[key]))
    ]
    if digest(stated) != protocol["digest"]:
        changes.append("protocol.json was edited by hand")
    time = str(protocol["time"])
    earlier = sum(1 for moment in finished if moment < time)
    return Registration(time, tuple(changes), max(earlier, int(protocol.get("trained", 0))))


def _asked(statistics: Mapping[str, Any], left_out: str) -> dict[str, Any]:
    """The settings without the comparisons with one preset."""
    kept, pairs = dict(statistics), statistics.get("pairs", ())
    if left_out and pairs != "all":
        kept["pairs"] = [list(pair) for pair in pairs if left_out not in pair]
    if left_out and statistics.get("reference") == left_out:
        kept["reference"] = None
    return kept


def _told(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_pair, value)) if value else "none"
    return str(value)


def _pair(value: Any) -> str:
    return " against ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
