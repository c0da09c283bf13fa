"""Which of the data set's labels each label of an external row is; standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lunet.errors import ConfigError, DataError, nearest, shown
from lunet.task import Task

BACKGROUND = "background"
_NUMBER = re.compile(r"-?\d+")


def check_labels(task: Task, names: Mapping[str, int | str], where: str) -> None:
    """Refuse a map whose targets are no labels of the data set, or that reaches not all of them.

    Raises
    ------
    ConfigError
        With ``where`` as the key of the map.
    """
    for name, value in names.items():
        _target(task, value, f"{where}.{name}")
    reached = {_target(task, value, where) for value in names.values()}
    for name, index in task.labels.items():
        if names and index not in reached:
            raise ConfigError(
                where=where,
                found=f"nothing is mapped to {name}",
                expected="each label of the data set needs one of theirs",
                action="Complete the map; a row without a structure cannot be compared",
            )


def theirs_to_ours(
    task: Task, names: Mapping[str, int | str], declared: Task | None, where: str
) -> dict[int, int] | None:
    """Their number -> class index; None if their numbers are the data set's class indices.

    Parameters
    ----------
    task
        The data set's task.
    names
        The map of the configuration; without it, labels of the same names are the same.
    declared
        What the ``dataset.json`` next to the predictions declares.
    where
        Key of the row, for messages.

    Raises
    ------
    DataError
        If a name of the map is not in ``declared``, or if there is no map and the declared names
        are not the data set's.
    """
    if names:
        check_labels(task, names, f"{where}.map")
        return {
            _number(name, declared, f"{where}.map.{name}"): _target(task, value, where)
            for name, value in names.items()
        }
    if declared is None or declared.regions:
        return None
    if set(declared.labels) != set(task.labels):
        raise DataError(
            where=f"{where}.map",
            found=f"missing; their dataset.json has the labels {_text(declared)}",
            expected=f"the data set has {_text(task)}",
            action="Map their labels to the data set's",
        )
    return {index: task.labels[name] for name, index in declared.labels.items()}


def _target(task: Task, value: int | str, where: str) -> int:
    """Class index of a label of the data set, given by name or number."""
    if isinstance(value, str) and value in task.labels:
        return task.labels[value]
    if value in (BACKGROUND, 0, "0"):
        return 0
    text = str(value)
    if _NUMBER.fullmatch(text) and int(text) in task.labels.values():
        return int(text)
    raise ConfigError(
        where=where,
        found=f"found {shown(value)}",
        expected=f"a label of the data set ({_text(task)}) or {BACKGROUND}",
        action=nearest(text, [*task.labels, BACKGROUND]),
    )


def _number(name: str, declared: Task | None, where: str) -> int:
    if _NUMBER.fullmatch(name):
        return int(name)
    if declared is None or declared.regions:
        raise DataError(
            where=where,
            found=f"the number of {name!r} is not known: no dataset.json next to the predictions",
            expected="a number is needed",
            action="Use the numbers in their files",
        )
    if name not in declared.labels:
        raise DataError(
            where=where,
            found="is not a label in their dataset.json",
            expected=f"it has {_text(declared)}",
            action=nearest(name, declared.labels),
        )
    return declared.labels[name]


def _text(task: Task) -> str:
    return ", ".join(f"{name} = {index}" for name, index in task.labels.items())
