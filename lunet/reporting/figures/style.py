"""The style of all figures: journal column widths, fonts, colours, reproducible files.

The colours are from Okabe and Ito (2008, "Color universal design") and can be told apart with a
colour vision deficiency. Families also differ by marker, so that figures can be printed in grey.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from lunet.files import atomic, write_csv
from lunet.reporting.numbers import stored

ONE_COLUMN, TWO_COLUMNS = 3.46, 7.2
"""Widths in inches of one and two columns (88 and 183 mm)."""
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#666666"
PALETTE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
_MARKERS = "oDs^vPXp"
_KNOWN = {"unet": 0, "lunet": 1, "unetpp": 2, "lunetpp": 3, "mednext": 4, "atlas_prior": 6}
_NAME = re.compile(r"(?P<family>.+?)_(?P<width>\d+f)(?:_(?P<rest>.+))?")
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "legend.frameon": False,
    "svg.hashsalt": "lunet",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "figure.dpi": 100,
    "savefig.dpi": 300,
}
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": "lunet"},
    "pdf": {"CreationDate": None, "Creator": "lunet", "Producer": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Drawing:
    """A figure and the data that it shows."""

    figure: Figure
    data: pd.DataFrame


@dataclass(frozen=True)
class Look:
    """How a preset is drawn: its family, its short name in the family, colour and marker."""

    family: str
    short: str
    colour: str
    marker: str
    filled: bool


@contextmanager
def style() -> Iterator[None]:
    """A context with the settings of matplotlib for making and saving figures."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def save(drawing: Drawing, base: str | Path) -> list[Path]:
    """Write ``BASE.svg``, ``.pdf``, ``.png`` and the data ``BASE.csv``, all byte-reproducible."""
    paths = []
    for suffix, metadata in _METADATA.items():
        path = Path(f"{base}.{suffix}")
        with atomic(path) as part:
            drawing.figure.savefig(part, format=suffix, metadata=metadata)
        paths.append(path)
    table = Path(f"{base}.csv")
    records = drawing.data.to_dict("records")
    rows = ({str(key): stored(value) for key, value in record.items()} for record in records)
    write_csv(table, [str(name) for name in drawing.data.columns], rows)
    return [*paths, table]


def notice(text: str) -> Drawing:
    """A figure with the reason why there is nothing to draw, so that a small study can finish."""
    figure = Figure(figsize=(ONE_COLUMN, 0.8))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=GREY)
    return Drawing(figure, pd.DataFrame([{"note": text}]))


def looks(presets: Sequence[str]) -> dict[str, Look]:
    """A look for each preset: colour and marker by architecture, filled for the small family."""
    return {preset: _look(preset, presets) for preset in presets}


def _look(preset: str, presets: Sequence[str]) -> Look:
    family, short = split_name(preset)
    place = _KNOWN.get(_architecture(family))
    if place is None:
        place = _free_place(family, presets)
    colour, marker = PALETTE[place % len(PALETTE)], _MARKERS[place % len(_MARKERS)]
    return Look(family, short, colour, marker, filled=not family.endswith("_large"))


def _free_place(family: str, presets: Sequence[str]) -> int:
    """A place in the palette for a family of the user, preferably one that no known family has."""
    families = list(dict.fromkeys(split_name(name)[0] for name in presets))
    known = [_KNOWN.get(_architecture(name)) for name in families]
    own = [name for name, place in zip(families, known, strict=True) if place is None]
    free = [place for place in range(len(PALETTE)) if place not in known]
    rank = own.index(family)
    return free[rank] if rank < len(free) else len(PALETTE) + rank


def _architecture(family: str) -> str:
    return family.removesuffix("_small").removesuffix("_large")


def split_name(preset: str) -> tuple[str, str]:
    """Family and short name: ``unet_small_4f`` is (``unet_small``, ``4f``)."""
    match = _NAME.fullmatch(preset)
    if not match:
        return preset.removesuffix("_small"), preset
    return match["family"], " ".join(filter(None, (match["width"], match["rest"])))


def family_name(family: str) -> str:
    """A family's name for readers: ``LUNet++ large``."""
    names = {"unet": "U-Net", "lunet": "LUNet", "unetpp": "U-Net++", "lunetpp": "LUNet++"}
    names |= {"mednext": "MedNeXt", "atlas": "Atlas"}
    first, *rest = family.split("_")
    return " ".join([names.get(first, first), *rest])


def marker_style(look: Look) -> Mapping[str, Any]:
    """Keyword arguments of ``Axes.plot`` for one point of this look."""
    return {
        "marker": look.marker,
        "color": look.colour,
        "markerfacecolor": look.colour if look.filled else "white",
        "markeredgewidth": 0.9,
        "markersize": 4.5,
        "linestyle": "none",
    }
