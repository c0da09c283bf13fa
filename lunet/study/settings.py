"""Settings of the search for the smallest network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lunet.settings import setting

OWN = "candidates"
"""Name of the family of presets that are listed one by one."""


@dataclass(frozen=True)
class SmallestSettings:
    """Settings of `lunet smallest`: the networks to search, and the error of the answer."""

    families: tuple[str, ...] = setting(
        (), doc="families to search, e.g. `lunet_small`; there is no search without any candidate"
    )
    widths: tuple[int, ...] = setting(
        (1, 2, 3, 4, 6, 8, 12, 16), doc="widths of each family", minimum=1
    )
    candidates: tuple[str, ...] = setting(
        (), doc="further presets or variants; together they are one more family"
    )
    reference: str | None = setting(
        None,
        doc="what to compare with: a preset or variant, or a row of `external` or `rivals`, whose "
        "predictions are taken as given; default: the candidate with the highest cost",
    )
    cost: Literal["parameters", "macs", "latency_ms", "memory_mib", "energy_j"] = setting(
        "macs", doc="the cost to minimise"
    )
    margin: float | None = setting(
        None, doc="tolerated loss of quality; default: statistics.margin", minimum=0
    )
    level: float = setting(
        0.025, doc="one-sided error of the whole answer", minimum=1e-6, maximum=0.2
    )
    spending: Literal["obrien_fleming", "pocock"] = setting(
        "obrien_fleming", doc="how the error is divided among the looks after each fold"
    )
    futility: float = setting(
        0.1,
        doc="a candidate is given up when its chance of success falls below this, under the "
        "assumption that it is as good as the reference",
        minimum=0,
        maximum=0.5,
    )
    early_gap: float | None = setting(
        None,
        doc="suspend a candidate, before its first fold is trained to the end, if its validation "
        "Dice at a third of the epochs will probably stay further than this below the reference's, "
        "for example 0.15; its state is kept. For trainings of many epochs; `null`: never",
        minimum=0,
    )
    strategy: Literal["descending", "bisect"] = setting(
        "descending",
        doc="`descending`: from the largest candidate down, at the full level; `bisect`: halve the "
        "family each time, with Bonferroni's correction, if trainings are expensive",
    )
    seeds: tuple[int, ...] | None = setting(
        None,
        doc="seeds of each fold; default: the study's `seeds` if there are two or more, else 0, 1",
    )
    budget_hours: float | None = setting(
        None, doc="device hours that may be spent on trainings", minimum=0
    )

    @property
    def is_configured(self) -> bool:
        """Whether a search is configured."""
        return bool(self.families or self.candidates)

    def by_family(self) -> dict[str, tuple[str, ...]]:
        """Family -> names of its candidates."""
        found = {
            family: tuple(f"{family}_{width}f" for width in self.widths) for family in self.families
        }
        return found | ({OWN: self.candidates} if self.candidates else {})

    def presets(self) -> tuple[str, ...]:
        """All networks of the search, with the reference first."""
        named = [name for names in self.by_family().values() for name in names]
        first = [self.reference] if self.reference is not None else []
        return tuple(dict.fromkeys([*first, *named]))
