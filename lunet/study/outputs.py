"""What a study reports: its tables and figures, and the kinds of files each is made of.

A test holds these tables equal to those of ``lunet.reporting``, which the workflow does not import
because it needs pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lunet.study.study import Study

TABLES = {
    "accuracy": ("metrics", "runs"),
    "efficiency": ("efficiency",),
    "joint": ("metrics", "runs", "efficiency"),
    "comparisons": ("metrics", "runs"),
    "claims": ("metrics", "runs"),
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
        "pairs": bool(config.statistics.pairs),
        "skips": any(row.get("skip_levels", "all") != "all" for row in arguments),
        "forecast": config.efficiency.training_step,
        "batches": config.efficiency.training_step and bool(config.efficiency.memory_batches),
    }
    return frozenset(name for name, wanted in asked.items() if not wanted)
