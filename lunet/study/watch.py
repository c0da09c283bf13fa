"""What the runs of a study are doing now, read from their logs, histories, records and locks.

Only shared files are read, so it makes no difference on which machine a run is.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lunet.errors import ConfigError, DataError
from lunet.failures import has_ended, telling_line
from lunet.locks import SILENCE, is_held
from lunet.reading import read_object, read_rows
from lunet.statistics.registration import read_protocol
from lunet.study.config import load
from lunet.study.study import PRIOR, Study
from lunet.training.kept_results import FOLDER

State = Literal["waiting", "running", "done", "stopped", "failed"]
STATES: tuple[State, ...] = ("failed", "stopped", "running", "done", "waiting")
"""In the order of the table, so that what needs a reader comes first."""
_MOST_WAITING = 3
_RESUMABLE = "resumable"
_TAIL = 1 << 16
_EPOCH = re.compile(r"^epoch (\d+)/(\d+): (.*)$", re.MULTILINE)
_MEASURED = re.compile(r"^measured (\d+)/(\d+), (\d+) s left$", re.MULTILINE)
_LEFT = re.compile(r"(\d+) s left")
_RUN = "*/fold-*/seed-*"
_LOGS = ("train.log", "pause.log")
"""Logs of a training: the usual one, and that of a training that a search pauses to look at it."""


@dataclass(frozen=True)
class Watched:
    """A study that is watched: where its files are, and the runs that it states.

    Attributes
    ----------
    results, work
        Its folders.
    grid
        (preset, fold, seed) of the runs that it will train, as far as they are known.
    """

    results: Path
    work: Path
    grid: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class RunState:
    """A run and how far it is.

    Attributes
    ----------
    name
        Its folder relative to the study's results, such as ``runs/unet_small_4f/fold-0/seed-0``.
    epoch, epochs
        Number of finished epochs, and of all; None if not known.
    loss, dice
        Training loss, and mean Dice of the last validation; None if there is none yet.
    seconds_left
        By the speed so far; None if not known.
    message
        Why it failed or stopped.
    """

    name: str
    state: State
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None
    dice: float | None = None
    seconds_left: float | None = None
    message: str = ""


def find_study(name: str | None) -> Watched:
    """The study of a configuration file, of a folder of results, or of a name in ``results``.

    Without a name it is the study below ``results`` whose logs changed last.

    Raises
    ------
    LunetError
        If there is no such study, or the configuration is wrong.
    """
    if name is None:
        logs = [(_latest(folder), folder.parent) for folder in Path("results").glob("*/logs")]
        if not logs:
            raise ConfigError(
                where="results",
                found="no study has started here",
                expected="a folder results/STUDY/logs",
                action="Name the configuration of a study, or its folder of results",
            )
        return _of_folder(max(logs)[1])
    if Path(name).is_file():
        study = Study(load(name))
        runs = ((p, f, s) for p in study.presets for f in study.folds for s in study.config.seeds)
        return Watched(Path(study.results), Path(study.work), tuple(runs))
    for folder in (Path(name), Path("results", name)):
        if folder.is_dir():
            return _of_folder(folder)
    raise ConfigError(
        where=name,
        found="does not exist",
        expected="a configuration, a folder of results, or a name in results/",
    )


def _latest(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.rglob("*.log")), default=0.0)


def _of_folder(results: Path) -> Watched:
    """The study of a folder of results; its protocol names the runs that have not begun."""
    path = results / "protocol.json"
    grid: tuple[tuple[str, int, int], ...] = ()
    if path.is_file():
        protocol = read_protocol(path)
        stated, external = protocol["stated"], protocol["settings"].get("external", {})
        grid = tuple(
            (preset, fold, seed)
            for preset in stated["presets"]
            if preset not in external
            for fold in stated["folds"]
            for seed in stated["seeds"]
        )
    work = results.absolute().parent.with_name("work")  # the default of `roots.work`
    return Watched(results, work / results.name, grid)


def run_states(study: Watched) -> list[RunState]:
    """The state of each run, those of the study's grid first and runs by hand last."""
    return [_state(study, name) for name in _names(study)]


def _names(study: Watched) -> list[str]:
    grid = [f"runs/{preset}/fold-{fold}/seed-{seed}" for preset, fold, seed in study.grid]
    logs = study.results / "logs"
    begun = [
        f"runs/{log.parent.relative_to(logs).as_posix()}"
        for name in _LOGS
        for log in sorted(logs.glob(f"{_RUN}/{name}"))
    ]
    made = [
        path.relative_to(study.results).as_posix()
        for top in ("runs", "by-hand/runs")
        for path in sorted((study.results / top).glob(_RUN))
    ]
    names = dict.fromkeys([*grid, *begun, *made])
    return [
        name
        for name in names
        if f"/{PRIOR}/" not in f"/{name}" and not _is_external(study.results / name)
    ]


def _is_external(run: Path) -> bool:
    """Whether the run is a row whose predictions were made elsewhere, so that nothing is trained.

    A record that cannot be read is a training's, whose state is shown.
    """
    path = run / "run.json"
    if (run / "history.csv").is_file() or not path.is_file():
        return False
    with contextlib.suppress(DataError, OSError):
        return "external" in read_object(path)
    return False


def _state(study: Watched, name: str) -> RunState:
    run, log = study.results / name, _log_of(study, name)
    text = _tail(log)
    epoch, epochs, loss, dice, left = _progress(text, run / "history.csv")
    held = is_held(run) or is_held(study.work / name)
    age = time.time() - log.stat().st_mtime if log.is_file() else float("inf")
    message = ""
    state: State = "waiting"
    if held or (not text and age < SILENCE):  # a job that has just started has an empty log
        state = "running"
    elif (run / "run.json").is_file():
        state = "done"
    elif (study.work / name / FOLDER).is_dir():
        state, message = "done", "waits for the other folds of its job"
    elif has_ended(text):
        message = telling_line(text)
        state = "stopped" if _RESUMABLE in text.rstrip().splitlines()[-1] else "failed"
    elif (study.results / "smallest/paused" / f"{name.removeprefix('runs/')}.json").is_file():
        state, message = "stopped", "paused by the search, which resumes it if it is needed"
    elif text or epoch is not None:
        state, message = "stopped", "ended without saying why; the same command resumes it"
    if state != "running" or left is None:
        return RunState(name, state, epoch, epochs, loss, dice, message=message)
    return RunState(name, state, epoch, epochs, loss, dice, max(0.0, left - age))


def _log_of(study: Watched, name: str) -> Path:
    """The log of a run; one of several that a person trained together is in the run's folder."""
    if name.startswith("by-hand/"):
        return study.results / name / "train.log"
    folder = study.results / "logs" / name.removeprefix("runs/")
    begun = [folder / log for log in _LOGS if (folder / log).is_file()]
    return max(begun, key=lambda path: path.stat().st_mtime, default=folder / _LOGS[0])


def _tail(path: Path) -> str:
    """The last part of a log; an empty text if there is none."""
    if not path.is_file():
        return ""
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL))
        return stream.read().decode("utf-8", errors="replace")


_Progress = tuple[int | None, int | None, float | None, float | None, float | None]


def _progress(log: str, history: Path) -> _Progress:
    """Epoch, epochs, loss, Dice and seconds left, from the log; without one, from the history."""
    lines = _EPOCH.findall(log)
    if lines:
        epoch, epochs, numbers = lines[-1]
        measured = [found for *_, text in lines if (found := _named(text, "dice")) is not None]
        left = _LEFT.search(numbers)
        return (
            int(epoch),
            int(epochs),
            _named(numbers, "train_loss"),
            measured[-1] if measured else None,
            float(left[1]) if left else None,
        )
    if not history.is_file():
        return None, None, None, None, None
    rows = read_rows(history, needed=["epoch", "train_loss", "dice"], what="a history.csv")
    if not rows:
        return None, None, None, None, None
    dice = [float(row["dice"]) for row in rows if row["dice"]]
    last = rows[-1]
    return int(last["epoch"]), None, float(last["train_loss"]), dice[-1] if dice else None, None


def _named(text: str, name: str) -> float | None:
    """The number after a name in a line such as ``train_loss 0.1, dice 0.9``."""
    found = re.search(rf"(?:^|, ){name} ([^,\s]+)", text)
    return float(found[1]) if found else None


_OTHER_LOGS = ("tables", "figures")
"""Folders of logs that belong to no preset; the table of costs has a log of the same name."""


def measurements(study: Watched) -> Iterator[str]:
    """A line for each measurement of costs that has begun and is neither done nor failed."""
    for log in sorted((study.results / "logs").glob("*/efficiency.log")):
        text, preset = _tail(log), log.parent.name
        if preset in _OTHER_LOGS:
            continue
        is_done = (study.results / "presets" / preset / "efficiency.json").is_file()
        if is_done or has_ended(text):
            continue
        steps = _MEASURED.findall(text)
        told = f"{steps[-1][0]} of {steps[-1][1]} processes" if steps else "begun"
        left = f", {_clock(float(steps[-1][2]))} left" if steps else ""
        yield f"measuring {preset}: {told}{left} (at {time.strftime('%H:%M', _written(log))})"


def _written(log: Path) -> time.struct_time:
    return time.localtime(log.stat().st_mtime)


def failed_steps(study: Watched) -> Iterator[str]:
    """A line for each other step whose log ends with a failure: which log, and why it failed."""
    for path in sorted((study.results / "logs").rglob("*.log")):
        text = _tail(path)
        if path.name not in _LOGS and has_ended(text):
            yield f"{path}: {telling_line(text)}"


def watch_lines(study: Watched) -> list[str]:
    """The table of the runs, how many are in which state, and why some failed."""
    runs = sorted(run_states(study), key=lambda run: STATES.index(run.state))
    counts = {state: sum(run.state == state for run in runs) for state in STATES}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines = [f"{study.results}: {told or 'no training has started'}", ""]
    hidden = max(0, counts["waiting"] - _MOST_WAITING)
    shown = runs[: len(runs) - hidden]
    if shown:
        lines += _columns([("run", "state", "epoch", "loss", "Dice", "left"), *map(_row, shown)])
    lines += [f"... and {hidden} more that wait"] if hidden else []
    lines += measurements(study)
    why = [f"{run.name}: {run.message}" for run in runs if run.message]
    why += failed_steps(study)
    return [*lines, *([""] if why else []), *why, "", f"logs: {study.results}/logs"]


def _row(run: RunState) -> tuple[str, ...]:
    epoch = "" if run.epoch is None else f"{run.epoch}/{run.epochs or '?'}"
    numbers = ("" if value is None else f"{value:.4f}" for value in (run.loss, run.dice))
    return run.name.removeprefix("runs/"), run.state, epoch, *numbers, _clock(run.seconds_left)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)).rstrip()
