"""The table of claims: one sentence for each pair of presets, derived only from the tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lunet.metrics.amounts import amount
from lunet.metrics.catalog import compared_name, unit_suffix
from lunet.statistics.detection import detection
from lunet.statistics.paired import compare_presets

ONE_TRAINING = (
    "This is about these trained networks (one seed each), not their architectures; another "
    "training may differ."
)
"""Added to every comparison in which the variance between trainings is unknown."""


def claims(
    rows: pd.DataFrame,
    metric: str,
    *,
    reference: str | None = None,
    pairs: Sequence[tuple[str, str]] = (),
    margin: float | None,
    alpha: float = 0.05,
    resamples: int = 2000,
    permutations: int = 9999,
    seed: int = 0,
    untrained: Sequence[str] = (),
    failure: float = 0.5,
) -> pd.DataFrame:
    """The rows of :func:`lunet.statistics.paired.compare_presets` with a column ``sentence``.

    Parameters and errors are the same as for ``compare_presets``; a case with a Dice below
    ``failure`` has failed. If the rates of missed structures, invented structures or failed cases
    differ between the two sides, the sentence reports them.
    """
    table = compare_presets(
        rows,
        metric,
        reference=reference,
        pairs=pairs,
        margin=margin,
        alpha=alpha,
        resamples=resamples,
        permutations=permutations,
        seed=seed,
        untrained=untrained,
    )
    rates = detection(rows, failure=failure, confidence=1 - alpha)
    found = rates.set_index(["preset", "label"]).to_dict("index")
    sentences = [
        claim_sentence(row, alpha=alpha, untrained=untrained) + detection_sentences(row, found)
        for row in table.to_dict("records")
    ]
    return table.assign(sentence=sentences)


def claim_sentence(
    row: Mapping[str, Any], *, alpha: float = 0.05, untrained: Sequence[str] = ()
) -> str:
    """One sentence for a row of ``compare_presets``: the verdict and the numbers behind it."""
    subject = f"{compared_name(row['metric'])}, {row['label']}: {row['preset']}"
    if not row["n"]:
        return f"{subject} against {row['reference']} is not resolved: no case has a value."
    return f"{subject} {_verdict(row, alpha)}: {_numbers(row, alpha, untrained)}.{_scope(row)}"


def _verdict(row: Mapping[str, Any], alpha: float) -> str:
    reference = row["reference"]
    if is_small_loss(row, alpha):
        return f"is worse than {reference}, but by less than the margin of {_margin(row)}"
    if row["verdict"] == "not resolved" and row["p_smallest_holm"] > alpha:
        subjects = f"cannot be resolved with {row['n_groups']} subjects"
        smallest = f"the smallest adjusted p possible is {row['p_smallest_holm']:.2g}"
        return f"against {reference} {subjects} ({smallest})"
    return {
        "better": f"is better than {reference}",
        "worse": f"is worse than {reference}",
        "non-inferior": f"is non-inferior to {reference} by the margin of {_margin(row)}",
        "not resolved": f"against {reference} is not resolved",
    }[str(row["verdict"])]


def is_small_loss(row: Mapping[str, Any], alpha: float = 0.05) -> bool:
    """Whether a preset is significantly worse, but by less than the margin (non-inferior)."""
    is_loss = row["direction"] * row["difference"] < 0
    return bool(row["verdict"] == "non-inferior" and is_loss and row["p_difference_holm"] <= alpha)


_EVENTS = {
    "missed": ("misses", "of the cases with the structure"),
    "spurious": ("invents the structure in", "of the cases without it"),
    "failed": ("fails in", "of the cases"),
}


def detection_sentences(
    row: Mapping[str, Any], rates: Mapping[tuple[str, str], Mapping[str, float]]
) -> str:
    """One sentence for each kind of event whose rates differ between the sides, else an empty text.

    Parameters
    ----------
    row
        A row of ``compare_presets``.
    rates
        (preset, label) -> rates of :func:`lunet.statistics.detection.detection`.
    """
    sides = [rates[row[side], row["label"]] for side in ("preset", "reference")]
    sentences = []
    for event, (verb, of) in _EVENTS.items():
        if sides[0][event] != sides[1][event] and all(side[f"{event}_n"] for side in sides):
            one, other = (_rate(side, event) for side in sides)
            cases = f"{of} (n = {int(sides[0][f'{event}_n'])})"
            sentences.append(f" {row['preset']} {verb} {one} {cases}, {row['reference']} {other}.")
    return "".join(sentences)


def _rate(side: Mapping[str, float], event: str) -> str:
    share, low, high = (100 * side[f"{event}{part}"] for part in ("", "_low", "_high"))
    return f"{share:.1f} % (CI {low:.1f} to {high:.1f} %)"


def _scope(row: Mapping[str, Any]) -> str:
    return f" {ONE_TRAINING}" if row["n_seeds"] == 1 else ""


def one_training(rows: pd.DataFrame, untrained: Sequence[str] = ()) -> bool:
    """Whether any preset of the per-case rows was trained with only one seed in any fold."""
    trained = rows[~rows["preset"].isin(untrained)]
    return bool((trained.groupby(["preset", "fold"])["seed"].nunique() == 1).any())


def _numbers(row: Mapping[str, Any], alpha: float, untrained: Sequence[str]) -> str:
    digits = _digits(row)
    unit = unit_suffix(row["metric"])
    low, high = (_signed(row[bound], digits) for bound in ("ci_low", "ci_high"))
    interval = f"{100 * (1 - alpha):g} % CI {low} to {high}"
    if not math.isfinite(row["ci_low"]):
        interval = "too few subjects for an interval"
    return (
        f"mean difference {_signed(row['difference'], digits)}{unit} "
        f"({interval}), {_sample(row, untrained)}, {_tests(row)}"
    )


def _sample(row: Mapping[str, Any], untrained: Sequence[str]) -> str:
    cases = f"n = {row['n']} cases"
    within = f" of {row['n_groups']} subjects" if row["n_groups"] != row["n"] else ""
    apart = f" ({row['n_undefined']} without a value left out)" if row["n_undefined"] else ""
    own = [row[side] for side in ("preset", "reference") if row[side] not in untrained]
    whose = "each" if len(own) == 2 else f"of {' and '.join(own)}"
    seeds = f", {row['n_seeds']} seeds {whose}" if row["n_seeds"] > 1 else ""
    return f"{cases}{within}{apart}{seeds}"


def _tests(row: Mapping[str, Any]) -> str:
    effect = f"d = {row['effect_size']:+.2f}"
    parts = [effect, f"adjusted p {p_text(row['p_difference_holm'])}"]
    if not math.isnan(row["p_noninferior_holm"]):
        parts.append(f"non-inferiority p {p_text(row['p_noninferior_holm'])}")
    return ", ".join(parts)


def p_text(p: float) -> str:
    """``= 0.012`` or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _margin(row: Mapping[str, Any]) -> str:
    return amount(row["margin"], row["metric"])


def _digits(row: Mapping[str, Any]) -> int:
    """Number of decimals that shows two significant digits of the interval's half width."""
    half = (row["ci_high"] - row["ci_low"]) / 2
    half = half if half > 0 else abs(row["difference"])
    return min(6, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else 3


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}"
