"""Whether a folder holds the finished run that a person asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lunet.data.prepared import read_manifest
from lunet.errors import ConfigError, shown
from lunet.file_list import read_list
from lunet.reading import read_record
from lunet.settings import plain
from lunet.training.job import TrainingJob
from lunet.training.run_form import RunForm

_SAME_RUN = ("source", "keep_state", "save_every", "resident")
"""Keys of a recipe that do not change what is trained."""
_MOST_SHOWN = 3


def is_finished(job: TrainingJob) -> bool:
    """Whether ``job.out`` holds the finished run of this job.

    Raises
    ------
    ConfigError
        If it holds a finished run of another preset, data set, recipe or code, which training
        would overwrite. More epochs of a recipe with ``keep_state`` go on with the same run.
    """
    path = job.out / "run.json"
    # a file that training did not write is not a run, and training refuses to write over it
    if not path.is_file() or path.name not in read_list(job.out):
        return False
    found = read_record(path, RunForm)
    changes = list(_differences(_identity(found), _identity(_wanted(job))))
    if not changes:
        return True
    if job.recipe.keep_state and [key for key, *_ in changes] == ["train.epochs"]:
        return False
    words = [f"{key} is {shown(old)}, not {shown(new)}" for key, old, new in changes[:_MOST_SHOWN]]
    more = f", and {len(changes) - _MOST_SHOWN} more" if len(changes) > _MOST_SHOWN else ""
    raise ConfigError(
        where=job.out,
        found=f"holds the finished run of other settings ({'; '.join(words)}{more})",
        expected="it is not overwritten",
        action="Name another folder with --out, or remove this one",
    )


def _wanted(job: TrainingJob) -> dict[str, Any]:
    """The entries of the run's record that are known before the training."""
    recipe = plain(job.recipe)
    return {
        "settings": {"task": job.task.as_dict(), "model": dict(job.model), "recipe": recipe},
        "code": job.code,
        "data": read_manifest(job.manifest).digest,
        "fold": job.fold,
        "seed": job.seed,
    }


def _identity(run: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two runs the same, as the plain values of a JSON file."""
    settings = run.get("settings") or {}
    recipe = {k: v for k, v in (settings.get("recipe") or {}).items() if k not in _SAME_RUN}
    known = {key: run.get(key) for key in ("code", "data", "fold", "seed")}
    parts = {"task": settings.get("task"), "model": settings.get("model"), "train": recipe}
    return json.loads(json.dumps(parts | known))


def _differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, old value, new value) of each value that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            below = f"{key}.{name}" if key else name
            yield from _differences(old.get(name), new.get(name), below)
    elif old != new:
        yield key, old, new
