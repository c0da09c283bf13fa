"""Rules for the id of a case, which becomes a file name in every later step."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from lunet.errors import DataError

MOST_BYTES = 200
"""Longest id in UTF-8: file systems allow 255 bytes, and suffixes are added."""
EXPECTED = "visible characters that can name a file (no '/', no leading '.')"
_ADVICE = "Rename the file, or give the case an `id`"


def require_id(name: str, where: object) -> str:
    """Return the name if it can be a file name in any folder.

    Raises
    ------
    DataError
        If it is empty, too long, has a slash, a backslash, an invisible character (a space at
        either end, a tab, a zero-width mark) or begins with one of ``.~=+-@``.
    """
    fault = _fault(name)
    if fault:
        raise DataError(
            where=where, found=f"the id {name[:80]!r} {fault}", expected=EXPECTED, action=_ADVICE
        )
    return name


def require_different(ids: Iterable[tuple[str, object]], where: object) -> None:
    """Raise :class:`DataError` if two cases have ids that name the same file somewhere.

    ``ids`` are pairs of an id and its origin, for example its image. Ids are compared by
    :func:`file_key`.
    """
    seen: dict[str, tuple[str, object]] = {}
    for name, origin in ids:
        key = file_key(name)
        if key not in seen:
            seen[key] = name, origin
            continue
        other, place = seen[key]
        if other == name:
            found, action = f"two cases are called {name!r}", "Remove the repeated entry"
        else:
            found = f"the ids {other!r} and {name!r} name one file on disks that ignore case"
            action = "Rename one"
        raise DataError(
            where=where,
            found=f"{found} ({place} and {origin})",
            expected="every case needs an id of its own",
            action=f"{action}, or give each an `id`",
        )


def file_key(name: str) -> str:
    """A key that is equal for names which some file system takes for one.

    Upper and lower case are the same on most disks of macOS and Windows, accents in two encodings
    on macOS.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _fault(name: str) -> str:
    if not name:
        return "is empty"
    if "/" in name or "\\" in name:
        return "is more than one part of a path"
    if name[0] in ".~=+-@":  # hidden, a home folder, an option, a formula of a spreadsheet
        return f"begins with {name[0]!r}"
    if name != name.strip() or not name.isprintable():
        return "has invisible characters"
    if any(unicodedata.category(sign) in ("Zs", "Cf") and sign != " " for sign in name):
        return "has invisible characters"
    if len(name.encode(errors="surrogateescape")) > MOST_BYTES:
        return f"has more than {MOST_BYTES} bytes"
    return ""
