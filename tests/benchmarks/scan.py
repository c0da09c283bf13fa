"""Selective scan: time of plain loops with autograd over that of the serial form.

    python tests/benchmarks/scan.py [--length 1728] [--channels 96] [--repeats 5]

Prints the median milliseconds of all forms, taken in turns in one process with one thread, and
the ratios, forward and forward + backward, for three directions stacked, batch 1, 16 states.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lunet.models.selective_scan import blocked_scan, serial_scan

Scan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
DIRECTIONS, STATES = 3, 16


def indexed_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The usual loop: all exponentials first, then an indexed step; gradients by autograd."""
    decay = torch.exp(dt.unsqueeze(-1) * A.unsqueeze(1))
    drive = (dt * u).unsqueeze(-1) * B.unsqueeze(-2)
    state, outputs = torch.zeros_like(drive[0]), []
    for t in range(len(u)):
        state = decay[t] * state + drive[t]
        outputs.append((state * C[t].unsqueeze(-2)).sum(-1))
    return torch.stack(outputs)


def stepwise_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The definition, every step from its own inputs; gradients by autograd."""
    state, outputs = u.new_zeros(*u.shape[1:], A.shape[-1]), []
    for t in range(len(u)):
        decay = torch.exp(dt[t].unsqueeze(-1) * A.unsqueeze(1))
        state = decay * state + (dt[t] * u[t]).unsqueeze(-1) * B[t].unsqueeze(-2)
        outputs.append((state * C[t].unsqueeze(-2)).sum(-1))
    return torch.stack(outputs)


def unbound_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """As the indexed loop, but unbound beforehand: what autograd can do at best."""
    decay = torch.exp(dt.unsqueeze(-1) * A.unsqueeze(1))
    drive = (dt * u).unsqueeze(-1) * B.unsqueeze(-2)
    state, states = torch.zeros_like(drive[0]), []
    for step_decay, step in zip(decay.unbind(0), drive.unbind(0), strict=True):
        state = step_decay * state + step
        states.append(state)
    return (torch.stack(states) * C.unsqueeze(-2)).sum(-1)


def example(length: int, channels: int) -> list[Tensor]:
    """Random inputs of the scan, with gradients."""
    along, states = (length, DIRECTIONS, 1, channels), (length, DIRECTIONS, 1, STATES)
    decays = -torch.exp(torch.randn(DIRECTIONS, channels, STATES))
    steps = functional.softplus(torch.randn(along))
    values = [torch.randn(along), steps, decays, torch.randn(states), torch.randn(states)]
    return [value.requires_grad_() for value in values]


def milliseconds(scan: Scan, inputs: list[Tensor], *, backward: bool) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    with torch.set_grad_enabled(backward):
        y = scan(*inputs)
    if backward:
        torch.autograd.grad(y.sum(), inputs)
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--length", type=int, default=1728)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    inputs = example(options.length, options.channels)
    forms: dict[str, Scan] = {
        "indexed": indexed_scan,
        "stepwise": stepwise_scan,
        "unbound": unbound_scan,
    }
    forms |= {"serial": serial_scan, "blocked": blocked_scan}
    print(f"length {options.length}, channels {options.channels}, one thread")
    for backward in (False, True):
        times: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(options.repeats):
            for name, scan in forms.items():
                times[name].append(milliseconds(scan, inputs, backward=backward))
        median = {name: statistics.median(values) for name, values in times.items()}
        shown = ", ".join(f"{name} {value:.1f} ms" for name, value in median.items())
        ratios = ", ".join(
            f"{name} {value / median['serial']:.1f}" for name, value in median.items()
        )
        kind = "forward + backward" if backward else "forward"
        print(f"{kind}: {shown}\n    over serial: {ratios}")


if __name__ == "__main__":
    main()
