"""Tables of a network's cost, alone and together with its quality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lunet.metrics.catalog import compared_title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.costs import device, fastest, flat, grid_points, latency
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import NONE, RULE, integer, significant
from lunet.reporting.result_files import check_metrics
from lunet.reporting.scores import MEAN_LABEL, headline, headline_summary
from lunet.reporting.tables.scores import level, mean_cell

STAR_NOTE = "* not to be relied on: medians differ by more than 3 %, or the machine did other work."
MAC_NOTE = (
    "MAC: multiply-adds of convolutions and linear layers; 1 MAC = 2 FLOPs. Latency: one image, "
    f"batch 1, eager fp32; jitter: population standard deviation of single latencies. {STAR_NOTE} "
    "Peak memory: growth of the process (on CUDA, of the allocator) during one forward pass at "
    "batch 1, without weights and input."
)
LIVE_NOTE = (
    "Training step, memory in training: one step at the recipe's batch size. Live tensors: the "
    "same two quantities, counted without kernels' scratch memory."
)
_COLUMNS = {
    "parameters": "Parameters",
    "gmacs": "GMAC",
    "gflops": "GFLOP",
    "latency_p50_ms": "Latency p50 (ms)",
    "latency_p95_ms": "p95 (ms)",
    "latency_p99_ms": "p99 (ms)",
    "jitter_ms": "Jitter (ms)",
    "fastest_p50_ms": "Fastest engine p50 (ms)",
    "throughput_per_s": "Throughput (images/s)",
    "throughput_batch": "at batch",
    "training_step_ms": "Training step (ms)",
    "memory_mib": "Peak memory (MiB)",
    "training_memory_mib": "in training (MiB)",
    "live_mib": "Live tensors (MiB)",
    "training_live_mib": "in training (MiB)",
}
_COUNTS = ("parameters", "throughput_batch")
_UNSTABLE = dict.fromkeys(
    ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "jitter_ms", "fastest_p50_ms",
     "throughput_per_s"), "unstable",
) | {"training_step_ms": "training_step_unstable"}  # fmt: skip
"""Times, and the number that is 1 if they are not to be relied on."""


def cost_cells(costs: Mapping[str, float], keys: tuple[str, ...]) -> list[Cell]:
    """Printed costs; unstable times are marked with a star."""
    cells = []
    for key in keys:
        text = integer(costs[key]) if key in _COUNTS else significant(costs[key])
        cells.append(cell(text + star(costs, key)))
    return cells


def star(costs: Mapping[str, Any], key: str) -> str:
    """The mark of a cost that is an unstable time; ``costs`` are those of :func:`flat`."""
    is_unstable = key in _UNSTABLE and costs.get(_UNSTABLE[key]) == 1
    return "*" if is_unstable and math.isfinite(costs[key]) else ""


def efficiency(costs: Mapping[str, Mapping[str, Any]]) -> Table:
    """Parameters, MACs, latency, memory per preset."""
    numbers = {preset: flat(cost) for preset, cost in costs.items()}
    keys = tuple(_COLUMNS)
    return Table(
        name="efficiency",
        caption=f"Cost of each network{conditions(costs)}.",
        columns=(Column("Preset", text=True), *(Column(_COLUMNS[key]) for key in keys)),
        rows=tuple((cell(name), *cost_cells(row, keys)) for name, row in numbers.items()),
        records=tuple(
            {"preset": name, **row, "fastest_engine": fastest(costs[name])[0]}
            for name, row in numbers.items()
        ),
        note=f"{_slices_note(costs)}{MAC_NOTE} {LIVE_NOTE} {_throughput_note(costs)}"
        f"{_engines(costs)} {NONE}: not measured; p99 needs 200 runs."
        f"{memory_note(costs)}{given_note(costs)}",
    )


def _slices_note(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """How the costs of 2D networks compare with those of 3D networks; empty if all are alike."""
    flat_ones = {name: cost["slices"] for name, cost in costs.items() if "slices" in cost}
    if not flat_ones:
        return ""
    depth = next(iter(flat_ones.values()))
    return (
        f"All costs are for a volume. {', '.join(flat_ones)}: its {depth} slices one by one, so "
        "their time is that of a slice, as often, and their memory that of a slice. "
    )


def memory_note(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """Which costs are missing because the memory was full; empty if none are."""
    lost = {
        name: [*(cost.get("out_of_memory") or {}), *_latencies_lost(cost)]
        for name, cost in costs.items()
    }
    named = "; ".join(f"{name} ({', '.join(what)})" for name, what in lost.items() if what)
    return f" Not measured, because the memory was full: {named}." if named else ""


def _latencies_lost(cost: Mapping[str, Any]) -> list[str]:
    return [
        f"latency of {row['engine']} {row['precision']} at batch {row['batch']}"
        for row in cost.get("left_out") or []
        if row["reason"].startswith("out of memory")
    ]


def given_note(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """Which costs were stated in the configuration, and which are not known; empty if none are."""
    stated: list[str] = []
    unknown: list[str] = []
    for name, cost in costs.items():
        if cost.get("given"):
            where = f" ({device(cost)})" if device(cost) else ""
            (stated if _is_stated(cost) else unknown).append(f"{name}{where}")
    parts = [f"Stated in the configuration, not measured here: {', '.join(stated)}."] * bool(stated)
    parts += [f"No cost is given for {', '.join(unknown)}: `external.NAME.cost`."] * bool(unknown)
    return "".join(f" {part}" for part in parts)


def _is_stated(cost: Mapping[str, Any]) -> bool:
    keys = ("parameters", "macs", "latency", "peak_measured_bytes")
    return any(cost.get(key) for key in keys)


def _throughput_note(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """How the throughput of each preset was found: by a search over batch sizes, or without one."""
    costs = {name: cost for name, cost in costs.items() if not cost.get("given")}
    searched = [name for name, cost in costs.items() if cost.get("throughput")]
    largest = {(cost.get("settings") or {}).get("throughput_batch") for cost in costs.values()}
    limit = f" ({next(iter(largest))} at most)" if len(largest) == 1 and None not in largest else ""
    search = f"at the batch where doubling it gains less than 3 %{limit}"
    others = "at the best of the batch sizes whose latency was measured"
    if len(searched) == len(costs):
        how = search
    elif not searched:
        how = others
    else:
        rest = ", ".join(name for name in costs if name not in searched)
        how = f"{search}; {others} for {rest}"
    return f"Throughput: eager fp32, batch over median, {how}."


def _engines(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """Which engine was the fastest, in words; empty if only eager fp32 was measured."""
    by_engine: dict[str, list[str]] = {}
    costs = {name: cost for name, cost in costs.items() if not cost.get("given")}
    for preset, cost in costs.items():
        by_engine.setdefault(fastest(cost)[0], []).append(preset)
    if set(by_engine) <= {"", "eager fp32"}:
        return ""
    parts = (f"{engine} ({', '.join(names)})" for engine, names in by_engine.items() if engine)
    return f" Fastest engine: {'; '.join(parts)}."


def conditions(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """The conditions that all measured presets share: input, device, threads and runs."""
    costs = {name: cost for name, cost in costs.items() if not cost.get("given")}
    parts = [
        _shared(
            [_input(cost.get("size") or ()) for cost in costs.values()],
            "input {}",
        ),
        _devices([device(cost) for cost in costs.values()]),
        _shared([_threads(cost) for cost in costs.values()], "{}"),
        _shared([_runs(cost) for cost in costs.values()], "{}"),
    ]
    return "".join(f", {part}" for part in parts if part)


def _input(size: Sequence[int]) -> str:
    return f"{' × '.join(map(str, size))} {grid_points(size)}" if size else ""


def _devices(names: list[str]) -> str:
    """The device, or all of them: times of different devices cannot be compared."""
    known = sorted({name for name in names if name})
    if len(known) > 1:
        return f"on different devices ({'; '.join(known)}), whose times cannot be compared"
    return _shared(names, "on {}")


def _shared(values: list[str], text: str) -> str:
    value = values[0] if values and len(set(values)) == 1 else ""
    return text.format(value) if value else ""


def _threads(cost: Mapping[str, Any]) -> str:
    about = cost.get("device")
    number = about.get("threads") if isinstance(about, Mapping) else None
    return f"{number} thread{'s'[: number > 1]}" if number else ""


def _runs(cost: Mapping[str, Any]) -> str:
    """Numbers of runs and processes of the latency at batch 1."""
    row = latency(cost)
    if not row.get("runs"):
        return ""
    return f"{row['runs']} runs in {row.get('processes')} processes"


def joint(
    cases: pd.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    settings: StatisticsSettings,
) -> Table:
    """Quality and cost side by side, with a row per preset; the atlas prior has no cost."""
    metric = settings.metric
    check_metrics(cases, [metric])
    stats = headline_summary(cases, metric, settings)
    keys = ("parameters", "gmacs", "latency_p50_ms", "jitter_ms", "memory_mib")
    none = dict.fromkeys(flat({}), float("nan"))
    rows, records = [], []
    for preset, row in stats.iterrows():
        numbers = flat(costs[preset]) if preset in costs else none
        rows.append((cell(preset), mean_cell(row), *cost_cells(numbers, keys)))
        quality = {f"{metric}_{name}": row[name] for name in ("mean", "sd", "ci_low", "ci_high")}
        records.append({"preset": preset, "n": row["n"], **quality, **numbers})
    where = f"{MEAN_LABEL}, " if headline(cases) == MEAN_LABEL else ""
    shown = f"{where}mean ± sd over cases, {level(settings)} interval"
    return Table(
        name="joint",
        caption=f"{compared_title(metric)} ({shown}) and cost{conditions(costs)}.",
        columns=(
            Column("Preset", text=True),
            Column(compared_title(metric)),
            *(Column(_COLUMNS[key]) for key in keys),
        ),
        rows=tuple(rows),
        records=tuple(records),
        note=f"{RULE} {MAC_NOTE}{given_note(costs)}",
    )
