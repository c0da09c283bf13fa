"""Finds where each channel of a network occurs: the tensors that make it and that read it.

A *layer* is a group of channels that can be removed one by one. Its *places* are all the slices of
parameters and buffers that belong to these channels. The rest of pruning (surgery on weights,
gradients, optimiser moments, moving averages) follows from this table.

UNet, LUNet, UNet++ and LUNet++: the output channels of every convolution and up-convolution; in
residual blocks only those between the two convolutions of an addition. MedNeXt: the expanded
channels inside each block. Residual additions, added skips and depthwise convolutions tie the other
channels together into one stream per level. A channel could only be removed from the whole level,
which means a smaller ``width``, not pruning. With global response normalisation or group norm,
channels depend on each other's values: removing even a channel that nothing reads would change the
output, so this is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from lunet.errors import ConfigError
from lunet.models.blocks import NetworkPlan
from lunet.models.planned import PlannedNetwork
from lunet.models.units import ResidualBlock


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
    if isinstance(model, PlannedNetwork):
        return {layer.name: layer for layer in _planned(model)}
    expanded = getattr(model, "expanded", None)
    if expanded is None:
        raise ConfigError(
            where="prune.preset",
            found=f"{type(model).__name__} cannot be pruned",
            expected="a UNet, LUNet, UNet++, LUNet++ or MedNeXt is expected",
        )
    return {name: _expanded(model, name, width) for name, width in expanded.items()}


def arguments_of(
    model: nn.Module, arguments: Mapping[str, Any], widths: Mapping[str, int]
) -> dict[str, Any]:
    """Constructor arguments of a network whose layers have ``widths``, plain JSON values."""
    if not isinstance(model, PlannedNetwork):
        return {**arguments, "expanded": dict(widths)}
    blocks = {
        block: [widths.get(_name(block, index), width) for index, width in enumerate(given)]
        for block, given in model.plan.widths.items()
    }
    replaced = ("convs_per_block", "decoder_convs")
    rest = {key: value for key, value in arguments.items() if key not in replaced}
    return rest | {"widths": blocks}


def _planned(model: PlannedNetwork) -> list[Layer]:
    plan = model.plan
    if model.style.norm == "group":
        raise ConfigError(
            where="prune.preset",
            found="a network with norm: group",
            expected="group norm ties the channels of a group to each other",
            action="Prune one with another norm",
        )
    tensors, parts = set(model.state_dict()), dict(model.named_modules())
    deepest = max(_level(name) for name in plan.widths)
    found = []
    for block, widths in plan.widths.items():
        depth = deepest + 1 if block == "bottleneck" else _level(block)
        residual = isinstance(parts[block], ResidualBlock)
        for index, width in enumerate(widths):
            if residual and not _is_inner(index, len(widths)):
                continue
            readers = _readers(plan, block, index) + _side_heads(parts, block, index, widths)
            found.append(_convolution(block, index, width, depth, readers, tensors))
    return found


def _is_inner(index: int, count: int) -> bool:
    """Whether a convolution of a residual block is the first of a pair, which no sum contains."""
    stem = count % 2
    return index >= stem and (index - stem) % 2 == 0


def _name(block: str, index: int) -> str:
    """Name of the layer of convolution ``index`` of a block."""
    return block if _is_up(block) else f"{block}.{index}"


def _convolution(
    block: str,
    index: int,
    width: int,
    depth: int,
    readers: tuple[WeightAxis, ...],
    tensors: Collection[str],
) -> Layer:
    name = _name(block, index)
    if _is_up(block):  # a transposed convolution's weight is (in, out, *kernel)
        raised = (WeightAxis(f"{block}.weight", 1), WeightAxis(f"{block}.bias"))
        return Layer(block, block, width, depth, block, None, raised, readers)
    norm = ("weight", "bias", "running_mean", "running_var")
    makers = tuple(
        WeightAxis(tensor)
        for kind in ("conv.weight", "conv.bias", *(f"norm.{kind}" for kind in norm))
        if (tensor := f"{name}.{kind}") in tensors
    )
    dropout = None if block == "head" else f"{name}.dropout"
    return Layer(name, block, width, depth, f"{name}.relu", dropout, makers, readers)


def _side_heads(
    parts: Mapping[str, nn.Module], block: str, index: int, widths: Sequence[int]
) -> tuple[WeightAxis, ...]:
    """The head for deep supervision that reads the output of a decoder block."""
    head = block.replace("decoder.", "side_heads.")
    if head == block or head not in parts or index + 1 < len(widths):
        return ()
    return (WeightAxis(f"{head}.weight", 1),)


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
