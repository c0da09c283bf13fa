"""Where the rows of a study come from: trained here, rivals, made elsewhere, readers, the prior.

The per-case rows have a column ``role``, so that each table and figure knows what may be compared.
Rows made by hand may lack it; then only the atlas prior is recognised, by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

PRIOR = "atlas_prior"
ROLE = "role"
"""Column of the per-case rows: ``trained``, ``rival``, ``external``, ``reader`` or ``prior``."""


@dataclass(frozen=True)
class External:
    """An external row, from the records of its folds.

    Attributes
    ----------
    name
        Name of the row.
    is_reader
        Whether a second reader made the masks.
    is_rival
        Whether another package has trained it in this study.
    layout
        ``folder`` or ``nnunet``.
    source
        Who or what made the predictions, as the configuration says; may be empty.
    tested
        Number of test cases.
    missing
        Test cases without a prediction.
    is_checked
        Whether nnU-Net's ``splits_final.json`` showed that no test case was trained on.
    """

    name: str
    is_reader: bool
    is_rival: bool
    layout: str
    source: str
    tested: int
    missing: tuple[str, ...]
    is_checked: bool


def external_of(runs: Iterable[Mapping[str, Any]]) -> dict[str, External]:
    """Name -> external row, from the records of all runs; those of trainings are ignored."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        if run.get("external"):
            found.setdefault(str(run["preset"]), []).append(run["external"])
    return {
        name: External(
            name,
            is_reader=parts[0]["role"] == "reader",
            is_rival="training" in parts[0],
            layout=parts[0]["layout"],
            source=parts[0].get("source", ""),
            tested=sum(part["tested"] for part in parts),
            missing=tuple(case for part in parts for case in part["missing"]),
            is_checked=all(part.get("splits") for part in parts),
        )
        for name, parts in found.items()
    }


def with_roles(cases: pd.DataFrame, external: Mapping[str, External]) -> pd.DataFrame:
    """The per-case rows with their column ``role``."""
    roles = {name: _role(row) for name, row in external.items()}
    roles[PRIOR] = "prior"
    return cases.assign(**{ROLE: cases["preset"].map(roles).fillna("trained")})


def _role(row: External) -> str:
    if row.is_reader:
        return "reader"
    return "rival" if row.is_rival else "external"


def _named(cases: pd.DataFrame, *roles: str) -> tuple[str, ...]:
    """Presets with one of these roles, in the order of the rows."""
    if ROLE not in cases:
        names = cases["preset"].drop_duplicates()
        kept = [("prior" if name == PRIOR else "trained") in roles for name in names]
        return tuple(names[kept])
    return tuple(cases.loc[cases[ROLE].isin(roles), "preset"].drop_duplicates())


def trained(cases: pd.DataFrame) -> tuple[str, ...]:
    """Networks that this study trained."""
    return _named(cases, "trained")


def untrained(cases: pd.DataFrame) -> tuple[str, ...]:
    """Rows with one set of predictions, so that the variance of their training is not known."""
    return _named(cases, "rival", "external", "reader", "prior")


def externals(cases: pd.DataFrame) -> tuple[str, ...]:
    """Models whose predictions were made elsewhere."""
    return _named(cases, "external")


def trained_by_others(cases: pd.DataFrame) -> tuple[str, ...]:
    """Models that another package trained in this study, once in each fold."""
    return _named(cases, "rival")


def readers(cases: pd.DataFrame) -> tuple[str, ...]:
    """Second readers."""
    return _named(cases, "reader")


def rivals(cases: pd.DataFrame) -> tuple[str, ...]:
    """What is compared unless the settings say otherwise: all but bounds, the prior and readers."""
    return _named(cases, "trained", "rival", "external")


_CAVEATS = {
    "external": "The predictions of {name} were made elsewhere and are taken as given; another "
    "training of it may differ.",
    "rival": "{name} was trained once in each fold; another training of it may differ.",
    "reader": "The masks of {name} are those of one reader and are taken as given; another reader "
    "may differ.",
}


def caveat(name: str, role: str) -> str:
    """What a verdict about a row with one set of predictions does not cover; else an empty text."""
    return _CAVEATS.get(role, "").format(name=name)


def of(cases: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The rows of these presets."""
    return cases[cases["preset"].isin(list(names))]
