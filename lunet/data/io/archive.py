"""Unpacks tar and zip archives member by member, without trusting their content.

Only plain files and folders are written, each created by this module: no link, device, owner or
permission of the archive ever reaches the disk. The whole table of contents is examined before
the first byte is written. (Filters of ``tarfile`` have been bypassed, so none is relied on.)
"""

from __future__ import annotations

import errno
import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from lunet.data.io.tar import bounded_header, check_end
from lunet.errors import DataError

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_CHUNK = 1 << 20
_SMALL = 1 << 20  # bytes below which high compression does not mean a zip bomb
_ENCRYPTED = 0x1
_ZIP_LINK = 0o120000
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,  # a zip compression that the standard library lacks
    # tarfile raises these for headers with absurd numbers
    ValueError,
    OverflowError,
    MemoryError,
    RecursionError,
)


@dataclass(frozen=True)
class Limits:
    """Most that an archive may hold: unpacked bytes, members, and the ratio unpacked / packed."""

    size: int = 400_000_000_000
    count: int = 200_000
    ratio: float = 200.0


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    packed: int | None
    fault: str
    is_folder: bool
    open: Callable[[], IO[bytes]]


def is_archive(path: str | Path) -> bool:
    """Whether the name has the suffix of an archive that :func:`extract` reads."""
    return str(path).lower().endswith(SUFFIXES)


def extract(archive: str | Path, folder: str | Path, *, limits: Limits | None = None) -> list[Path]:
    """Unpack ``archive`` into ``folder`` (made if needed); returns the files written.

    Macintosh side files (``._x``, ``.DS_Store``, ``__MACOSX``) are left out.

    Raises
    ------
    DataError
        If the archive is broken, or any member is an absolute path, leaves the folder with ``..``,
        is a link or a device, is encrypted, appears twice, or exceeds ``limits``. Nothing is
        written then, unless the fault appears only while unpacking (broken data).
    """
    bounds = limits or Limits()
    with _members(Path(archive)) as members:
        plan = _checked(Path(archive), members, bounds)
        written = []
        for target, member in plan:
            path = Path(folder, *target.parts)
            if member.is_folder:
                path.mkdir(parents=True, exist_ok=True)
                continue
            _write(Path(archive), member, path)
            written.append(path)
    return written


@contextmanager
def _members(archive: Path) -> Iterator[Iterable[_Member]]:
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as packed:
                yield (_of_zip(packed, info) for info in packed.infolist())
        else:
            with tarfile.open(archive, "r:*", tarinfo=bounded_header()) as tar:
                yield _of_tars(tar)
    except FileNotFoundError as error:
        raise DataError(
            where=archive, found="the file is missing", expected="an archive"
        ) from error
    except _BROKEN as error:
        raise _unreadable(archive, error) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to before the start of the file
            raise
        raise _unreadable(archive, error) from error


def _unreadable(archive: Path, error: BaseException) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__  # tarfile's has several lines
    return DataError(
        where=archive,
        found=f"is not a readable archive ({reason})",
        expected=f"one of {', '.join(SUFFIXES)} is expected",
        action="Fetch it again",
    )


def _of_tars(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        yield _of_tar(tar, info)
    check_end(tar)


def _of_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def reader() -> IO[bytes]:
        stream = tar.extractfile(info)
        if stream is None:
            raise tarfile.ReadError(f"member {info.name} has no data")
        return stream

    fault = "" if info.isreg() or info.isdir() else "is a link or a device"
    return _Member(info.name, info.size, None, fault, info.isdir(), reader)


def _of_zip(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    kind = mode & 0o170000
    fault = ""
    if info.flag_bits & _ENCRYPTED:
        fault = "is encrypted"
    elif kind not in (0, 0o100000, 0o040000):
        fault = "is a link" if kind == _ZIP_LINK else "is a device"
    return _Member(
        info.filename,
        info.file_size,
        info.compress_size,
        fault,
        info.is_dir(),
        lambda: packed.open(info),
    )


def _checked(
    archive: Path, members: Iterable[_Member], limits: Limits
) -> list[tuple[PurePosixPath, _Member]]:
    """Target path of each member; stops at the first fault, so a bomb is not read to its end."""
    packed = archive.stat().st_size
    most = min(limits.size, max(packed, _SMALL) * limits.ratio)
    total = 0
    plan: dict[PurePosixPath, _Member] = {}
    for count, member in enumerate(members, start=1):
        if member.size < 0:
            raise _refused(archive, f"member {member.name!r} has {member.size} bytes", "0 or more")
        total += member.size
        if count > limits.count:
            raise _refused(archive, f"holds over {limits.count} members", "fewer are expected")
        if total > most:
            raise _refused(
                archive, f"unpacks {packed} bytes to {total} or more", f"at most {most:.0f} is safe"
            )
        _check_ratio(archive, member, limits)
        target = _target(archive, member)
        if target is None:
            continue
        if target in plan and not (member.is_folder and plan[target].is_folder):
            raise _refused(archive, f"member {member.name!r} appears twice", "once is expected")
        plan[target] = member
    _check_nesting(archive, plan)
    return list(plan.items())


def _check_nesting(archive: Path, plan: Mapping[PurePosixPath, _Member]) -> None:
    for target in plan:
        for parent in target.parents:
            if parent in plan and not plan[parent].is_folder:
                raise _refused(
                    archive, f"{str(target)!r} lies inside a file", "a folder is expected"
                )


def _check_ratio(archive: Path, member: _Member, limits: Limits) -> None:
    if member.packed is None or member.size <= _SMALL:
        return
    # a single member (an empty label volume) packs better than a whole data set
    if member.size > max(member.packed, 1) * limits.ratio * 5:
        raise _refused(
            archive,
            f"member {member.name!r} unpacks {member.packed} bytes to {member.size}",
            f"at most {limits.ratio * 5:g} times is accepted",
        )


def _target(archive: Path, member: _Member) -> PurePosixPath | None:
    """Target path of a member in the folder; None for side files that are left out."""
    path = PurePosixPath(member.name)
    fault = member.fault
    if path.is_absolute() or "\\" in member.name or (path.parts and ":" in path.parts[0]):
        fault = "is not a plain relative path"
    elif ".." in path.parts:
        fault = "leaves the folder with '..'"
    elif "\0" in member.name:
        fault = "has a zero byte in its name"
    if fault:
        raise _refused(archive, f"member {member.name!r} {fault}", "plain files are expected")
    is_side_file = "__MACOSX" in path.parts or path.name.startswith("._")
    if is_side_file or path.name == ".DS_Store" or not path.parts:
        return None
    return path


def _write(archive: Path, member: _Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, open(path, "xb") as target:
        shutil.copyfileobj(source, target, _CHUNK)
        written = target.tell()
    if written != member.size:
        raise _refused(
            archive, f"member {member.name!r} has {written} bytes", f"it declares {member.size}"
        )


def _refused(archive: Path, found: str, expected: str) -> DataError:
    return DataError(
        where=archive,
        found=found,
        expected=expected,
        action="The archive was not used; fetch it from its origin",
    )
