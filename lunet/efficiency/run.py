"""Measures the cost of one preset in several fresh processes and writes ``efficiency.json``."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lunet.efficiency.kept import Kept, kept, machine
from lunet.efficiency.settings import EfficiencySettings
from lunet.errors import ConfigError, LunetError, is_out_of_memory
from lunet.files import write_json
from lunet.locks import exclusive
from lunet.provenance import cpu_model
from lunet.settings import plain
from lunet.task import task_from_dict

if TYPE_CHECKING:
    from lunet.efficiency.measure import MeasureJob, Series

_CHILD, _ENGINE_CHILD = "lunet.efficiency.measure", "lunet.efficiency.training_engine"
_ALL: dict[str, Any] = {"first": True, "network": True, "training": True, "killed": ""}
_HEAD = ("engine", "precision", "batch")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
DEFINITIONS = {
    "macs": "multiply-adds of convolutions, linear layers and matrix products of one forward pass "
    "at batch 1 (half of torch's FlopCounterMode); flops = 2 macs",
    "macs_fvcore": "fvcore's count: the same with batch norm 2, group and layer norm 5 per element",
    "latency": "single forward passes; percentiles over all processes",
    "jitter_ms": "population standard deviation of the single latencies",
    "p99_ms": "from 200 runs or more, else null",
    "cpu_share": "lowest ratio of processor time to wall time among the processes; null on CUDA",
    "load": "the highest load average over one minute, of the system, when a process had started",
    "busy": "a process had less than 90 % of a processor, or the load exceeded the number of "
    "processors: the times are those of a machine that did other work as well",
    "unstable": "the medians of the fresh processes (of the two halves of a single one) differ by "
    "more than 3 %, or a process had less than 90 % of a processor",
    "kernels": "single samples on a CPU: 3x3x3 convolutions by oneDNN, as in prediction",
    "peak_measured_bytes": "growth of the process (of the allocator on CUDA) during a forward pass "
    "at batch 1; training_peak_measured_bytes during a training step",
    "peak_memory_bytes": "peak of the live tensors of a forward pass at batch 1, counted, without "
    "weights, input and the scratch memory of kernels",
    "activation_bytes": "bytes that autograd keeps from one forward pass at batch 1",
    "training_step": "forward, cross entropy, backward, Adam, at the recipe's batch size, eager "
    "fp32; training_peak_bytes is the peak of its live tensors, without weights and input",
    "training_memory": "two such steps by batch size, with weights, input and Adam's moments: "
    "counted_bytes are live tensors, measured_bytes the growth of the process or of CUDA's "
    "allocator",
    "training_engine": "such steps as in a training: each numerical method that the recipe allows, "
    "in the order in which a training tries them; growth_bytes: growth of the process, or "
    "of CUDA's allocator, so far; process_bytes: the process before the steps, on CUDA after them",
    "throughput": "eager fp32, at the batch where doubling it gains less than 3 %",
    "out_of_memory": "measurements that are missing because the memory was full, with the reason",
}


def measure_efficiency(
    *,
    model: Mapping[str, Any],
    task: Mapping[str, Any],
    settings: EfficiencySettings,
    out: str | Path,
    training_batch: int = 1,
    engine: Mapping[str, Any] | None = None,
    advance: Callable[[], object] = lambda: None,
    keep: Path | None = None,
    code: str = "",
) -> dict[str, Any]:
    """Measure one preset and write ``out`` (strict JSON).

    Parameters
    ----------
    model, task
        The sections ``model`` and ``task``.
    settings
        Sizes, batches, engines, repeats, processes.
    training_batch
        Batch of the training step.
    engine
        Section ``engine`` of the recipe; None leaves ``training_engine`` out.
    advance
        Called after each fresh process; :func:`processes_of` gives their number.
    keep
        Folder of the results that are kept and not measured again; processes that measure the
        same wait for each other. None keeps nothing.
    code
        Digest of the code that measures, with the network's.

    Returns
    -------
    The content of the file: ``parameters``, ``macs``, ``flops``, ``macs_fvcore``, ``counters``,
    ``latency`` (see :func:`summarise_latencies`), ``left_out`` (engines that could not run, with
    the reason), memory in bytes, ``training_step_ms``, ``throughput``, ``training_memory``
    (see :func:`lunet.efficiency.batches.training_memory`), ``training_engine`` (see
    :mod:`lunet.efficiency.training_engine`), ``energy``, ``device``, ``busy``, ``definitions``;
    ``out_of_memory``: measurement -> why it is missing.

    Raises
    ------
    ConfigError
        If the size does not have the task's dimensions.
    LunetError
        If a measuring process fails.
    """
    _check_size(settings, int(task["dimensions"]))
    job: MeasureJob = {
        "model": dict(model),
        "task": dict(task),
        "efficiency": plain(settings),
        "training_batch": training_batch,
        "engine": dict(engine or {}),
        **_ALL,  # type: ignore[typeddict-item]
    }
    shelves = _shelves(job, settings, keep, code)
    with _alone(shelves.network):
        results = []
        for number in range(settings.processes):
            results.append(_measured(job, settings, shelves, number))
            advance()
        content = _merged(job, settings, results)
        if settings.training_step and engine is not None:
            _add_engine(content, job, settings, shelves)
            advance()
    write_json(out, content)
    return content


def _check_size(settings: EfficiencySettings, dimensions: int) -> None:
    if len(settings.size) < dimensions:
        raise ConfigError(
            where="efficiency.size",
            found=str(list(settings.size)),
            expected=f"{dimensions} values are needed",
        )


@dataclass(frozen=True)
class _Shelves:
    """Where the results of a measurement are kept, by what each of them depends on."""

    network: Kept
    training: Kept
    engine: Kept


def _shelves(
    job: MeasureJob, settings: EfficiencySettings, root: Path | None, code: str
) -> _Shelves:
    task = task_from_dict(job["task"])
    about = {
        "network": {key: value for key, value in job["model"].items() if key != "preset"},
        "channels": len(task.channels),
        "outputs": task.out_channels,
        "size": list(settings.size[: task.dimensions]),
        # each process has its own result, so more of them add to what there is
        "settings": {k: v for k, v in job["efficiency"].items() if k not in ("size", "processes")},
        "code": code,
        "machine": machine(settings.device),
    }
    by_batch = about | {"training_batch": job["training_batch"]}
    by_engine = by_batch | {"engine": job["engine"]}
    return _Shelves(kept(root, about), kept(root, by_batch), kept(root, by_engine))


@contextmanager
def _alone(shelf: Kept) -> Iterator[None]:
    """Let other processes that measure the same network wait, as they will find the results."""
    if shelf.folder is None:
        yield
        return
    with exclusive(shelf.folder / "lock", log=_say):
        yield


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _measured(
    job: MeasureJob, settings: EfficiencySettings, shelves: _Shelves, number: int
) -> dict[str, Any]:
    """The results of one process, as far as possible from those that are kept."""
    name = str(number)
    parts = {"network": shelves.network.get(name), "training": shelves.training.get(name)}
    if not settings.training_step and number > 0:
        parts["training"] = {}  # only the first process counts something for it
    missing = {part: found is None for part, found in parts.items()}
    if any(missing.values()):
        asked = job | missing | {"first": number == 0}
        try:
            made = _fresh_process(asked, settings)
        except MemoryError as error:  # what needs no memory is still counted
            made = _fresh_process(asked | {"killed": str(error)}, settings)
        for part in (part for part, is_missing in missing.items() if is_missing):
            parts[part] = made[part] | {"device": made["device"]}
            if not made[part].get("out_of_memory"):  # next time there may be more
                getattr(shelves, part).put(name, parts[part])
    network, training = parts["network"] or {}, parts["training"] or {}
    load = max(part["device"]["load"] for part in (network, training) if part)
    lost = training.get("out_of_memory", {}) | network.get("out_of_memory", {})
    about = network["device"] | {"load": load}
    return training | network | {"device": about, "out_of_memory": lost}


def _add_engine(
    content: dict[str, Any], job: MeasureJob, settings: EfficiencySettings, shelves: _Shelves
) -> None:
    try:
        content["training_engine"] = _measured_engine(job, settings, shelves)
    except MemoryError as error:
        content["out_of_memory"]["training_engine"] = str(error)


def _measured_engine(
    job: MeasureJob, settings: EfficiencySettings, shelves: _Shelves
) -> dict[str, Any]:
    found = shelves.engine.get("engine")
    if found is None:
        found = _fresh_process(job, settings, module=_ENGINE_CHILD)
        shelves.engine.put("engine", found)
    return found


def processes_of(settings: EfficiencySettings, *, trains: bool) -> int:
    """Number of fresh processes; with ``trains``, one more tries a training's numerical methods."""
    return settings.processes + int(settings.training_step and trains)


def longest_s(settings: EfficiencySettings) -> float | None:
    """Most seconds that all series take, without start-up and counting; None without a budget."""
    if not settings.budget_s:
        return None
    series = len(settings.engines) * len(settings.precisions) * len(settings.batches)
    series += int(settings.training_step)
    searched = settings.throughput_batch.bit_length()  # batches 1, 2, 4, ... in the first process
    return settings.budget_s * (settings.processes * series + searched)


def _merged(
    job: MeasureJob, settings: EfficiencySettings, results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    first = dict(results[0])
    first.pop("latency")
    latency, left_out = _merged_latencies(results)
    lost = {name: why for result in results for name, why in result["out_of_memory"].items()}
    content = first | {
        "preset": job["model"].get("preset"),
        "size": list(settings.size[: int(job["task"]["dimensions"])]),
        "latency": latency,
        "left_out": left_out,
        "out_of_memory": lost,
        "definitions": DEFINITIONS,
        "settings": job["efficiency"],
    }
    load = max(result["device"]["load"] for result in results)
    about = {"cpu": cpu_model(), "cpus": os.cpu_count(), "load": load}
    content["device"] = first["device"] | about
    content.pop("training", None)
    steps = [result["training"] for result in results if result.get("training")]
    if len(steps) == len(results):
        step = summarise_latencies(steps)
        content["training_step"] = step | {"batch": job["training_batch"]}
        content["training_step_ms"] = step["p50_ms"]
    content["busy"] = _is_busy(content)
    return content


def _merged_latencies(
    results: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The series that all processes measured, and those that a process had to leave out."""
    left_out: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in (row for result in results for row in result["left_out"]):
        left_out.setdefault(_head(row), row)
    found: dict[tuple[Any, ...], list[Any]] = {}
    for row in (row for result in results for row in result["latency"]):
        if _head(row) not in left_out:
            found.setdefault(_head(row), []).append(row)
    latency = [
        dict(zip(_HEAD, head, strict=True))
        | {"prepare_s": round(min(row["prepare_s"] for row in rows), 6)}
        | summarise_latencies(rows)
        for head, rows in found.items()
    ]
    return latency, list(left_out.values())


def _head(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in _HEAD)


def _is_busy(content: Mapping[str, Any]) -> bool:
    """Whether the machine did other work: by the processor time that the series had, and load."""
    series = [*content["latency"], content.get("training_step") or {}]
    shares = [share for one in series if (share := one.get("cpu_share")) is not None]
    about = content["device"]
    return min(shares, default=1.0) < OWN_CPU or about["load"] > (about["cpus"] or math.inf)


def _fresh_process(
    job: Mapping[str, Any], settings: EfficiencySettings, *, module: str = _CHILD
) -> dict[str, Any]:
    environment = os.environ | {name: str(settings.threads) for name in _THREADS}
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        if done.returncode == -signal.SIGKILL:  # by the system, which had no memory left
            raise MemoryError("out of memory: the measuring process was killed")
        if is_out_of_memory(RuntimeError(reason)) or "MemoryError" in reason:
            raise MemoryError(f"out of memory: {reason:.200}")
        raise LunetError(
            where=f"efficiency of {job['model'].get('preset')}",
            found=f"a measuring process failed ({reason})",
            expected="its result is expected as JSON",
            action="Lower efficiency.size or efficiency.batches if it ran out of memory",
        )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


STABLE = 0.03  # largest relative difference of medians
OWN_CPU = 0.9  # least share of a processor that a measuring process must have had
_RUNS_FOR_P99 = 200


def summarise_latencies(series: Sequence[Series]) -> dict[str, Any]:
    """Statistics of the series of several fresh processes, in milliseconds.

    ``jitter_ms`` is the population standard deviation of all single latencies, ``successive_ms``
    the mean of \\|l_k - l_(k-1)\\| within a process. ``p99_ms`` is None for fewer than 200 runs.
    ``unstable`` is whether the medians of the processes (of the two halves of a single one) differ
    by more than 3 %, or a process had less than 90 % of a processor.
    """
    values = [np.asarray(one["ms"], float) for one in series]
    pooled = np.concatenate(values)
    parts = values if len(values) > 1 else np.array_split(values[0], 2)
    medians = [float(np.median(part)) for part in parts if part.size]
    spread = (max(medians) - min(medians)) / float(np.median(medians))
    steps = np.concatenate([np.abs(np.diff(one)) for one in values])
    shares = [one["cpu_share"] for one in series if one["cpu_share"] is not None]
    p50, p95, p99 = np.percentile(pooled, (50, 95, 99))
    numbers = {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "mean_ms": pooled.mean(),
        "min_ms": pooled.min(),
        "max_ms": pooled.max(),
        "jitter_ms": pooled.std(),
        "successive_ms": steps.mean() if len(steps) else 0.0,
    }
    summary: dict[str, Any] = {key: round(float(value), 6) for key, value in numbers.items()}
    if len(pooled) < _RUNS_FOR_P99:
        summary["p99_ms"] = None
    return summary | {
        "runs": len(pooled),
        "processes": len(series),
        "p50_of_processes_ms": [round(float(np.median(one)), 6) for one in values],
        "spread": round(spread, 6),
        "cpu_share": round(min(shares), 3) if shares else None,
        "unstable": spread > STABLE or min(shares, default=1.0) < OWN_CPU,
    }
