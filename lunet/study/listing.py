"""The lines that ``lunet list`` and ``lunet forecast`` print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lunet.efficiency.forecast import Forecast, taken
from lunet.errors import LunetError
from lunet.files import canonical_json
from lunet.reading import read_record
from lunet.study.forecast import Forecasts, Gap, request
from lunet.study.presets import Preset
from lunet.study.study import Study
from lunet.training.run_form import RunForm

# transform, the key that enables it, its other keys (all in `train.augmentation`)
_TRANSFORMS = (
    ("flip (horizontal, vertical, ...)", "flip_axes", "flip_p"),
    ("shift, scale, rotate", "affine_p", "translate, scale, degrees"),
    ("elastic deformation", "elastic_p", "elastic_voxels, elastic_points"),
    ("grid distortion", "grid_distortion_p", "grid_steps, grid_limit"),
    ("blur", "blur_p", "blur_sigma"),
    ("low resolution", "low_resolution_p", "zoom"),
    ("gamma", "gamma_p", "gamma_log"),
    ("gamma of the inverted image", "gamma_inverted_p", "gamma_log"),
    ("bias field", "bias_p", "bias_strength"),
    ("brightness and contrast", "brightness_p", "brightness_range, contrast_range, shift_range"),
    ("Gaussian noise", "noise_p", "noise_std_min, noise_std"),
    ("coarse dropout", "dropout_p", "dropout_holes, dropout_size"),
)


def listing_lines(what: str, config: str | None = None) -> Iterator[str]:
    """One line per preset, recipe, data set, loss or augmentation.

    Parameters
    ----------
    what
        ``presets``, ``recipes``, ``datasets``, ``losses`` or ``augmentations``.
    config
        Configuration whose presets and variants are listed instead of all known presets.
    """
    rows = {"presets": lambda: _presets(config), "recipes": _recipes}
    rows |= {"datasets": _datasets, "losses": _losses, "augmentations": _augmentations}
    return _columns(list(rows[what]()))


def _columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()


def _presets(config: str | None) -> Iterable[tuple[str, ...]]:
    from lunet.study.presets import find_preset, known_presets, plugin_presets

    yield "preset", "parameters", "recipe", "source"
    if config is None:
        presets = [*map(find_preset, known_presets()), *plugin_presets().values()]
    else:
        from lunet.study.config import load
        from lunet.study.study import Study

        presets = [row for row, _ in Study(load(config)).presets.values()]
    for row in presets:
        yield row.name, _parameters(row), row.recipe, row.source


def _parameters(row: Preset) -> str:
    """Number of parameters for one channel and one label; a network that cannot be built says why.

    One broken row must not hide the others.
    """
    from lunet.models.build import build_network

    channels = {"in_channels": 1, "out_channels": 1}
    problem: LunetError | None = None
    for ndim in sorted(row.dimensions, reverse=True):  # a network may fit 2D or 3D only
        try:
            network = build_network(
                row.module, row.network, **channels, ndim=ndim, arguments=row.arguments
            )
        except LunetError as error:
            problem = problem or error
        else:
            return f"{sum(parameter.numel() for parameter in network.parameters()):,}"
    return f"broken ({problem})"


def _recipes() -> Iterable[tuple[str, ...]]:
    from lunet.study.recipes import RECIPES

    yield "recipe", "optimiser", "learning rate", "batch", "loss", "source"
    for name, recipe in RECIPES.items():
        loss = " + ".join(f"{weight:g} {term}" for term, weight in recipe.loss.items())
        optimiser = recipe.optimiser
        yield name, optimiser.name, f"{optimiser.lr:g}", str(recipe.batch_size), loss, recipe.source


def _datasets() -> Iterable[tuple[str, ...]]:
    from lunet.data.catalog import CATALOG

    yield "data set", "channels", "labels", "licence"
    for name, entry in CATALOG.items():
        yield name, ", ".join(entry.channels), ", ".join(entry.labels), entry.licence


def _losses() -> Iterable[tuple[str, ...]]:
    from lunet.training.losses.table import losses_table

    yield "loss", "options", "formula", "source"
    for row in losses_table():
        yield row["name"], row["options"], row["formula"], row["source"]


def _augmentations() -> Iterable[tuple[str, ...]]:
    from lunet.study.recipes import RECIPES

    yield "augmentation", "enabled by", "further keys", "recipes"
    for title, key, others in _TRANSFORMS:
        users = [name for name, recipe in RECIPES.items() if getattr(recipe.augmentation, key)]
        yield title, key, others, ", ".join(users)


_HEAD = (
    "preset",
    "MiB",
    "h:mm:ss",
    "requested MB",
    "requested min",
    "runs",
    "forecast MiB",
    "measured",
    "error",
    "forecast s",
    "measured",
    "error",
)


def forecast_lines(study: Study) -> Iterator[str]:
    """A row per preset, then a line for each missing forecast and what to do about it.

    A row shows what a training will take (its longest fold) and what is requested for it; then,
    for the finished runs, forecast and measured values with the error in percent.
    """
    forecasts = Forecasts(study, print)
    rows: list[tuple[str, ...]] = [_HEAD]
    gaps = []
    for preset in study.presets:
        found = _largest(forecasts.look(preset, fold) for fold in study.folds)
        rows.append((preset, *_forecast(found), *_checked(forecasts, preset, found)))
        if isinstance(found, Gap):
            gaps.append(f"no forecast of {preset}: {found.reason}")
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    for name, *cells in rows:
        right = (f"{text:>{width}}" for text, width in zip(cells, widths[1:], strict=True))
        yield "  ".join((f"{name:<{widths[0]}}", *right)).rstrip()
    yield from gaps
    if gaps:
        yield "the target `efficiency` measures the presets; `folds` prepares volumes and splits"


def _largest(found: Iterable[Forecast | Gap]) -> Forecast | Gap:
    """The forecast with the longest time, or the first gap."""
    every = list(found)
    gaps = [row for row in every if isinstance(row, Gap)]
    forecasts = [row for row in every if isinstance(row, Forecast)]
    return gaps[0] if gaps else max(forecasts, key=lambda row: row.seconds)


def _forecast(found: Forecast | Gap) -> tuple[str, ...]:
    mib, minutes = request(found)
    requested = (str(mib), str(minutes))
    if isinstance(found, Gap):
        return ("-", "-", *requested)
    whole = round(found.seconds)
    clock = f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return (f"{found.memory / 2**20:.0f}", clock, *requested)


def _runs(study: Study, preset: str) -> list[Any]:
    """Contents of ``run.json`` of the preset's finished runs that have the current network."""
    model = canonical_json(study.sections("train", preset)["model"])
    paths = (Path(run, "run.json") for run in study.runs([preset]))
    runs = [read_record(path, RunForm) for path in paths if path.is_file()]
    return [run for run in runs if canonical_json(_network(run)) == model]


def _network(run: RunForm) -> dict[str, Any] | None:
    settings = run.get("settings")
    return settings.get("model") if settings else None


def _checked(forecasts: Forecasts, preset: str, found: Forecast | Gap) -> tuple[str, ...]:
    """Forecast and measured values of finished runs, and the errors."""
    runs = _runs(forecasts.study, preset)
    check = None if isinstance(found, Gap) else forecasts.check(preset, runs)
    measured = taken(runs) if check is None else check.taken
    if measured is None:
        return ("0", *("-",) * 6)
    memory, seconds = f"{measured.memory / 2**20:.0f}", f"{measured.seconds:.0f}"
    if check is None:
        return str(measured.runs), "-", memory, "-", "-", seconds, "-"
    return (
        str(measured.runs),
        f"{check.memory / 2**20:.0f}",
        memory,
        f"{100 * check.memory_error:+.0f} %",
        f"{check.seconds:.0f}",
        seconds,
        f"{100 * check.time_error:+.0f} %",
    )
