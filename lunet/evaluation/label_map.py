"""Checks whether a map of labels fits both tasks; standard library only, for the configuration."""

from __future__ import annotations

from collections.abc import Mapping

from lunet.errors import ConfigError, nearest
from lunet.task import Task

BACKGROUND = "background"


def check_map(trained: Task, tested: Task, names: Mapping[str, str], where: str = "map") -> None:
    """Refuse a map that does not fit the labels of both tasks.

    Raises
    ------
    ConfigError
        If a label of the network is not mapped, a name is unknown in its task, or everything is
        mapped to background; ``where`` is the key for the message.
    """
    for name in names:
        if name not in trained.labels:
            found = "is not a label of the trained networks"
            raise ConfigError(
                where=f"{where}.{name}", found=found, expected=nearest(name, trained.labels)
            )
    for name in trained.labels:
        if name not in names:
            expected = f"a label of the other data set ({', '.join(tested.labels)})"
            raise ConfigError(
                where=f"{where}.{name}", found="missing", expected=f"{expected} or {BACKGROUND}"
            )
        if names[name] not in (*tested.labels, BACKGROUND):
            known = [*tested.labels, BACKGROUND]
            raise ConfigError(
                where=f"{where}.{name}",
                found=f"{names[name]!r}",
                expected=nearest(names[name], known),
            )
    if not any(names[name] != BACKGROUND for name in trained.labels):
        raise ConfigError(
            where=where, found="everything is background", expected="nothing would be tested"
        )
