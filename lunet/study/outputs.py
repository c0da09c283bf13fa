"""What a study reports: its tables and figures, and the kinds of files each is made of.

A test holds these tables equal to those of ``lunet.reporting``, which the workflow does not import
because it needs pandas.
"""

from __future__ import annotations

TABLES = {
    "accuracy": ("metrics", "runs"),
    "efficiency": ("efficiency",),
    "joint": ("metrics", "runs", "efficiency"),
    "comparisons": ("metrics", "runs"),
    "claims": ("metrics", "runs"),
    "failures": ("metrics", "runs"),
    "protocol": ("runs",),
}
FIGURES = {
    "pareto_parameters": ("metrics", "runs", "efficiency"),
    "pareto_macs": ("metrics", "runs", "efficiency"),
    "pareto_latency": ("metrics", "runs", "efficiency"),
    "pareto_memory": ("metrics", "runs", "efficiency"),
    "boxplot": ("metrics", "runs"),
    "differences": ("metrics", "runs"),
    "ranks": ("metrics", "runs"),
    "bland_altman": ("metrics", "runs"),
    "curves": ("histories", "runs"),
}
