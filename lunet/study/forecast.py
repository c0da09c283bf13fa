"""Memory and time that a training requests, from the forecast of its preset if there is one.

Snakemake evaluates a job's resources once more just before it is submitted. The files that a
forecast needs (``efficiency.json`` of the preset, manifest and splits) are read then, if they
exist; no job waits for them, and no job is run again because of them. Without them the constants of
this module are used.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lunet.data.folds import read_splits
from lunet.efficiency.calibration import VolumeSizes, calibration, volumes
from lunet.efficiency.forecast import Check, Forecast, check, forecast_training, load_of
from lunet.errors import ConfigError, LunetError
from lunet.reading import read_json, wrong_in
from lunet.settings import plain, replace
from lunet.study.config import read_plan
from lunet.study.study import Study

FALLBACK_MB, FALLBACK_MINUTES = 8000, 240  # without a forecast
MEMORY_FACTOR, LEAST_MB = 1.5, 1000  # the forecast omits losses, augmentation, fragmentation
TIME_FACTOR, START_MINUTES = 2.0, 10  # nodes differ; imports, volumes, a slow file system
PREDICT_MINUTES, TAKING_MINUTES = 30, 2
# a partition refuses a job that requests more than its limit; a longer training is resumed
LONGEST_MINUTES, LONGEST_VARIABLE = 1440, "LUNET_LONGEST_MINUTES"


@dataclass(frozen=True)
class Gap:
    """Why there is no forecast; ``is_fault`` if a file is wrong, not just missing so far."""

    reason: str
    is_fault: bool = False


class Forecasts:
    """Resources of a study's trainings.

    Parameters
    ----------
    study
        The study.
    log
        Receives one line, once, for each file that should give a forecast but does not.
    """

    def __init__(self, study: Study, log: Callable[[str], object]) -> None:
        self.study = study
        self._log = log
        self._logged: set[str] = set()
        self._read: dict[str, tuple[tuple[int, int], Any]] = {}

    def mem_mb(self, wildcards: Any, input: Any, attempt: int, threads: int) -> int:
        """A rule's resource: memory of a training in MiB, multiplied by the attempt."""
        return attempt * self._request(wildcards, input, attempt, threads)[0]

    def mem_mb_together(self, wildcards: Any, input: Any, attempt: int, threads: int) -> int:
        """As :meth:`mem_mb`, of a job that trains all folds of a seed, or of all seeds."""
        one = self._request(self._first_fold(wildcards), input, attempt, threads)[0]
        return attempt * one * self.at_once(self._seeds(wildcards))

    def runtime(self, wildcards: Any, input: Any, attempt: int, threads: int) -> int:
        """A rule's resource: minutes of a training, multiplied by the attempt.

        At most a day, or ``$LUNET_LONGEST_MINUTES``.
        """
        minutes = self._request(wildcards, input, attempt, threads)[1]
        return min(attempt * minutes, longest_minutes())

    def runtime_together(self, wildcards: Any, input: Any, attempt: int, threads: int) -> int:
        """As :meth:`runtime`, of a job that trains all folds of a seed, or of all seeds.

        What its predictions request (:meth:`runtime_ahead`) is kept free of the longest time, up to
        half of it.
        """
        one = self._request(self._first_fold(wildcards), input, attempt, threads)[1]
        seeds = self._seeds(wildcards)
        minutes = START_MINUTES + self.turns(seeds) * (one - START_MINUTES)
        longest = longest_minutes()
        others = len(self.study.folds) * seeds * attempt * TAKING_MINUTES
        return min(attempt * minutes, longest - min(others, longest // 2))

    def runtime_ahead(self, input: Any, attempt: int) -> int:
        """A rule's resource: minutes of a prediction that the job of the training makes ahead.

        Its masks are only put in their place. But if just ``predict`` has changed, there is no
        such job, and the masks are made now. Before the first attempt nothing tells these cases
        apart, so later attempts of a finished training get the time of any prediction.
        """
        is_trained = Path(input.weights).exists()
        return attempt * (PREDICT_MINUTES if attempt > 1 and is_trained else TAKING_MINUTES)

    def at_once(self, seeds: int = 1) -> int:
        """Trainings that a job of all folds of some seeds runs at the same time."""
        return min(self.study.config.runs_per_gpu, len(self.study.folds) * seeds)

    def turns(self, seeds: int = 1) -> int:
        """How often in a row a job of all folds of some seeds trains as many at the same time."""
        return math.ceil(len(self.study.folds) * seeds / self.at_once(seeds))

    def _seeds(self, wildcards: Any) -> int:
        return 1 if hasattr(wildcards, "seed") else len(self.study.config.seeds)

    def _first_fold(self, wildcards: Any) -> SimpleNamespace:
        return SimpleNamespace(preset=wildcards.preset, fold=self.study.folds[0])

    def _request(self, wildcards: Any, input: Any, attempt: int, threads: int) -> tuple[int, int]:
        """Memory and minutes, before they are multiplied by the attempt.

        A further attempt never requests less than it would without a forecast: there may have been
        no forecast for the first attempt, or the forecast may be wrong.
        """
        # use the rule's own files, since another workflow may have put the study below a prefix
        inputs = str(input.manifest), str(input.splits)
        found = self.look(wildcards.preset, int(wildcards.fold), threads, inputs)
        if isinstance(found, Gap) and found.is_fault and found.reason not in self._logged:
            self._logged.add(found.reason)
            self._log(
                f"{found.reason} Without a forecast: {FALLBACK_MB} MB, {FALLBACK_MINUTES} min."
            )
        mib, minutes = request(found)
        if attempt > 1:
            return max(mib, FALLBACK_MB), max(minutes, FALLBACK_MINUTES)
        return mib, minutes

    def look(
        self,
        preset: str,
        fold: int,
        threads: int | None = None,
        inputs: tuple[str, str] | None = None,
    ) -> Forecast | Gap:
        """The forecast of a training, or why there is none.

        ``inputs`` are the paths of manifest and splits if they differ from the configuration's; the
        other files are then expected in the folder of the splits.
        """
        if not self.study.config.efficiency.training_step:
            return Gap("efficiency.training_step is false, so no step is measured")
        paths = self._paths(preset, inputs)
        for path in paths.values():
            if not Path(path).is_file():
                return Gap(f"{path} does not exist yet")
        try:
            return self._forecast(preset, fold, paths, threads)
        except LunetError as error:
            return Gap(str(error), is_fault=True)

    def check(self, preset: str, runs: Sequence[Mapping[str, Any]]) -> Check | None:
        """Compare forecasts of finished runs with what they took; all files must exist."""
        paths = self._paths(preset)
        measured = self._parsed(paths["cost"], _in_file(calibration))
        return check(measured, self._data(preset, paths), runs)

    def _data(self, preset: str, paths: dict[str, str]) -> VolumeSizes:
        """The prepared volumes, as the preset sees them: in slices or whole."""
        found: VolumeSizes = self._parsed(paths["manifest"], _in_file(volumes))
        return dataclasses.replace(found, dimensions=self.study.task_of(preset).dimensions)

    def _paths(self, preset: str, inputs: tuple[str, str] | None = None) -> dict[str, str]:
        study = self.study
        manifest, splits = inputs or (study.manifest, f"{study.results}/splits.json")
        results = os.path.dirname(splits)
        paths = {
            "cost": f"{results}/presets/{preset}/efficiency.json",
            "manifest": manifest,
            "splits": splits,
        }
        return paths | ({"plan": f"{results}/plan.yaml"} if self._is_planned else {})

    @property
    def _is_planned(self) -> bool:
        return self.study.config.plan == "auto"

    def _forecast(
        self, preset: str, fold: int, paths: dict[str, str], threads: int | None
    ) -> Forecast | Gap:
        recipe = self.study.resolved(preset)[1]
        if self._is_planned:
            planned = self._parsed(paths["plan"], read_plan)
            recipe = replace(recipe, planned.get("train") or {}, paths["plan"])
        measured = self._parsed(paths["cost"], _in_file(calibration))
        wanted = recipe.engine.device
        if wanted != measured.device and (wanted != "auto" or measured.asked == "cpu"):
            found = f"measured on {measured.device}, but trainings run on {wanted}"
            return Gap(f"{paths['cost']}: {found}")
        folds = self._parsed(paths["splits"], read_splits).folds
        if not 0 <= fold < len(folds):
            return Gap(f"{paths['splits']}: no fold {fold}.", is_fault=True)
        parts = folds[fold]
        data = self._data(preset, paths)
        load = load_of(
            plain(recipe), data, train=len(parts.train), validation=len(parts.validation)
        )
        return forecast_training(measured, load, threads=recipe.engine.threads or threads)

    def _parsed(self, path: str, read: Callable[[str], Any]) -> Any:
        """What ``read`` returns for a file, or the error it raises; read again after a change."""
        status = Path(path).stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if path not in self._read or self._read[path][0] != stamp:
            try:
                self._read[path] = stamp, read(path)
            except LunetError as error:
                self._read[path] = stamp, error
        found = self._read[path][1]
        if isinstance(found, LunetError):
            raise found
        return found


def longest_minutes() -> int:
    """The longest time that any training requests.

    Raises
    ------
    ConfigError
        If the environment variable is not a number of minutes.
    """
    text = os.environ.get(LONGEST_VARIABLE, str(LONGEST_MINUTES))
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(
            where=LONGEST_VARIABLE,
            found=f"found {text!r}",
            expected="a number of minutes is expected",
        )
    return int(text)


def request(found: Forecast | Gap) -> tuple[int, int]:
    """Memory (MiB) and minutes that a first attempt requests."""
    if isinstance(found, Gap):
        return FALLBACK_MB, FALLBACK_MINUTES
    mib = math.ceil(MEMORY_FACTOR * found.host / 2**20)
    seconds = TIME_FACTOR * (found.seconds + found.choosing_seconds)
    return max(LEAST_MB, mib), min(START_MINUTES + math.ceil(seconds / 60), longest_minutes())


def _in_file(parse: Callable[[Any], Any]) -> Callable[[str], Any]:
    """A function that parses the content of a JSON file; its errors name the file."""

    def read(path: str) -> Any:
        content = read_json(path)
        with wrong_in(path):
            return parse(content)

    return read
