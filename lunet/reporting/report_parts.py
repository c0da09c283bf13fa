"""Parts of the report that not every study has: pruning, and tests on other data sets."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

from lunet.reporting import markup
from lunet.reporting.markup import Table
from lunet.reporting.page import folded, picture
from lunet.reporting.parsing import read_table

_PRUNING = {
    "pruning_dice": "Left: validation Dice along each pruning; right: the chosen networks, the "
    "controls and the study's networks on test cases.",
    "pruning_hours": "Device hours of a run: the search by pruning beside networks without one.",
    "pruning_channels": "Channels of each layer along the iterations; dashed: the one chosen.",
}
_OTHER = {
    "boxplot": "Distribution over the cases of {name}.",
    "differences": "Paired differences on {name} with confidence intervals and the "
    "non-inferiority margin.",
}


def pruning_part(tables: Mapping[str, Table], figures: Path) -> str:
    """Tables and figures of the pruning, as HTML; empty where there are none."""
    told = "".join(
        markup.html(tables[name]) for name in ("pruning", "pruning_comparisons") if name in tables
    )
    return told + _pictures(figures, _PRUNING)


def others_part(others: Mapping[str, Path]) -> str:
    """Tests on other data sets (name -> folder of ``tables`` and ``figures``), as HTML."""
    return "".join(_other(name, folder) for name, folder in others.items())


def _other(name: str, folder: Path) -> str:
    tables = {path.stem: read_table(path) for path in sorted((folder / "tables").glob("*.md"))}
    shown = "".join(markup.html(tables[key]) for key in ("claims", "accuracy") if key in tables)
    rest = "".join(
        folded(f"Table of {key}", markup.html(tables[key]))
        for key in ("comparisons", "failures")
        if key in tables
    )
    captions = {key: text.format(name=name) for key, text in _OTHER.items()}
    return f"<h3>{html.escape(name)}</h3>\n{shown}{_pictures(folder / 'figures', captions)}{rest}"


def _pictures(folder: Path, captions: Mapping[str, str]) -> str:
    paths = {folder / f"{name}.svg": text for name, text in captions.items()}
    return "".join(picture(path, text) for path, text in paths.items() if path.is_file())
