"""The catalogue of tables and figures: what each one needs, when it is made, and its caption.

The functions that make them have the same names in ``tables.index``, ``figures.index`` and the two
``pruning`` modules. The report, the workflow with its captions, and ``--help`` read these rows. No
slow imports are used here, so the workflow can read the rows too. They are in the report's order.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lunet.errors import ConfigError, nearest

Rule = Literal[
    "table",
    "summary",
    "pruning_table",
    "figure",
    "examples",
    "side_by_side",
    "architecture",
    "pruning_figure",
]
"""Rule of the workflow that makes an output."""

WHEN = {
    "published": "`report.published` names a file",
    "lesions": "`lesions.enabled`",
    "pairs": "`statistics.pairs` names pairs",
    "reference": "`statistics.reference`",
    "skips": "networks differ in their skips",
    "forecast": "`efficiency.training_step`",
    "batches": "`efficiency.training_step` and `efficiency.memory_batches`",
    "pruning": "`prune.enabled`",
}
"""Name of an optional output's condition -> the settings that turn it on."""


@dataclass(frozen=True)
class Output:
    """A table or a figure.

    Attributes
    ----------
    caption
        One sentence about what it shows.
    needs
        Kinds of files that it is made from, see :class:`lunet.reporting.result_files.ResultFiles`;
        empty if ``--inputs`` or ``--manifest`` names the files.
    section
        Section of the report that shows it; empty if the report places it elsewhere or nowhere.
    rule
        Rule of the workflow that makes it.
    when
        Key of :data:`WHEN`; empty if every study makes it.
    transfer
        Whether it is also made for tests on other data sets.
    """

    caption: str
    needs: tuple[str, ...]
    section: str
    rule: Rule
    when: str = ""
    transfer: bool = False


_SCORES = ("metrics", "runs")
_BOTH = ("metrics", "runs", "efficiency")
TABLES = {
    "claims": Output(
        "One sentence for each comparison: better, non-inferior, worse, or not resolved.",
        _SCORES,
        "",
        "table",
        transfer=True,
    ),
    "joint": Output("Quality and cost, with a row per network.", _BOTH, "quality", "table"),
    "accuracy": Output(
        "Quality of each network: mean, standard deviation and confidence interval over cases, for "
        "each structure and their mean; missed, spurious and empty cases are counted.",
        _SCORES,
        "quality",
        "table",
        transfer=True,
    ),
    "lesions": Output(
        "Lesions found and false positives per patient, with confidence intervals.",
        ("lesions", "froc", "runs"),
        "quality",
        "table",
        when="lesions",
    ),
    "efficiency": Output(
        "Cost of each network: parameters, multiply-adds, latency, throughput, memory.",
        ("efficiency",),
        "quality",
        "table",
    ),
    "batches": Output(
        "Largest training batch of each network under each memory budget.",
        ("efficiency",),
        "technical",
        "table",
        when="batches",
    ),
    "forecast": Output(
        "Memory and time of the trainings: forecast and measured.",
        ("efficiency", "runs", "manifest"),
        "technical",
        "table",
        when="forecast",
    ),
    "published": Output(
        "Published results next to this study's, with the origin of each row marked.",
        _BOTH,
        "quality",
        "table",
        when="published",
    ),
    "replication": Output(
        "Published numbers tested again: confirmed, refuted or unresolved.",
        _SCORES,
        "comparisons",
        "table",
        when="published",
    ),
    "comparisons": Output(
        "Paired comparisons between networks with effect sizes and Holm-adjusted tests.",
        _SCORES,
        "comparisons",
        "table",
        transfer=True,
    ),
    "limits": Output(
        "What limits each verdict: subjects or trainings, and the smallest p value possible.",
        _SCORES,
        "comparisons",
        "table",
    ),
    "detection": Output(
        "Missed, invented and failed cases of each network, with exact confidence intervals.",
        _SCORES,
        "quality",
        "table",
    ),
    "failures": Output(
        "The worst cases of each network by name.", _SCORES, "quality", "table", transfer=True
    ),
    "protocol": Output(
        "Settings, data, versions and machines of the reported runs.",
        ("runs",),
        "methods",
        "table",
    ),
    "summary": Output(
        "All results of one network: a row per structure and metric, with costs in the CSV.",
        _BOTH,
        "",
        "summary",
    ),
    "pruning": Output(
        "What each pruning strategy reached, and its cost.",
        (),
        "pruning",
        "pruning_table",
        when="pruning",
    ),
    "pruning_comparisons": Output(
        "Paired comparisons of the pruned networks, their controls and the study's networks.",
        (),
        "pruning",
        "pruning_table",
        when="pruning",
    ),
}
"""Name -> row of the table."""

_POINTS = ("metrics", "efficiency")
FIGURES = {
    "pareto_parameters": Output(
        "Quality against the number of parameters; dashes: Pareto front; bars: confidence interval "
        "of the mean over cases.",
        _POINTS,
        "quality",
        "figure",
    ),
    "pareto_macs": Output(
        "Quality against multiply-adds of one image; dashes: Pareto front; bars: confidence "
        "interval of the mean over cases.",
        _POINTS,
        "quality",
        "figure",
    ),
    "pareto_latency": Output(
        "Quality against median latency at batch 1; dashes: Pareto front; horizontal bars: range "
        "of the medians of fresh processes.",
        _POINTS,
        "quality",
        "figure",
    ),
    "pareto_memory": Output(
        "Quality against the peak memory of one forward pass; dashes: Pareto front.",
        _POINTS,
        "technical",
        "figure",
    ),
    "boxplot": Output(
        "Distribution over cases: median, quartiles, whiskers to 1.5 box lengths; a point is a "
        "case; cases outside are counted at the border.",
        ("metrics",),
        "quality",
        "figure",
        transfer=True,
    ),
    "differences": Output(
        "Paired differences with confidence intervals and the non-inferiority margin.",
        _POINTS,
        "comparisons",
        "figure",
        when="reference",
        transfer=True,
    ),
    "pairs": Output(
        "Pairs that the study names: scores against each other, paired differences, verdicts.",
        _POINTS,
        "comparisons",
        "figure",
        when="pairs",
    ),
    "skips": Output(
        "Quality against the width of the bottleneck, with skips and without.",
        _SCORES,
        "quality",
        "figure",
        when="skips",
    ),
    "batches": Output(
        "Largest training batch under each memory budget.",
        ("efficiency",),
        "technical",
        "figure",
        when="batches",
    ),
    "ranks": Output(
        "Rank of each network, with its interval when subjects are resampled.",
        ("metrics",),
        "comparisons",
        "figure",
    ),
    "bland_altman": Output(
        "Agreement of volumes (of pictures: areas): difference against mean, with the mean "
        "difference and 1.96 standard deviations.",
        ("metrics",),
        "quality",
        "figure",
    ),
    "curves": Output(
        "Training curves: losses and validation Dice, mean and range over the runs.",
        ("histories",),
        "technical",
        "figure",
    ),
    "froc": Output(
        "Free-response ROC: lesions found against false positives per patient, pooled over folds "
        "and seeds; faint lines are single seeds.",
        ("froc",),
        "quality",
        "figure",
        when="lesions",
    ),
    "published_dice": Output(
        "Dice against throughput: published numbers (hollow) and this study's.",
        _POINTS,
        "quality",
        "figure",
        when="published",
    ),
    "published_hd95": Output(
        "HD95 against jitter: published numbers (hollow) and this study's.",
        _POINTS,
        "quality",
        "figure",
        when="published",
    ),
    "side_by_side": Output(
        "The same case and slice for every network, outlined by the reference.",
        ("metrics",),
        "",
        "side_by_side",
    ),
    "examples": Output(
        "Best, median and worst case of a network: image, reference and prediction, outlined by "
        "the reference, in the slice with the largest reference area.",
        ("metrics",),
        "examples",
        "examples",
    ),
    "architecture": Output(
        "A network, drawn as it was built: boxes by resolution, numbers of channels, and arrows "
        "that show which layer feeds which.",
        (),
        "",
        "architecture",
    ),
    "pruning_dice": Output(
        "Left: validation Dice along each pruning; right: the chosen networks, the controls and "
        "the study's networks on test cases.",
        (),
        "pruning",
        "pruning_figure",
        when="pruning",
    ),
    "pruning_hours": Output(
        "Device hours of a run: the search by pruning, and networks that need no search.",
        (),
        "pruning",
        "pruning_figure",
        when="pruning",
    ),
    "pruning_channels": Output(
        "Channels of each layer along the iterations; dashed: the one chosen.",
        (),
        "pruning",
        "pruning_figure",
        when="pruning",
    ),
}
"""Name -> row of the figure."""


def made_by(outputs: Mapping[str, Output], rule: Rule) -> tuple[str, ...]:
    """Names of the outputs that one rule makes."""
    return tuple(name for name, row in outputs.items() if row.rule == rule)


def shown_in(outputs: Mapping[str, Output], section: str) -> tuple[str, ...]:
    """Names of the outputs that one section of the report shows, in its order."""
    return tuple(name for name, row in outputs.items() if row.section == section)


def of_targets(outputs: Mapping[str, Output]) -> tuple[str, ...]:
    """Names of the outputs that are also made for tests on other data sets."""
    return tuple(name for name, row in outputs.items() if row.transfer)


def table_row(name: str) -> Output:
    """The row of a table.

    Raises
    ------
    ConfigError
        If there is no such table.
    """
    return _row(TABLES, "table", name)


def figure_row(name: str) -> Output:
    """The row of a figure.

    Raises
    ------
    ConfigError
        If there is no such figure.
    """
    return _row(FIGURES, "figure", name)


def _row(outputs: Mapping[str, Output], what: str, name: str) -> Output:
    if name not in outputs:
        raise ConfigError(
            where=what, found=f"unknown {what} {name!r}", expected=nearest(name, outputs)
        )
    return outputs[name]


def names_help(outputs: Mapping[str, Output]) -> str:
    """The names with their captions, as ``--help`` shows them."""
    lines = []
    for name, row in outputs.items():
        condition = f" A study makes it with {WHEN[row.when]}." if row.when else ""
        indent = " " * 6
        text = textwrap.fill(
            row.caption + condition, 96, initial_indent=indent, subsequent_indent=indent
        )
        lines += [f"  {name}", text]
    return "NAME is one of:\n" + "\n".join(lines)
