"""Lines of ``lunet list``: names with what they are and where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# transform, the key that switches it on, its other keys (all of `train.augmentation`)
_TRANSFORMS = (
    ("flip (horizontal, vertical, ...)", "flip_axes", "flip_shares"),
    ("shift, scale, rotate", "affine", "translate, scale, degrees"),
    ("elastic deformation", "elastic", "elastic_voxels, elastic_points"),
    ("grid distortion", "grid_distortion", "grid_steps, grid_limit"),
    ("blur", "blur", "blur_sigma"),
    ("low resolution", "low_resolution", "zoom"),
    ("gamma", "gamma", "gamma_log"),
    ("gamma of the inverted image", "gamma_inverted", "gamma_log"),
    ("bias field", "bias", "bias_strength"),
    ("brightness and contrast", "brightness", "brightness_range, contrast_range, shift_range"),
    ("Gaussian noise", "noise", "noise_std_min, noise_std"),
    ("coarse dropout", "dropout", "dropout_holes, dropout_size"),
)


def lines(what: str, config: str | None = None) -> Iterator[str]:
    """One line per preset, recipe, data set, loss or augmentation.

    Parameters
    ----------
    what
        ``presets``, ``recipes``, ``datasets``, ``losses`` or ``augmentations``.
    config
        Configuration whose presets and variants are listed instead of the table's.
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
    from lunet.study.presets import find_preset, known_presets

    yield "preset", "parameters", "recipe", "source"
    if config is None:
        presets = [find_preset(name) for name in known_presets()]
    else:
        from lunet.study.config import load
        from lunet.study.study import Study

        presets = [row for row, _ in Study(load(config)).presets.values()]
    from lunet.models.build import build

    for row in presets:
        network = build(
            row.module,
            row.network,
            in_channels=1,
            out_channels=1,
            ndim=max(row.dimensions),
            arguments=row.arguments,
        )
        count = sum(parameter.numel() for parameter in network.parameters())
        yield row.name, f"{count:,}", row.recipe, row.source


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
    from lunet.training.loss_table import losses_table

    yield "loss", "options", "formula", "source"
    for row in losses_table():
        yield row["name"], row["options"], row["formula"], row["source"]


def _augmentations() -> Iterable[tuple[str, ...]]:
    from lunet.study.recipes import RECIPES

    yield "augmentation", "switched on by", "further keys", "recipes"
    for title, key, others in _TRANSFORMS:
        users = [name for name, recipe in RECIPES.items() if getattr(recipe.augmentation, key)]
        yield title, key, others, ", ".join(users)
