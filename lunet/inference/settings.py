"""Settings of prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lunet.data.settings import DatasetSettings
from lunet.settings import LONGEST_AXIS, setting

WEIGHTS = {"best": "weights.safetensors", "last": "last.safetensors"}
"""``PredictSettings.weights`` -> file of a run."""


@dataclass(frozen=True)
class PredictSettings:
    """How a trained network segments a volume."""

    weights: Literal["best", "last"] = setting("best", doc="which weights of the run")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", doc="where to predict")
    patch: tuple[int, ...] | None = setting(
        None, doc="tile in voxels; unset, the whole volume", minimum=1, maximum=LONGEST_AXIS
    )
    training_patch: bool = setting(
        False, doc="use the preset's training patch as the tile if `patch` is not set"
    )
    overlap: float = setting(0.5, doc="share that tiles overlap", minimum=0, maximum=0.9)
    flip_axes: tuple[int, ...] = setting(
        (), doc="axes of test-time flips (0 is x)", minimum=0, maximum=2
    )
    largest_component: bool = setting(False, doc="keep the largest component of each label")
    threshold: float = setting(
        0.5, doc="probability threshold of sigmoid outputs", minimum=0, maximum=1
    )
    choose: bool = setting(
        False,
        doc="choose threshold, largest component, and whether to flip along `flip_axes`, on the "
        "fold's validation cases",
    )
    memory_gb: float = setting(
        4.0, doc="memory that a whole-volume forward may take", minimum=0, maximum=1e6
    )
    probabilities: bool = setting(
        False, doc="keep a study's probabilities (uint8 steps of log odds), which `lesions` needs"
    )


@dataclass(frozen=True)
class TransferSettings:
    """Another labelled data set that the trained networks are tested on."""

    dataset: DatasetSettings = setting(doc="the other data set, all labelled cases of it")
    map: dict[str, str] = setting(
        doc="each label of the trained networks -> the other data set's label, or `background`"
    )
