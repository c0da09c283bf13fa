"""Amounts of a metric in words: a margin, or a difference that can be resolved."""

from __future__ import annotations

from lunet.metrics.catalog import compared_name, unit_suffix


def amount(value: float | str, metric: str) -> str:
    """An amount with its unit and metric: ``0.01 Dice``, ``0.5 mm HD95``.

    A text is a number that is rounded already.
    """
    number = value if isinstance(value, str) else f"{value:g}"
    return f"{number}{unit_suffix(metric)} {compared_name(metric)}"
