"""Fetches a large file over HTTP: resumes, retries with growing pauses, and checks the result."""

from __future__ import annotations

import email.message
import errno
import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

from lunet.data.download.http import LONGEST_WAIT, Refused, TooSlow, is_hopeless, open_url, wait_of
from lunet.errors import ConfigError, DataError, shown
from lunet.files import write_json
from lunet.locks import exclusive
from lunet.public import public_text, public_url
from lunet.reading import read_record

Log = Callable[[str], None]
LEFT = (".part", ".part.json", ".bad")
"""Suffixes of the files that a transfer may leave next to its target."""
_CHUNK = 1 << 18
_AGAIN = {408, 425, 429}
_MOST = 400_000_000_000  # bytes accepted if the size is not known
_SET = "set dataset.sha256"
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Sums:
    """Checksums of a file as lower-case hexadecimal digits; None where unknown."""

    md5: str | None = None
    sha256: str | None = None

    def mismatch(self, actual: Sums) -> str:
        """What differs from ``actual``, naming both sums; empty if nothing does."""
        pairs = {"sha256": (self.sha256, actual.sha256), "md5": (self.md5, actual.md5)}
        for kind, (expected, found) in pairs.items():
            if expected is not None and expected.lower() != found:
                return f"{kind} is {found}, {expected.lower()} is expected"
        return ""


@dataclass(frozen=True)
class Patience:
    """When to give up on a server.

    Attributes
    ----------
    timeout
        Longest time in seconds without a byte, and until the response headers are complete.
    least_rate
        Lowest rate in bytes per second, over periods of ``timeout`` seconds.
    tries, pause, longest_pause
        Number of tries without progress, and the first and the longest pause in seconds.
    """

    timeout: float = 60.0
    least_rate: float = 1000.0
    tries: int = 6
    pause: float = 1.0
    longest_pause: float = 60.0


class _State(TypedDict):
    """What is known about a partial file."""

    url: str
    validator: str | None
    total: int | None


def sums_of(path: str | Path) -> Sums:
    """MD5 and SHA-256 of a file, in one pass."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
    return Sums(md5.hexdigest(), sha256.hexdigest())


def fetch(
    urls: Sequence[str],
    target: str | Path,
    *,
    expected: Sums,
    size: int | None = None,
    patience: Patience | None = None,
    log: Log = print,
) -> tuple[str, Sums]:
    """Fetch ``target`` from the first address that provides it; returns that address and the sums.

    A file that already exists with the expected sum is used as it is (the address returned is then
    the last one, the origin). Received bytes stay in ``<target>.part``. A transfer resumes from
    them, also in a later call, if the server confirms that the file is still the same, or if
    ``expected`` has a checksum to verify the result. A file with a wrong checksum is kept as
    ``<target>.bad``. A second process waits for the first. ``size`` is the approximate number of
    bytes; a much larger file is refused.

    Raises
    ------
    DataError
        If no address provides the file, it is much larger than ``size``, its checksum is wrong, or
        the disk is full.
    ConfigError
        If an address is not HTTP.
    """
    path, faults = Path(target), []
    path.parent.mkdir(parents=True, exist_ok=True)
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https"):
            what = f"found {shown(public_url(url))}"
            raise ConfigError(
                where="dataset.mirrors", found=what, expected="http:// or https:// is expected"
            )
    with exclusive(path.with_name(f".{path.name}.lock"), log=log), disk_space(path):
        if path.exists() and expected != Sums():
            found = sums_of(path)
            if not expected.mismatch(found):
                log(f"{path} is already there")
                return urls[-1], found
        most = _MOST if size is None else int(1.5 * size) + _CHUNK
        for url in urls:
            if expected == Sums() and urlsplit(url).scheme == "http":
                fault = "plain http, and no digest is known: the file cannot be checked"
                log(f"{public_url(url)}: {fault}; {_SET}")
            link = _Link(url, patience or Patience(), most, is_checked=expected != Sums())
            found, fault = _fetch_from(link, path, expected, log)
            if not fault:
                return url, found
            faults.append(f"{public_url(url)}: {public_text(fault)}")
            log(faults[-1])
    raise DataError(
        where=path.name,
        found="; ".join(faults) or "no address is known",
        expected="the file is needed",
        action="Try again later (received bytes are kept), or set dataset.path to a local copy",
    )


@contextmanager
def disk_space(path: Path) -> Iterator[None]:
    """Turn the system's error for a full disk into a :class:`DataError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DataError(
            where=path,
            found=f"the disk is full ({error.strerror})",
            expected="",
            action="Free some space and start again",
        ) from error


@dataclass(frozen=True)
class _Link:
    """An address, the patience with its server, the most bytes to accept, and whether the digest of
    the whole file is known."""

    url: str
    patience: Patience
    most: int
    is_checked: bool


def _fetch_from(link: _Link, path: Path, expected: Sums, log: Log) -> tuple[Sums, str]:
    """Fetch and check; returns the sums, and what went wrong (empty if nothing did)."""
    part = path.with_name(f"{path.name}.part")
    resumed = _size(part) > 0
    fault = _receive(link, part, log)
    if fault:
        return Sums(), fault
    found = sums_of(part)
    _state_of(part).unlink(missing_ok=True)
    fault = expected.mismatch(found)
    if fault and resumed:  # the first part may have come from another file
        log(f"{public_url(link.url)}: {fault}; fetching it again from the beginning")
        part.unlink()
        return _fetch_from(link, path, expected, log)
    if fault:
        bad = path.with_name(f"{path.name}.bad")
        os.replace(part, bad)
        return found, f"wrong checksum: {fault}; the file is kept as {bad}"
    os.replace(part, path)
    return found, ""


def _receive(link: _Link, part: Path, log: Log) -> str:
    """Transfer until the file is complete; returns why it is not (empty if it is)."""
    patience = link.patience
    failures, pause, furthest = 0, patience.pause, _size(part)
    while True:
        try:
            if _transfer(link, part, log):
                return ""
            fault, asked, slow = f"the connection ended after {_size(part)} bytes", None, False
        except Refused as error:
            return str(error)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            fault, asked = f"{error or type(error).__name__}", _requested_wait(error)
            slow = isinstance(error, TooSlow)
            if is_hopeless(error):
                return fault
        progress = _size(part) > furthest and not slow
        furthest = max(furthest, _size(part))
        failures, pause = (1, patience.pause) if progress else (failures + 1, pause * 2)
        if failures >= patience.tries:
            return f"{fault} ({failures} tries without progress)"
        wait = max(min(pause, patience.longest_pause), asked or 0.0)
        if wait > LONGEST_WAIT:
            return f"{public_text(fault)}; the server asks to wait {wait:.0f} s"
        log(f"{public_text(fault)}; trying again in {wait:g} s")
        time.sleep(wait)


def _requested_wait(error: Exception) -> float | None:
    return wait_of(error.headers) if isinstance(error, urllib.error.HTTPError) else None


def _transfer(link: _Link, part: Path, log: Log) -> bool:
    """Use one connection; returns whether the file is complete now."""
    start, state = _size(part), _read_state(part)
    headers = _headers(link, start, state)
    # `fetch` has checked the scheme
    request = urllib.request.Request(link.url, headers=headers)  # noqa: S310
    try:
        with open_url(request, link.patience.timeout) as response:
            return _store(response, link, part, state, log)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # the server has no further bytes
            if start == state.get("total"):
                return True
            part.unlink()
            return False
        if error.code < 500 and error.code not in _AGAIN:
            raise Refused(f"the server answers {error.code} {error.reason}") from error
        raise


def _headers(link: _Link, start: int, state: dict[str, Any]) -> dict[str, str]:
    """Ask for the rest of the file only if it can be verified that both parts belong together."""
    headers = {"User-Agent": "lunet", "Accept-Encoding": "identity"}
    known = state.get("url") == public_url(link.url) and isinstance(state.get("validator"), str)
    if start and (known or link.is_checked):
        headers["Range"] = f"bytes={start}-"
    if start and known:
        headers["If-Range"] = state["validator"]
    return headers


def _store(
    response: http.client.HTTPResponse, link: _Link, part: Path, state: dict[str, Any], log: Log
) -> bool:
    start, total = _extent(response.status, response.headers)
    if max(start, total or 0) > link.most:
        raise Refused(f"it would send {total or start} bytes, at most {link.most} are expected")
    here, validator = _size(part), _validator(response.headers)
    is_same_address = state.get("url") == public_url(link.url)
    is_other = is_same_address and state.get("validator") not in (None, validator)
    if here and (start != here or is_other or state.get("total") not in (None, total)):
        if start == 0:
            log("the server sends only whole files, or another file: starting from the beginning")
        else:
            part.unlink()  # a range of some other file; request the whole file next
            return False
    state_now = {"url": public_url(link.url), "validator": validator, "total": total}
    write_json(_state_of(part), state_now)
    missing = (total or 0) - start
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise OSError(errno.ENOSPC, f"{missing} bytes are needed, {free} are free")
    resumed = f", {_human(start)} of it already received" if start else ""
    size = _human(total) if total else "unknown size"
    log(f"fetching {size}{resumed} from {urlsplit(public_url(link.url)).netloc}")
    with open(part, "ab" if start else "wb") as stream:
        _copy(response, stream, start, total, link)
        stream.flush()
        os.fsync(stream.fileno())
    return total is None or _size(part) == total


def _copy(
    response: http.client.HTTPResponse, stream: Any, start: int, total: int | None, link: _Link
) -> None:
    received, shown, terminal = start, 0.0, sys.stderr.isatty()
    before, since, patience = start, time.monotonic(), link.patience
    while chunk := response.read1(_CHUNK):
        stream.write(chunk)
        received += len(chunk)
        if received > link.most:
            raise Refused(f"it sends over {link.most} bytes, more than expected")
        if (passed := time.monotonic() - since) > patience.timeout:
            if received - before < patience.least_rate * passed:
                raise TooSlow(f"fewer than {patience.least_rate:g} bytes per second arrived")
            before, since = received, time.monotonic()
        if terminal and time.monotonic() - shown > 0.2:
            shown = time.monotonic()
            share = f"{100 * received / total:5.1f} % " if total else ""
            print(f"\r{share}{_human(received)} ", end="", file=sys.stderr, flush=True)
    if terminal:
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)


def _extent(status: int, headers: email.message.Message) -> tuple[int, int | None]:
    """Offset of the response's first byte, and the size of the whole file if it is known."""
    length = headers.get("Content-Length", "")
    if status != 206:
        return 0, int(length) if length.isdecimal() else None
    span, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    first = span.partition("-")[0]
    return (
        int(first) if first.isdecimal() else -1,
        int(total) if total.isdecimal() else None,
    )


def _validator(headers: email.message.Message) -> str | None:
    """The value for `If-Range`: a strong entity tag, else the date of the last change."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _state_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_state(part: Path) -> dict[str, Any]:
    try:
        return dict(read_record(_state_of(part), _State))
    except DataError:
        return {}  # the transfer starts from the beginning


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _human(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
