"""Writes the first configuration of a study from the contents of the user's data folder."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lunet.errors import ConfigError, DataError
from lunet.files import write_text
from lunet.pages import render
from lunet.reading_yaml import parse_yaml
from lunet.study.config import parse
from lunet.study.recipes import find_recipe
from lunet.study.study import Study

if TYPE_CHECKING:
    from lunet.data.dataset import Dataset
    from lunet.data.settings import DatasetSettings

_MOST_FOLDS = 5
_NOT_IN_FILES = re.compile(r"[^\w .-]+")


@dataclass(frozen=True)
class Wishes:
    """The settings of the first study; ``None`` leaves a key at its default."""

    reference: str = "unet_small_8f"
    families: tuple[str, ...] = ("unet_small", "lunet_small")
    widths: tuple[int, ...] = (1, 2, 4, 6, 8)
    cost: str = "macs"
    margin: float = 0.01
    recipe: str = "strong"
    epochs: int | None = None
    budget_hours: float | None = None


def write_first_study(
    path: str | Path,
    source: Path,
    dataset: Dataset,
    settings: DatasetSettings,
    *,
    wishes: Wishes,
    step: str,
) -> None:
    """Write a commented configuration that is ready to run.

    Parameters
    ----------
    path
        New YAML file.
    source
        Folder, archive or listing of the data set.
    dataset, settings
        The data set as it was read, and the settings that were given to read it.
    wishes
        Reference, candidates, margin and budget.
    step
        Subcommand that writes the file; its first comment names it.

    Raises
    ------
    ConfigError
        If the file exists, or a setting in ``wishes`` is not valid.
    DataError
        If fewer than four subjects have labels, too few to train, select and test.
    """
    if os.path.lexists(path):
        raise ConfigError(
            where=path,
            found="exists already",
            expected="a configuration is never overwritten",
            action=f"Run it with --config {path}, or choose another name with --out",
        )
    text = first_study(path, source, dataset, settings, wishes=wishes, step=step)
    study = Study(parse(parse_yaml(text, path)))
    for name in study.config.smallest.presets():
        study.resolved(name)
    write_text(path, text)


def first_study(
    path: str | Path,
    source: Path,
    dataset: Dataset,
    settings: DatasetSettings,
    *,
    wishes: Wishes,
    step: str,
) -> str:
    """Return the text that :func:`write_first_study` writes."""
    folds = folds_for(dataset)
    pair = (wishes.reference, f"{wishes.families[-1]}_{max(wishes.widths)}f")
    return render(
        "first_study.yaml",
        what=", ".join(dataset.task.names),
        step=step,
        found=counted(dataset),
        study=study_name(Path(path).stem),
        dataset=_described(source, dataset, settings),
        recipe=wishes.recipe,
        train=_flow(train) if (train := _shortened(wishes)) else None,
        presets=_flow(list(dict.fromkeys(pair))),
        folds=folds,
        fold_list=_flow(list(range(folds))),
        reference=wishes.reference,
        margin=f"{wishes.margin:g}",
        file=path,
        families=_flow(list(wishes.families)),
        widths=_flow(list(wishes.widths)),
        cost=wishes.cost,
        budget_hours=wishes.budget_hours,
    )


def _shortened(wishes: Wishes) -> dict[str, Any]:
    """Changes to the recipe: the epochs, and a warm-up that is shorter than they are."""
    if wishes.epochs is None:
        return {}
    train: dict[str, Any] = {"epochs": wishes.epochs}
    if find_recipe(wishes.recipe).schedule.warmup_epochs >= wishes.epochs:
        train["schedule"] = {"warmup_epochs": wishes.epochs // 5}
    return train


def counted(dataset: Dataset) -> str:
    """Numbers of labelled cases and their subjects, in words."""
    cases = [case for case in dataset.cases if case.labelled]
    subjects = len({case.group for case in cases})
    each = ", one each" if subjects == len(cases) else ""
    return f"{len(cases)} labelled cases of {subjects} subjects{each}"


def folds_for(dataset: Dataset) -> int:
    """Number of folds: at most five, with two or more subjects in each test set.

    Raises
    ------
    DataError
        If fewer than four subjects have labels.
    """
    subjects = len({case.group for case in dataset.cases if case.labelled})
    if subjects < 4:
        raise DataError(
            where=dataset.root,
            found=f"{subjects} subjects with labels",
            expected="four or more are needed to train, select and test",
        )
    return min(_MOST_FOLDS, subjects // 2)


def study_name(text: str) -> str:
    """A valid name for a study, as close to the text as possible."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")
    return name or "my_study"


def _described(source: Path, dataset: Dataset, settings: DatasetSettings) -> dict[str, str]:
    """The section ``dataset``: what was found in the data, and the settings given to read it."""
    values: dict[str, Any] = {
        "name": _NOT_IN_FILES.sub("_", dataset.name),
        "path": str(source),
        "labels": dict(dataset.task.labels),
        "channels": list(dataset.task.channels),
        "dimensions": dataset.task.dimensions,
    }
    stated = {
        "layout": settings.layout if settings.layout != "auto" else None,
        "regions": {name: list(of) for name, of in dataset.task.regions.items()} or None,
        "remap": dict(settings.remap) or None,
        "mask_threshold": settings.mask_threshold,
        "groups": settings.groups,
        "pixel_mm": list(dataset.pixel_mm) if dataset.pixel_mm else None,
    }
    values |= {key: value for key, value in stated.items() if value is not None}
    return {key: _flow(value) for key, value in values.items()}


def _flow(value: Any) -> str:
    """A value on one line, as JSON, which is valid YAML and quotes special characters."""
    return json.dumps(value, ensure_ascii=False)
