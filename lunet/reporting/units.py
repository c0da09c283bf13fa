"""The unit of distances in per-case rows, and the metrics' columns in this unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from lunet.metrics.catalog import column_in, find_metric
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.settings import ReportSettings
from lunet.settings import build_settings
from lunet.task import Length


def length_unit(cases: pd.DataFrame) -> Length:
    """Unit of the distances in per-case rows: ``px`` if their images have no physical size."""
    px = any(name.endswith("_px") for name in cases.columns if find_metric(str(name)))
    return "px" if px else "mm"


def stated_statistics(settings: Mapping[str, Any], cases: pd.DataFrame) -> StatisticsSettings:
    """The section ``statistics``, with its metric as the rows call it (``hd95_px`` in pixels)."""
    chosen = build_settings(StatisticsSettings, settings.get("statistics", {}), "statistics")
    return replace(chosen, metric=column_in(chosen.metric, length_unit(cases)))


def stated_report(settings: Mapping[str, Any], cases: pd.DataFrame) -> ReportSettings:
    """The section ``report``, with its metrics as the rows call them."""
    chosen = build_settings(ReportSettings, settings.get("report", {}), "report")
    unit = length_unit(cases)
    return replace(chosen, metrics=tuple(column_in(name, unit) for name in chosen.metrics))
