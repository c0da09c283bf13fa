"""Which runs of a study are trained in one job: all folds of a preset and seed, if they are short.

A submission to a cluster waits in the queue and starts Python three times, which a training of
minutes should not pay for each fold. Runs in one job have their own outputs, states and logs, and
the numbers of runs in jobs of their own (:mod:`lunet.training.parallel`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lunet.study.forecast import Forecasts, Gap
from lunet.study.profile import executor_of
from lunet.study.study import Study

SHORT_SECONDS = 300.0
"""``folds_per_job: auto`` puts folds in one job if one is forecast to take less than this."""
_VARIABLE = "LUNET_TOGETHER"


def choose_together(study: Study, words: Sequence[str]) -> list[tuple[str, int]]:
    """The presets and seeds whose folds are trained in one job.

    Folds stay in jobs of their own if some of them are finished and others are not: Snakemake
    removes all outputs of a job before it runs.

    Parameters
    ----------
    study
        The study.
    words
        Snakemake's arguments, which name the profile and the executor.
    """
    if not _may_be(study, words):
        return []
    wants_all = study.config.folds_per_job == "all"
    forecasts = Forecasts(study, lambda _: None)
    presets = [name for name in study.presets if wants_all or _is_short(forecasts, name)]
    return [
        (preset, seed)
        for preset in presets
        for seed in study.config.seeds
        if len(set(_are_finished(study, preset, seed))) == 1
    ]


def advise_measuring(study: Study, words: Sequence[str]) -> Iterator[str]:
    """A line if ``folds_per_job: auto`` cannot know yet which trainings on a cluster are short."""
    is_decided = study.config.folds_per_job == "all" or not _may_be(study, words)
    if is_decided or "efficiency" in words or not study.config.efficiency.training_step:
        return
    forecasts = Forecasts(study, lambda _: None)
    unknown = [name for name in study.presets if _is_unmeasured(forecasts, name)]
    if unknown:
        yield (
            f"folds_per_job: {len(unknown)} of {len(study.presets)} presets are not measured yet, "
            "so each of their trainings is a job of its own. To have the folds of short ones in "
            "one job, run the target `efficiency` first"
        )


def _may_be(study: Study, words: Sequence[str]) -> bool:
    """Whether folds can be put in one job at all; a search asks for single runs."""
    wanted = study.config.folds_per_job
    is_local = executor_of(words) in (None, "local")
    if wanted == "one" or (wanted == "auto" and is_local):
        return False
    return len(study.folds) > 1 and not study.config.smallest.is_configured


def _is_short(forecasts: Forecasts, preset: str) -> bool:
    found = forecasts.look(preset, forecasts.study.folds[0])
    return not isinstance(found, Gap) and found.seconds + found.choosing_seconds < SHORT_SECONDS


def _is_unmeasured(forecasts: Forecasts, preset: str) -> bool:
    """Whether a training of the preset is still to be run and its time is not known."""
    study = forecasts.study
    if not isinstance(forecasts.look(preset, study.folds[0]), Gap):
        return False
    return not all(all(_are_finished(study, preset, seed)) for seed in study.config.seeds)


def _are_finished(study: Study, preset: str, seed: int) -> Iterator[bool]:
    for fold in study.folds:
        yield Path(study.run(preset, fold, seed), "run.json").is_file()


def hand_over_together(chosen: Iterable[tuple[str, int]]) -> None:
    """Pass the choice on to the jobs of this run of Snakemake, which must not choose again.

    It is no parameter of a rule, because it changes no result.
    """
    os.environ[_VARIABLE] = json.dumps(list(chosen))


def together() -> str:
    """A regular expression for the runs that are trained together: ``preset/fold-F/seed-S``.

    It matches nothing if there are none.
    """
    chosen = json.loads(os.environ.get(_VARIABLE) or "[]")
    runs = [rf"{re.escape(preset)}/fold-\d+/seed-{seed}" for preset, seed in chosen]
    return f"(?:{'|'.join(runs)})" if runs else r"(?!)"
