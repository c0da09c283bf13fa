"""Which prunings a study makes, and what of the study is shown beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lunet.study.study import Study


def pruned(study: Study, *names: str) -> list[str]:
    """Files of these names of all prunings: strategies x folds x seeds."""
    prune = study.config.prune
    return [
        f"{study.results}/pruning/{prune.preset}/{strategy}/fold-{fold}/seed-{seed}/{name}"
        for name in names
        for strategy in prune.strategies
        for fold in prune.folds
        for seed in prune.seeds
    ]


def beside(study: Study) -> Callable[[Any], list[str]]:
    """An input function: results of presets on the folds and seeds of the pruning.

    They are shown beside the pruned networks. Where pruning is a part of the study, those of all
    its presets, on what both share; else those that exist already: none is trained for that.
    """
    prune, config = study.config.prune, study.config
    folds = [fold for fold in prune.folds if not prune.enabled or fold in study.folds]
    seeds = [seed for seed in prune.seeds if not prune.enabled or seed in config.seeds]

    def of(wildcards: Any) -> list[str]:
        found = []
        for preset in study.presets:
            files = [f"{study.results}/presets/{preset}/efficiency.json"]
            for fold in folds:
                for seed in seeds:
                    run = study.run(preset, fold, seed)
                    files += [f"{run}/metrics.csv", f"{run}/run.json"]
            found += files if prune.enabled or all(map(os.path.isfile, files)) else []
        return found

    return of
