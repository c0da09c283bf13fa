"""Figures: all files, the same bytes, right fronts, labels apart, pictures of the right cases."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from paths import ROOT
from study_of_numbers import DICE, write_study

from lunet.data.dataset import read_dataset
from lunet.data.ground_truth import read_reference
from lunet.data.io.write import write_nifti
from lunet.data.phantoms.make import make_phantom
from lunet.data.prepare import prepare_dataset
from lunet.data.prepared import read_manifest
from lunet.data.settings import PhantomSettings, PreprocessSettings
from lunet.errors import ConfigError
from lunet.files import write_csv
from lunet.metrics.case import evaluate_case
from lunet.reporting.figures import index as figures_index
from lunet.reporting.figures import pruning as figures_pruning
from lunet.reporting.figures.cases import robust_limits
from lunet.reporting.figures.index import FIGURES, write_figure
from lunet.reporting.figures.labelling import Label, place_labels
from lunet.reporting.figures.pareto import on_front, plain_number
from lunet.reporting.figures.style import Drawing, looks, save, split_name, style
from lunet.reporting.outputs import FIGURES as DECLARED
from lunet.reporting.outputs import figure_row, made_by
from lunet.reporting.result_files import Grid, ResultFiles, from_grid
from lunet.study.presets import PAPER_PRESETS

PUBLISHED = ROOT / "config" / "published" / "brats2021.csv"
STATISTICS = {"resamples": 100, "reference": "unet_small_4f"}
SETTINGS = {"statistics": STATISTICS, "report": {"published": str(PUBLISHED)}}
PICTURES = ("examples", "side_by_side")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), folds=1, cases=12, epochs=4)


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[Drawing]:
    """The drawings that are written while the test runs."""
    kept: list[Drawing] = []

    def keep(drawing: Drawing, base: str | Path) -> list[Path]:
        kept.append(drawing)
        return save(drawing, base)

    monkeypatch.setattr(figures_index, "save", keep)
    return kept


def beyond_the_edge(figure: Figure) -> list[str]:
    """The sides at which something that is drawn is cut off."""
    with style():
        FigureCanvasAgg(figure).draw()
        box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    cut = {
        "left": box.x0 < 0,
        "bottom": box.y0 < 0,
        "right": box.x1 > width,
        "top": box.y1 > height,
    }
    return [side for side, is_cut in cut.items() if is_cut]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FIGURES if name not in PICTURES])
def test_figure_has_all_files_and_the_same_bytes_again(
    name: str, study: Path, tmp_path: Path, drawings: list[Drawing]
) -> None:
    found = from_grid(Grid(study, (*DICE, "atlas_prior"), (0,), (0, 1)), figure_row(name).needs)
    one, two = (write_figure(name, found, SETTINGS, tmp_path / str(k) / name) for k in range(2))
    assert [path.suffix for path in one] == [".svg", ".pdf", ".png", ".csv"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))
    with open(one[-1], newline="") as stream:
        assert len(list(csv.reader(stream))) > 1
    assert beyond_the_edge(drawings[0].figure) == []


def test_the_longer_words_about_single_trainings_are_not_cut(
    study: Path, tmp_path: Path, drawings: list[Drawing]
) -> None:
    found = from_grid(Grid(study, tuple(DICE), (0,), (0,)), figure_row("ranks").needs)
    write_figure("ranks", found, SETTINGS, tmp_path / "ranks")
    assert "one training each" in drawings[0].figure.axes[0].get_xlabel()
    assert beyond_the_edge(drawings[0].figure) == []


def test_times_of_a_busy_machine_are_marked_on_the_front(study: Path, tmp_path: Path) -> None:
    found = from_grid(Grid(study, tuple(DICE), (0,), (0, 1)), figure_row("pareto_latency").needs)
    svg, *_, table = write_figure("pareto_latency", found, SETTINGS, tmp_path / "p")
    with open(table, newline="") as stream:
        rows = {row["preset"]: row["unstable"] for row in csv.DictReader(stream)}
    assert [name for name, flag in rows.items() if flag == "True"] == ["unet_small_2f"]
    assert "not to be relied on" in svg.read_text()


@pytest.mark.parametrize(
    ("name", "notice"),
    [("differences", "no preset is compared"), ("ranks", "only one preset")],
)
def test_one_preset_alone_gets_a_notice(
    name: str, notice: str, study: Path, tmp_path: Path
) -> None:
    found = from_grid(
        Grid(study, ("unet_small_4f", "atlas_prior"), (0,), (0,)), figure_row(name).needs
    )
    paths = write_figure(name, found, SETTINGS, tmp_path / name)
    assert notice in paths[-1].read_text()


def test_every_figure_has_one_row_and_one_function() -> None:
    drawn = {*FIGURES, *figures_pruning.FIGURES, *made_by(DECLARED, "architecture")}
    assert drawn == set(DECLARED)
    assert set(figures_pruning.FIGURES) == set(made_by(DECLARED, "pruning_figure"))


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=9))
@settings(max_examples=50)
def test_front_holds_what_no_other_dominates(points: list[tuple[int, int]]) -> None:
    costs, values = (pd.Series(column) for column in zip(*points, strict=True))
    expected = [
        not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
        for cost, value in points
    ]
    assert on_front(costs, values, 1) == expected
    assert on_front(costs, -values, -1) == expected


def test_labels_cover_neither_each_other_nor_the_points() -> None:
    rng = np.random.default_rng(3)
    points = rng.random((30, 2))
    with style():
        figure = Figure(figsize=(7.2, 3.7))
        axes = figure.subplots()
        axes.plot(*points.T, "o")
        place_labels(axes, [Label(x, y, "12f", "black") for x, y in points])
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in axes.texts]
        spots = axes.transData.transform(points)
    assert len(boxes) == 30
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])
        assert not any(box.contains(*spot) for spot in spots)
        assert axes.bbox.contains(box.x0, box.y0)
        assert axes.bbox.contains(box.x1, box.y1)


def test_presets_of_the_paper_look_different() -> None:
    found = looks(PAPER_PRESETS)
    families = {(look.family, look.colour, look.marker, look.filled) for look in found.values()}
    assert len({family[1:] for family in families}) == len(families) == 9
    assert split_name("lunet_small_4f_strong") == ("lunet_small", "4f strong")
    assert [plain_number(v) for v in (1e6, 0.05)] == ["1,000,000", "0.05"]


def test_a_far_case_does_not_squeeze_the_axis() -> None:
    values = pd.Series([0.80, 0.82, 0.83, 0.84, 0.85, 0.0])
    low, high = robust_limits([values])
    assert 0.7 < low < 0.8
    assert 0.85 < high < 0.9


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Manifest and run of a phantom whose prediction is a shifted reference, worse each case."""
    root = tmp_path_factory.mktemp("pictured")
    make_phantom(PhantomSettings(subjects=2), root / "raw")
    dataset = read_dataset(root / "raw")
    prepare_dataset(dataset, PreprocessSettings(), root / "prepared")
    manifest = read_manifest(root / "prepared" / "manifest.json")
    run = root / "runs/unet_small_4f/fold-0/seed-0"
    rows = []
    names = [name for name, case in manifest.cases.items() if case.labelled]
    for shift, name in enumerate(names):
        reference, affine = read_reference(manifest, name)
        prediction = np.roll(reference, shift, axis=1)
        if shift < len(names) - 1:
            write_nifti(run / "predictions" / f"{name}.nii.gz", prediction, affine)
        table = evaluate_case(reference, prediction, labels=manifest.task.structures)
        key = {"preset": "unet_small_4f", "fold": 0, "seed": 0, "case": name, "group": name}
        rows += [key | {str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    write_csv(run / "metrics.csv", list(rows[0]), rows)
    return root / "prepared" / "manifest.json", run


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_best_median_and_worst_case(
    name: str, pictured: tuple[Path, Path], tmp_path: Path, drawings: list[Drawing]
) -> None:
    manifest, run = pictured
    files = ResultFiles(metrics=(run / "metrics.csv",))
    paths = write_figure(name, files, SETTINGS, tmp_path / name, manifest=manifest)
    assert paths[2].stat().st_size > 20_000
    data = pd.read_csv(paths[3])
    scores = pd.read_csv(run / "metrics.csv").groupby("case")["dice"].mean().sort_values()
    expected = [scores.index[-1], scores.index[(len(scores) - 1) // 2], scores.index[0]]
    assert [data["case"].iloc[0], data["case"].iloc[-1]] == [expected[0], expected[-1]]
    assert beyond_the_edge(drawings[0].figure) == []


def test_numbers_side_by_side_have_a_metric_and_a_unit(
    pictured: tuple[Path, Path], tmp_path: Path, drawings: list[Drawing]
) -> None:
    manifest, run = pictured
    files = ResultFiles(metrics=(run / "metrics.csv",))
    settings = {"statistics": {**STATISTICS, "metric": "hd95", "margin": 0}}
    write_figure("side_by_side", files, settings, tmp_path / "s", manifest=manifest)
    (legend,) = drawings[0].figure.legends
    assert legend.get_title().get_text() == "numbers: HD95 (mm), mean over the structures"


def test_pictures_without_manifest_and_unknown_names_are_refused(study: Path) -> None:
    with pytest.raises(ConfigError, match="--manifest"):
        write_figure("examples", ResultFiles(), {}, study / "x")
    with pytest.raises(ConfigError, match="did you mean 'boxplot'"):
        write_figure("boxplots", ResultFiles(), {}, study / "x")
