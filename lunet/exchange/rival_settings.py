"""Networks of nnU-Net v2 and MIST that a study trains as rivals; standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lunet.settings import setting


@dataclass(frozen=True)
class Tool:
    """A package that plans, trains and predicts in an environment of its own.

    Attributes
    ----------
    title
        Its name for people.
    package
        The name that pip knows.
    least
        First and second number of the oldest version that is supported.
    script
        File of ``lunet/templates`` that runs it.
    """

    title: str
    package: str
    least: tuple[int, int]
    script: str


NNUNET = Tool("nnU-Net v2", "nnunetv2", (2, 5), "nnunet_rival.py")
MIST = Tool("MIST", "mist-medical", (2, 3), "mist_rival.py")


@dataclass(frozen=True)
class Variant:
    """How a tool makes one of its networks.

    Attributes
    ----------
    planner
        nnU-Net's class that plans; empty for MIST, which has one way.
    plans
        Name of the plans that are written.
    configuration
        The entry of nnU-Net's plans that is trained, or the architecture of MIST.
    tool
        The package.
    """

    planner: str
    plans: str
    configuration: str = "3d_fullres"
    tool: Tool = NNUNET

    @property
    def trained(self) -> str:
        """Folder of a training inside the data set's folder of results."""
        if self.tool is MIST:
            return "mist"
        return f"nnUNetTrainer__{self.plans}__{self.configuration}"


VARIANTS = {
    "2d": Variant("ExperimentPlanner", "nnUNetPlans", "2d"),
    "3d_fullres": Variant("ExperimentPlanner", "nnUNetPlans"),
    "resenc_m": Variant("nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans"),
    "resenc_l": Variant("nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans"),
    "resenc_xl": Variant("nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans"),
    "mist_nnunet": Variant("", "config", "nnunet", MIST),
    "mist_pocket": Variant("", "config", "nnunet-pocket", MIST),
}


@dataclass(frozen=True)
class RivalSettings:
    """A network that nnU-Net v2 or MIST plans and trains on the data and folds of the study.

    It runs in an environment of its own; this package never imports it.
    """

    python: str = setting(
        doc="interpreter of the environment in which nnU-Net v2 or MIST is installed; `~` and "
        "`$NAME` are expanded"
    )
    network: Literal[
        "2d", "3d_fullres", "resenc_m", "resenc_l", "resenc_xl", "mist_nnunet", "mist_pocket"
    ] = setting(
        "3d_fullres",
        doc="nnU-Net's configuration, or its residual encoder preset; or MIST's `nnunet` or "
        "`nnunet-pocket`",
    )
    epochs: int = setting(1000, doc="epochs of the training", minimum=1, maximum=1_000_000)
    iterations: int = setting(250, doc="training steps of an epoch", minimum=1, maximum=1_000_000)
    validation_iterations: int = setting(
        50,
        doc="patches of nnU-Net's own curve per epoch; MIST uses whole volumes",
        minimum=1,
        maximum=1_000_000,
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
        return f"{self.variant.tool.title}, {self.network}, trained by this study for {steps}"
