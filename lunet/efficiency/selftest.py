"""The checks of ``lunet selftest``: those of training, and speed, latency and energy; the report.

Times and ratios are reported and never judged, because a slow machine is no fault.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lunet.efficiency.engines import Source, Unavailable, make_runner, onnx_bytes
from lunet.efficiency.measure import joules_per_volume, measure_series
from lunet.provenance import stamp
from lunet.training import selftest as training
from lunet.training.checkpoint import seed_everything
from lunet.training.compute.arithmetic import Arithmetic, keep_freed_memory, plain_arithmetic
from lunet.training.compute.autotune import candidate_arithmetics, median_seconds
from lunet.training.compute.device import device_facts
from lunet.training.loop import train_step
from lunet.training.recipe import Engine
from lunet.training.selftest import Failed, NotApplicable

_ENGINES = ("eager", "onnx", "openvino")
_ONE_THREAD = Engine(threads=1)  # on a busy machine, several wait for each other
_AGREEMENT = 1e-3  # of the largest logit
_SIZE, _WIDTHS = 24, [4, 4, 4, 4]  # what is timed: voxels per axis, a LUNet of four levels
_QUOTED = re.compile(r"(['\"])[^'\"]*[/\\][^'\"]*\1")
_PATH = re.compile(r"(?<![\w.])(?:~|[A-Za-z]:)?[/\\][^\s'\"<>,;:()]+")


@dataclass(frozen=True)
class Outcome:
    """The result of one check.

    Attributes
    ----------
    check
        Its name.
    state
        ``ok``, ``failed`` or ``not applicable``.
    found
        What was found, without any path.
    seconds
        How long it took.
    """

    check: str
    state: Literal["ok", "failed", "not applicable"]
    found: str
    seconds: float


def run_checks(device: torch.device) -> Iterator[Outcome]:
    """Carry out every check, one after the other; an error of one fails only that one."""
    threads = torch.get_num_threads()
    for name, check in CHECKS.items():
        torch.set_num_threads(threads)  # checks of small networks use fewer
        start = time.perf_counter()
        state, found = _carried_out(check, device)
        yield Outcome(name, state, without_paths(found), round(time.perf_counter() - start, 3))
    torch.set_num_threads(threads)


def _carried_out(
    check: Callable[[torch.device], str], device: torch.device
) -> tuple[Literal["ok", "failed", "not applicable"], str]:
    try:
        return "ok", check(device)
    except NotApplicable as reason:
        return "not applicable", str(reason)
    except Failed as reason:
        return "failed", str(reason)
    except Exception as error:  # on unknown hardware anything may go wrong; the rest is checked
        lines = str(error).splitlines() or [""]
        return "failed", f"{type(error).__name__}: {lines[0]:.300}"


def report(device: torch.device, outcomes: list[Outcome]) -> dict[str, Any]:
    """The content of ``selftest.json``: hardware, versions, results; no names and no paths."""
    return {
        "device": device_facts(device),
        "provenance": stamp(),
        "checks": [asdict(outcome) for outcome in outcomes],
        "failed": sum(outcome.state == "failed" for outcome in outcomes),
    }


def without_paths(text: str) -> str:
    """The text with ``PATH`` in place of each absolute path, and of each path in quotes."""
    return _PATH.sub("PATH", _QUOTED.sub("PATH", text))


def check_speed(device: torch.device) -> str:
    """How many times as fast as a plain loop lunet trains; reported, not judged."""
    usual = plain_arithmetic(_ONE_THREAD, device)
    seconds = median_seconds(_plain_step(usual), usual)
    keep_freed_memory()  # as each training does
    best, name = float("inf"), ""
    for choice in candidate_arithmetics(_ONE_THREAD, usual):
        took = median_seconds(_own_step(choice), choice)
        if took < best:
            best, name = took, f"{choice.precision} {choice.memory_format}"
    return (
        f"a step takes {best * 1e3:.1f} ms in {name}, and {seconds * 1e3:.1f} ms in a plain loop: "
        f"{seconds / best:.2f} times as fast"
    )


def _plain_step(usual: Arithmetic) -> Callable[[], None]:
    """A step as most people write it: float32, no augmentation, torch's Adam."""
    usual.prepare()
    seed_everything(0)
    sampler = training.phantoms(torch.device(usual.device), size=_SIZE).sampler
    model = training.network("UNet", widths=_WIDTHS).to(usual.device).train()
    objective = training.objective()
    optimiser = torch.optim.Adam(model.parameters(), lr=training.RECIPE.optimiser.lr)

    def step() -> None:
        batch = sampler.batch(1, 0)
        optimiser.zero_grad()
        objective(model(batch.image), batch.label).backward()
        optimiser.step()

    return step


def _own_step(choice: Arithmetic) -> Callable[[], None]:
    """The same step as lunet takes it."""
    state = training.short_training(choice, size=_SIZE, widths=_WIDTHS)
    state.augment, state.ema = None, None
    state.model.train()

    def step() -> None:
        state.progress.step = 0
        train_step(state)

    return step


def check_latency(device: torch.device) -> str:
    """The engines that exist here compute the same logits; their times are reported."""
    torch.set_num_threads(1)
    model, x = _network(device)
    expected: np.ndarray | None = None
    parts = []
    for engine in _ENGINES:
        source = Source(model, x, "fp32", 1, lambda: _onnx(model))
        try:
            call = make_runner(engine, source).call
        except Unavailable as reason:
            parts.append(f"{engine} not available ({reason})")
            continue
        with torch.inference_mode():
            found = _logits(call())
            values = measure_series(
                call, device=device.type, warmups=1, repeats=20, budget_s=1.0, least=5
            )
        expected = found if expected is None else expected
        off = float(np.abs(found - expected).max() / np.abs(expected).max())
        if not off <= _AGREEMENT:
            raise Failed(f"the logits of {engine} differ from those of {_ENGINES[0]} by {off:.2g}")
        parts.append(f"{engine} {sorted(values)[len(values) // 2]:.2f} ms")
    return "per volume: " + ", ".join(parts)


def check_energy(device: torch.device) -> str:
    """Joules of a volume on a GPU with a counter."""
    if device.type != "cuda":
        raise NotApplicable("only a GPU has the counter that is read")
    model, x = _network(device)

    def call() -> None:
        with torch.inference_mode():
            model(x)

    found = joules_per_volume(call, device.type) or {}
    if "left_out" in found:
        raise NotApplicable(str(found["left_out"]))
    if not found["joules_per_volume"] > 0:
        raise Failed(f"the counter says {found['joules_per_volume']:.3g} J per volume")
    return f"{found['joules_per_volume']:.3g} J per volume"


def _network(device: torch.device) -> tuple[nn.Module, Tensor]:
    """A small U-Net in evaluation mode, and one volume."""
    seed_everything(0)
    model = training.network("UNet").to(device).eval()
    return model, training.phantoms(device).sampler.batch(1, 0).image[:1]


def _onnx(model: nn.Module) -> bytes:
    return onnx_bytes(model, channels=len(training.TASK.channels), ndim=3)


def _logits(output: Any) -> np.ndarray:
    """What an engine returns as an array (batch, channel, x, y, z)."""
    if isinstance(output, Tensor):
        return output.float().cpu().numpy()
    return np.asarray(output[0], dtype=np.float32)


CHECKS: dict[str, Callable[[torch.device], str]] = {
    **training.CHECKS,
    "speed": check_speed,
    "latency": check_latency,
    "energy": check_energy,
}
"""Name -> check, in the order in which they are carried out."""
