"""Settings of tables, figures and the report."""

from __future__ import annotations

from dataclasses import dataclass

from lunet.metrics.checks import check_metric
from lunet.settings import setting


@dataclass(frozen=True)
class ReportSettings:
    """What tables and figures show."""

    title: str = setting("", doc="title of the report; default: made from the data set's name")
    metrics: tuple[str, ...] = setting(
        ("dice", "hd95", "assd", "nsd_1", "volume_error_ml"),
        doc="columns of the accuracy table; names from the section Metrics below",
    )
    examples: int = setting(
        3, doc="pictures per preset: best, median, worst", minimum=1, maximum=100
    )
    published: str | None = setting(
        None,
        doc="CSV of published results (as in config/published/), shown next to the study's own "
        "and marked as published",
    )
    failures: int = setting(
        5, doc="worst cases per preset in the table of failures", minimum=1, maximum=10_000
    )
    budgets_gib: tuple[float, ...] = setting(
        (4, 8, 16, 24, 80), doc="memory budgets of the table of largest batches, GiB", minimum=0
    )
    mixed_arithmetic: bool = setting(
        False, doc="show presets whose runs were trained in different arithmetic, with a note"
    )

    def __post_init__(self) -> None:
        for name in self.metrics:
            check_metric(name, "report.metrics")
