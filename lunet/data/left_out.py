"""Items of a source that its data set does not use: each is named, counted and recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lunet.data.io.images import is_hidden, suffix_of
from lunet.files import real_path

if TYPE_CHECKING:
    from lunet.data.dataset import Case, Dataset

KEY, LOST, NOTES = "left_out", "left_out_cases", "notes"
"""Keys of ``dataset.json``: item left out -> reason; which of them are cases; assumptions."""
_ASIDE = {"derivatives", "sourcedata"}
"""Folders of results and of unconverted data in a BIDS data set, which are not part of it."""
NO_CONTENT = "a link without content; fetch it (`git annex get`, `datalad get`) or remove it"


def counts_of(dataset: Dataset) -> dict[str, Any]:
    """Numbers of cases found, used and labelled; what was left out, and why. Plain JSON."""
    used, left = len(dataset.cases), dict(dataset.left_out)
    return {
        "found": used + sum(name in dataset.lost for name in left),
        "used": used,
        "labelled": sum(case.labelled for case in dataset.cases),
        "left_out": left,
    }


def count_lines(dataset: Dataset, *, most: int | None = None) -> list[str]:
    """The counts in words, and one line per item that was left out, up to ``most`` of them."""
    counts = counts_of(dataset)
    bare = [case.id for case in dataset.cases if not case.labelled]
    lines = [f"{counts['found']} cases found, {counts['used']} used, {counts['labelled']} labelled"]
    if bare and len(bare) < len(dataset.cases):
        lines.append(f"cases without a label are not used in training: {_some(bare, most)}")
    lines += dataset.notes
    if dataset.unit == "px":
        lines.append("pictures of unknown pixel size: distances are in px, unless you set pixel_mm")
    left = [f"left out: {name}: {why}" for name, why in dataset.left_out.items()]
    lines += left[:most]
    if most is not None and len(left) > most:
        lines.append(f"... and {len(left) - most} more, listed under `{KEY}` in dataset.json")
    return lines


def _some(names: Sequence[str], most: int | None) -> str:
    more = f" and {len(names) - most} more" if most is not None and len(names) > most else ""
    return ", ".join(names[:most]) + more


def without_content(case: Case) -> bool:
    """Whether a file of the case is a dangling link, as git-annex leaves them before `get`."""
    files = [*case.images, *([case.label] if case.label else [])]
    return any(path.is_symlink() and not path.exists() for path in files)


def unused_files(root: Path, cases: Iterable[Case]) -> dict[str, str]:
    """Images and labels below ``root`` that no case names, and why they count as left out."""
    files = [p for c in cases for p in (*c.images, *([c.label] if c.label else []))]
    named = {real_path(path) for path in files}
    found = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        hidden = any(part.startswith(".") for part in inside.parts) or is_hidden(path)
        if hidden or inside.parts[0] in _ASIDE or path.is_dir() or not suffix_of(path):
            continue
        if real_path(path) not in named:
            found[inside.as_posix()] = "no case names this file"
    return found
