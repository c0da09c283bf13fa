"""Networks of nnU-Net v2 that a study trains as rivals; standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lunet.settings import setting


@dataclass(frozen=True)
class Variant:
    """How nnU-Net makes one of its networks.

    Attributes
    ----------
    planner
        Its class that plans.
    plans
        Name of the plans that this class writes.
    configuration
        The entry of the plans that is trained.
    """

    planner: str
    plans: str
    configuration: str = "3d_fullres"


VARIANTS = {
    "2d": Variant("ExperimentPlanner", "nnUNetPlans", "2d"),
    "3d_fullres": Variant("ExperimentPlanner", "nnUNetPlans"),
    "resenc_m": Variant("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans"),
    "resenc_l": Variant("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans"),
    "resenc_xl": Variant("nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans"),
}


@dataclass(frozen=True)
class RivalSettings:
    """A network that nnU-Net v2 plans and trains on the data and folds of the study.

    It runs in an environment of its own; this package never imports nnU-Net.
    """

    python: str = setting(
        doc="interpreter of the environment in which nnU-Net v2 is installed; `~` and `$NAME` are "
        "expanded"
    )
    network: Literal["2d", "3d_fullres", "resenc_m", "resenc_l", "resenc_xl"] = setting(
        "3d_fullres", doc="nnU-Net's configuration, or its residual encoder preset"
    )
    epochs: int = setting(1000, doc="epochs of the training", minimum=1, maximum=1_000_000)
    iterations: int = setting(250, doc="training steps of an epoch", minimum=1, maximum=1_000_000)
    validation_iterations: int = setting(
        50, doc="patches of nnU-Net's own curve per epoch", minimum=1, maximum=1_000_000
    )

    @property
    def variant(self) -> Variant:
        """How nnU-Net makes the network."""
        return VARIANTS[self.network]

    @property
    def source(self) -> str:
        """What the row is, in words."""
        plural = "" if self.epochs == 1 else "s"
        steps = f"{self.epochs} epoch{plural} of {self.iterations} steps"
        return f"nnU-Net v2, {self.network}, trained by this study for {steps}"
