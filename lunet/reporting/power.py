"""What a design can resolve, computed before it is trained: sentence, table and figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lunet.data.folds import read_splits
from lunet.errors import DataError
from lunet.metrics.amounts import amount
from lunet.metrics.catalog import column_in, direction
from lunet.reporting.figures.style import GREY, PALETTE, TWO_COLUMNS, Drawing
from lunet.reporting.markup import Column, Table, cell
from lunet.reporting.origin import of, trained
from lunet.reporting.result_files import from_inputs, read_cases
from lunet.reporting.units import length_unit
from lunet.statistics.looks import fold_values
from lunet.statistics.power import (
    Components,
    Design,
    better_buy,
    components_of,
    power_of,
    resolvable,
    seeds_needed,
    subjects_needed,
)


@dataclass(frozen=True)
class Question:
    """The question to a design: metric, margin in its unit, one-sided level, power."""

    metric: str = "dice"
    margin: float = 0.01
    level: float = 0.025
    power: float = 0.8


def pilot_rows(folder: str | Path) -> pd.DataFrame:
    """Per-case rows of the finished runs in a folder, of the networks that were trained there.

    Raises
    ------
    DataError
        If the folder does not exist or has no finished run.
    """
    place = Path(folder)
    if not place.is_dir():
        raise DataError(
            where=place,
            found="is not a folder" if place.exists() else "does not exist",
            expected="the results of a study are needed as a pilot",
        )
    runs = place / "runs" if (place / "runs").is_dir() else place
    rows = read_cases(from_inputs([str(runs)]))
    return of(rows, trained(rows))


def pilot_components(
    rows: pd.DataFrame, metric: str, presets: Sequence[str] = (), reference: str | None = None
) -> Components:
    """Components pooled over the pairs of each preset with the reference.

    Parameters
    ----------
    rows
        Per-case rows of the pilot.
    metric
        Column to compare.
    presets
        Presets to use; all presets of the pilot if none are given. Poor presets vary more than the
        good ones that a margin is about.
    reference
        The other side of each pair; by default the preset with the best mean.

    Raises
    ------
    DataError
        If a preset has no finished run, or there is only one preset.
    """
    metric = column_in(metric, length_unit(rows))
    names = list(presets) or sorted(rows["preset"].unique())
    for name in [*names, *([reference] if reference else [])]:
        if name not in set(rows["preset"]):
            raise DataError(
                where="pilot", found=f"no finished run of {name}", expected="each preset needs one"
            )
    chosen = rows[rows["preset"].isin([*names, reference])]
    means = direction(metric) * chosen.groupby("preset")[metric].mean()
    base = reference or str(means.idxmax())
    pairs = [fold_values(rows, (name, base), metric) for name in names if name != base]
    return components_of([list(folds.values()) for folds in pairs if folds])


def pilot_design(rows: pd.DataFrame) -> Design:
    """The design of the pilot itself."""
    seeds = int(rows.groupby(["preset", "fold"])["seed"].nunique().min())
    subjects = rows["group"].nunique() if "group" in rows else rows["case"].nunique()
    return Design(int(subjects), int(rows["fold"].nunique()), seeds)


def design_of(
    rows: pd.DataFrame, folds: Sequence[int], seeds: int, splits: str | Path | None
) -> Design:
    """The design of a study whose subjects are like the pilot's.

    Parameters
    ----------
    rows
        Per-case rows of the pilot.
    folds, seeds
        Folds that are reported, and number of seeds of each.
    splits
        ``splits.json`` of the study, from which the test cases are counted; without it the
        pilot's number of subjects is used.
    """
    pilot = pilot_design(rows)
    subjects = pilot.subjects
    if splits is not None and Path(splits).is_file():
        parts = read_splits(splits).folds
        tested = set().union(*(parts[fold].test for fold in folds))
        subjects = round(len(tested) * pilot.subjects / rows["case"].nunique())
    return Design(max(2, len(folds), subjects), len(folds), seeds)


def facts(components: Components, design: Design, question: Question) -> dict[str, Any]:
    """All numbers of the answer, for ``--json``, the table and the sentence."""
    size: dict[str, Any]
    q, size = question, {"level": question.level, "power": question.power}
    half = q.margin / 2
    at = {
        name: power_of(components, design, margin=q.margin, level=q.level, difference=truth)
        for name, truth in (("equal", 0.0), ("half_better", half), ("half_worse", -half))
    }
    by_seeds, by_subjects = better_buy(components, design, **size)
    least = 2 if components.knows_trainings else 1
    options = [
        {
            "folds": design.folds,
            "seeds": seeds,
            "subjects_needed": subjects_needed(
                components, design.folds, seeds, margin=q.margin, **size
            ),
            "resolves": resolvable(
                components, Design(design.subjects, design.folds, seeds), **size
            ),
            "power": power_of(
                components,
                Design(design.subjects, design.folds, seeds),
                margin=q.margin,
                level=q.level,
            ),
        }
        for seeds in range(least, max(6, design.seeds + 1) if least == 2 else 2)
    ]
    return {
        "question": asdict(q),
        "components": asdict(components),
        "design": asdict(design),
        "resolves": resolvable(components, design, **size),
        "power_at_difference": at,
        "seeds_needed": seeds_needed(components, design, margin=q.margin, **size),
        "same_hours": {"one_more_seed": by_seeds, "more_subjects": by_subjects},
        "options": options,
    }


def sentence(found: dict[str, Any]) -> str:
    """The answer in words: what the design resolves, its power, and what would be enough."""
    q, design = Question(**found["question"]), Design(**found["design"])
    places = max(3, 1 - math.floor(math.log10(max(found["resolves"], 1e-9))))
    least = amount(f"{found['resolves']:.{places}f}", q.metric)
    text = (
        f"This design ({design}) can resolve {least} with {100 * q.power:g} % power; "
        f"your margin is {amount(q.margin, q.metric)}, at which two equal networks are found "
        f"non-inferior with {100 * found['power_at_difference']['equal']:.0f} % power."
    )
    if found["resolves"] > q.margin:
        text += f" {_enough(found)}"
    if not found["components"]["knows_trainings"]:
        text += (
            " The pilot has one seed: how much trainings vary is not known, and this is about "
            "trained networks, not their architectures."
        )
    return text


def _enough(found: dict[str, Any]) -> str:
    design, seeds = Design(**found["design"]), found["seeds_needed"]
    rows = [row for row in found["options"] if row["seeds"] == design.seeds]
    subjects = rows[0]["subjects_needed"] if rows else None
    ways = []
    if subjects is not None:
        ways.append(f"{subjects} subjects")
    if seeds is not None and seeds > design.seeds:
        ways.append(f"{seeds} seeds per fold")
    if not ways:
        return "Neither more subjects nor up to 50 seeds alone would be enough."
    return f"Enough would be {' or '.join(ways)}."


def bought(found: dict[str, Any]) -> str:
    """Whether one more seed or more subjects resolve more in the same hours, in words."""
    both = found["same_hours"]
    better = "one more seed" if both["one_more_seed"] < both["more_subjects"] else "more subjects"
    if not found["components"]["knows_trainings"]:
        return "The gain of another seed is unknown, because the pilot has only one."
    return (
        f"For the same hours of training, {better} would help more: with one more seed the design "
        f"resolves {both['one_more_seed']:.4f}, with more subjects {both['more_subjects']:.4f}."
    )


def table(found: dict[str, Any]) -> Table:
    """A row per number of seeds: the subjects that are needed, and what the design resolves."""
    q, design = Question(**found["question"]), Design(**found["design"])
    rows = tuple(
        (
            cell(row["seeds"]),
            cell(row["folds"]),
            cell(row["subjects_needed"] or "no number is enough"),
            cell(f"{row['resolves']:.4f}"),
            cell(f"{100 * row['power']:.0f} %"),
        )
        for row in found["options"]
    )
    columns: tuple[str, ...] = ("Seeds", "Folds", f"Subjects for {100 * q.power:g} %")
    columns += (
        f"Resolves with {design.subjects} subjects",
        f"Power at {amount(q.margin, q.metric)}",
    )
    caption = (
        f"Non-inferiority by {amount(q.margin, q.metric)}, "
        f"one-sided level {q.level:g}, two equal networks."
    )
    return Table("power", caption, tuple(map(Column, columns)), rows, tuple(found["options"]))


def figure(found: dict[str, Any]) -> Drawing:
    """Power against subjects, one line per number of seeds."""
    components, q = Components(**found["components"]), Question(**found["question"])
    design = Design(**found["design"])
    needed = [row["subjects_needed"] or 0 for row in found["options"]]
    most = max(2.5 * design.subjects, min(1.2 * max(needed), 10 * design.subjects))
    subjects = np.unique(np.geomspace(max(4, design.folds), most, 60).astype(int))
    drawn = Figure(figsize=(TWO_COLUMNS * 0.6, 2.6), layout="constrained")
    axes, records = drawn.subplots(), []
    for place, row in enumerate(found["options"]):
        powers = [
            power_of(
                components,
                Design(int(n), design.folds, row["seeds"]),
                margin=q.margin,
                level=q.level,
            )
            for n in subjects
        ]
        label = f"{row['seeds']} seed{'s'[: row['seeds'] > 1]}"
        axes.plot(subjects, powers, color=PALETTE[place % len(PALETTE)], label=label)
        records += [
            {"seeds": row["seeds"], "folds": design.folds, "subjects": int(n), "power": value}
            for n, value in zip(subjects, powers, strict=True)
        ]
    axes.axhline(q.power, color=GREY, lw=0.8, ls="--")
    axes.axvline(design.subjects, color=GREY, lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_xlabel(f"Subjects (dotted: this design); {design.folds} folds")
    axes.set_ylabel(f"Power at a margin of {amount(q.margin, q.metric)}")
    axes.set_ylim(0, 1)
    axes.legend(loc="lower right")
    return Drawing(drawn, pd.DataFrame(records))
