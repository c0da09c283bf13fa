"""The lines that ``lunet list`` and ``lunet forecast`` print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lunet.efficiency.forecast import Forecast, taken
from lunet.errors import LunetError
from lunet.files import canonical_json
from lunet.reading import read_record
from lunet.study.config import read_plan
from lunet.study.forecast import Forecasts, Gap, request
from lunet.study.presets import Preset
from lunet.study.study import Study
from lunet.study.topology import with_topology
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


Cell = str | int | float | tuple[str, ...]


def listing_records(what: str, config: str | None = None) -> list[dict[str, Cell]]:
    """A record per preset, recipe, data set, loss or augmentation.

    Parameters
    ----------
    what
        ``presets``, ``recipes``, ``datasets``, ``losses`` or ``augmentations``.
    config
        Configuration whose presets and variants are listed instead of all known presets.
    """
    rows = {"presets": lambda: _presets(config), "recipes": _recipes}
    rows |= {"datasets": _datasets, "losses": _losses, "augmentations": _augmentations}
    head, *records = rows[what]()
    return [dict(zip(map(str, head), record, strict=True)) for record in records]


def listing_lines(records: Sequence[Mapping[str, Cell]]) -> Iterator[str]:
    """The records as a table for readers, with a line per record."""
    head = [name.replace("_", " ") for name in records[0]]
    return _columns([head, *([_text(cell) for cell in row.values()] for row in records)])


def _text(cell: Cell) -> str:
    if isinstance(cell, tuple):
        return ", ".join(cell)
    return (
        f"{cell:,}" if isinstance(cell, int) else f"{cell:g}" if isinstance(cell, float) else cell
    )


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()


def _presets(config: str | None) -> Iterable[tuple[Cell, ...]]:
    from lunet.study.presets import find_preset, known_presets, plugin_presets

    yield "preset", "parameters", "recipe", "source"
    if config is None:
        presets = [*map(find_preset, known_presets()), *plugin_presets().values()]
    else:
        from lunet.study.config import read_mapping
        from lunet.study.study import study_of

        presets = [row for row, _ in study_of(read_mapping(config)).presets.values()]
    for row in presets:
        yield row.name, _parameters(row), row.recipe, row.source


def _parameters(row: Preset) -> Cell:
    """Number of parameters for one channel and one label; a network that cannot be built says why.

    One broken row must not hide the others.
    """
    import torch

    from lunet.models.build import build_network
    from lunet.own_code import is_file, is_plugin

    # without memory for the values, which code of the user may read
    device = "cpu" if is_file(row.module) or is_plugin(row.module) else "meta"
    channels = {"in_channels": 1, "out_channels": 1}
    problem: LunetError | None = None
    for ndim in sorted(row.dimensions, reverse=True):  # a network may fit 2D or 3D only
        try:
            with torch.device(device):
                network = build_network(
                    row.module, row.network, **channels, ndim=ndim, arguments=row.arguments
                )
        except LunetError as error:
            problem = problem or error
        else:
            return sum(parameter.numel() for parameter in network.parameters())
    return f"broken ({problem})"


def _recipes() -> Iterable[tuple[Cell, ...]]:
    from lunet.study.recipes import RECIPES

    yield "recipe", "optimiser", "learning_rate", "batch", "loss", "source"
    for name, recipe in RECIPES.items():
        loss = " + ".join(f"{weight:g} {term}" for term, weight in recipe.loss.items())
        optimiser = recipe.optimiser
        yield name, optimiser.name, optimiser.lr, recipe.batch_size, loss, recipe.source


def _datasets() -> Iterable[tuple[Cell, ...]]:
    from lunet.data.catalog import CATALOG

    yield "data_set", "channels", "labels", "licence"
    for name, entry in CATALOG.items():
        yield name, tuple(entry.channels), tuple(entry.labels), entry.licence


def _losses() -> Iterable[tuple[Cell, ...]]:
    from lunet.training.losses.table import losses_table

    yield "loss", "options", "formula", "source"
    for row in losses_table():
        yield row["name"], row["options"], row["formula"], row["source"]


def _augmentations() -> Iterable[tuple[Cell, ...]]:
    from lunet.study.recipes import RECIPES

    yield "augmentation", "enabled_by", "further_keys", "recipes"
    for title, key, others in _TRANSFORMS:
        users = (name for name, recipe in RECIPES.items() if getattr(recipe.augmentation, key))
        yield title, key, tuple(others.split(", ")), tuple(users)


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


def forecast_records(study: Study) -> list[dict[str, Any]]:
    """A record per preset: what its trainings will take and request, and what finished runs took.

    A number is None if it is not known; ``gap`` says why there is no forecast. Of the folds, the
    longest counts; errors are shares of the measured values.
    """
    forecasts = Forecasts(study, print)
    records = []
    for preset in study.presets:
        found = _largest(forecasts.look(preset, fold) for fold in study.folds)
        record = {"preset": preset, **_forecast(found), **_checked(forecasts, preset, found)}
        records.append(record | {"gap": found.reason if isinstance(found, Gap) else None})
    return records


def forecast_lines(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A row per preset, then a line for each missing forecast and what to do about it.

    A row shows what a training will take (its longest fold) and what is requested for it; then,
    for the finished runs, forecast and measured values with the error in percent.
    """
    rows = [_HEAD, *(_forecast_row(record) for record in records)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    for name, *cells in rows:
        right = (f"{text:>{width}}" for text, width in zip(cells, widths[1:], strict=True))
        yield "  ".join((f"{name:<{widths[0]}}", *right)).rstrip()
    gaps = [f"no forecast of {row['preset']}: {row['gap']}" for row in records if row["gap"]]
    yield from gaps
    if gaps:
        yield "the target `efficiency` measures the presets; `folds` prepares volumes and splits"


def _forecast_row(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a record, in the order of ``_HEAD``."""

    def cell(key: str, form: str = ".0f") -> str:
        value = record[key]
        return "-" if value is None else f"{value:{form}}"

    seconds = record["seconds"]
    whole = None if seconds is None else round(seconds)
    clock = "-" if whole is None else f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return (
        record["preset"],
        cell("memory_mib"),
        clock,
        cell("requested_mib"),
        cell("requested_minutes"),
        cell("runs"),
        cell("runs_forecast_mib"),
        cell("runs_measured_mib"),
        cell("memory_error", "+.0%").replace("%", " %"),
        cell("runs_forecast_seconds"),
        cell("runs_measured_seconds"),
        cell("time_error", "+.0%").replace("%", " %"),
    )


def _largest(found: Iterable[Forecast | Gap]) -> Forecast | Gap:
    """The forecast with the longest time, or the first gap."""
    every = list(found)
    gaps = [row for row in every if isinstance(row, Gap)]
    forecasts = [row for row in every if isinstance(row, Forecast)]
    return gaps[0] if gaps else max(forecasts, key=lambda row: row.seconds)


def _forecast(found: Forecast | Gap) -> dict[str, Any]:
    mib, minutes = request(found)
    known = found if isinstance(found, Forecast) else None
    return {
        "memory_mib": known.memory / 2**20 if known else None,
        "seconds": known.seconds if known else None,
        "requested_mib": mib,
        "requested_minutes": minutes,
    }


def _runs(study: Study, preset: str) -> list[Any]:
    """Contents of ``run.json`` of the preset's finished runs that have the current network."""
    model = canonical_json(_planned_model(study, preset))
    paths = (Path(run, "run.json") for run in study.runs([preset]))
    runs = [read_record(path, RunForm) for path in paths if path.is_file()]
    return [run for run in runs if canonical_json(_network(run)) == model]


def _planned_model(study: Study, preset: str) -> dict[str, Any]:
    """The section ``model`` of the preset's trainings, with the topology of a plan made so far."""
    model: dict[str, Any] = study.sections("train", preset)["model"]
    path = Path(study.results, "plan.yaml")
    if study.config.plan != "auto" or not path.is_file():
        return model
    topology = read_plan(path).get("topology", {})
    return {**model, "arguments": with_topology(model["arguments"], topology)}


def _network(run: RunForm) -> dict[str, Any] | None:
    settings = run.get("settings")
    return settings.get("model") if settings else None


def _checked(forecasts: Forecasts, preset: str, found: Forecast | Gap) -> dict[str, Any]:
    """Forecast and measured values of finished runs, and the errors."""
    runs = _runs(forecasts.study, preset)
    check = None if isinstance(found, Gap) else forecasts.check(preset, runs)
    measured = taken(runs) if check is None else check.taken
    return {
        "runs": measured.runs if measured else 0,
        "runs_forecast_mib": check.memory / 2**20 if check else None,
        "runs_measured_mib": measured.memory / 2**20 if measured else None,
        "memory_error": check.memory_error if check else None,
        "runs_forecast_seconds": check.seconds if check else None,
        "runs_measured_seconds": measured.seconds if measured else None,
        "time_error": check.time_error if check else None,
    }
