"""The answer of the search in words: one paragraph to act on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lunet.errors import DataError
from lunet.metrics.catalog import compared_name, unit_suffix
from lunet.reporting.costs import busy, flat
from lunet.reporting.origin import caveat
from lunet.reporting.smallest import COSTS, Evidence
from lunet.statistics.power import Design, components_of, seeds_needed, subjects_needed

ONE_SEED = "One seed per fold: this is about these trained networks, not their architectures."


def answer(
    facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    costs: Mapping[str, Mapping[str, Any]],
    evidence: Evidence,
) -> str:
    """The answer as one paragraph.

    Parameters
    ----------
    facts
        Content of ``verdict.json`` without the sentence.
    rows
        Decisions, one row per look.
    costs
        Preset -> content of ``efficiency.json``.
    evidence
        The finished runs, to compute what would resolve an open question.
    """
    last = {row["candidate"]: row for row in rows}
    best = facts["answer"]
    parts = [_found(facts, costs) if best else _none(facts), *_in_other_families(facts, costs)]
    parts += facts["unlearned"].values()
    rivals = [name for name, row in last.items() if row["state"] == "better"]
    if rivals:
        parts.append(f"The reference itself is beaten by {', '.join(map(_with(last), rivals))}.")
    if facts["cost"] == "latency_ms":
        parts.append(busy(costs))
    parts.append(f"Error of this answer at most {100 * facts['level']:g} %.")
    parts.append(caveat(facts["reference"], facts["reference_role"]))
    open_ones = [name for name in last if name not in facts["shown"]]
    if open_ones:
        parts.append("; ".join(f"{name}: {_outcome(last[name])}" for name in open_ones) + ".")
    for name, gap in facts["suspended"].items():
        parts.append(
            f"{name}: suspended at a third of its epochs, since its validation Dice would probably "
            f"stay {gap:.2f} below."
        )
    if facts["stopped_by_budget"]:
        parts.append(
            f"The budget of {facts['budget_hours']:g} device hours ended the search before "
            "everything was decided; a larger one resumes it."
        )
    elif not best and facts["is_complete"]:
        parts.append(_resolve(facts, last, evidence))
    if facts["same_cost"]:
        parts.append(f"Of the same cost, and shown as well: {', '.join(facts['same_cost'])}.")
    parts.append(_spent(facts))
    if len(facts["seeds"]) < 2:
        parts.append(ONE_SEED)
    return " ".join(part for part in parts if part)


def _claim(facts: Mapping[str, Any]) -> str:
    margin = f"{facts['margin']:g}{unit_suffix(facts['metric'])}"
    return f"not inferior to {facts['reference']} by {margin} {compared_name(facts['metric'])}"


def _found(facts: Mapping[str, Any], costs: Mapping[str, Mapping[str, Any]]) -> str:
    until = "" if facts["is_complete"] else " so far"
    return (
        f"The smallest network (by {COSTS[facts['cost']]}){until} {_claim(facts)} is "
        f"{facts['answer']}: {_sizes(costs[facts['answer']], costs[facts['reference']])}."
    )


def _in_other_families(
    facts: Mapping[str, Any], costs: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """The smallest network that was shown in each other family: it may be smaller in other costs.

    All families share the error of the answer.
    """
    shown = [one for one in facts["candidates"] if one["name"] in facts["shown"]]
    told = {one["family"] for one in shown if one["name"] == facts["answer"]}
    for one in sorted(shown, key=lambda one: one["cost"]):
        if one["family"] not in told and one["name"] not in facts["same_cost"]:
            sizes = _sizes(costs[one["name"]], costs[facts["reference"]])
            yield f"Of {one['family']}, {one['name']} is not inferior either: {sizes}."
        told.add(one["family"])


def _sizes(cost: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """The size of the answer, and its costs as shares of the reference's that are known.

    A latency that was stated, not measured, is of another machine and gives no share.
    """
    one, other = flat(cost), flat(reference)
    size = f"{one['parameters']:,.0f} parameters"
    fewer = other["parameters"] / one["parameters"]
    if math.isfinite(fewer):
        size += f" ({fewer:.3g}x fewer)" if fewer >= 1 else f" ({1 / fewer:.3g}x as many)"
    parts = [size]
    if math.isfinite(other["gmacs"]):
        parts.append(f"{one['gmacs'] / other['gmacs']:.2g}x its MACs")
    is_measured = math.isfinite(one["latency_p50_ms"]) and not reference.get("given")
    if is_measured and other["latency_p50_ms"] > 0:
        ratio = f"{one['latency_p50_ms'] / other['latency_p50_ms']:.2g}x its latency"
        is_busy = 1 in (one["unstable"], other["unstable"])
        busily = ", measured on a busy machine" if is_busy else ""
        parts.append(f"{ratio}{_device(cost)}{busily}")
    return ", ".join(parts)


def _device(cost: Mapping[str, Any]) -> str:
    kind = str((cost.get("device") or {}).get("type", "")).upper()
    threads = (cost.get("settings") or {}).get("threads")
    if kind != "CPU" or not threads:
        return f" ({kind})" if kind else ""
    return f" (CPU, {threads} thread{'s'[: int(threads) > 1]})"


def _none(facts: Mapping[str, Any]) -> str:
    if all(one["state"] in ("not cheaper", "the reference") for one in facts["candidates"]):
        return f"No candidate costs less than {facts['reference']}: there is nothing to search."
    smaller = "network" if facts["reference_cost"] is None else "smaller network"
    return f"No {smaller} was shown to be {_claim(facts)}."


def _outcome(row: Mapping[str, Any]) -> str:
    if not math.isfinite(row["estimate"]):
        return f"{row['state']} (no case has a value)"
    text = f"{row['estimate']:+.3f}"
    # early intervals are very wide, so they are only shown while the candidate is undecided
    if row["state"] in ("not resolved", "undecided") and math.isfinite(row["ci_low"]):
        text += f", {row['ci_low']:+.3f} to {row['ci_high']:+.3f}"
    folds = row["look"]
    after = f" after {folds} fold{'s'[: folds > 1]}"
    return f"{row['state']}{after} ({text})"


def _with(last: Mapping[str, Mapping[str, Any]]) -> Any:
    return lambda name: f"{name} ({last[name]['estimate']:+.3f})"


def _spent(facts: Mapping[str, Any]) -> str:
    budget = facts["budget_hours"]
    hours = f"{facts['device_hours']:.3g}"
    limit = f" of {budget:g}" if budget is not None else ""
    return (
        f"{facts['trainings']} of {facts['trainings_of_grid']} trainings were needed, "
        f"{hours}{limit} device hours."
    )


def _resolve(
    facts: Mapping[str, Any], last: Mapping[str, Mapping[str, Any]], evidence: Evidence
) -> str:
    """What would resolve the candidate that came closest, if it were as good as the reference."""
    margin = facts["margin"]
    open_ones = [row for row in last.values() if row["state"] in ("not resolved", "given up")]
    close = [row for row in open_ones if row["estimate"] > -margin]
    if not close:
        text = "All tested networks are below the margin; search among larger networks."
        return text if last else ""
    nearest = max(close, key=lambda row: row["estimate"])
    values = evidence.values(nearest["candidate"])
    try:
        spread = components_of([list(values.values())])
    except DataError:  # one subject per fold
        return "There are too few subjects to compute what would resolve it."
    folds = len(facts["folds"])
    subjects = nearest["n_groups"] * folds // nearest["look"]
    design = Design(max(subjects, folds, 2), folds, len(facts["seeds"]))
    criteria = {"margin": margin, "level": nearest["level"]}
    more = subjects_needed(spread, design.folds, design.seeds, **criteria)
    seeds = seeds_needed(spread, design, **criteria)
    ways = [f"{more} subjects"] if more is not None and more > design.subjects else []
    if seeds is not None and seeds > design.seeds:
        ways.append(f"{seeds} seeds per fold")
    name = nearest["candidate"]
    if more is not None and more <= design.subjects:
        return f"The design was large enough to show {name} if it were as good as the reference."
    if not ways:
        return f"No reasonable number of subjects or seeds would resolve {name}."
    needed = " or ".join(ways)
    return f"If {name} is as good as the reference, {needed} would resolve it (80 % power)."
