"""What a training will be given: memory and time, from the forecast of its preset if there is one.

Snakemake asks once more when a job is about to be submitted, so what is needed for a forecast
(``efficiency.json`` of the preset, manifest and splits) is read then, if it exists; nothing waits
for it, and nothing is run again because of it. Without it the constants of this module hold.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lunet.data.folds import read_splits
from lunet.efficiency.calibration import calibration, volumes
from lunet.efficiency.forecast import Check, Forecast, check, forecast_training, load_of
from lunet.errors import ConfigError, LunetError
from lunet.reading import read_json, wrong_in
from lunet.settings import plain, replace
from lunet.study.config import read_plan
from lunet.study.study import Study

FALLBACK_MB, FALLBACK_MINUTES = 8000, 240  # without a forecast
MEMORY_FACTOR, LEAST_MB = 1.5, 1000  # losses, augmentation and fragmentation are not foreseen
TIME_FACTOR, START_MINUTES = 2.0, 10  # nodes differ; imports, volumes, a slow file system
# a partition refuses a job that asks for more than its own limit; what takes longer is resumed
LONGEST_MINUTES, LONGEST_VARIABLE = 1440, "LUNET_LONGEST_MINUTES"


@dataclass(frozen=True)
class Gap:
    """Why there is no forecast; ``is_fault`` where something is wrong, not just not there yet."""

    reason: str
    is_fault: bool = False


class Forecasts:
    """Resources of a study's trainings.

    Parameters
    ----------
    study
        The study.
    say
        Told in one line, once, of each file that should give a forecast and does not.
    """

    def __init__(self, study: Study, say: Callable[[str], object]) -> None:
        self.study = study
        self._say = say
        self._said: set[str] = set()
        self._read: dict[str, tuple[tuple[int, int], Any]] = {}

    def mem_mb(self, wildcards: Any, input: Any, attempt: int, threads: int) -> int:
        """A rule's resource: memory of a training in MiB; each attempt gets so much more."""
        return attempt * self._asked(wildcards, input, attempt, threads)[0]

    def runtime(self, wildcards: Any, input: Any, attempt: int, threads: int) -> int:
        """A rule's resource: minutes of a training; each attempt gets so much more, up to a day
        or what ``$LUNET_LONGEST_MINUTES`` says."""
        return min(attempt * self._asked(wildcards, input, attempt, threads)[1], longest_minutes())

    def _asked(self, wildcards: Any, input: Any, attempt: int, threads: int) -> tuple[int, int]:
        """Memory and minutes, before they are multiplied by the attempt.

        A further attempt never gets less than it would without a forecast: the first one may have
        had none, or the forecast may be wrong.
        """
        # the rule's own files: another workflow may have put the study below a prefix
        inputs = str(input.manifest), str(input.splits)
        found = self.look(wildcards.preset, int(wildcards.fold), threads, inputs)
        if isinstance(found, Gap) and found.is_fault and found.reason not in self._said:
            self._said.add(found.reason)
            self._say(
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

        ``inputs`` are manifest and splits, if these are not where the configuration says; the
        other files are looked for where the splits are.
        """
        if not self.study.config.efficiency.training_step:
            return Gap("efficiency.training_step is false: no step is measured")
        paths = self._paths(preset, inputs)
        for path in paths.values():
            if not Path(path).is_file():
                return Gap(f"{path} is not there yet")
        try:
            return self._forecast(preset, fold, paths, threads)
        except LunetError as error:
            return Gap(str(error), is_fault=True)

    def check(self, preset: str, runs: Sequence[Mapping[str, Any]]) -> Check | None:
        """Forecasts of finished runs beside what they took; all files must be there."""
        paths = self._paths(preset)
        measured = self._parsed(paths["cost"], _in_file(calibration))
        return check(measured, self._parsed(paths["manifest"], _in_file(volumes)), runs)

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
            found = f"measured on {measured.device}, trainings run on {wanted}"
            return Gap(f"{paths['cost']}: {found}")
        folds = self._parsed(paths["splits"], read_splits).folds
        if not 0 <= fold < len(folds):
            return Gap(f"{paths['splits']}: no fold {fold}.", is_fault=True)
        parts = folds[fold]
        data = self._parsed(paths["manifest"], _in_file(volumes))
        load = load_of(
            plain(recipe), data, train=len(parts.train), validation=len(parts.validation)
        )
        return forecast_training(measured, load, threads=recipe.engine.threads or threads)

    def _parsed(self, path: str, read: Callable[[str], Any]) -> Any:
        """What ``read`` makes of a file, or the error it raises; read again when it changes."""
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
    """The longest time that is asked for.

    Raises
    ------
    ConfigError
        If the environment's value is no number of minutes.
    """
    text = os.environ.get(LONGEST_VARIABLE, str(LONGEST_MINUTES))
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(
            where=LONGEST_VARIABLE, found=f"found {text!r}", expected="minutes are expected"
        )
    return int(text)


def request(found: Forecast | Gap) -> tuple[int, int]:
    """Memory (MiB) and minutes that a first attempt asks for."""
    if isinstance(found, Gap):
        return FALLBACK_MB, FALLBACK_MINUTES
    mib = math.ceil(MEMORY_FACTOR * found.host / 2**20)
    seconds = TIME_FACTOR * (found.seconds + found.choosing_seconds)
    return max(LEAST_MB, mib), min(START_MINUTES + math.ceil(seconds / 60), longest_minutes())


def _in_file(parse: Callable[[Any], Any]) -> Callable[[str], Any]:
    """``parse`` of a JSON file's content; its errors name the file."""

    def read(path: str) -> Any:
        content = read_json(path)
        with wrong_in(path):
            return parse(content)

    return read
