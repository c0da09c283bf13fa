"""Settings of external rows: finished predictions made elsewhere; standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lunet.settings import setting


@dataclass(frozen=True)
class ExternalCost:
    """Costs of an external row, as its authors or the user state them; nothing is measured here."""

    parameters: int | None = setting(None, doc="number of parameters", minimum=1)
    macs: float | None = setting(None, doc="multiply-adds of one image", minimum=1)
    latency_ms: float | None = setting(
        None, doc="median time for one image, milliseconds", minimum=1e-6
    )
    memory_mib: float | None = setting(
        None, doc="peak memory of one forward pass, MiB", minimum=1e-6
    )
    device: str = setting("", doc="where the latency and the memory were measured")


@dataclass(frozen=True)
class ExternalSettings:
    """Somebody else's finished predictions as a row of the study."""

    predictions: str = setting(
        doc="folder of the predictions; `~` and `$NAME` are expanded. With `layout: nnunet` the "
        "folder of one training, which holds `fold_0`, `fold_1`, ..."
    )
    layout: Literal["folder", "nnunet"] = setting(
        "folder",
        doc="`folder`: one label file per case, named like the case; `nnunet`: `fold_K/validation` "
        "of nnU-Net, where fold K is fold K of the study",
    )
    role: Literal["model", "reader"] = setting(
        "model",
        doc="`reader`: masks of a second reader. They give the inter-rater line and are compared "
        "only where `statistics` names them",
    )
    map: dict[str, int | str] = setting(
        {},
        doc="their label (a number, or a name in the `dataset.json` next to the predictions) -> "
        "label of the data set (a name or a number) or `background`; labels that are not listed "
        "become background",
    )
    splits: str | None = setting(
        None,
        doc="nnU-Net's `splits_final.json`; by default it is looked for next to the predictions "
        "and in `nnUNet_preprocessed`",
    )
    cost: ExternalCost = setting(ExternalCost(), doc="costs, where they are known")
    source: str = setting("", doc="who or what made the predictions; shown in the report")
