"""What the study stated before its first training, compared with what is reported now."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from lunet.metrics.catalog import column_in
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.origin import PRIOR, of, rivals, trained
from lunet.reporting.result_files import ResultFiles, read_runs
from lunet.settings import plain
from lunet.statistics.registration import Registration, read_protocol, registration


def read_registration(
    sources: ResultFiles, cases: pd.DataFrame, statistics: StatisticsSettings
) -> Registration:
    """How the study's protocol relates to the rows and settings that are reported now."""
    protocol = read_protocol(sources.protocol[0]) if sources.protocol else None
    own, stated = of(cases, trained(cases)), of(cases, rivals(cases))
    grid = {"presets": stated["preset"], "folds": own["fold"], "seeds": own["seed"]}
    # results on another data set have no such rows; dropped from the study itself, they are missed
    others = protocol["settings"].get("external", {}) if protocol and _on_target(sources) else ()
    return registration(
        protocol,
        # the protocol names the metric as the configuration does
        plain(replace(statistics, metric=column_in(statistics.metric, "mm"))),
        {key: list(values.unique()) for key, values in grid.items()},
        finished=[str(run["finished"]) for run in read_runs(sources) if run.get("finished")],
        left_out={*others, PRIOR} - {*cases["preset"]},
    )


def _on_target(sources: ResultFiles) -> bool:
    """Whether the results are tests on another data set, in the folder of their study."""
    return any(
        path.parent / "transfer" in metrics.parents
        for path in sources.protocol
        for metrics in sources.metrics
    )
