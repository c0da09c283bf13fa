"""Finds where each channel of a network occurs: the tensors that make it and that read it.

A *layer* is a group of channels that can be removed one by one. Its *places* are all the slices of
parameters and buffers that belong to these channels. The rest of pruning (surgery on weights,
gradients, optimiser moments, moving averages) follows from this table.

UNet, LUNet, UNet++ and LUNet++: the output channels of every convolution and up-convolution.
MedNeXt: the expanded channels inside each block. Residual additions, added skips and depthwise
convolutions tie its other channels together into one stream per level. A channel could only be
removed from the whole level, which means a smaller ``width``, not pruning. With global response
normalisation, a block's expanded channels depend on their mean: removing even a channel that
nothing reads would change the output, so this is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lunet.errors import ConfigError
from lunet.models.blocks import NetworkPlan


@dataclass(frozen=True)
class WeightAxis:
    """Channel ``c`` of a layer is at index ``offset + c`` of ``axis`` of ``tensor``."""

    tensor: str
    axis: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Layer:
    """A group of channels that can be removed one by one.

    Attributes
    ----------
    name
        ``encoder.0.1`` (second convolution of that block), ``up.2``, ``head.0``.
    block, width, depth
        Block that it belongs to, number of channels, level (0 is full resolution).
    signal
        Name of the module whose output, (batch, width, \\*spatial), is its activation.
    dropout
        Name of the module that drops its channels, if there is one.
    makers, readers
        Places that make these channels, and places that read them.
    """

    name: str
    block: str
    width: int
    depth: int
    signal: str
    dropout: str | None
    makers: tuple[WeightAxis, ...]
    readers: tuple[WeightAxis, ...]

    @property
    def places(self) -> tuple[WeightAxis, ...]:
        """All places of its channels."""
        return self.makers + self.readers


def layers_of_network(model: nn.Module) -> dict[str, Layer]:
    """The layers of a network by name, in the order of registration.

    Raises
    ------
    ConfigError
        If channels of this architecture cannot be removed.
    """
    plan = getattr(model, "plan", None)
    if isinstance(plan, NetworkPlan):
        return {layer.name: layer for layer in _planned(plan)}
    expanded = getattr(model, "expanded", None)
    if expanded is None:
        raise ConfigError(
            where="prune.preset",
            found=f"{type(model).__name__} cannot be pruned",
            expected="a UNet, LUNet, UNet++, LUNet++ or MedNeXt is expected",
        )
    return {name: _expanded(model, name, width) for name, width in expanded.items()}


def arguments_of(
    arguments: Mapping[str, Any], layers: Mapping[str, Layer], widths: Mapping[str, int]
) -> dict[str, Any]:
    """Constructor arguments of a network whose layers have ``widths``, plain JSON values."""
    if any(layer.signal.endswith(".gelu") for layer in layers.values()):
        return {**arguments, "expanded": dict(widths)}
    blocks: dict[str, list[int]] = {}
    for name, layer in layers.items():
        blocks.setdefault(layer.block, []).append(widths[name])
    rest = {key: value for key, value in arguments.items() if key != "convs_per_block"}
    return rest | {"widths": blocks}


def _planned(plan: NetworkPlan) -> list[Layer]:
    deepest = max(_level(name) for name in plan.widths)
    found = []
    for block, widths in plan.widths.items():
        depth = deepest + 1 if block == "bottleneck" else _level(block)
        for index, width in enumerate(widths):
            readers = _readers(plan, block, index)
            found.append(_convolution(block, index, width, depth, readers))
    return found


def _convolution(
    block: str, index: int, width: int, depth: int, readers: tuple[WeightAxis, ...]
) -> Layer:
    if _is_up(block):  # a transposed convolution's weight is (in, out, *kernel)
        raised = (WeightAxis(f"{block}.weight", 1), WeightAxis(f"{block}.bias"))
        return Layer(block, block, width, depth, block, None, raised, readers)
    name = f"{block}.{index}"
    norm = ("weight", "bias", "running_mean", "running_var")
    makers = tuple(
        WeightAxis(f"{name}.{tensor}")
        for tensor in ("conv.weight", "conv.bias", *(f"norm.{kind}" for kind in norm))
    )
    dropout = None if block == "head" else f"{name}.dropout"
    return Layer(name, block, width, depth, f"{name}.relu", dropout, makers, readers)


def _readers(plan: NetworkPlan, block: str, index: int) -> tuple[WeightAxis, ...]:
    """Where other convolutions read the output of convolution ``index`` of a block.

    The offset in a concatenation is the total width of the parts before it, which is no longer half
    of the channels after one of the parts was pruned.
    """
    if index + 1 < len(plan.widths[block]):
        return (WeightAxis(f"{block}.{index + 1}.conv.weight", 1),)
    consumers = plan.consumers(block)
    if not consumers:
        return (WeightAxis("project.weight", 1),)
    return tuple(
        WeightAxis(f"{name}.weight", 0, offset)
        if _is_up(name)
        else WeightAxis(f"{name}.0.conv.weight", 1, offset)
        for name, offset in consumers
    )


def _is_up(block: str) -> bool:
    return block.startswith("up.")


def _level(block: str) -> int:
    """Level of ``encoder.2``, ``up.2_1``, ``node.2_1``; 0 for the head."""
    return int(block.split(".")[1].split("_")[0]) if "." in block else 0


def _expanded(model: nn.Module, name: str, width: int) -> Layer:
    mix = f"{name}.mix"
    parts = dict(model.get_submodule(mix).named_children())
    if "grn" in parts:
        raise ConfigError(
            where="prune.preset",
            found="a MedNeXt with grn: true",
            expected="global response normalisation ties the expanded channels to each other",
            action="Prune a MedNeXt without it",
        )
    stage = name.split(".")[1] if "." in name else ""
    depth = int(stage.split("_")[1]) if "_" in stage else int(getattr(model, "levels", 0))
    makers = (WeightAxis(f"{mix}.expand.weight"), WeightAxis(f"{mix}.expand.bias"))
    readers = (WeightAxis(f"{mix}.compress.weight", 1),)
    dropout = f"{mix}.dropout" if "dropout" in parts else None
    return Layer(name, name, width, depth, f"{mix}.gelu", dropout, makers, readers)
