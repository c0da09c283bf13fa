"""Checks the gradients of an arithmetic on a real training step against plain float32.

A kernel may be fast and wrong: on some machines torch 2.13 returns uninitialised memory as the
weight gradient of bf16 convolutions whose first axis has two voxels. No list of such cases is ever
complete, so anything but plain float32 is compared before it is used, on the batch, the network and
the machine of the training itself.

Gradients of whole networks are a poor test in half precision: a correct bf16 step through a small
U-Net has weights whose gradient points in the opposite direction (cosine -0.9 at 4x4x6 voxels, 0.49
at 32^3), because rounding in one layer changes activations and batch statistics of the next. So
each layer is compared separately: its inputs and output gradients of the step are passed through it
in float32. In float32 the network is also compared as a whole, which covers pooling, upsampling and
compiled networks. In some steps rounding changes even these gradients, because it decides which of
two nearly equal voxels a max pooling takes. So they may differ by as much as a change of the image
in the size of rounding does to them.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from lunet.training.compute.arithmetic import Arithmetic
from lunet.training.losses.build import Objective
from lunet.training.volumes import Batch


@dataclass(frozen=True)
class Bounds:
    """How much a gradient may differ from float32's.

    Attributes
    ----------
    cosine
        Smallest cosine between them.
    change
        Largest relative difference of their norms.
    """

    cosine: float
    change: float


BOUNDS = {"fp32": Bounds(0.999, 0.02), "bf16": Bounds(0.99, 0.05), "fp16": Bounds(0.99, 0.05)}
"""For the gradients of a layer, by precision.

Correct bf16 reached 0.9999 in the layers of U-Net, U-Net++ and Slim UNETRV2, with norms within 1 %,
and float32 in another layout more. Gradients of whole networks cannot be used in bf16: correct ones
went down to 0.49. In float32 correct ones are mostly above 0.9999, but were below 0.999 in one of
the first 20 trainings of ``config/smallest.yaml``.
"""
_ROUNDING = 1e-5
"""Relative change of the image: what rounding in all layers of a float32 network adds up to."""
_CHANGES, _SLACK = 3, 4.0  # changes that are tried, and multiple of the largest that is accepted
NEGLIGIBLE = 1e-3
"""Share of the largest norm of its kind below which a gradient has no direction to compare."""
NOISE = 0.01
"""Largest norm, as such a share, of a gradient that is negligible in float32."""
_SCALES = (2.0**16, 2.0**12, 2.0**8, 2.0**4, 1.0)  # in a training, the scaler finds one that works
_LITTER = 7e4  # larger than any gradient, and beyond fp16

_LAYERS = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.Linear,
)
Gradients = dict[str, Tensor]


@dataclass
class _Call:
    """One call of a layer in a step: its input, and the gradients of output and input."""

    x: Tensor
    of_output: list[Tensor] = field(default_factory=list)
    of_input: list[Tensor] = field(default_factory=list)


def reference(arithmetic: Arithmetic) -> Arithmetic:
    """Plain float32 on the same device: no autocast, no layout, no compilation, no graph."""
    return replace(
        arithmetic, precision="fp32", memory_format="contiguous", compile=False, graph=False
    )


def find_fault(
    arithmetic: Arithmetic, make: Callable[[], nn.Module], batch: Batch, objective: Objective
) -> str | None:
    """Why an arithmetic must not be used; None if its gradients are correct.

    Two steps with the same weights and batch must be finite and equal (bit by bit on a CPU, if
    plain float32 is). Each layer must have the same gradients as in float32, and in float32 so must
    the whole network but for rounding. Compiled networks have no separate layers: these are
    compared before compilation, and the compiled network as a whole in float32.

    Parameters
    ----------
    arithmetic
        The candidate.
    make
        Builds a new network.
    batch, objective
        A real batch on the device, and the loss.
    """
    plain = reference(arithmetic)
    if arithmetic == plain:
        return None
    model = make()
    step = _Step(model, batch, objective)
    eager = replace(arithmetic, compile=False)
    reason = _fault_of_layers(step, eager) if eager != plain else None
    if reason:
        return reason
    expected = step.gradients(plain)
    whole = replace(arithmetic, precision="fp32")
    if whole != plain:
        found = step.gradients(whole)
        reason = disagreement(found, expected, BOUNDS["fp32"])
        if reason and disagreement(found, expected, _bounds_of_rounding(step, plain, expected)):
            return reason
    one, two = step.gradients(arithmetic), step.gradients(arithmetic)
    reason = _not_finite(one) or _not_finite(two)
    if reason or arithmetic.device != "cpu":
        return reason
    unequal = _unequal(one, two)
    # if steps also differ in plain float32, this proves nothing about the arithmetic
    if unequal and not _unequal(expected, step.gradients(plain)):
        return f"two equal steps give different gradients of {unequal}"
    return None


@dataclass(frozen=True)
class _Step:
    """A training step that does not change the network."""

    model: nn.Module
    batch: Batch
    objective: Objective

    def gradients(self, arithmetic: Arithmetic) -> Gradients:
        """The gradient of each weight, converted to float32 on the CPU."""
        return self.watched(arithmetic)[0]

    def watched(
        self, arithmetic: Arithmetic, watch: Callable[[nn.Module], None] | None = None
    ) -> tuple[Gradients, nn.Module, float]:
        """Gradients, the network that they belong to, and the factor of its loss."""
        arithmetic.prepare()
        scales = _SCALES if arithmetic.precision == "fp16" else _SCALES[-1:]
        for scale in scales:
            computed = arithmetic.place(_without_dropout(self.model))
            if watch:
                watch(computed)
            _litter(computed)
            forward = arithmetic.compiled(computed, graphs=False)
            with arithmetic.autocast():
                outputs = forward(arithmetic.arrange(self.batch.image))
                loss = self.objective(outputs, self.batch.label)
            (loss * scale).backward()
            found = _gradients(computed, scale)
            if scale == scales[-1] or not _not_finite(found):
                break
        return found, computed, scale


def _fault_of_layers(step: _Step, arithmetic: Arithmetic) -> str | None:
    calls: dict[str, list[_Call]] = {}

    def watch(model: nn.Module) -> None:
        calls.clear()
        for name, layer in model.named_modules():
            if isinstance(layer, _LAYERS):
                _watch(layer, calls.setdefault(name, []))

    found, model, scale = step.watched(arithmetic, watch)
    own: Gradients = {}
    expected: Gradients = {}
    inputs: tuple[Gradients, Gradients] = ({}, {})
    for name, met in calls.items():
        layer = _recomputed(model.get_submodule(name), met)
        for key, gradient in _gradients(layer, scale).items():
            own[f"{name}.{key}"] = found.get(f"{name}.{key}", torch.zeros_like(gradient))
            expected[f"{name}.{key}"] = gradient
        for number, call in enumerate(met):
            if call.of_input and call.x.grad is not None:
                key = f"the input of {name}" + (f" ({number})" if number else "")
                inputs[0][key] = call.of_input[0].to("cpu", torch.float32)
                inputs[1][key] = call.x.grad.to("cpu", torch.float32)
    bounds = BOUNDS[arithmetic.precision]
    reason = _not_finite(found) or disagreement(own, expected, bounds)
    return reason or disagreement(*inputs, bounds)


def _watch(layer: nn.Module, calls: list[_Call]) -> None:
    """Record the input and gradients of each call of a layer."""

    def before(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = arguments[0]
        calls.append(call := _Call(x.detach()))
        if x.requires_grad:
            x = x.view_as(x)  # other layers may read the same tensor; this view's gradient is ours
            x.register_hook(lambda gradient: call.of_input.append(gradient.detach()))
        return (x, *arguments[1:])

    def after(_: nn.Module, arguments: tuple[Tensor, ...], y: Tensor) -> None:
        call = calls[-1]
        if y.requires_grad:
            y.register_hook(lambda gradient: call.of_output.append(gradient.detach()))

    layer.register_forward_pre_hook(before)
    layer.register_forward_hook(after)


def _recomputed(layer: nn.Module, calls: list[_Call]) -> nn.Module:
    """A copy of a layer with the gradients of these calls, computed in plain float32."""
    again = copy.copy(layer)
    again._forward_pre_hooks = OrderedDict()
    again._forward_hooks = OrderedDict()
    again = copy.deepcopy(again)
    for parameter in again.parameters():
        parameter.grad, parameter.data = None, parameter.data.contiguous()
    for call in calls:
        if call.of_output:
            call.x = call.x.float().contiguous().requires_grad_()
            again(call.x).backward(call.of_output[0].float().contiguous())
    return again


def _gradients(model: nn.Module, scale: float) -> Gradients:
    return {
        name: weight.grad.detach().to("cpu", torch.float32, copy=True) / scale
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


def _without_dropout(model: nn.Module) -> nn.Module:
    """A copy in training mode without dropout, whose random numbers differ between arithmetics."""
    computed = copy.deepcopy(model).train()
    for module in computed.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    return computed


def _bounds_of_rounding(step: _Step, plain: Arithmetic, expected: Gradients) -> Bounds:
    """The bounds of float32, or wider ones if rounding alone changes this step by more."""
    cosine, change = 1.0, 0.0
    image = step.batch.image
    for number in range(_CHANGES):
        draw = torch.Generator().manual_seed(number)
        noise = torch.randn(image.shape, generator=draw).to(image)
        changed = replace(step.batch, image=image * (1 + _ROUNDING * noise))
        for _, near, ratio in _compared(replace(step, batch=changed).gradients(plain), expected):
            cosine, change = min(cosine, near), max(change, abs(ratio - 1))
    least = BOUNDS["fp32"]
    return Bounds(min(least.cosine, 1 - _SLACK * (1 - cosine)), max(least.change, _SLACK * change))


def disagreement(found: Gradients, expected: Gradients, bounds: Bounds) -> str | None:
    """A message about the first weight whose gradient differs from float32's; None if all agree.

    Parameters
    ----------
    found, expected
        Gradients by weight, of the candidate and of plain float32.
    bounds
        How much they may differ.
    """
    if found.keys() != expected.keys():
        names = sorted(found.keys() ^ expected.keys())
        return f"the gradient of {names[0]} exists in only one arithmetic"
    reason = _not_finite(found)
    if reason:
        return reason
    largest = max(map(_norm, expected.values()), default=0.0)
    for name, gradient in found.items():
        least, norm = _norm(expected[name]), _norm(gradient)
        if least <= NEGLIGIBLE * largest and norm > NOISE * largest:
            return f"the gradient of {name} is {norm:.2g} instead of {least:.2g}"
    for name, cosine, ratio in _compared(found, expected):
        if abs(ratio - 1) > bounds.change or cosine < bounds.cosine:
            return (
                f"the gradient of {name} differs from float32's: "
                f"cosine {cosine:.4f}, ratio of norms {ratio:.3g}"
            )
    return None


def _compared(found: Gradients, expected: Gradients) -> Iterator[tuple[str, float, float]]:
    """Name, cosine and ratio of norms of each gradient that is not negligible."""
    norms = {name: _norm(gradient) for name, gradient in expected.items()}
    largest = max(norms.values(), default=0.0)
    for name, gradient in found.items():
        if norms[name] > NEGLIGIBLE * largest:
            norm = _norm(gradient)
            yield name, _cosine(gradient, expected[name]) if norm else 0.0, norm / norms[name]


def _not_finite(found: Gradients) -> str | None:
    bad = next((name for name, value in found.items() if not bool(value.isfinite().all())), None)
    return f"the gradient of {bad} is not finite" if bad else None


def _unequal(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> str | None:
    return next((name for name in one if not torch.equal(one[name], two[name])), None)


def _norm(gradient: Tensor) -> float:
    return float(gradient.double().norm())


def _cosine(one: Tensor, two: Tensor) -> float:
    a, b = one.double().flatten(), two.double().flatten()
    value = float(a @ b / (a.norm() * b.norm()))
    return value if math.isfinite(value) else 0.0


def _litter(model: nn.Module) -> None:
    """Leave large numbers in freed memory, to expose a kernel that does not write its result."""
    kinds = (torch.float32, torch.bfloat16)
    litter = [torch.full_like(p, _LITTER, dtype=kind) for p in model.parameters() for kind in kinds]
    del litter
