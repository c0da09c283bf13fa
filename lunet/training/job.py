"""The description of one training: settings, data, folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lunet.task import Task
from lunet.training.history import Row
from lunet.training.recipe import Recipe


@dataclass(frozen=True)
class TrainingJob:
    """What to train, on which data, and where to write the files.

    Attributes
    ----------
    task, model, recipe, code
        Sections of the settings (``model``: preset, module, name, arguments), and the digest of
        the code.
    manifest, splits, fold, seed
        Prepared volumes, file of the folds, number of the fold (from 0), and seed of all random
        numbers.
    work, out
        Folder of the resume state; folder of the results.
    resume, init
        A state file to resume from; a weights file to start from (fine-tuning).
    engine
        File with the arithmetic of the preset (see ``compute.engine_file``).
    engine_cache
        Without it, file that keeps measured choices of the arithmetic.
    save_interval
        Seconds between saved states; None: as often as 1 % of the training time allows.
    observers
        Called with each row of the history.
    pause
        Epoch after which to stop, and the file that then holds the history so far; the state is
        kept, and the same job without it resumes there.
    finished
        Where finished results go: to ``out``; or there and, for a retry, also into ``work``; or
        only into ``work``, to wait until other runs are finished (:mod:`training.kept_results`).
    """

    task: Task
    model: Mapping[str, Any]
    recipe: Recipe
    code: str
    manifest: Path
    splits: Path
    fold: int
    seed: int
    work: Path
    out: Path
    resume: Path | None = None
    init: Path | None = None
    engine: Path | None = None
    engine_cache: Path | None = None
    save_interval: float | None = None
    observers: tuple[Callable[[Row], None], ...] = ()
    pause: tuple[int, Path] | None = None
    finished: Literal["out", "both", "work"] = "out"
