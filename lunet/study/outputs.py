"""What a study reports: its tables and figures, and the kinds of files each is made of.

A test holds these tables equal to those of ``lunet.reporting``, which the workflow does not import
because it needs pandas.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lunet.study.study import Study

TABLES = {
    "accuracy": ("metrics", "runs"),
    "efficiency": ("efficiency",),
    "joint": ("metrics", "runs", "efficiency"),
    "comparisons": ("metrics", "runs"),
    "claims": ("metrics", "runs"),
    "limits": ("metrics", "runs"),
    "detection": ("metrics", "runs"),
    "failures": ("metrics", "runs"),
    "published": ("metrics", "runs", "efficiency"),
    "batches": ("efficiency",),
    "forecast": ("efficiency", "runs", "manifest"),
    "protocol": ("runs",),
    "lesions": ("lesions", "froc", "runs"),
}
FIGURES = {
    "pareto_parameters": ("metrics", "runs", "efficiency"),
    "pareto_macs": ("metrics", "runs", "efficiency"),
    "pareto_latency": ("metrics", "runs", "efficiency"),
    "pareto_memory": ("metrics", "runs", "efficiency"),
    "boxplot": ("metrics", "runs"),
    "differences": ("metrics", "runs"),
    "ranks": ("metrics", "runs"),
    "pairs": ("metrics", "runs", "efficiency"),
    "skips": ("metrics", "runs"),
    "batches": ("efficiency",),
    "bland_altman": ("metrics", "runs"),
    "published_dice": ("metrics", "runs", "efficiency"),
    "published_hd95": ("metrics", "runs", "efficiency"),
    "curves": ("histories", "runs"),
    "froc": ("froc", "runs"),
}


def unasked(study: Study) -> frozenset[str]:
    """Tables and figures that answer a question which the study does not ask."""
    config = study.config
    arguments = [preset.arguments for preset, _ in study.presets.values()]
    has_published = config.report.published is not None
    asked = {
        "published": has_published,
        "published_dice": has_published,
        "published_hd95": has_published,
        "lesions": config.lesions.enabled,
        "froc": config.lesions.enabled,
        "pairs": bool(config.statistics.named_pairs),
        "differences": config.statistics.reference is not None,
        "skips": any(row.get("skip_levels", "all") != "all" for row in arguments),
        "forecast": config.efficiency.training_step,
        "batches": config.efficiency.training_step and bool(config.efficiency.memory_batches),
    }
    return frozenset(name for name, wanted in asked.items() if not wanted)


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
