"""Uses presets in nnU-Net v2: a plans file from which its own trainer builds the network.

nnU-Net reads network, patch and batch size of a configuration from its plans, both in training and
in inference, so a changed plans file is all that is needed; no code of nnU-Net is replaced. Its
trainer calls :func:`network`, so this package must be installed in the same environment. The
presets have one output, so they need the trainer without deep supervision:

    nnUNetv2_train ID 3d_fullres FOLD -p NAME -tr nnUNetTrainerNoDeepSupervision
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NotRequired, TypedDict

from torch import nn

from lunet.errors import ConfigError, DataError, nearest, shown
from lunet.files import write_json
from lunet.models.build import build_network
from lunet.own_files import claim_files
from lunet.reading import read_record
from lunet.settings import Size


class _Configuration(TypedDict):
    patch_size: NotRequired[list[Size]]


class _Plans(TypedDict):
    """The entries of nnU-Net's plans that are read."""

    plans_name: NotRequired[str]
    configurations: dict[str, _Configuration]


CLASS = "lunet.exchange.nnunet.network"
TRAINER = "nnUNetTrainerNoDeepSupervision"


def network(
    input_channels: int,
    num_classes: int,
    *,
    module: str,
    name: str,
    ndim: int,
    arguments: Mapping[str, Any],
    deep_supervision: bool | None = None,
) -> nn.Module:
    """The network that nnU-Net's trainer requests with the ``arch_kwargs`` of its plans.

    Raises
    ------
    ConfigError
        If the trainer requests deep supervision.
    """
    if deep_supervision:
        advice = f"Add -tr {TRAINER} to nnUNetv2_train"
        raise ConfigError(
            where="nnU-Net's trainer",
            found="deep supervision",
            expected="one output only",
            action=advice,
        )
    model = build_network(
        module,
        name,
        in_channels=input_channels,
        out_channels=num_classes,
        ndim=ndim,
        arguments=dict(arguments),
    )
    # the trainer switches this flag before and after its validation
    decoder: Any = getattr(model, "decoder", None) or SimpleNamespace()
    decoder.deep_supervision = False
    model.decoder = decoder
    return model


def changed_plans(
    plans: Mapping[str, Any],
    model: Mapping[str, Any],
    *,
    name: str,
    configuration: str = "3d_fullres",
    patch: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """nnU-Net's plans with the network of a preset in one configuration.

    Parameters
    ----------
    plans
        Content of nnU-Net's plans file.
    model
        The ``model`` section of the preset: module, name, arguments.
    name
        Name of the new plans, which also keeps their results separate.
    patch
        Voxels in nnU-Net's order of axes (z, y, x); None keeps the patch of the plans.
    batch_size
        Patches per step; None keeps the batch size of the plans.

    Raises
    ------
    ConfigError
        If there is no such configuration, or the patch has another number of axes.
    """
    configurations = plans.get("configurations") or {}
    if configuration not in configurations:
        raise ConfigError(
            where="configuration",
            found=f"found {configuration!r}",
            expected=nearest(configuration, configurations),
        )
    changed = copy.deepcopy(dict(plans))
    chosen = changed["configurations"][configuration]
    own = chosen.get("patch_size") or list(patch or ())
    if patch is not None and len(patch) != len(own):
        raise ConfigError(
            where="patch",
            found=f"{len(patch)} numbers",
            expected=f"{configuration} has {len(own)} axes",
        )
    chosen["patch_size"] = [int(size) for size in patch or own]
    if batch_size is not None:
        chosen["batch_size"] = batch_size
    arguments = dict(model["arguments"])
    if "deep_supervision" in arguments:
        arguments["deep_supervision"] = False  # the trainer reads a single output
    chosen["architecture"] = {
        "network_class_name": CLASS,
        "arch_kwargs": {
            "module": model["module"],
            "name": model["name"],
            "ndim": len(own),
            "arguments": arguments,
        },
        "_kw_requires_import": [],
    }
    changed["plans_name"] = name
    return changed


def export_plans(
    plans: str | Path,
    model: Mapping[str, Any],
    *,
    configuration: str = "3d_fullres",
    patch: Sequence[int] | None = None,
    batch_size: int | None = None,
) -> Path:
    """Write the changed plans next to nnU-Net's own as ``<its name>_<preset>.json``.

    Raises
    ------
    DataError
        If the file does not hold plans of nnU-Net version 2.
    ConfigError
        If a file of that name exists that this command did not write.
    """
    path = Path(plans)
    content = read_record(path, _Plans)
    theirs = content.get("plans_name", path.stem)
    if Path(theirs).name != theirs or not theirs.isprintable():
        raise DataError(
            where=f"{path}: plans_name",
            found=f"found {shown(theirs)}",
            expected="the name of a file",
        )
    name = f"{theirs}_{model['preset']}"
    out = path.with_name(f"{name}.json")
    changed = changed_plans(
        content,
        model,
        name=name,
        configuration=configuration,
        patch=patch,
        batch_size=batch_size,
    )
    with claim_files([out], step="nnunet", inputs=[path]):
        write_json(out, changed)
    return out
