"""Settings of evaluation and statistics."""

from __future__ import annotations

from dataclasses import dataclass

from lunet.settings import LARGEST_SEED, setting


@dataclass(frozen=True)
class EvaluateSettings:
    """What is measured per case and label."""

    tolerances: tuple[float, ...] = setting(
        (1.0,), doc="NSD tolerances in mm", minimum=0, maximum=1e6
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
        doc="share of a predicted component that must lie in lesions; else it is a false positive",
        minimum=0,
        maximum=1,
    )


@dataclass(frozen=True)
class StatisticsSettings:
    """How results are compared; stated before the study runs."""

    metric: str = setting("dice", doc="primary metric of claims")
    margin: float = setting(0.01, doc="non-inferiority margin of the primary metric", minimum=0)
    reference: str | None = setting(None, doc="preset that the others are compared with; else all")
    pairs: tuple[tuple[str, str], ...] = setting(
        (), doc="only these comparisons, each [preset, reference]; else by `reference`"
    )
    confidence: float = setting(0.95, doc="level of confidence intervals", minimum=0.5, maximum=1)
    resamples: int = setting(
        2000, doc="bootstrap and permutation resamples", minimum=100, maximum=1_000_000
    )
    seed: int = setting(0, doc="seed of the resampling", minimum=0, maximum=LARGEST_SEED)
