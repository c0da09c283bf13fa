"""Measures the cost of one preset, times in several fresh processes; writes ``efficiency.json``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lunet.efficiency.settings import EfficiencySettings
from lunet.errors import ConfigError, LunetError
from lunet.files import write_json
from lunet.provenance import cpu_model
from lunet.settings import plain

if TYPE_CHECKING:
    # the code that the processes run
    from lunet.efficiency import training_engine  # noqa: F401
    from lunet.efficiency.measure import MeasureJob
import numpy as np

_CHILD, _ENGINE_CHILD = "lunet.efficiency.measure", "lunet.efficiency.training_engine"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
DEFINITIONS = {
    "macs": "multiply-adds of convolutions, linear layers and matrix products of one forward pass "
    "at batch 1 (half of torch's FlopCounterMode); flops = 2 macs",
    "macs_fvcore": "fvcore's count: the same with batch norm 2, group and layer norm 5 per element",
    "latency": "single forward passes; percentiles over all processes",
    "jitter_ms": "population standard deviation of the single latencies",
    "unstable": "the medians of the fresh processes differ by more than 3 %",
    "peak_memory_bytes": "peak of the live tensors of a forward pass at batch 1, without weights "
    "and input; peak_measured_bytes is the growth of the process (of the allocator on CUDA)",
    "activation_bytes": "what autograd keeps of one forward pass at batch 1",
    "training_step": "forward, cross entropy, backward, Adam, at the recipe's batch size, eager "
    "fp32; training_peak_bytes is the peak of its live tensors, without weights and input",
    "training_memory": "two such steps by batch size, with weights, input and Adam's moments: "
    "counted_bytes are live tensors, measured_bytes the growth of the process or of CUDA's "
    "allocator",
    "training_engine": "such steps as a training computes them: each arithmetic that the recipe "
    "allows, in the order in which a training tries them; growth_bytes: growth of the process, or "
    "of CUDA's allocator, so far; process_bytes: the process before the steps, on CUDA after them",
    "throughput": "eager fp32, at the batch where doubling it gains less than 3 %",
}


def measure_efficiency(
    *,
    model: Mapping[str, Any],
    task: Mapping[str, Any],
    settings: EfficiencySettings,
    out: str | Path,
    training_batch: int = 1,
    engine: Mapping[str, Any] | None = None,
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

    Returns
    -------
    The content of the file: ``parameters``, ``macs``, ``flops``, ``macs_fvcore``, ``counters``,
    ``latency`` (a list; see :func:`summarise_latencies`), ``left_out`` (engines
    that could not run, with the reason), memory in bytes, ``training_step_ms``, ``throughput``,
    ``training_memory`` (see :func:`lunet.efficiency.batches.training_memory`),
    ``training_engine`` (see :mod:`lunet.efficiency.training_engine`), ``energy``, ``device`` and
    ``definitions``.

    Raises
    ------
    ConfigError
        If the size does not have the task's dimensions.
    LunetError
        If a measuring process fails.
    """
    if len(settings.size) < int(task["dimensions"]):
        raise ConfigError(
            where="efficiency.size",
            found=str(list(settings.size)),
            expected=f"{task['dimensions']} values are needed",
        )
    job: MeasureJob = {
        "model": dict(model),
        "task": dict(task),
        "efficiency": plain(settings),
        "training_batch": training_batch,
        "engine": dict(engine or {}),
        "first": True,
    }
    results = [_fresh_process(job, settings)]
    for _ in range(1, settings.processes):
        results.append(_fresh_process(job | {"first": False}, settings))
    content = _merged(job, settings, results)
    if settings.training_step and engine is not None:
        content["training_engine"] = _fresh_process(job, settings, module=_ENGINE_CHILD)
    write_json(out, content)
    return content


def _merged(
    job: MeasureJob, settings: EfficiencySettings, results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    first = dict(results[0])
    series = first.pop("latency")
    latency = []
    for number, row in enumerate(series):
        head = {key: row[key] for key in ("engine", "precision", "batch")}
        prepare = [result["latency"][number]["prepare_s"] for result in results]
        head["prepare_s"] = round(min(prepare), 6)
        latency.append(head | summarise_latencies([r["latency"][number]["ms"] for r in results]))
    content = first | {
        "preset": job["model"].get("preset"),
        "size": list(settings.size[: int(job["task"]["dimensions"])]),
        "latency": latency,
        "definitions": DEFINITIONS,
        "settings": job["efficiency"],
    }
    content["device"] = first["device"] | {"cpu": cpu_model(), "cpus": os.cpu_count()}
    content.pop("training_ms", None)
    if settings.training_step:
        step = summarise_latencies([result["training_ms"] for result in results])
        content["training_step"] = step | {"batch": job["training_batch"]}
        content["training_step_ms"] = step["p50_ms"]
    return content


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
        raise LunetError(
            where=f"efficiency of {job['model'].get('preset')}",
            found=f"a measuring process failed ({reason})",
            expected="it should write its result",
            action=(
                "A killed process ran out of memory: lower efficiency.size or efficiency.batches"
            ),
        )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


STABLE = 0.03  # largest relative difference of the processes' medians


def summarise_latencies(series: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Statistics of the series of several fresh processes, milliseconds.

    ``jitter_ms`` is the population standard deviation of all single latencies, ``successive_ms``
    the mean of \\|l_k - l_(k-1)\\| within a process. ``unstable`` is whether the medians of the
    processes differ by more than 3 %; None for a single process, which cannot show it.
    """
    pooled = np.concatenate([np.asarray(values, float) for values in series])
    medians = [float(np.median(values)) for values in series]
    steps = np.concatenate([np.abs(np.diff(values)) for values in series])
    p50, p95, p99 = np.percentile(pooled, (50, 95, 99))
    spread = (max(medians) - min(medians)) / float(np.median(medians))
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
    return {key: round(float(value), 6) for key, value in numbers.items()} | {
        "runs": len(pooled),
        "processes": len(series),
        "p50_of_processes_ms": [round(value, 6) for value in medians],
        "spread_of_processes": round(spread, 6),
        "unstable": None if len(series) < 2 else bool(spread > STABLE),
    }
