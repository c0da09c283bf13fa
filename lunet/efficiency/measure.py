"""One fresh process of the measurement: ``python -m lunet.efficiency.measure``.

It reads a job as JSON from standard input and writes the result as JSON to standard output. Each
process measures every series once; the parent (:mod:`lunet.efficiency.run`) starts several and
compares them.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from lunet.efficiency.batches import training_memory
from lunet.efficiency.counts import count_macs, count_parameters
from lunet.efficiency.engines import Source, Unavailable, make_runner, onnx_bytes
from lunet.efficiency.memory import count_memory, measured_peak, training_bytes
from lunet.efficiency.room import Room
from lunet.efficiency.settings import EfficiencySettings
from lunet.gpu_energy import NoCounter, joules_so_far
from lunet.models.build import build_for_task
from lunet.models.single_sample import fast_copy
from lunet.settings import build_settings as build_settings
from lunet.task import Task, task_from_dict
from lunet.training.compute.device import choose_device


class MeasureJob(TypedDict):
    """The job of a process: plain sections, the training batch, and what is to be measured.

    ``network`` and ``training`` are the two parts of :func:`measure_network`; the first process
    also counts. ``engine`` is the recipe's section of that name; empty if no training is measured.
    ``killed`` is why an earlier process with this job was killed: then this one only counts.
    """

    model: dict[str, Any]
    task: dict[str, Any]
    efficiency: dict[str, Any]
    training_batch: int
    engine: dict[str, Any]
    first: bool
    network: bool
    training: bool
    killed: str


class Series(TypedDict):
    """Single latencies, ms, and the processor time by the wall time (None on CUDA)."""

    ms: list[float]
    cpu_share: float | None


WINDOW_S = 10.0  # the counter moves in steps of about 100 ms, so shorter windows mean little
LEAST = 5  # fewest runs of a latency series, whatever its time budget


@dataclass(frozen=True)
class Bench:
    """The network on its device, and the settings of the measurement."""

    model: nn.Module
    task: Task
    settings: EfficiencySettings
    device: str
    training_batch: int

    def shape(self, batch: int) -> tuple[int, ...]:
        """(batch, channel, \\*spatial)."""
        size = self.settings.size[: self.task.dimensions]
        return (batch, len(self.task.channels), *size)

    def image(self, batch: int) -> Tensor:
        """Random input, the same in every process."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.shape(batch), generator=generator).to(self.device)

    def series(self, call: Callable[[], object], *, least: int = LEAST) -> Series:
        """Single latencies, and how much of the processor they had."""
        s = self.settings
        wall, processor = time.perf_counter(), time.process_time()
        values = measure_series(
            call,
            device=self.device,
            warmups=s.warmups,
            repeats=s.repeats,
            budget_s=s.budget_s,
            least=least,
        )
        share = (time.process_time() - processor) / (time.perf_counter() - wall)
        return {"ms": values, "cpu_share": None if self.device == "cuda" else share}


def measure_network(job: MeasureJob) -> dict[str, Any]:
    """Measure what one process measures.

    Returns
    -------
    ``device``; ``network``: what depends on the network and the settings alone; ``training``: what
    depends on the training's batch as well. A part that the job does not ask for is missing.
    Both have ``out_of_memory``: name of a measurement -> why it is missing.
    """
    bench = make_bench(job)
    of_network, of_training = (Room(bench.device, job["killed"]) for _ in range(2))
    network, training = _first(bench, job, of_network, of_training) if job["first"] else ({}, {})
    result: dict[str, Any] = {"device": _device(bench.device)}
    if job["network"]:
        network["latency"], network["left_out"] = _latencies(bench, of_network)
        result["network"] = network | {"out_of_memory": of_network.lost}
    if job["training"]:
        if bench.settings.training_step:
            training["training"] = of_training.measure(
                "training_step", lambda: _training_series(bench)
            )
        result["training"] = training | {"out_of_memory": of_training.lost}
    if job["first"] and job["network"]:
        result["network"]["throughput"] = _throughput(bench, of_network)
        result["network"]["energy"] = of_network.measure(
            "energy",
            lambda: joules_per_volume(_forward_of(bench, bench.image(1)), bench.device),
        )
    return result


def _first(
    bench: Bench, job: MeasureJob, of_network: Room, of_training: Room
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Counts and memory, for which one process is enough: of the network, and of its training."""
    network: dict[str, Any] = {}
    training: dict[str, Any] = {}
    one, batch = bench.shape(1), bench.shape(bench.training_batch)
    on_cpu = copy.deepcopy(bench.model).cpu()
    if job["network"]:
        macs = count_macs(on_cpu, one, of_network)
        network = count_parameters(on_cpu) | macs | count_memory(on_cpu, one)
    if job["training"]:
        training["training_peak_bytes"] = training_bytes(on_cpu, batch, training_step)
    # nothing large may run before memory is measured
    Room(bench.device, job["killed"]).measure("kernels", lambda: _load_kernels(bench))
    if job["network"]:
        network["peak_measured_bytes"] = of_network.measure(
            "peak_measured_bytes",
            lambda: measured_peak(_forward_of(bench, bench.image(1)), bench.device),
        )
    if job["training"] and bench.settings.training_step:
        training["training_peak_measured_bytes"] = of_training.measure(
            "training_peak_measured_bytes", lambda: _measured_step(bench)
        )
    if job["network"]:
        batches = bench.settings.memory_batches if bench.settings.training_step else ()
        network["training_memory"] = training_memory(
            on_cpu,
            one[1:],
            batches,
            two_training_steps,
            device=bench.device,
            room=of_network,
        )
    return network, training


def training_step(model: nn.Module, x: Tensor) -> None:
    """One step: forward pass, torch's own cross entropy, backward pass, a step of Adam."""
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), foreach=False)
    _step(model, x, optimiser)


def two_training_steps(model: nn.Module, x: Tensor) -> None:
    """Two steps with one optimiser: only the second has Adam's moments next to activations."""
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), foreach=False)
    for _ in range(2):
        _step(model, x, optimiser)


def _step(model: nn.Module, x: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    output = model(x)  # kept during the backward pass, as in a training
    cross_entropy(output).backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def cross_entropy(output: Tensor | Sequence[Tensor]) -> Tensor:
    """Torch's own cross entropy of logits (of the main output), for a label of background."""
    logits = (output if isinstance(output, Tensor) else output[0]).float()
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
    classes = torch.zeros(logits[:, 0].shape, dtype=torch.int64, device=logits.device)
    return functional.cross_entropy(logits, classes)


def make_bench(job: MeasureJob) -> Bench:
    """Put the network of a job on its device, and set the process's number of threads."""
    settings = build_settings(EfficiencySettings, job["efficiency"], "efficiency")
    task = task_from_dict(job["task"])
    device = choose_device(settings.device, key="efficiency.device").type
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    model = build_for_task(job["model"], task)
    return Bench(model.to(device).eval(), task, settings, device, job["training_batch"])


def _device(device: str) -> dict[str, Any]:
    about: dict[str, Any] = {"type": device, "torch": str(torch.__version__)}
    if device == "cuda":
        about |= {
            "name": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        }
    else:
        about["threads"] = torch.get_num_threads()
    about["load"] = round(os.getloadavg()[0], 2)
    return about


def _load_kernels(bench: Bench) -> None:
    """A small training step."""
    small = torch.zeros(2, *bench.shape(1)[1:2], *(32,) * bench.task.dimensions)
    training_step(copy.deepcopy(bench.model), small.to(bench.device))


def _measured_step(bench: Bench) -> int | None:
    """Peak memory of a training step."""
    network, batch = copy.deepcopy(bench.model), bench.image(bench.training_batch)
    return measured_peak(lambda: training_step(network, batch), bench.device)


def _forward_of(bench: Bench, x: Tensor) -> Callable[[], None]:
    network = fast_copy(bench.model)

    def forward() -> None:
        with torch.inference_mode():
            network(x)

    return forward


def _latencies(bench: Bench, room: Room) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Series of every batch, precision and engine, and the ones that cannot be measured here."""
    found, left_out = [], []
    settings = bench.settings

    @functools.cache
    def onnx() -> bytes:  # exported once, if any engine needs it
        model = copy.deepcopy(bench.model).cpu()
        return onnx_bytes(model, channels=bench.shape(1)[1], ndim=bench.task.dimensions)

    for engine in settings.engines:
        for precision in settings.precisions:
            for batch in settings.batches:
                head = {"engine": engine, "precision": precision, "batch": batch}
                name = f"{engine} {precision} {batch}"
                measured = functools.partial(_latency, bench, head, onnx)
                try:
                    row = room.measure(name, measured)
                except Unavailable as reason:
                    left_out.append(head | {"reason": str(reason)})
                    continue
                if row is None:
                    left_out.append(head | {"reason": room.lost.pop(name)})
                else:
                    found.append(head | row)
    return found, left_out


def _latency(bench: Bench, head: Mapping[str, Any], onnx: Callable[[], bytes]) -> dict[str, Any]:
    model, x = copy.deepcopy(bench.model), bench.image(head["batch"])
    source = Source(model, x, head["precision"], bench.settings.threads, onnx)
    runner = make_runner(head["engine"], source)
    with torch.inference_mode():
        return {"prepare_s": runner.prepare_s, **bench.series(runner.call)}


def _training_series(bench: Bench) -> Series:
    network = copy.deepcopy(bench.model).train()
    optimiser = torch.optim.Adam(network.parameters())
    x = bench.image(bench.training_batch)
    return bench.series(lambda: _step(network, x, optimiser), least=3)


def _rate(bench: Bench, batch: int) -> float:
    values = sorted(bench.series(_forward_of(bench, bench.image(batch)), least=3)["ms"])
    return 1000 * batch / values[len(values) // 2]


def _throughput(bench: Bench, room: Room) -> dict[str, Any] | None:
    """Volumes per second at the batch where doubling it gains less than 3 %, eager fp32."""
    best: dict[str, Any] | None = None
    batch = 1
    while batch <= bench.settings.throughput_batch:
        measured = functools.partial(_rate, bench, batch)
        rate = room.measure(f"throughput at batch {batch}", measured)
        if rate is None or (best is not None and rate < 1.03 * best["per_s"]):
            break
        best = {"batch": batch, "per_s": round(rate, 6)}
        batch *= 2
    return best


def main() -> None:
    """Read a job, measure, write the result."""
    print(json.dumps(measure_network(json.load(sys.stdin)), allow_nan=False))


def joules_per_volume(call: Callable[[], None], device: str) -> dict[str, Any] | None:
    """Joules of one call on a GPU: total, and above the idle power; None on a CPU.

    The counter (millijoules, Volta and later) is read around a window of 10 s of calls, and for
    the idle power around a tenth of that time without calls.
    """
    if device != "cuda":
        return None
    try:
        return _measure(call, lambda: joules_so_far(device))
    except NoCounter as error:
        return {"left_out": str(error)}


def _measure(call: Callable[[], None], joules: Callable[[], float]) -> dict[str, Any]:
    torch.cuda.synchronize()
    start, before = time.perf_counter(), joules()
    time.sleep(WINDOW_S / 10)
    idle_watts = (joules() - before) / (time.perf_counter() - start)
    start, before, runs = time.perf_counter(), joules(), 0
    while time.perf_counter() - start < WINDOW_S:
        call()
        torch.cuda.synchronize()
        runs += 1
    seconds, used = time.perf_counter() - start, joules() - before
    return {
        "joules_per_volume": used / runs,
        "joules_per_volume_above_idle": (used - idle_watts * seconds) / runs,
        "idle_watts": idle_watts,
        "window_s": seconds,
        "runs": runs,
    }


def measure_series(
    call: Callable[[], object],
    *,
    device: str,
    warmups: int,
    repeats: int,
    budget_s: float,
    least: int = LEAST,
) -> list[float]:
    """Milliseconds of single calls: wall clock on a CPU, CUDA events on a GPU.

    Warm-ups end early when a fifth of the budget is spent, and runs when all of it is, but there
    are at least one warm-up and ``least`` runs. A budget of 0 means no limit.
    """
    clock = _cuda_call if device == "cuda" else _cpu_call
    limit = budget_s or float("inf")
    start = time.perf_counter()
    for _ in range(warmups):
        clock(call)
        if time.perf_counter() - start > limit / 5:
            break
    values: list[float] = []
    while len(values) < repeats:
        values.append(clock(call))
        if len(values) >= least and time.perf_counter() - start > limit:
            break
    return values


def _cpu_call(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def _cuda_call(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


if __name__ == "__main__":
    main()
