"""Simulated per-case rows with planted effects, for the tests of the statistics."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def simulate(
    effects: Mapping[str, float],
    *,
    seed: int,
    subjects: int = 25,
    cases_per_subject: int = 2,
    seeds: int = 2,
    labels: Sequence[str] = ("organ",),
    metric: str = "dice",
    centre: float = 0.88,
    subject_sd: float = 0.01,
    case_sd: float = 0.005,
    seed_sd: float = 0.002,
) -> pd.DataFrame:
    """Rows of presets that differ from ``centre`` by their effect.

    Each preset has its own deviation per subject (``subject_sd``, shared by the subject's cases,
    so that cases are correlated), per case (``case_sd``) and per row (``seed_sd``), beside the
    difficulty of the case, which all presets share.
    """
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 0.03, (subjects, cases_per_subject))
    rows = []
    for preset, effect in effects.items():
        own = rng.normal(0, subject_sd, (subjects, 1))
        own = own + rng.normal(0, case_sd, (subjects, cases_per_subject))
        for subject, case in np.ndindex(subjects, cases_per_subject):
            truth = centre + effect + hard[subject, case] + own[subject, case]
            for run, label in itertools.product(range(seeds), labels):
                rows.append(
                    {
                        "preset": preset,
                        "fold": subject % 5,
                        "seed": run,
                        "case": f"s{subject:02d}_{case}",
                        "group": f"s{subject:02d}",
                        "label": label,
                        "status": "ok",
                        metric: truth + rng.normal(0, seed_sd),
                    }
                )
    return pd.DataFrame(rows)


def trained_study(
    rng: np.random.Generator,
    presets: Mapping[str, float],
    *,
    subjects: int = 40,
    folds: int = 5,
    seeds: int = 3,
    training_sd: float = 0.01,
    subject_sd: float = 0.01,
    rest_sd: float = 0.005,
) -> pd.DataFrame:
    """Rows of a cross-validation in which each training has a deviation of its own.

    ``presets`` maps a name to its effect. All deviations are drawn from ``rng``.
    """
    shape = (len(presets), subjects, seeds)
    fold = np.arange(subjects) % folds
    value = 0.85 + np.array(list(presets.values()))[:, None, None] + np.zeros(shape)
    value += rng.normal(0, 0.03, (1, subjects, 1))
    value += rng.normal(0, subject_sd, (len(presets), subjects, 1))
    value += rng.normal(0, training_sd, (len(presets), folds, seeds))[:, fold]
    value += rng.normal(0, rest_sd, shape)
    preset, subject, seed = (axis.ravel() for axis in np.indices(shape))
    case = np.char.add("s", np.char.zfill(subject.astype(str), 3))
    frame = {
        "preset": np.array(list(presets))[preset],
        "fold": fold[subject],
        "seed": seed,
        "case": case,
        "label": "organ",
        "status": "ok",
        "dice": value.ravel(),
    }
    return pd.DataFrame(frame)
