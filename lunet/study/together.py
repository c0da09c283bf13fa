"""Which runs of a study are trained in one job: the folds of a preset and seed, or all its runs.

A submission to a cluster waits in the queue and starts Python several times, which a training of
minutes should not pay for each fold, and one of seconds not for each seed. Runs in one job have
their own outputs, states and logs, and the numbers of runs in jobs of their own
(:mod:`lunet.training.parallel`). Such a job predicts as well (:mod:`lunet.inference.ahead`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lunet.study.forecast import Forecasts, Gap
from lunet.study.profile import executor_of
from lunet.study.study import Study

SHORT_SECONDS = 300.0
"""``folds_per_job: auto`` puts folds in one job if one is forecast to take less than this."""
PRESET_SECONDS = 1800.0
"""``seeds_per_job: auto`` puts all runs of a preset in one job that is forecast to take less."""
Job = tuple[str, int | None]
"""A preset and a seed whose folds are trained in one job; None is all seeds."""
_VARIABLE, _PREDICTIONS = "LUNET_TOGETHER", "LUNET_PREDICTIONS"


def choose_together(study: Study, words: Sequence[str]) -> list[Job]:
    """The presets and seeds whose folds are trained in one job.

    Runs stay in jobs of their own if some of them are finished and others are not: Snakemake
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
    forecasts, seeds = Forecasts(study, lambda _: None), study.config.seeds
    jobs: list[Job] = []
    for preset in study.presets:
        if not wants_all and not _is_short(forecasts, preset):
            continue
        states = {seed: set(_are_finished(study, preset, seed)) for seed in seeds}
        if len(set().union(*states.values())) == 1 and _takes_all_seeds(forecasts, preset):
            jobs.append((preset, None))
        elif len(study.folds) > 1:
            jobs += [(preset, seed) for seed in seeds if len(states[seed]) == 1]
    return jobs


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
    """Whether runs can be put in one job at all; a search asks for single runs."""
    wanted = study.config.folds_per_job
    is_local = executor_of(words) in (None, "local")
    if wanted == "one" or (wanted == "auto" and is_local):
        return False
    runs = len(study.folds) * len(study.config.seeds)
    return runs > 1 and not study.config.smallest.is_configured


def _is_short(forecasts: Forecasts, preset: str) -> bool:
    seconds = _seconds(forecasts, preset)
    return seconds is not None and seconds < SHORT_SECONDS


def _takes_all_seeds(forecasts: Forecasts, preset: str) -> bool:
    """Whether a job trains all seeds of a preset whose folds are trained in one job."""
    config = forecasts.study.config
    if len(config.seeds) == 1 or config.seeds_per_job != "auto":
        return len(config.seeds) > 1 and config.seeds_per_job == "all"
    seconds = _seconds(forecasts, preset)
    return seconds is not None and seconds * forecasts.turns(len(config.seeds)) < PRESET_SECONDS


def _seconds(forecasts: Forecasts, preset: str) -> float | None:
    """The forecast of a training; None if there is none."""
    found = forecasts.look(preset, forecasts.study.folds[0])
    return None if isinstance(found, Gap) else found.seconds + found.choosing_seconds


def _is_unmeasured(forecasts: Forecasts, preset: str) -> bool:
    """Whether a training of the preset is still to be run and its time is not known."""
    study = forecasts.study
    if not isinstance(forecasts.look(preset, study.folds[0]), Gap):
        return False
    return not all(all(_are_finished(study, preset, seed)) for seed in study.config.seeds)


def _are_finished(study: Study, preset: str, seed: int) -> Iterator[bool]:
    for fold in study.folds:
        yield Path(study.run(preset, fold, seed), "run.json").is_file()


def hand_over_together(chosen: Iterable[Job]) -> None:
    """Pass the choice on to the jobs of this run of Snakemake, which must not choose again.

    It is no parameter of a rule, because it changes no result.
    """
    os.environ[_VARIABLE] = json.dumps(list(chosen))


def hand_over_predictions(study: Study) -> None:
    """Tell the jobs that train several runs how the step ``predict`` is going to ask for them.

    Not as a parameter of their rules: a change of how to predict must not train anything again.
    """
    presets = {preset for preset, _ in _chosen()} & set(study.presets)
    asked = {
        preset: {
            "sections": study.sections("predict", preset),
            "code": study.digest("predict", preset),
        }
        for preset in sorted(presets)
    }
    os.environ[_PREDICTIONS] = json.dumps(asked)


def handed_over_prediction(preset: str) -> dict[str, Any] | None:
    """``sections`` and ``code`` of the step ``predict`` for a preset; None without a workflow."""
    known: dict[str, Any] = json.loads(os.environ.get(_PREDICTIONS) or "{}")
    return known.get(preset)


def _chosen() -> list[Job]:
    return [(preset, seed) for preset, seed in json.loads(os.environ.get(_VARIABLE) or "[]")]


def folds_together(study: Study) -> str:
    """A regular expression for runs whose folds are in one job: ``preset/fold-F/seed-S/``.

    It matches nothing if there are none, and no run of a fold or seed that is not the study's.
    """
    chosen = [(preset, seed) for preset, seed in _chosen() if seed is not None]
    return _one_of(_runs(preset, study.folds, [seed]) for preset, seed in chosen)


def presets_together(study: Study) -> str:
    """As :func:`folds_together`, for runs that are in one job with all of their preset."""
    whole = [preset for preset, seed in _chosen() if seed is None]
    return _one_of(_runs(preset, study.folds, study.config.seeds) for preset in whole)


def _runs(preset: str, folds: Iterable[int], seeds: Iterable[int]) -> str:
    return f"{re.escape(preset)}/fold-{_one_of(map(str, folds))}/seed-{_one_of(map(str, seeds))}/"


def _one_of(patterns: Iterable[str]) -> str:
    found = "|".join(patterns)
    return f"(?:{found})" if found else r"(?!)"
