"""What can be wrong between the sections of a configuration, each rule by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lunet.data.ids import file_key
from lunet.errors import ConfigError, nearest, shown
from lunet.metrics.checks import check_metric
from lunet.study.external import external_faults
from lunet.study.presets import known_presets
from lunet.study.rivals import rival_faults
from lunet.study.variants import base_preset

if TYPE_CHECKING:
    from lunet.study.config import Config

# ASCII only: lookalike or invisible characters would give two folders that seem to have one name
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def faults_of_names(config: Config) -> list[ConfigError]:
    """Mistakes in the names of presets and rows; rivals are no external rows yet."""
    return [*_names(config), *_presets(config), *rival_faults(config)]


def faults_of_sections(config: Config, *, has_good_names: bool) -> list[ConfigError]:
    """All other mistakes that no section shows alone.

    Sections that refer to presets and rows are read only if all names are good: a misspelt preset
    is no other preset's mistake.
    """
    faults = [*_grid(config), *_probabilities(config), *_metrics(config)]
    if has_good_names:
        faults = [*_overrides(config), *_comparisons(config), *external_faults(config), *faults]
    return faults


def _names(config: Config) -> Iterator[ConfigError]:
    """Names that cannot be used as folders and as words of shell commands."""
    named = [("study", config.study), *(("presets", name) for name in config.presets)]
    named += [("smallest", name) for name in config.smallest.presets()]
    for key in ("variants", "overrides", "transfer", "external", "rivals"):
        named += [(key, name) for name in getattr(config, key)]
    expected = "only letters, digits, `_`, `-` and `.`, beginning with a letter or digit"
    for key, name in named:
        if not _SEGMENT.fullmatch(name):
            yield ConfigError(
                where=key,
                found=f"found {shown(name)}",
                expected=expected,
                action="Choose another name",
            )
    folders = {file_key(name): name for name in config.presets}
    for name in config.presets:
        other = folders[file_key(name)]
        if other != name:
            yield ConfigError(
                where="presets",
                found=f"{name!r} and {other!r} name one folder on disks that ignore case",
                expected="names must differ in more than case",
            )
    for name in config.variants:
        if name in known_presets():
            yield ConfigError(
                where=f"variants.{name}",
                found="is the name of a preset",
                expected="choose another name",
            )


def _presets(config: Config) -> Iterator[ConfigError]:
    """Presets that are neither variants of this configuration nor known."""
    for name in (*config.presets, *config.variants):
        if name == "atlas_prior":
            expected = "it is added by `prior: true`"
            yield ConfigError(where="presets", found=f"found {name!r}", expected=expected)
            continue
        if not _SEGMENT.fullmatch(name):
            continue
        try:
            base_preset(config.variants, name)
        except ConfigError as error:
            yield error


def _overrides(config: Config) -> Iterator[ConfigError]:
    for name in config.overrides:
        if name not in config.presets:
            yield ConfigError(
                where=f"overrides.{name}",
                found="is not one of the presets",
                expected=f"presets are {', '.join(config.presets)}",
            )


def _grid(config: Config) -> Iterator[ConfigError]:
    for key in ("presets", "folds", "seeds"):
        values = getattr(config, key)
        if not values:
            yield ConfigError(where=key, found="empty", expected="at least one is needed")
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            yield ConfigError(
                where=key, found=f"{', '.join(twice)} given twice", expected="each once"
            )
    if config.split.folds == 1 and config.split.file is None and config.split.held_out == 0:
        yield ConfigError(
            where="folds",
            found="every case is a training case",
            expected="cases are needed to evaluate on",
            action="Set split.held_out, or train one network by hand with `lunet train --fold all`",
        )
    for key, folds in (("folds", config.folds), ("prune.folds", config.prune.folds)):
        largest = max(map(int, folds), default=0)
        if largest >= config.split.folds:
            yield ConfigError(
                where=key,
                found=f"fold {largest}",
                expected=f"split.folds is {config.split.folds}, so 0 to {config.split.folds - 1} "
                "exist",
            )


def _probabilities(config: Config) -> Iterator[ConfigError]:
    if config.lesions.enabled and not config.predict.probabilities:
        yield ConfigError(
            where="predict.probabilities",
            found="false",
            expected="lesions.enabled: true needs the probabilities",
        )


def _comparisons(config: Config) -> Iterator[ConfigError]:
    rows = {*config.presets, *config.external, *(["atlas_prior"] if config.prior else [])}
    named = [("statistics.reference", config.statistics.reference)]
    named += [("statistics.pairs", name) for pair in config.statistics.named_pairs for name in pair]
    for key, name in named:
        if name is not None and name not in rows:
            yield ConfigError(
                where=key, found=f"{name!r} is not in the study", expected=nearest(name, rows)
            )


def _metrics(config: Config) -> Iterator[ConfigError]:
    """Metrics of tables and comparisons that do not exist: NSD has one column per tolerance."""
    named = [("report.metrics", name) for name in config.report.metrics]
    for key, name in [*named, ("statistics.metric", config.statistics.metric)]:
        try:
            check_metric(name, key, tolerances=config.evaluate.tolerances)
        except ConfigError as error:
            yield error
