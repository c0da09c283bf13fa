"""The page that explains every key of the configuration, generated from the typed model."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union

from lunet.data.settings import DatasetSettings
from lunet.metrics.catalog import METRICS
from lunet.settings import plain
from lunet.study.config import Config
from lunet.study.config_examples import EXAMPLES

_HEAD = """\
# The configuration of a study

One YAML file describes one study. Unknown keys are refused. `train:` changes the recipe of every
preset, `overrides: {preset: {...}}` changes the recipe of one preset. A variant (`variants:`) is a
base preset with its own changes; it has its own results everywhere.

Choose a file with `--configfile FILE`; the default is `config/config.yaml`. For a study of your
own, copy `template.yaml`, or let `lunet init DATA` write a file. Relative paths start at the folder
in which Snakemake or `lunet` is started, whichever folder the configuration lies in. All mistakes
that do not hang on another are listed at once, before anything runs.

This page is written by `lunet schema --out config/README.md`.
"""
_METRICS = """\
These names can be used in `report.metrics` and `statistics.metric`; the latter needs a metric with
an entry in the column "better". R and P are the masks of the reference and the prediction.
Comparisons use the absolute value of a signed error, and a margin has the unit of its metric. NSD
has one column per tolerance of `evaluate.tolerances`, for example `nsd_1` for 1 mm. For pictures
without `dataset.pixel_mm`, the columns of these metrics are in pixels (`hd95_px`,
`volume_error_px`); a configuration names them as below. A twin is the independent implementation
that the tests compare with."""
_FILES = """
| file | study |
|---|---|
"""


def is_generated(path: Path) -> bool:
    """Whether a file is a manual or a schema that any version of this package wrote."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return "written by `lunet schema" in text or '"title": "lunet study"' in text


def manual(files: dict[str, str]) -> str:
    """The manual as Markdown: the shipped studies, then each section's keys, types and defaults.

    Parameters
    ----------
    files
        Name of each shipped configuration -> its first comment line.
    """
    from lunet.study.shown import Shown
    from lunet.training.recipe import Recipe

    table = "".join(f"| `{name}` | {text} |\n" for name, text in sorted(files.items()))
    parts = [_HEAD, _FILES + table]
    parts += _section("The study", Config, "")
    parts += _section("The recipe (`train:`, `overrides.<preset>:`)", Recipe, "train")
    title = "What a training shows (`train:`, `overrides.<preset>:`)"
    parts += _section(title, Shown, "train", example="shown")
    parts += _metrics()
    return "\n".join(parts).rstrip() + "\n"


def _metrics() -> Iterator[str]:
    """The catalog of metrics, one row each."""
    yield f"\n## Metrics\n\n{_METRICS}\n\n| name | title | unit | better | definition | source |"
    yield "|---|---|---|---|---|---|"
    for row in METRICS.values():
        name = "nsd_<tolerance>" if row.kind == "surface" else row.name
        title = row.title.format(tolerance="t")
        source = f"{row.source}; twin: {row.twin}" if row.twin else row.source
        cells = (f"`{name}`", title, row.unit, row.better, row.definition, source)
        yield f"| {' | '.join(text.replace('|', chr(92) + '|') for text in cells)} |"


def _section(title: str, cls: type, path: str, *, example: str | None = None) -> Iterator[str]:
    """The keys of a section and those below it; ``example`` is the path of another example."""
    hints = typing.get_type_hints(cls)
    text = EXAMPLES[path if example is None else example]
    yield f"\n## {title}\n\n```yaml\n{text.strip()}\n```\n"
    yield "| key | allowed | default | meaning |\n|---|---|---|---|"
    nested = []
    for field in dataclasses.fields(cls):
        key = f"{path}.{field.name}" if path else field.name
        hint = hints[field.name]
        inner, named = _dataclass_of(hint), _dataclass_of_names(hint)
        again = inner is DatasetSettings and path != ""
        if named is not None:
            nested.append((f"{key}.<name>", named))
        elif inner is not None and not again:
            nested.append((key, inner))
        kind = "as `dataset`" if again else "section" if inner is not None else _kind(hint)
        kind += _bounds(field.metadata)
        doc = field.metadata.get("doc", "").replace("|", "\\|")
        yield f"| `{key}` | {kind} | {_default(field, inner)} | {doc} |"
    for key, inner in nested:
        yield from _section(f"`{key}`", inner, key)


def _dataclass_of(hint: Any) -> type | None:
    return hint if dataclasses.is_dataclass(hint) and isinstance(hint, type) else None


def _dataclass_of_names(hint: Any) -> type | None:
    """The dataclass of a table whose keys the user chooses: ``variants``, ``transfer``."""
    arguments = typing.get_args(hint)
    return _dataclass_of(arguments[1]) if typing.get_origin(hint) is dict else None


def _kind(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(argument) for argument in arguments)
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"name -> {_kind(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return "section"
    names = {int: "integer", float: "number", str: "text", bool: "true/false", type(None): "null"}
    return names.get(hint, "any")


def _bounds(metadata: Mapping[str, Any]) -> str:
    """The bounds of a number, or of the numbers of a list, in words."""
    low, high = (metadata.get(name) for name in ("minimum", "maximum"))
    if low is None and high is None:
        return ""
    if low is None or high is None:
        return f", at least {low:g}" if high is None else f", at most {high:g}"
    most = str(int(high)) if float(high).is_integer() else f"{high:g}"
    return f", {low:g} to {most}"


def _default(field: Any, inner: type | None) -> str:
    if inner is not None:
        return ""
    if field.default is not dataclasses.MISSING:
        text = json.dumps(plain(field.default))
        return (
            f"`{text}`" if len(text) < 60 else "the paper's 29" if "lunet" in text else "see schema"
        )
    if field.default_factory is not dataclasses.MISSING:
        return f"`{json.dumps(plain(field.default_factory()))}`"
    return "required"


def shipped(folder: Path) -> dict[str, str]:
    """The configurations in a folder, each with its first comment line."""
    return {
        path.name: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        for path in folder.glob("*.yaml")
    }
