"""Remove secrets and the user's folders from what leaves this machine: releases, records, logs.

URLs may carry passwords and signed tokens; paths may carry the names of users and their projects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+")
_PATH = re.compile(r"(?<![\w:/.<])~?(?:/[^\s/'\",;:()]+){2,}/?")
_QUERY = re.compile(r"\?[^\s'\"]*=[^\s'\"]*")


def public_url(url: str) -> str:
    """A URL without user, password, query and fragment, which may hold secrets."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
    except ValueError:
        return f"{url.partition(':')[0]}://"


def public_text(text: str) -> str:
    """A text whose URLs are shortened by :func:`public_url`, without any other query."""
    return _QUERY.sub("?...", _URL.sub(lambda found: public_url(found[0]), text))


def public_path(path: str | Path) -> str:
    """A path relative to the working folder, or only its last part if it lies elsewhere."""
    place = Path(path).absolute()
    if place.is_relative_to(Path.cwd()):
        return place.relative_to(Path.cwd()).as_posix()
    return place.name


def public(value: Any) -> Any:
    """Plain JSON values in which each URL and each absolute path is made public."""
    if isinstance(value, Mapping):
        return {key: public(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [public(item) for item in value]
    if not isinstance(value, str):
        return value
    pieces, end = [], 0
    for found in _URL.finditer(value):  # the path of a URL is not a path on this machine
        pieces += [_without_folders(value[end : found.start()]), public_url(found[0])]
        end = found.end()
    return "".join([*pieces, _without_folders(value[end:])])


def _without_folders(text: str) -> str:
    return _PATH.sub(lambda found: Path(found[0]).name, _QUERY.sub("?...", text))
