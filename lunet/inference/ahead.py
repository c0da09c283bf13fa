"""Predictions made ahead, by the job of several short trainings for the step that asks for them.

A prediction of a second should not pay for starting Python and importing torch, which takes three.
So a job that has trained several runs also predicts their test cases, each in a process of its own
that is forked with torch imported, and keeps the masks beside the resume states. The step
``predict`` takes them if they are of its own settings, code, weights and data, and else predicts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lunet.data.folds import read_splits
from lunet.data.prepared import read_manifest
from lunet.devices import claimed_gpu
from lunet.file_list import read_list
from lunet.files import canonical_json, sha256
from lunet.inference.settings import WEIGHTS, PredictSettings
from lunet.leftovers import staged
from lunet.own_code import is_file
from lunet.own_files import claim
from lunet.settings import build_settings
from lunet.training.kept_results import PREDICTED, bring_back, is_kept, keep, kept_files

THREADS = 1
"""CPU threads of a prediction, as the rule ``predict`` has by default; sums depend on them."""

MODULES = ("lunet.inference.predict_run",)
"""What a process that predicts ahead imports."""


@dataclass(frozen=True)
class Prediction:
    """The prediction of a run's test cases, as the step ``predict`` is asked for it.

    Attributes
    ----------
    sections
        What the step reads: ``task``, ``model`` and ``predict``.
    code
        Digest of the step's code.
    weights
        Folder of the run.
    manifest, splits
        Files of the prepared data set and its folds.
    fold
        Number of the fold.
    work
        Folder of the run's resume state, where the masks are kept.
    """

    sections: Mapping[str, Any]
    code: str
    weights: Path
    manifest: Path
    splits: Path
    fold: int
    work: Path

    @property
    def settings(self) -> PredictSettings:
        """How the network is applied."""
        return build_settings(PredictSettings, self.sections["predict"], "predict")

    def stamp(self) -> str:
        """One digest of all that the masks depend on."""
        parts = {
            "sections": dict(self.sections),
            "code": self.code,
            "weights": sha256(self.weights / WEIGHTS[self.settings.weights]),
            "data": read_manifest(self.manifest).digest,
            "splits": read_splits(self.splits).as_dict()["folds"][self.fold],
        }
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def predict_ahead(wanted: Prediction) -> None:
    """Predict now and keep the result.

    Raises
    ------
    LunetError
        As :func:`lunet.inference.predict_run.predict_run`.
    """
    from lunet.inference.predict_run import predict_run  # it imports torch, which taking must not

    module = wanted.sections["model"]["module"]
    with claimed_gpu(wanted.settings.device), staged(wanted.work / "predictions") as stage:
        predict_run(
            wanted.weights,
            wanted.manifest,
            wanted.splits,
            fold=wanted.fold,
            out=stage,
            settings=wanted.settings,
            network=module if is_file(module) else None,
        )
        keep(stage, wanted.work, list(read_list(stage)), stamp=wanted.stamp(), kind=PREDICTED)


def take(wanted: Prediction, out: Path, *, log: Callable[[str], None]) -> bool:
    """Put a prediction that was made ahead into ``out``; False if there is none that fits.

    ``out`` must be missing or empty, as Snakemake leaves it for a step.
    """
    has_other_threads = os.environ.get("OMP_NUM_THREADS") != str(THREADS)
    if has_other_threads or (out.exists() and any(out.iterdir())):
        return False
    if not is_kept(wanted.work, stamp=wanted.stamp(), log=log, kind=PREDICTED):
        return False
    with claim(out, kept_files(wanted.work, PREDICTED), step="predict"):
        bring_back(wanted.work, out, PREDICTED)
    log(f"predicted by the job of the training, whose masks were kept in {wanted.work}")
    return True
