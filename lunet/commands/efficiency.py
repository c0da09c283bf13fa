"""Measure the cost of a preset: parameters, MACs, latency, memory, training step.

Times are measured in several fresh processes with a fixed number of threads. Example:

    lunet efficiency --preset lunet_small_4f --size 64 64 64 --out efficiency.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lunet.commands.arguments import (
    POSITIVE,
    add_out,
    add_plan,
    add_settings,
    read_settings,
    read_study,
    real,
)

BUSY = "THE MACHINE WAS BUSY: measure again for times that can be compared"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this step."""
    add_settings(parser)
    add_plan(parser)
    text = "file to write; without it, only a summary is printed"
    add_out(parser, "JSON", text, suffixes=("",), required=False)
    parser.add_argument("--size", type=POSITIVE, nargs="+", metavar="VOXELS", help="input size")
    parser.add_argument("--batches", type=POSITIVE, nargs="+", metavar="N", help="batch sizes")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--engines", nargs="+", metavar="ENGINE", help="eager compiled onnx ...")
    parser.add_argument("--precisions", nargs="+", metavar="P", help="fp32 bf16")
    parser.add_argument("--threads", type=POSITIVE, help="CPU threads")
    parser.add_argument("--repeats", type=POSITIVE, help="timed runs per series and process")
    parser.add_argument("--warmups", type=POSITIVE, help="untimed runs before the timed ones")
    parser.add_argument("--processes", type=POSITIVE, help="number of fresh processes")
    parser.add_argument("--budget-s", type=real, help="most seconds per series and process")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="folder of measurements that are kept: the same network is not measured again, and an "
        "interrupted measurement resumes. To measure again, remove what is in it",
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the step."""
    import tempfile

    from lunet.devices import claimed_gpu
    from lunet.efficiency.batches import describe
    from lunet.efficiency.run import measure_efficiency, processes_of
    from lunet.efficiency.settings import EfficiencySettings
    from lunet.settings import build_settings

    sections = read_settings(arguments, "efficiency")
    settings = _changed(
        build_settings(EfficiencySettings, sections["efficiency"], "efficiency"), arguments
    )
    step = sections["training_step"]
    _announce(settings)
    with (
        claimed_gpu(settings.device),
        tempfile.TemporaryDirectory() as folder,
        _progress(processes_of(settings, trains=True)) as advance,
    ):
        found = measure_efficiency(
            model=sections["model"],
            task=sections["task"],
            settings=settings,
            out=arguments.out or Path(folder) / "efficiency.json",
            training_batch=int(step["batch_size"]),
            engine=step["engine"],
            advance=advance,
            keep=arguments.keep,
            code=arguments.code or _code(arguments, sections["model"]["preset"]),
        )
    print(_summary(found))
    if found["training_memory"]:
        print(f"  training step by batch size: {describe(found['training_memory'])}")


def _announce(settings: Any) -> None:
    """Print how long the measurement may take, and how to shorten it."""
    from lunet.efficiency.run import longest_s

    seconds = longest_s(settings)
    limit = f"at most about {seconds / 60:.1g} min" if seconds else "no time limit"
    print(
        f"measuring in {settings.processes} fresh process(es): {limit}, without start-up and "
        "counting; lower --processes or --budget-s to shorten this",
        file=sys.stderr,
        flush=True,
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], object]]:
    """A bar in a terminal, a line per process in a log."""
    from tqdm import tqdm

    start, done = time.monotonic(), 0
    with tqdm(total=total, unit="process", disable=None) as bar:

        def advance() -> None:
            nonlocal done
            done += 1
            bar.update()
            if bar.disable:
                left = (time.monotonic() - start) / done * (total - done)
                print(f"measured {done}/{total}, {left:.0f} s left", file=sys.stderr, flush=True)

        yield advance


def _code(arguments: argparse.Namespace, preset: str) -> str:
    """Digest of the code, if measurements are kept."""
    if arguments.keep is None or arguments.settings is not None:
        return ""
    return str(read_study(arguments).digest("efficiency", preset))


def _changed(settings: Any, arguments: argparse.Namespace) -> Any:
    from lunet.settings import replace

    names = (
        "size", "batches", "device", "engines", "precisions", "threads", "repeats", "warmups",
        "processes", "budget_s",
    )  # fmt: skip
    given = {name: getattr(arguments, name) for name in names}
    changes = {name: value for name, value in given.items() if value is not None}
    return replace(settings, changes, "efficiency")


def _summary(found: dict[str, Any]) -> str:
    lines = [
        f"{found['preset']} at {' x '.join(map(str, found['size']))}:",
        f"  parameters {found['parameters']:,}; {found['macs'] / 1e9:.4g} GMAC "
        f"(fvcore {_giga(found['macs_fvcore'])}); {found['flops'] / 1e9:.4g} GFLOP",
        f"  memory of a forward pass: {_mib(found, 'peak_measured_bytes')}; "
        f"of a training step: {_mib(found, 'training_peak_measured_bytes')}",
    ]
    for row in found["latency"]:
        tail = "" if row["p99_ms"] is None else f", p99 {row['p99_ms']:.4g}"
        mark = ", UNSTABLE" if row["unstable"] else ""
        lines.append(
            f"  {row['engine']} {row['precision']} N={row['batch']}: p50 {row['p50_ms']:.4g} ms, "
            f"p95 {row['p95_ms']:.4g}{tail}, jitter {row['jitter_ms']:.3g}{mark} "
            f"({row['runs']} runs in {row['processes']} process(es))"
        )
    lines += [
        f"  {row['engine']} {row['precision']} N={row['batch']}: left out, {row['reason']}"
        for row in found["left_out"]
    ]
    lines += [f"  {name}: {reason}" for name, reason in found["out_of_memory"].items()]
    if found["busy"]:
        lines.append(f"  {BUSY} (load {found['device']['load']:g})")
    return "\n".join(lines)


def _giga(value: int | None) -> str:
    return "not counted" if value is None else f"{value / 1e9:.4g}"


def _mib(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    return "not measured" if value is None else f"{value / 2**20:.4g} MiB"
