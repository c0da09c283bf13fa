"""Lines of ``lunet forecast``: memory and time of each preset's trainings, foreseen and taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lunet.efficiency.forecast import Forecast
from lunet.efficiency.forecast_check import taken
from lunet.files import canonical_json, read_json
from lunet.study.forecast import Forecasts, Gap, request
from lunet.study.study import Study

_HEAD = (
    "preset",
    "MiB",
    "h:mm:ss",
    "asked MB",
    "asked min",
    "runs",
    "foreseen MiB",
    "taken",
    "error",
    "foreseen s",
    "taken",
    "error",
)


def lines(study: Study) -> Iterator[str]:
    """A row per preset, then why forecasts are missing and what to do.

    First what a training will take (the largest over the folds) and what is asked for; then, for
    the finished runs, what was foreseen and what they took, the error in percent.
    """
    forecasts = Forecasts(study, print)
    rows: list[tuple[str, ...]] = [_HEAD]
    gaps = []
    for preset in study.presets:
        found = _largest(forecasts.look(preset, fold) for fold in study.folds)
        rows.append((preset, *_foreseen(found), *_checked(forecasts, preset, found)))
        if isinstance(found, Gap):
            gaps.append(f"no forecast of {preset}: {found.reason}")
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    for name, *cells in rows:
        right = (f"{text:>{width}}" for text, width in zip(cells, widths[1:], strict=True))
        yield "  ".join((f"{name:<{widths[0]}}", *right)).rstrip()
    yield from gaps
    if gaps:
        yield "the `efficiency` target measures the presets; the volumes are needed, too (`folds`)"


def _largest(found: Iterable[Forecast | Gap]) -> Forecast | Gap:
    """The forecast of most time, or the first gap."""
    every = list(found)
    gaps = [row for row in every if isinstance(row, Gap)]
    forecasts = [row for row in every if isinstance(row, Forecast)]
    return gaps[0] if gaps else max(forecasts, key=lambda row: row.seconds)


def _foreseen(found: Forecast | Gap) -> tuple[str, ...]:
    mib, minutes = request(found)
    asked = (str(mib), str(minutes))
    if isinstance(found, Gap):
        return ("-", "-", *asked)
    whole = round(found.seconds)
    clock = f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return (f"{found.memory / 2**20:.0f}", clock, *asked)


def _runs(study: Study, preset: str) -> list[Any]:
    """Contents of the ``run.json`` of the preset's finished runs, of this network."""
    model = canonical_json(study.sections("train", preset)["model"])
    paths = (Path(run, "run.json") for run in study.runs([preset]))
    runs = [read_json(path) for path in paths if path.is_file()]
    return [run for run in runs if canonical_json(run["settings"]["model"]) == model]


def _checked(forecasts: Forecasts, preset: str, found: Forecast | Gap) -> tuple[str, ...]:
    """What finished runs took, what was foreseen for them, and the errors."""
    runs = _runs(forecasts.study, preset)
    check = None if isinstance(found, Gap) else forecasts.check(preset, runs)
    real = taken(runs) if check is None else check.taken
    if real is None:
        return ("0", *("-",) * 6)
    memory, seconds = f"{real.memory / 2**20:.0f}", f"{real.seconds:.0f}"
    if check is None:
        return str(real.runs), "-", memory, "-", "-", seconds, "-"
    return (
        str(real.runs),
        f"{check.memory / 2**20:.0f}",
        memory,
        f"{100 * check.memory_error:+.0f} %",
        f"{check.seconds:.0f}",
        seconds,
        f"{100 * check.time_error:+.0f} %",
    )
