"""Writes the results of a training: weights, history and record, each file atomically."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lunet.data.prepared import Manifest
from lunet.files import write_json
from lunet.provenance import stamp as provenance
from lunet.public import public_path
from lunet.settings import plain
from lunet.training.compute.device import device_facts
from lunet.training.diagnostics import Suspect, no_progress
from lunet.training.history import write_history
from lunet.training.job import TrainingJob
from lunet.training.memory import peak_memory
from lunet.training.state import TrainingState, copy_weights
from lunet.training.weights import save_weights

FILES = ("weights.safetensors", "last.safetensors", "history.csv", "run.json")
"""The files that every training writes."""


def output_files(job: TrainingJob) -> list[str]:
    """Files that a training writes into ``job.out``, relative to it."""
    every, epochs = job.recipe.save_every, job.recipe.epochs
    kept = range(every, epochs + 1, every) if every else ()
    return [*FILES, *(_snapshot(epoch) for epoch in kept)]


def _snapshot(epoch: int) -> str:
    return f"snapshots/epoch-{epoch:05d}.safetensors"


def snapshots(
    job: TrainingJob, training: TrainingState, manifest: Manifest
) -> Callable[[int], None]:
    """A function that writes the current weights of an epoch to ``out/snapshots``."""

    def keep(epoch: int) -> None:
        with training.ema_weights() as model:
            path = job.out / _snapshot(epoch)
            save_weights(path, model, metadata(job, training, manifest, epoch))

    return keep


def metadata(
    job: TrainingJob, training: TrainingState, manifest: Manifest, epoch: int
) -> dict[str, Any]:
    """The header of a weights file: enough to rebuild and use the network."""
    return {
        "model": dict(job.model),
        "task": job.task.as_dict(),
        "preprocess": dict(manifest.preprocess),
        **_pixels(manifest),
        "size": list(training.sampler.size) if training.sampler.size else None,
        "fold": job.fold,
        "seed": job.seed,
        "epoch": epoch,
    }


def _pixels(manifest: Manifest) -> dict[str, Any]:
    """What is known about the size of the training pictures' pixels; empty for volumes."""
    if manifest.pixel_mm is not None:
        return {"pixel_mm": list(manifest.pixel_mm)}
    return {"unit": "px"} if manifest.unit == "px" else {}


def write_results(
    job: TrainingJob, training: TrainingState, manifest: Manifest, doubtful: Sequence[Suspect]
) -> None:
    """Write ``weights``, ``last``, ``history.csv`` and, last, ``run.json``."""
    progress = training.progress
    with training.ema_weights() as model:
        last = copy_weights(model)
    best = progress.best_weights or last
    for name, weights, epoch in (
        ("weights", best, progress.best_epoch or progress.epochs_done),
        ("last", last, progress.epochs_done),
    ):
        path = job.out / f"{name}.safetensors"
        save_weights(path, weights, metadata(job, training, manifest, epoch))
    write_history(job.out / "history.csv", progress.history, job.task)
    content = record(job, training, manifest) | {"suspects": [asdict(case) for case in doubtful]}
    write_json(job.out / "run.json", content)


def write_pause(epoch: int, path: Path, training: TrainingState) -> None:
    """Write the history up to an epoch, and the seconds that it took, as JSON."""
    progress = training.progress
    rows = [row for row in progress.history if (row["epoch"] or 0) <= epoch]
    seconds = progress.training_seconds + progress.validation_seconds
    write_json(path, {"epoch": epoch, "history": rows, "device_seconds": round(seconds, 3)})


def record(job: TrainingJob, training: TrainingState, manifest: Manifest) -> dict[str, Any]:
    """The content of ``run.json``: settings, data, outcome, cost, versions."""
    return {
        "settings": {
            "task": job.task.as_dict(),
            "model": dict(job.model),
            "recipe": plain(job.recipe),
        },
        "code": job.code,
        "data": manifest.digest,
        "fold": job.fold,
        "seed": job.seed,
        "init": public_path(job.init) if job.init else None,
        **_outcome(training),
        **_cost(training),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "provenance": provenance(),
    }


def _outcome(training: TrainingState) -> dict[str, Any]:
    progress = training.progress
    return {
        "cases": {
            "train": len(training.sampler.volumes.names),
            "validation": len(training.validator.volumes.names),
        },
        "epochs": progress.epochs_done,
        "stopped_early": progress.stopped,
        "best_epoch": progress.best_epoch,
        "best_score": progress.best_score if math.isfinite(progress.best_score) else None,
        "warning": no_progress(training),
    }


def _cost(training: TrainingState) -> dict[str, Any]:
    progress = training.progress
    seconds = progress.training_seconds
    return {
        "engine": asdict(training.arithmetic),
        "hardware": device_facts(training.sampler.volumes.device),
        "resident": training.sampler.volumes.resident,
        "volumes": {
            "place": training.sampler.volumes.place,
            "images": "fp16" if training.sampler.volumes.half else "fp32",
        },
        "training_seconds": round(seconds, 3),
        "validation_seconds": round(progress.validation_seconds, 3),
        "device_seconds": round(seconds + progress.validation_seconds, 3),
        "joules": None if math.isnan(progress.joules) else round(progress.joules, 1),
        "samples_per_second": round(progress.samples / seconds, 3) if seconds else None,
        "peak_memory_bytes": peak_memory(training.sampler.volumes.device),
    }
