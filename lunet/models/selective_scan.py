"""Selective state-space scan (Mamba, arXiv 2312.00752) in plain PyTorch.

h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t,  y_t = <C_t, h_t>,  h_0 = 0

All arrays are time-major and hold several directions (each with its own A), so that the loop over
time runs once: ``u, dt`` (length, directions, batch, channels), ``B, C`` (length, directions,
batch, states), ``A`` (directions, channels, states). There are three forms with equal results:

* serial, for the CPU: in place, states kept only at block borders, backward written by hand;
* blocked, for accelerators and export: two loops of about sqrt(length) wide steps;
* the CUDA kernel of the package ``mamba_ssm``, if it is installed.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

BLOCK = 64
"""Steps between kept states: a block of 3 x 96 x 16 float32 states stays in a core's cache."""


def selective_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Scan along the first axis; shapes as in the module's docstring; ``dt`` > 0 and ``A`` < 0.

    Returns y (length, directions, batch, channels) in float32, or float64 if any input is float64.
    The state always has at least float32's precision: autocast is switched off inside.
    """
    wide = torch.float64 if torch.float64 in {x.dtype for x in (u, dt, A, B, C)} else torch.float32
    u, dt, A, B, C = (x.to(wide) for x in (u, dt, A, B, C))
    # meta tensors (for counting operations) have no autocast of their own
    with torch.autocast("cpu" if u.is_meta else u.device.type, enabled=False):
        return _form(u)(u, dt, A, B, C)


def _form(u: Tensor) -> Callable[..., Tensor]:
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return blocked_scan
    if u.device.type == "cpu":
        return serial_scan
    has_kernel = u.is_cuda and u.dtype == torch.float32 and _mamba_kernel() is not None
    return _kernel_scan if has_kernel else blocked_scan


@torch.compiler.disable
def serial_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The scan as a loop over time, for the CPU. Differentiable once; memory ~ length / BLOCK."""
    result: Tensor = _SerialScan.apply(u, dt, A, B, C)
    return result


class _SerialScan(torch.autograd.Function):
    """Forward in place per block; backward recomputes each block and reverses the recurrence."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        state = u.new_zeros(u.shape[1], u.shape[2], A.shape[1], A.shape[2])
        y, borders = torch.empty_like(u), []
        with _one_thread():
            for part in _blocks(len(u)):
                borders.append(state)
                _, states = _block_states(u[part], dt[part], A, B[part], state)
                y[part] = (states @ C[part].unsqueeze(-1)).squeeze(-1)
                state = states[-1].clone()
        ctx.save_for_backward(u, dt, A, B, C, torch.stack(borders))
        return y

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        u, dt, A, B, C, borders = ctx.saved_tensors
        du, ddt, dA, dB, dC = (torch.zeros_like(x) for x in (u, dt, A, B, C))
        later = torch.zeros_like(borders[0])
        with _one_thread():
            for part, start in reversed(list(zip(_blocks(len(u)), borders, strict=True))):
                decay, states = _block_states(u[part], dt[part], A, B[part], start)
                g = _block_gradients(dy[part], C[part], decay, later)
                later = decay[0] * g[0]
                dC[part] = (dy[part].unsqueeze(-2) @ states).squeeze(-2)
                dB[part] = ((dt[part] * u[part]).unsqueeze(-2) @ g).squeeze(-2)
                along_b = (g @ B[part].unsqueeze(-1)).squeeze(-1)
                du[part] = dt[part] * along_b
                # gradient of the exponent dt A, stored over the decays
                exponent = decay.mul_(g)
                exponent[1:].mul_(states[:-1])
                exponent[0].mul_(start)
                ddt[part] = u[part] * along_b + (exponent * A.unsqueeze(1)).sum(-1)
                dA += (exponent * dt[part].unsqueeze(-1)).sum((0, 2))
        return du, ddt, dA, dB, dC


def _blocks(length: int) -> list[slice]:
    return [slice(first, min(first + BLOCK, length)) for first in range(0, length, BLOCK)]


def _block_states(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    start: Tensor,
) -> tuple[Tensor, Tensor]:
    """Decays exp(dt A) and states of a block, (steps, directions, batch, channels, states)."""
    decay = (dt.unsqueeze(-1) * A.unsqueeze(1)).exp_()
    states = (dt * u).unsqueeze(-1) * B.unsqueeze(-2)
    state = start
    for step_decay, step in zip(decay.unbind(0), states.unbind(0), strict=True):
        state = step.addcmul_(step_decay, state)
    return decay, states


def _block_gradients(dy: Tensor, C: Tensor, decay: Tensor, later: Tensor) -> Tensor:
    """Gradient of each state of a block; ``later`` comes from the following block."""
    g = dy.unsqueeze(-1) * C.unsqueeze(-2)
    g[-1] += later
    decays, steps = decay.unbind(0), g.unbind(0)
    for t in range(len(steps) - 2, -1, -1):
        steps[t].addcmul_(decays[t + 1], steps[t + 1])
    return g


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: the loop's operations are tiny, and threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def blocked_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The scan in two levels of about sqrt(length) wide steps, for accelerators and export."""
    decay = torch.exp(dt.unsqueeze(-1) * A.unsqueeze(1))
    drive = (dt * u).unsqueeze(-1) * B.unsqueeze(-2)
    is_plain = torch.compiler.is_exporting() or torch.jit.is_tracing()
    states = _recurrence(decay, drive) if is_plain else _Recurrence.apply(decay, drive)
    return (states * C.unsqueeze(-2)).sum(-1)


class _Recurrence(torch.autograd.Function):
    """h_t = decay_t h_{t-1} + drive_t along the first axis; its gradient is the same, reversed."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, drive: Tensor) -> Tensor:
        states = _recurrence(decay, drive)
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        decay, states = ctx.saved_tensors
        following = torch.cat([torch.zeros_like(decay[:1]), decay[1:].flip(0)])
        g = _recurrence(following, dy.flip(0)).flip(0)
        before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
        return g * before, g


def _recurrence(decay: Tensor, drive: Tensor) -> Tensor:
    """Step through all blocks at once, then from block to block. Decays <= 1 cannot overflow."""
    length = len(drive)
    steps = math.ceil(math.sqrt(length))
    spare = [0, 0] * (drive.ndim - 1) + [0, -length % steps]
    decays = functional.pad(decay, spare).unflatten(0, (-1, steps)).unbind(1)
    drives = functional.pad(drive, spare).unflatten(0, (-1, steps)).unbind(1)
    local, reach = [drives[0]], [decays[0]]
    for step_decay, step in zip(decays[1:], drives[1:], strict=True):
        local.append(step_decay * local[-1] + step)
        reach.append(step_decay * reach[-1])
    carried = [torch.zeros_like(drive[0])]
    for last, through in zip(local[-1].unbind(0), reach[-1].unbind(0), strict=True):
        carried.append(through * carried[-1] + last)
    start = torch.stack(carried[:-1]).unsqueeze(1)
    states = torch.stack(local, dim=1) + torch.stack(reach, dim=1) * start
    return states.flatten(0, 1)[:length]


@cache
def _mamba_kernel() -> Callable[..., Tensor] | None:
    if find_spec("mamba_ssm") is None:
        return None
    interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    kernel: Callable[..., Tensor] = interface.selective_scan_fn
    return kernel


def _kernel_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """``mamba_ssm``'s kernel, where directions are groups of channels and time is the last axis."""
    kernel = _mamba_kernel()
    if kernel is None:
        return blocked_scan(u, dt, A, B, C)
    flat_u, flat_dt = (x.permute(2, 1, 3, 0).flatten(1, 2).contiguous() for x in (u, dt))
    grouped_b, grouped_c = (x.permute(2, 1, 3, 0).contiguous() for x in (B, C))
    y = kernel(flat_u, flat_dt, A.flatten(0, 1).contiguous(), grouped_b, grouped_c)
    return y.unflatten(1, (u.shape[1], u.shape[3])).permute(3, 1, 0, 2)
