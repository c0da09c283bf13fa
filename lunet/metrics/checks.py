"""Checks the names of metrics in a configuration."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lunet.errors import ConfigError, nearest
from lunet.metrics.catalog import (
    column_in,
    find_metric,
    is_of,
    known_metrics,
    metric_columns,
    nsd_column,
)


def check_metric(
    name: str, where: str, *, tolerances: Sequence[float] | None = None, comparable: bool = False
) -> None:
    """Refuse a metric that does not exist.

    Parameters
    ----------
    name
        Column of the per-case table.
    where
        Configuration key, for the message.
    tolerances
        Tolerances of NSD in mm that are measured; None accepts any.
    comparable
        Whether it must have a better side.

    Raises
    ------
    ConfigError
        If there is no such metric; the message names the nearest one.
    """
    row, name = find_metric(name), column_in(name, "mm")
    plain = {name for name, other in known_metrics().items() if other.better == "neither"}
    known = metric_columns(tolerances or (1.0,))
    known = [column for column in known if not (comparable and column in plain)]
    if row is None:
        raise ConfigError(
            where=where, found=f"unknown metric {name!r}", expected=nearest(name.lower(), known)
        )
    if comparable and row.better == "neither":
        expected = f"it has no better side; known: {', '.join(known)}"
        raise ConfigError(where=where, found=f"found {name!r}", expected=expected)
    if row.kind == "surface" and tolerances is not None and name not in known:
        action = "Add the tolerance to evaluate.tolerances, or name another metric"
        expected = f"evaluate.tolerances gives {', '.join(map(nsd_column, tolerances)) or 'none'}"
        raise ConfigError(
            where=where, found=f"{name!r} is not measured", expected=expected, action=action
        )


def with_tolerances(metrics: Sequence[str], tolerances: Sequence[float]) -> tuple[str, ...]:
    """The metrics, with NSD at these tolerances in place of the one that is named."""
    measured = tuple(map(nsd_column, tolerances))
    names = [measured if is_of(name, "surface") else (name,) for name in metrics]
    return tuple(itertools.chain(*names))
