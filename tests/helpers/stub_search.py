"""A stand-in for Snakemake and its trainings: writes the files of runs with planted values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lunet.evaluation.external_cost import write_cost
from lunet.evaluation.external_settings import ExternalCost, ExternalSettings
from lunet.files import write_csv, write_json
from lunet.study.config import parse
from lunet.study.study import Study

_RUN = re.compile(r"runs/(?P<preset>[^/]+)/fold-(?P<fold>\d+)/seed-(?P<seed>\d+)/")
_PAUSED = re.compile(r"paused/(?P<preset>[^/]+)/fold-(?P<fold>\d+)/seed-(?P<seed>\d+)\.json$")
_COST = re.compile(r"presets/(?P<preset>[^/]+)/efficiency\.json$")


class StubMaker:
    """Makes the files that it is asked for, counts trainings, and may be killed on the way.

    Parameters
    ----------
    dice
        Preset -> true Dice.
    costs
        Preset -> MACs; by width, and by family, where none is given.
    folds, cases
        Number of folds, and of cases in each.
    early
        Preset -> validation Dice of all epochs; of others it rises to the true Dice at a third.
    given
        External row -> its costs as the configuration states them. Its files are made, too, but it
        is not trained; a rival's record has the seconds of its training.
    rivals
        Those of the external rows that the study trains.
    kill_after
        Raise ``KeyboardInterrupt`` once so many trainings are done.
    """

    def __init__(
        self,
        dice: Mapping[str, float],
        costs: Mapping[str, float] | None = None,
        *,
        folds: int = 5,
        cases: int = 20,
        kill_after: int | None = None,
        spread: float = 0.004,
        early: Mapping[str, float] | None = None,
        given: Mapping[str, Mapping[str, Any]] | None = None,
        rivals: Sequence[str] = (),
    ) -> None:
        self.dice, self.costs = dice, costs or {}
        self.folds, self.cases, self.spread = folds, cases, spread
        self.kill_after = kill_after
        self.early = early or {}
        self.given, self.rivals = given or {}, rivals
        self.taken: list[tuple[str, int, int]] = []
        self.paused: list[tuple[str, int, int]] = []
        self.trained: list[tuple[str, int, int]] = []
        self.calls: list[list[str]] = []

    def __call__(self, files: Sequence[str]) -> None:
        self.calls.append(list(files))
        for name in files:
            path = Path(name)
            if path.is_file():
                continue
            if path.name == "splits.json":
                folds = [
                    {"train": [], "test": [_case(fold, place) for place in range(self.cases)]}
                    for fold in range(self.folds)
                ]
                write_json(path, {"folds": folds})
            elif (match := _COST.search(name)) and match["preset"] in self.given:
                row = ExternalSettings("", cost=ExternalCost(**self.given[match["preset"]]))
                write_cost(row, match["preset"], path)
            elif match := _COST.search(name):
                write_json(path, self.cost(match["preset"]))
            elif match := _PAUSED.search(name):
                self.paused.append((match["preset"], int(match["fold"]), int(match["seed"])))
                write_json(path, self.pause(match["preset"]))
            elif "/atlas_prior/" in name and (match := _RUN.search(name)):
                self.predict_prior(path, int(match["fold"]))
            elif match := _RUN.search(name):
                self.train(path.parent, (match["preset"], int(match["fold"]), int(match["seed"])))

    def cost(self, preset: str) -> dict[str, Any]:
        """An efficiency.json."""
        width = int(re.findall(r"_(\d+)f", preset)[0])
        macs = self.costs.get(preset, width * (3e6 if preset.startswith("unet") else 1e6))
        latency = [{"batch": 1, "engine": "eager", "precision": "fp32", "p50_ms": macs / 1e6}]
        return {
            "preset": preset,
            "parameters": 1000 * width,
            "macs": macs,
            "latency": latency,
            "peak_measured_bytes": 2**20 * width,
            "device": {"type": "cpu"},
            "settings": {"threads": 1},
        }

    def pause(self, preset: str) -> dict[str, Any]:
        """The record of a training that was paused at epoch 10 of 30, after six minutes."""
        rows = [self.row(preset, epoch) for epoch in range(1, 11)]
        return {"epoch": 10, "history": rows, "device_seconds": 360.0}

    def row(self, preset: str, epoch: int) -> dict[str, Any]:
        """An epoch of a history; the second of each pair of epochs is validated."""
        dice = self.early.get(preset, self.dice[preset] * min(1, epoch / 10))
        return {"epoch": epoch, "dice": None if epoch % 2 else dice}

    def train(self, run: Path, key: tuple[str, int, int]) -> None:
        """Write a run; what it writes depends on its key alone."""
        if self.kill_after is not None and len(self.trained) >= self.kill_after:
            raise KeyboardInterrupt
        preset, fold, seed = key
        rng = np.random.default_rng([fold, seed, *preset.encode()])
        hard = np.random.default_rng(fold).normal(0, 0.02, self.cases)
        own = np.random.default_rng([fold, *preset.encode()]).normal(0, self.spread, self.cases)
        values = self.dice[preset] + hard + own
        values = (
            values + rng.normal(0, self.spread / 4) + rng.normal(0, self.spread / 2, self.cases)
        )
        _write_metrics(run / "metrics.csv", key, values)
        if preset in self.given:
            training = {"training": {"seconds": 720.0}} if preset in self.rivals else {}
            write_json(run / "run.json", {"preset": preset, "external": training})
            self.taken.append(key)
            return
        history = [self.row(preset, epoch) for epoch in range(1, 31)]
        write_csv(run / "history.csv", list(history[0]), history)
        write_json(run / "run.json", {"device_seconds": 360.0, "preset": preset})
        self.trained.append(key)

    def predict_prior(self, path: Path, fold: int) -> None:
        """Write the scores of the atlas prior."""
        values = np.full(self.cases, self.dice.get("atlas_prior", 0.3))
        _write_metrics(path, ("atlas_prior", fold, 0), values)


def _write_metrics(path: Path, key: tuple[str, int, int], values: np.ndarray) -> None:
    preset, fold, seed = key
    rows = [
        {"preset": preset, "fold": fold, "seed": seed, "case": _case(fold, place)}
        | {"group": _case(fold, place), "label": "organ", "status": "ok", "dice": float(value)}
        for place, value in enumerate(values)
    ]
    write_csv(path, list(rows[0]), rows)


def _case(fold: int, place: int) -> str:
    return f"f{fold}c{place:02d}"


def search_study(
    root: Path, rows: Mapping[str, Mapping[str, Any]] | None = None, **changes: Any
) -> Study:
    """A study with a search below ``root``.

    ``rows`` has the sections ``external`` and ``rivals``; ``changes`` are keys of the section
    ``smallest``.
    """
    section = {"families": ["lunet_small"], "widths": [2, 4, 6, 8], "reference": "unet_small_4f"}
    return Study(
        parse(
            {
                "study": "search",
                "dataset": {"name": "phantom", "phantom": {"kind": "hippocampus"}},
                "seeds": [0, 1],
                "roots": {"results": str(root / "results"), "work": str(root / "work")},
                "smallest": section | changes,
            }
            | dict(rows or {})
        )
    )
