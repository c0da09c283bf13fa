"""Tables in LaTeX: nothing is scaled, nothing is wider than the line, everything is there."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from matplotlib.image import imread
from paths import ROOT
from patience import patient
from study_of_numbers import DICE, write_study

from lunet.reporting.latex import PACKAGES, latex, latex_escape
from lunet.reporting.markup import Column, Table, cell
from lunet.reporting.outputs import table_row
from lunet.reporting.result_files import Grid, from_grid
from lunet.reporting.tables.index import TABLES, make_table

PRESETS = (*DICE, "atlas_prior")
PUBLISHED = ROOT / "config" / "published" / "brats2021.csv"
STATISTICS = {"resamples": 100, "reference": "lunet_small_2f"}
SETTINGS = {"statistics": STATISTICS, "report": {"published": str(PUBLISHED)}}
WORDS = Table(
    "words",
    "Long words.",
    (Column("Key", text=True), Column("Value", text=True)),
    (
        (cell("made_with.packages.safetensors"), cell("0.8.0")),
        (cell("data.digest"), cell("0123456789abcdef" * 8)),
        (cell("note"), cell("a sentence of many words. " * 200)),
    ),
    (),
    "A note.",
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Table]:
    """Every table of a study, and one of long words."""
    study = write_study(tmp_path_factory.mktemp("study"), folds=2, cases=12, epochs=3)
    grid = Grid(study, PRESETS, (0, 1), (0, 1), study / "manifest.json")
    made = [make_table(name, from_grid(grid, table_row(name).needs), SETTINGS) for name in TABLES]
    return [*made, WORDS]


@pytest.mark.slow
def test_nothing_is_scaled_and_every_cell_is_there(tables: list[Table]) -> None:
    for table in tables:
        text = latex(table)
        assert "resizebox" not in text
        assert r"\tiny" not in text
        rows = [line for line in text.splitlines() if re.search(r"\\\\\*?$", line)]
        heads = 2 if "longtable" in text.splitlines()[1:][1] or "{longtable}{" in text else 1
        body = [line for line in rows if not line.lstrip().startswith(r"\caption")][heads:]
        assert all(len(re.findall(r"(?<!\\)&", line)) == len(table.columns) - 1 for line in body)
        plain = re.sub(r"\\allowbreak\{\}|\s", "", text)
        for row in table.rows:
            for item in row:
                for line in item.lines:
                    assert re.sub(r"\s", "", latex_escape(line))[:60] in plain, table.name


def test_wrapped_columns_fill_no_more_than_a_line(tables: list[Table]) -> None:
    wrapped = 0
    for table in tables:
        widths = [float(share) for share in re.findall(r"p\{([0-9.]+)\\linewidth\}", latex(table))]
        if widths:
            wrapped += 1
            assert len(widths) == len(table.columns)
            assert min(widths) > 0.01
            assert sum(widths) < 1
    assert wrapped >= 3


def test_a_long_text_is_wrapped_and_a_short_table_floats(tables: list[Table]) -> None:
    by_name = {table.name: latex(table) for table in tables}
    for name in ("claims", "protocol", "words"):
        assert "p{0." in by_name[name]
        assert r"\begin{longtable}" in by_name[name]
    assert r"\begin{landscape}" in by_name["efficiency"]
    assert r"\begin{landscape}" not in by_name["protocol"]
    one = Table(
        "t", "A caption.", (Column("A", text=True), Column("B")), ((cell("a"), cell("1")),), ()
    )
    assert r"\begin{table}" in latex(one)
    many = dataclasses.replace(one, rows=one.rows * 60)
    assert r"\begin{longtable}{lr}" in latex(many)


def test_signs_and_lines_of_a_cell() -> None:
    rows = ((cell("a_b | 50 % & $x^2$"), cell("0.853 ± 0.042", "[0.841, 0.864]")),)
    rows += ((cell("c"), cell("better", bold=True)),)
    columns = (Column("Preset", text=True), Column("Dice"))
    text = latex(Table("t", "A caption.", columns, rows, (), note="A note."))
    assert latex_escape("a_b & 50 %") == r"a\_b \& 50 \%"
    assert text.count(r"\\") == 4  # head, two lines of the first row, the second row
    assert text.count(r"\\*") == 1  # the two lines of a row stay on one page
    assert r"\textbf{better}" in text
    assert "{[}0.841, 0.864]" in text


def _missing() -> str:
    """What compiling needs and this machine lacks; empty if nothing."""
    finder = shutil.which("kpsewhich")
    if finder is None or shutil.which("pdflatex") is None:
        return "pdfLaTeX"
    styles = [f"{name}.sty" for name in PACKAGES]
    lost = [
        name for name in styles if subprocess.run([finder, name], capture_output=True).returncode
    ]
    return ", ".join(lost)


@pytest.mark.skipif(bool(_missing()), reason=f"not on this machine: {_missing()}")
def test_every_table_compiles_within_its_margins(tables: list[Table], tmp_path: Path) -> None:
    for table in tables:
        (tmp_path / f"{table.name}.tex").write_text(latex(table))
    inputs = "".join(f"\\input{{{table.name}.tex}}\\clearpage\n" for table in tables)
    needed = "".join(f"\\usepackage{{{name}}}" for name in PACKAGES)
    head = f"\\documentclass{{article}}{needed}\\begin{{document}}"
    (tmp_path / "all.tex").write_text(f"{head}\n{inputs}\\end{{document}}\n")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    for _ in range(3):  # longtable finds its widths in several runs
        done = subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, timeout=patient(30)
        )
        assert done.returncode == 0, done.stdout[-800:]
    assert "Missing character" not in done.stdout
    wider = [float(pt) for pt in re.findall(r"Overfull \\hbox \(([0-9.]+)pt too wide", done.stdout)]
    assert max(wider, default=0) < 3, done.stdout[-3000:]
    assert "Overfull \\vbox" not in done.stdout
    _check_pages(tmp_path)


def _check_pages(folder: Path) -> None:
    """Every page has ink, and none within 8 mm of its edges; needs Poppler."""
    if shutil.which("pdftoppm") is None:
        return
    dots = 50
    subprocess.run(
        ["pdftoppm", "-r", str(dots), "-gray", "-png", "all.pdf", "page"],
        cwd=folder, check=True, timeout=patient(30),
    )  # fmt: skip
    edge = round(8 / 25.4 * dots)
    pages = sorted(folder.glob("page-*.png"))
    assert len(pages) >= len(TABLES)
    for page in pages:
        ink = imread(page) < 0.9
        assert ink.any(), page.name
        inner = ink[edge:-edge, edge:-edge]
        assert inner.sum() == ink.sum(), page.name
