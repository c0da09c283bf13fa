"""A local data set: where it is, and a digest of everything that a study reads from it.

The workflow compares the digest with the last download's, so that the data are prepared and trained
on again after a case was corrected, added or removed in the user's folder. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

from lunet.data.catalog import PHANTOM, entry_of
from lunet.data.dataset_json import LISTING, locate
from lunet.data.io.archive import SUFFIXES
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.files import sha256, write_json
from lunet.reading import read_json, read_object, read_record, read_spreadsheet

VARIABLE = "LUNET_DATA"
# files that no layout reads: notes kept with a data set change no result
_NOTES = {".md", ".rst", ".pdf", ".html", ".docx", ".py", ".ipynb", ".sh", ".log", ""}
# headers whose voxels lie in another file, which the listing does not name
_DETACHED = (".mhd", ".nhdr", ".hdr", ".img")
_LARGE = 2_000_000_000  # bytes that take seconds to read
_THREADS = 4
Files = dict[str, list[Any]]  # relative path -> size, modification time (ns), digest


class _Memory(TypedDict):
    """What was found the last time."""

    root: str
    digest: str
    files: Files


def local_source(settings: DatasetSettings) -> Path | None:
    """The local folder or archive that the settings or ``$LUNET_DATA`` name, if there is one.

    Raises
    ------
    DataError
        If ``settings.path`` does not exist.
    """
    names = source_names(settings)
    if settings.path is not None:
        path = locate(settings.path)
        is_set = path.is_file() or (path / LISTING).exists()
        return path if is_set else _inside(path, names) or path
    folder = os.environ.get(VARIABLE)
    return _inside(Path(os.path.expanduser(folder)).absolute(), names) if folder else None


def source_names(settings: DatasetSettings) -> list[str]:
    """Names that the folder or archive of a data set may have: its own, and the official one."""
    entry = entry_of(settings)
    return [settings.name, *([entry.name] if entry else [])]


def possible_roots(source: Path, names: Sequence[str]) -> list[Path]:
    """Folders that may be the data set: ``source``, subfolders ``names``, or its only subfolder."""
    if source.is_file():
        return [source]
    inside = [path for path in sorted(source.iterdir()) if path.is_dir()]
    below = inside if len(inside) == 1 else []
    return [source, *(source / name for name in names if (source / name).is_dir()), *below]


def _inside(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder or archive of one of these names in a folder of data sets."""
    places = [folder / f"{name}{suffix}" for name in names for suffix in ("", *SUFFIXES)]
    return next((path for path in places if path.exists()), None)


def source_digest(
    settings: DatasetSettings, raw: str | Path, log: Callable[[str], object] = print
) -> str:
    """Digest of a local data set's listing and of the content of its files.

    A file is read again only when its size or modification time has changed; the digests are kept
    next to ``raw`` (if they are lost, the files are just read again). Where the folder has a
    listing in the Decathlon's form, the files that it names count, otherwise all except hidden
    ones and notes.

    Parameters
    ----------
    settings
        Which data set.
    raw
        Folder that ``lunet download`` makes of it.
    log
        Called with one line if gigabytes have to be read, or if the source no longer exists. The
        last digest is returned then, so that nothing is run again.

    Returns
    -------
    16 hexadecimal digits; an empty string if no local source is used.
    """
    if settings.name == PHANTOM:
        return ""
    raw = Path(raw)
    memory = raw.with_name(f".{raw.name}.source.json")
    known = _remembered(memory)
    root = _used_source(settings, raw)
    if root is None or not root.exists():
        if known and (settings.path or root):
            log(f"{known['root']} does not exist; its content is assumed to be unchanged")
            return str(known["digest"])
        return ""
    files = _digests(root, source_names(settings), known, log)
    lines = "".join(f"{name} {size} {digest}\n" for name, (size, _, digest) in files.items())
    digest = hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()[:16]
    found = {"root": str(root), "digest": digest, "files": files}
    if found != known:
        with contextlib.suppress(OSError):  # an unwritable folder only costs time
            write_json(memory, found)
    return digest


def _remembered(path: Path) -> dict[str, Any]:
    try:
        return dict(read_record(path, _Memory)) if path.exists() else {}
    except (DataError, OSError):
        return {}


def _used_source(settings: DatasetSettings, raw: Path) -> Path | None:
    """The source of the data in ``raw``, else the one that a download would use now.

    ``$LUNET_DATA`` may be set in one shell and not in the next, so the recorded source counts.
    """
    record = raw / "source.json"
    if settings.path is None and record.is_file():
        try:
            path = read_object(record).get("path")
        except (DataError, OSError):
            return None
        return Path(path) if isinstance(path, str) else None
    try:
        return local_source(settings)
    except DataError:
        return None  # the download reports what is missing


def _digests(
    root: Path, names: Sequence[str], known: Mapping[str, Any], log: Callable[[str], object]
) -> Files:
    """Size, time and digest of each file; a file that cannot be read has no digest."""
    former = known.get("files", {}) if known.get("root") == str(root) else {}
    found: Files = {}
    todo: dict[str, Path] = {}
    for name, path in _files(root, names):
        try:
            stat = path.stat()
        except OSError:
            found[name] = [-1, -1, None]
            continue
        found[name] = [stat.st_size, stat.st_mtime_ns, None]
        before = former.get(name)
        if isinstance(before, list) and before[:2] == found[name][:2] and before[2]:
            found[name] = before
        else:
            todo[name] = path
    size = sum(found[name][0] for name in todo)
    if size > _LARGE:
        log(f"reading {size / 1e9:.1f} GB of {root} once, to notice later changes")
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, digest in zip(todo, pool.map(_content, todo.values()), strict=True):
            found[name][2] = digest
    return dict(sorted(found.items()))


def _content(path: Path) -> str | None:
    try:
        return sha256(path)
    except OSError:
        return None


def _files(root: Path, names: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Relative name and path of every file that belongs to the data set."""
    if root.is_file():
        yield root.name, root
        yield from _in_table(root) if root.suffix.lower() == ".csv" else ()
        return
    places = possible_roots(root, names)
    listed = next((found for place in places if (found := _named(place))), None)
    if listed is not None:
        yield from listed.items()
        return
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [f for f in folders if not _is_ignored(f)]
        if real in seen:  # a link to a folder above
            continue
        seen.add(real)
        for file in files:
            path = Path(folder, file)
            if not _is_ignored(file) and path.suffix.lower() not in _NOTES:
                yield path.relative_to(root).as_posix(), path


def _in_table(path: Path) -> Iterator[tuple[str, Path]]:
    """The files that the cells of a CSV listing name."""
    try:
        rows = read_spreadsheet(path, what="a CSV listing")
    except (DataError, OSError):
        return
    for cell in sorted({cell for row in rows for cell in row.values() if cell}):
        if os.path.isfile(path.parent / cell):
            yield cell, path.parent / cell


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "source.json")


def _named(root: Path) -> dict[str, Path] | None:
    """The listing of a folder in the Decathlon's layout and the files that it names, else None."""
    path = root / LISTING
    try:
        listing = read_json(path) if path.is_file() else None
    except (DataError, OSError):
        return None
    if not isinstance(listing, dict) or not isinstance(listing.get("training"), list):
        return None
    found = {LISTING: path}
    for item in [*listing["training"], *(listing.get("test") or ())]:
        fields = item if isinstance(item, dict) else {"image": item}
        images = fields.get("image")
        for file in [*(images if isinstance(images, list) else [images]), fields.get("label")]:
            if isinstance(file, str) and file.lower().endswith(_DETACHED):
                return None
            if isinstance(file, str):
                found[os.path.normpath(file)] = root / file
    return found
