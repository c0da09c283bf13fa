"""The results of a pruning; only here, at its end, are test cases used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lunet.data.folds import Fold
from lunet.data.prepared import Manifest
from lunet.files import write_bytes, write_csv, write_json
from lunet.models.build import build_for_task
from lunet.pruning.job import PruneJob
from lunet.pruning.schedule import PruningSchedule, Row
from lunet.settings import plain
from lunet.training.history import write_history
from lunet.training.job import TrainingJob
from lunet.training.results import FILES as TRAINED
from lunet.training.results import metadata, record
from lunet.training.state import TrainingState, copy_weights
from lunet.training.validation import build_validator
from lunet.training.volumes import load_volumes
from lunet.training.weights import load_weights, save_weights

_NUMBERS = (
    "iteration", "epochs", "best_epoch", "parameters", "macs", "channels", "dice", "val_loss",
)  # fmt: skip
OPTIMISTIC = "chosen on the test cases themselves: an upper bound, not a result"


FILES = (*TRAINED, "trajectory.csv", "test_curve.csv")
"""The files that every pruning writes."""


def iteration_file(job: TrainingJob, iteration: int) -> Path:
    """The file that keeps the best weights of an iteration until the end."""
    return job.work / "iterations" / f"{iteration:04d}.safetensors"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a pruning.

    Attributes
    ----------
    chosen
        Row of the trajectory with the chosen network, chosen on validation cases.
    curve
        From :func:`test_curve`: the chosen iteration's Dice is the result; the best Dice of all is
        what a stopping point chosen on test data would have claimed.
    reason
        Why there was no further iteration.
    """

    chosen: Row
    curve: Sequence[Mapping[str, Any]]
    reason: str


def write_pruning(
    task: PruneJob,
    start: TrainingJob,
    course: PruningSchedule,
    training: TrainingState,
    manifest: Manifest,
    outcome: Outcome,
) -> None:
    """Write weights, histories and, last, ``run.json`` of a finished pruning."""
    chosen = outcome.chosen
    job, out = course.job(start), start.out
    write_bytes(
        out / "weights.safetensors", iteration_file(start, chosen["iteration"]).read_bytes()
    )
    with training.ema_weights() as model:
        about = metadata(job, training, manifest, training.progress.epochs_done)
        save_weights(out / "last.safetensors", copy_weights(model), about)
    write_history(out / "history.csv", training.progress.history, start.task)
    write_trajectory(out / "trajectory.csv", course.rows)
    write_csv(out / "test_curve.csv", ("iteration", "parameters", "dice"), outcome.curve)
    content = record(start, training, manifest)
    content |= _summary(task, course, outcome)
    content["settings"] = content["settings"] | {"prune": plain(task.settings)}
    content["device_seconds"] = round(content["device_seconds"] + course.seconds, 3)
    write_json(out / "run.json", content)


def write_trajectory(path: Path, rows: Sequence[Row]) -> None:
    """Write one line per iteration: size, cost, validation Dice, what the cut before it removed,
    and the channels of each layer (``channels_<layer>``)."""
    layers = list(rows[0]["widths"])
    columns = [*_NUMBERS, "removed", *(f"channels_{name}" for name in layers)]
    write_csv(path, columns, map(_flat, rows))


def _flat(row: Row) -> dict[str, Any]:
    removed = (
        f"{name}:{' '.join(map(str, channels))}" for name, channels in row["removed"].items()
    )
    widths = {f"channels_{name}": width for name, width in row["widths"].items()}
    return {key: row[key] for key in _NUMBERS} | {"removed": ";".join(removed)} | widths


def test_curve(
    job: TrainingJob, rows: Sequence[Row], training: TrainingState, manifest: Manifest, fold: Fold
) -> list[dict[str, Any]]:
    """Mean Dice of the test cases at each iteration; not used to choose one."""
    if not fold.test:
        return []
    validator = build_validator(
        load_volumes(
            [manifest.case(name) for name in fold.test],
            job.task,
            device=training.sampler.volumes.device,
        ),
        job.task,
        training.objective,
        patch=job.recipe.patch,
        batch_size=job.recipe.batch_size,
    )
    curve = []
    for row in rows:
        state, about = load_weights(iteration_file(job, row["iteration"]))
        model = build_for_task(about["model"], job.task)
        model.load_state_dict(state)
        network = training.arithmetic.place(model)
        found = validator.run(network, training.arithmetic.forward, stop=lambda: False)
        dice = None if found is None or math.isnan(found.mean_dice) else found.mean_dice
        numbers = {key: row[key] for key in ("iteration", "parameters")}
        curve.append(numbers | {"dice": dice})
    return curve


def _summary(task: PruneJob, course: PruningSchedule, outcome: Outcome) -> dict[str, Any]:
    chosen = outcome.chosen
    keys = (*_NUMBERS, "widths", "model")
    return {
        "preset": course.model["preset"],
        "pruned_preset": task.training.model["preset"],
        "strategy": task.strategy,
        "iterations": course.iteration,
        "stopped_because": outcome.reason,
        "start": {key: course.rows[0][key] for key in ("parameters", "macs", "channels")},
        "chosen": {key: chosen[key] for key in keys},
        "test": _test(chosen, outcome.curve),
        "pruning_seconds": round(course.seconds, 3),
    }


def _test(chosen: Row, curve: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    known = [point for point in curve if point["dice"] is not None]
    if not known:
        return None
    best = max(known, key=lambda point: point["dice"])
    dice = next(p["dice"] for p in curve if p["iteration"] == chosen["iteration"])
    return {
        "dice": dice,
        "of": "prepared volumes of the test cases, the network chosen on validation cases",
        "optimistic": {**best, "warning": OPTIMISTIC},
    }
