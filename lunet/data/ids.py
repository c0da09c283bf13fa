"""What the name of a case may be: it becomes a file name in every step that follows."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from lunet.errors import DataError

MOST_BYTES = 200
"""Of a name in UTF-8: file systems take 255, and suffixes are added."""
EXPECTED = "one word of visible characters that can name a file (no '/', no '.' in front)"
_ADVICE = "Rename it, or give the case an `id` of its own"


def require_id(name: str, where: object) -> str:
    """The name itself, if it can be a file's in any folder.

    Raises
    ------
    DataError
        If it is empty, too long, has a slash, a backslash, an invisible character (a space at an
        end, a tab, a zero-width mark) or begins with one of ``.~=+-@``.
    """
    fault = _fault(name)
    if fault:
        raise DataError(
            where=where, found=f"the id {name[:80]!r} {fault}", expected=EXPECTED, action=_ADVICE
        )
    return name


def require_different(ids: Iterable[tuple[str, object]], where: object) -> None:
    """Raise :class:`DataError` if two cases have one id; pairs of id and where it comes from.

    Ids that look alike (accents in two encodings) count as one.
    """
    seen: dict[str, object] = {}
    for name, origin in ids:
        key = unicodedata.normalize("NFC", name)
        if key in seen:
            raise DataError(
                where=where,
                found=f"two cases are called {name!r} ({seen[key]} and {origin})",
                expected="every case needs an id of its own",
                action="Remove the repeated entry, or give each an `id`",
            )
        seen[key] = origin


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
