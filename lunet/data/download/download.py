"""Gets a data set from a local folder or archive, else a mirror, else the origin, and checks it.

The folder appears in one step (renamed into place when complete). Its ``source.json`` records where
the data come from, their digest, and whether they are the official release.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lunet.data.catalog import PHANTOM, entry_of
from lunet.data.catalog_table import CatalogEntry
from lunet.data.dataset import LISTING, read_dataset
from lunet.data.download.fetch import LEFT, Patience, Sums, disk_space, fetch, sums_of
from lunet.data.io.archive import is_archive
from lunet.data.layouts.staging import place_archive, place_folder
from lunet.data.left_out import KEY as LEFT_OUT
from lunet.data.left_out import count_lines
from lunet.data.phantoms.make import fill_phantom
from lunet.data.settings import DatasetSettings
from lunet.data.source import VARIABLE, local_source, source_names
from lunet.errors import ConfigError, DataError
from lunet.files import write_json
from lunet.leftovers import staged
from lunet.locks import exclusive
from lunet.own_files import claim, claim_files, discard, is_own, list_all, require_own
from lunet.public import public_url
from lunet.reading import read_json, read_object
from lunet.settings import plain

Log = Callable[[str], None]
STEP, SOURCE = "download", "source.json"
_KEYS = ("name", "path", "sha256", "mirrors", "layout", "phantom")


def download(
    settings: DatasetSettings,
    out: str | Path,
    *,
    cache: str | Path | None = None,
    keep_archive: bool = False,
    patience: Patience | None = None,
    log: Log = print,
) -> Path:
    """Fill the folder ``out`` with the data set in the project's layout, and ``source.json``.

    Sources are tried in this order: ``settings.path`` (the data set, or a folder of data sets);
    ``<name>``, ``<name>.tar`` and so on in the folder of the environment variable ``LUNET_DATA``;
    ``settings.mirrors``; the origin. Files of a local folder are linked, not copied. If ``out``
    already holds the result, nothing is done. A second process waits for the first. ``cache`` is
    the folder for downloaded archives (by default the one that holds ``out``).

    Raises
    ------
    DataError
        If the data set cannot be found, requires registration, has a wrong digest or is not a data
        set, or if ``out`` holds something else.
    ConfigError
        If the settings contradict each other.
    """
    target = Path(out).absolute()
    memory = target.with_name(f".{target.name}.download")
    request = {key: plain(getattr(settings, key)) for key in _KEYS}
    request["mirrors"] = [public_url(url) for url in settings.mirrors]
    with exclusive(target.with_name(f".{target.name}.lock"), log=log), disk_space(target):
        if _is_ready(target, memory, request):
            log(f"{target} is complete")
            return target
        place = Path(cache or target.parent)
        with claim_files([memory], step=STEP), staged(target) as stage:
            source = _obtain(settings, stage, place, patience, log)
            write_json(stage / SOURCE, source)
            for line in count_lines(read_dataset(stage, settings)):
                log(line)
            for name in source.get(LEFT_OUT, ()):
                log(f"left out: {name}: not in the folder of the archive's data set")
            list_all(stage, step=STEP)
            write_json(memory, request)
            if target.exists():  # empty, as `_is_ready` found
                shutil.rmtree(target)
            os.rename(stage, target)
        archive = _archive_in(place, settings.name)
        if not keep_archive and is_own(archive, step=STEP):
            discard(place, [archive.name], step=STEP)
    log(f"{source['kind']}: {source['name']} is in {target}")
    return target


def _is_ready(target: Path, memory: Path, request: Mapping[str, Any]) -> bool:
    """Whether the folder holds what was requested; an error if it holds anything else."""
    if not target.exists() or _is_empty(target):
        return False
    is_whole = (target / SOURCE).exists() and (target / LISTING).exists()
    if is_whole and memory.exists() and read_json(memory) == request:
        return True
    if not is_whole:  # even an incomplete folder of our own is not replaced
        require_own(target, step=STEP)
    raise DataError(
        where=target,
        found="holds something else, or only a part of the data set",
        expected=f"a new folder is needed for the data set {request['name']!r}",
        action="Remove it or name another folder",
    )


def _is_empty(folder: Path) -> bool:
    # Snakemake marks the folders it makes with a hidden file
    return folder.is_dir() and all(path.name == ".snakemake_timestamp" for path in folder.iterdir())


def _obtain(
    settings: DatasetSettings, stage: Path, cache: Path, patience: Patience | None, log: Log
) -> dict[str, Any]:
    """Fill ``stage`` from the first source that has the data; returns the record of it."""
    if settings.name == PHANTOM:
        return _phantom(settings, stage)
    entry = entry_of(settings)
    local = local_source(settings)
    if local is not None and is_archive(local):
        log(f"reading {local}")
        found = sums_of(local)
        fault = Sums(sha256=settings.sha256).mismatch(found)
        if fault:
            raise DataError(
                where=local,
                found=f"wrong checksum: {fault}",
                expected="",
                action="Replace the archive or correct dataset.sha256",
            )
        return _from_archive(local, found, settings, entry, stage) | {"path": str(local)}
    if local is not None:
        return _from_folder(local, settings, entry, stage)
    urls = [*map(os.path.expandvars, settings.mirrors), *(entry.urls if entry else ())]
    if not urls:
        raise _unregistered(settings, entry)
    archive = _archive_in(cache, settings.name)
    known = Sums(entry.md5 if entry else None, settings.sha256)
    if entry is not None and entry.size:
        log(f"{entry.name}: about {entry.size / 1e9:.2f} GB, {entry.licence}")
    size = entry.size if entry else None
    url, found = _received(urls, archive, known, size, patience, log)
    return _from_archive(archive, found, settings, entry, stage) | {"url": public_url(url)}


def _received(
    urls: Sequence[str],
    archive: Path,
    known: Sums,
    size: int | None,
    patience: Patience | None,
    log: Log,
) -> tuple[str, Sums]:
    """Get the archive into the cache; returns its address and sums. The user's own file is kept."""
    if os.path.lexists(archive) and not is_own(archive, step=STEP):
        found = sums_of(archive)
        fault = known.mismatch(found) or ("its digest is not known" if known == Sums() else "")
        if fault:
            advice = "Move it elsewhere, or set dataset.path to it"
            raise DataError(
                where=archive,
                found=f"was not fetched by this command; {fault}",
                expected="",
                action=advice,
            )
        log(f"{archive} is already there")
        return urls[-1], found
    names = [archive.name, *(f"{archive.name}{end}" for end in LEFT)]
    with claim(archive.parent, names, step=STEP):
        return fetch(urls, archive, expected=known, size=size, patience=patience, log=log)


def _archive_in(cache: Path, name: str) -> Path:
    return cache / f".{name}.tar"


def _unregistered(settings: DatasetSettings, entry: CatalogEntry | None) -> DataError:
    if entry is None:
        return DataError(
            where="dataset.path",
            found="missing",
            expected=f"the catalog does not know {settings.name!r}",
        )
    folder = os.environ.get(VARIABLE)
    is_open = entry.access == "by hand"
    reason = (
        "is not fetched by this command" if is_open else "cannot be fetched without registration"
    )
    looked = f"nor is it in ${VARIABLE} ({folder})" if folder else f"and ${VARIABLE} is not set"
    return DataError(
        where=f"dataset {entry.name}",
        found=f"{reason}; dataset.path is not set {looked}",
        expected=f"terms: {entry.licence}",
        action=f"{'Fetch it from' if is_open else 'Register at'} {entry.home}, unpack the files as "
        f"{entry.expected}, and set dataset.path to the folder that holds them",
    )


def _from_folder(
    folder: Path, settings: DatasetSettings, entry: CatalogEntry | None, stage: Path
) -> dict[str, Any]:
    if settings.sha256 is not None:
        raise ConfigError(
            where="dataset.sha256",
            found=f"set, but {folder} is not an archive",
            expected="a digest of an archive",
            action="Remove it or set dataset.path to the archive",
        )
    root = place_folder(folder, stage, settings, source_names(settings))
    return _record(_local_kind(entry), settings, entry, stage) | {"path": str(root)}


def _from_archive(
    archive: Path,
    found: Sums,
    settings: DatasetSettings,
    entry: CatalogEntry | None,
    stage: Path,
) -> dict[str, Any]:
    """Unpack the archive; it counts as official only if it has the official checksum."""
    outside = place_archive(archive, stage, settings, source_names(settings))
    is_official = entry is not None and entry.md5 is not None and entry.md5 == found.md5
    kind = "official" if is_official else _local_kind(entry)
    sums = {"archive_md5": found.md5, "archive_sha256": found.sha256}
    left = {LEFT_OUT: outside} if outside else {}
    return _record(kind, settings, entry, stage) | sums | left


def _local_kind(entry: CatalogEntry | None) -> str:
    return "registered" if entry is not None and entry.access == "registered" else "local copy"


def _phantom(settings: DatasetSettings, stage: Path) -> dict[str, Any]:
    if settings.phantom.layout != "project":
        raise ConfigError(
            where="dataset.phantom.layout",
            found=f"found {settings.phantom.layout!r}",
            expected="a study makes its phantom in the layout 'project'",
            action="Make the published layout with `lunet phantom`, and set dataset.name and "
            "dataset.path",
        )
    fill_phantom(settings.phantom, stage)
    return _record("phantom", settings, entry_of(settings), stage) | {
        "phantom": plain(settings.phantom)
    }


def _record(
    kind: str, settings: DatasetSettings, entry: CatalogEntry | None, stage: Path
) -> dict[str, Any]:
    listing = read_object(stage / LISTING)
    # the official files spell the key `relase`
    version = listing.get("release") or listing.get("relase") or ""
    return {
        "kind": kind,
        "name": entry.name if entry else settings.name,
        "version": str(version),
        "licence": entry.licence if entry else str(listing.get("licence", "")),
        "citation": entry.citation if entry else str(listing.get("reference", "")),
    }
