"""Looks up known data sets and applies what the settings override.

Standard library only: the configuration reads this before anything heavy loads.
"""

from __future__ import annotations

from dataclasses import replace

from lunet.data.catalog_table import CATALOG, CatalogEntry
from lunet.data.dataset_json import declared_task, locate
from lunet.data.settings import DatasetSettings
from lunet.errors import ConfigError, nearest
from lunet.reading import wrong_in
from lunet.task import Task

PHANTOM = "phantom"
_IMITATED = {
    "hippocampus": "Task04_Hippocampus",
    "harp": "HarP",
    "spleen": "Task09_Spleen",
    "lung": "Task06_Lung",
    "brats2021": "BraTS2021",
    "brats2023": "BraTS2023",
    "heart_ct": "MM-WHS_CT",
    "heart_mr": "MM-WHS_MR",
}


def find_dataset(name: str) -> CatalogEntry:
    """The entry of a data set, by its official name or a short one (as ``hippocampus``).

    Raises
    ------
    ConfigError
        If the catalog has no such data set; the message names the nearest one.
    """
    official = {known.lower(): known for known in CATALOG}
    official |= {known.lower().partition("_")[2]: known for known in CATALOG if "Task" in known}
    found = official.get(name.lower())
    if found is None:
        raise ConfigError(
            where="dataset.name",
            found=f"{name!r} is not in the catalog",
            expected=nearest(name, [*CATALOG, PHANTOM]),
            action="For your own data set, set dataset.path, dataset.labels and dataset.channels",
        )
    return CATALOG[found]


def entry_of(settings: DatasetSettings) -> CatalogEntry | None:
    """The catalog's entry for the settings, or None for the user's own data set.

    A data set that the catalog does not know is the user's own if it has a path or an address,
    and a misspelt name otherwise. A phantom has the entry of the data set that it imitates, under
    its own name.

    Raises
    ------
    ConfigError
        If the name is unknown and no path is given.
    """
    if settings.name == PHANTOM:
        return _phantom_entry(settings.phantom.kind)
    try:
        return find_dataset(settings.name)
    except ConfigError:
        if settings.path is None and not settings.mirrors:
            raise
        return None


def _phantom_entry(kind: str) -> CatalogEntry:
    return replace(
        CATALOG[_IMITATED[kind]],
        name=PHANTOM,
        access="synthetic",
        licence="none needed: synthetic",
        citation="",
        home="",
        urls=(),
        md5=None,
        size=None,
        train=0,
        test=0,
        layout="decathlon",
        remap={},
    )


def task_of(settings: DatasetSettings) -> Task:
    """The segmentation task: the catalog's, as overridden by the settings.

    For the user's own data set, whatever the settings leave out is read from its ``dataset.json``.

    Raises
    ------
    ConfigError
        If neither source gives the labels or the channels.
    """
    entry: CatalogEntry | Task | None = entry_of(settings)
    if entry is None and settings.path is not None and not (settings.labels and settings.channels):
        entry = declared_task(settings.path, settings.dimensions)
    labels = settings.labels or (entry.labels if entry else None)
    channels = settings.channels or (entry.channels if entry else None)
    stated = {"labels": labels, "channels": channels}
    missing = [f"dataset.{key}" for key, value in stated.items() if value is None]
    if missing:
        if settings.path is not None:
            with wrong_in("dataset.path"):
                locate(settings.path)  # a path that does not exist is the mistake
        raise ConfigError(
            where=" and ".join(missing),
            found="missing",
            expected=f"the catalog does not know the data set {settings.name!r}, and no "
            f"dataset.json in {settings.path} names them",
            action=f"Set {' and '.join(missing)}, or set dataset.name to one of: "
            f"{', '.join(CATALOG)}",
        )
    regions = settings.regions
    if regions is None:
        # the catalog's regions refer to the catalog's labels, not to the user's own
        regions = entry.regions if entry and settings.labels is None else {}
    return Task(tuple(channels or ()), dict(labels or {}), dict(regions), settings.dimensions)


def remap_of(settings: DatasetSettings) -> dict[int, int]:
    """Code in the label files -> our class index: from the settings, else from the catalog.

    Raises
    ------
    ConfigError
        If a key is not an integer.
    """
    for key in settings.remap:
        if not key.lstrip("-").isdecimal():
            raise ConfigError(
                where="dataset.remap", found=f"found key {key!r}", expected="an integer is expected"
            )
    entry = entry_of(settings)
    own = {int(key): index for key, index in settings.remap.items()}
    return own or (dict(entry.remap) if entry else {})
