"""Settings of evaluation and statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lunet.errors import ConfigError
from lunet.metrics.checks import check_metric
from lunet.settings import LARGEST_SEED, setting


@dataclass(frozen=True)
class EvaluateSettings:
    """The measurements per case and label."""

    tolerances: tuple[float, ...] = setting(
        (1.0,), doc="NSD tolerances in mm (px for pictures of unknown size)", minimum=0, maximum=1e6
    )


@dataclass(frozen=True)
class LesionSettings:
    """Lesion-wise results, for targets of which a case may have none or several (tumours)."""

    enabled: bool = setting(
        False, doc="count lesions, false positives and the FROC; needs predict.probabilities"
    )
    overlap: float = setting(
        0.0,
        doc="share of a lesion's voxels that must be predicted; 0 is one voxel",
        minimum=0,
        maximum=1,
    )
    precision: float = setting(
        0.1,
        doc="share of a predicted component that must lie in lesions; below it, the component is a "
        "false positive",
        minimum=0,
        maximum=1,
    )


DICE_MARGIN = 0.01
"""Non-inferiority margin of Dice if a study states none."""


@dataclass(frozen=True)
class StatisticsSettings:
    """How results are compared; stated before the study runs."""

    metric: str = setting("dice", doc="primary metric of claims; it must have a better side")
    margin: float | None = setting(
        None,
        doc="non-inferiority margin in the metric's own unit; 0: none. Dice has "
        f"{DICE_MARGIN:g} if none is given, any other metric must state its own",
        minimum=0,
    )
    reference: str | None = setting(
        None,
        doc="preset that all others are compared with; without it and `pairs`, nothing is compared",
    )
    pairs: Literal["all"] | tuple[tuple[str, str], ...] = setting(
        (),
        doc="only these comparisons, each [preset, reference]; unset, see `reference`. `all`: "
        "every pair, where the candidate is the one that costs less",
    )
    cost: Literal["parameters", "macs"] = setting(
        "parameters", doc="cost that decides which preset of a pair is the candidate"
    )
    failure: float = setting(
        0.5, doc="a case with a Dice below this counts as failed", minimum=0, maximum=1
    )
    confidence: float = setting(0.95, doc="level of confidence intervals", minimum=0.5, maximum=1)
    resamples: int = setting(
        2000, doc="bootstrap and permutation resamples", minimum=100, maximum=1_000_000
    )
    seed: int = setting(0, doc="seed of the resampling", minimum=0, maximum=LARGEST_SEED)

    def __post_init__(self) -> None:
        check_metric(self.metric, "statistics.metric", comparable=True)
        if self.margin is not None:
            return
        if self.metric != "dice":
            raise ConfigError(
                where="statistics.margin",
                found="none given",
                expected=f"{self.metric} needs its own, in its own unit",
                action="State the largest loss that would not matter, or 0 for no non-inferiority",
            )
        object.__setattr__(self, "margin", DICE_MARGIN)

    @property
    def named_pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs that the study names; none if it asks for all pairs."""
        return () if self.pairs == "all" else self.pairs
