"""The methods paragraph and the checklists: every sentence says what the files say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_of_numbers import DICE, write_study

from lunet.files import write_csv, write_json
from lunet.metrics.catalog import find_metric
from lunet.metrics.settings import StatisticsSettings
from lunet.reading import read_json
from lunet.reporting.html.checklists import checklists
from lunet.reporting.html.facts import Facts, read_facts
from lunet.reporting.html.methods import methods, sentences
from lunet.reporting.html.sentences import SENTENCES
from lunet.reporting.result_files import Grid, from_grid
from lunet.reporting.tables.costs import efficiency

METRICS = ("dice", "hd95", "assd", "nsd_1", "volume_error_ml")
STATISTICS = {"reference": "unet_small_4f", "resamples": 100, "margin": 0.02}
VERB = re.compile(
    r"\b(is|are|was|were|has|have|scores|trained|used|segment|kept|took|corrected|come|changed)\b"
)
PREPROCESS = {
    "orientation": "RAS",
    "spacing": [1.0, 1.5, 2.0],
    "clip": [0.5, 99.5],
    "window": None,
    "normalise": "zscore",
    "size": [32, 48, 32],
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two folds of the three that were made, with splits, audit and mended data."""
    study = write_study(tmp_path_factory.mktemp("study"), folds=2, seeds=1, cases=4, epochs=3)
    cases = {k: [f"case_{k:02d}{c:02d}" for c in range(4)] for k in range(3)}
    groups = {c: f"s{c[5:7]}{int(c[7:]) // 2:02d}" for part in cases.values() for c in part}
    folds = []
    for k in range(3):
        rest = [case for j in range(3) if j != k for case in cases[j]]
        folds.append({"train": rest[:6], "validation": rest[6:], "test": cases[k]})
    write_json(study / "splits.json", {"seed": 1, "held_out": ["case_9900"], "folds": folds})
    records = [
        {"id": case, "group": group, "raw": {"images": [f"raw/imagesTr/{case}.nii.gz"]}}
        for case, group in groups.items()
    ]
    counts = {"found": 15, "used": 13, "labelled": 13}
    counts["left_out"] = {"a": "no label", "b": "no label"}
    source = {"kind": "phantom", "name": "phantom", "licence": "none needed: synthetic"}
    manifest = {
        "task": {"channels": ["MRI"], "dimensions": 3, "labels": {"anterior": 1, "posterior": 2}},
        "preprocess": PREPROCESS,
        "digest": "a" * 64,
        "dataset": {"name": "phantom_hippocampus", "source": source, "counts": counts},
        "cases": records,
    }
    write_json(study / "manifest.json", manifest)
    findings = {"error": 0, "warning": 3, "info": 0}
    write_json(study / "audit" / "summary.json", {"counts": counts, "findings": findings})
    outcomes = [{"outcome": name} for name in ("repaired", "repaired", "left", "left out")]
    write_csv(study / "raw" / "repairs.csv", ["outcome"], outcomes)
    return study


@pytest.fixture(scope="module")
def facts(original: Path) -> Facts:
    return facts_of(original)


def facts_of(
    study: Path,
    *,
    edit: Callable[[dict[str, Any]], None] | None = None,
    file: str = "",
    statistics: dict[str, Any] | None = None,
) -> Facts:
    """Facts of the study, with one kind of its files edited for as long as they are read."""
    paths = [path for path in study.rglob(file) if path.is_file()] if file else []
    kept = {path: path.read_bytes() for path in paths}
    try:
        for path in paths:
            content = read_json(path)
            assert edit is not None
            edit(content)
            path.write_text(json.dumps(content))
        sources = from_grid(
            Grid(study, (*DICE, "atlas_prior"), (0, 1), (0,)),
            ("metrics", "runs", "efficiency", "protocol"),
        )
        return read_facts(
            sources,
            {"statistics": STATISTICS | (statistics or {}), "report": {"metrics": METRICS}},
            manifest=study / "manifest.json",
            results=study,
        )
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def said(facts: Facts) -> dict[str, str]:
    """Name of the template -> sentence; those of one name together."""
    found: dict[str, str] = {}
    for name, text in sentences(facts):
        found[name] = f"{found[name]} {text}" if name in found else text
    return found


def test_pictures_have_pixels_and_keep_their_orientation(original: Path) -> None:
    def of_pictures(manifest: dict[str, Any]) -> None:
        for case in manifest["cases"]:
            case["raw"] = {"images": [f"raw/imagesTr/{case['id']}.png"]}

    about = facts_of(original, file="manifest.json", edit=of_pictures)
    text = methods(about)
    assert "Images kept their orientation." in text
    assert "RAS" not in text
    assert "resampled to pixels of" in text
    assert "32 × 48 × 32 pixels" in text
    assert "voxel" not in text


def test_costs_of_slices_are_counted_in_pixels(original: Path) -> None:
    def flat(cost: dict[str, Any]) -> None:
        cost["size"] = [64, 64]

    about = facts_of(original, file="efficiency.json", edit=flat)
    assert "one input of 64 × 64 pixels" in said(about)["counted"]
    assert ", input 64 × 64 pixels" in efficiency(about.costs).caption


def test_every_sentence_says_what_the_files_say(original: Path, facts: Facts) -> None:
    text = said(facts)
    splits, manifest = (read_json(original / name) for name in ("splits.json", "manifest.json"))
    run = read_json(original / "runs/unet_small_4f/fold-0/seed-0/run.json")
    recipe = run["settings"]["recipe"]
    assert text["data"] == "The data set phantom_hippocampus was used."
    assert text["structures"] == "The networks segment anterior and posterior."
    assert "synthetic" in text["synthetic"]
    assert "15 cases that were found, 13 were used" in text["used"]
    assert text["repaired"].endswith("corrected 2 defects and left out 1 case.")
    assert f"divided into {len(splits['folds'])} folds" in text["folds"]
    assert "2 of them were used (numbers 0 and 1)" in text["folds"]
    sizes = {part: len(splits["folds"][0][part]) for part in ("train", "validation", "test")}
    assert f"{sizes['train']} cases of 3 subjects for training" in text["parts"]
    assert f"{sizes['validation']} cases of 1 subject for choosing weights" in text["parts"]
    assert f"{sizes['test']} cases of 2 subjects for testing" in text["parts"]
    assert text["tested"] == "Together, 8 cases of 4 subjects were tested."
    prepared = manifest["preprocess"]
    assert f"to {prepared['orientation']} orientation" in text["orientation"]
    assert "voxels of 1 × 1.5 × 2 mm" in text["spacing"]
    assert "percentiles 0.5 and 99.5" in text["clip"]
    assert "mean 0 and standard deviation 1" in text["zscore"]
    assert "32 × 48 × 32 voxels" in text["size"]
    assert f"{recipe['epochs']} epochs with Adam at a learning rate of 0.01" in text["recipe"]
    assert f"in batches of {recipe['batch_size']} whole volumes" in text["recipe"]
    assert text["dropout"] == "The dropout rate of all networks was 0.005."
    assert "32-bit floats on a CPU with 1 thread." in text["precision"]
    seconds = sum(
        read_json(path)["device_seconds"] for path in original.glob("runs/*/*/*/run.json")
    )
    assert f"took {seconds / 3600:.3g} device hours" in text["hours"]
    assert "64 × 64 × 64 voxels" in text["counted"]
    assert "measured on CPU model with 1 thread" in text["latency"]
    for name in METRICS:
        row = find_metric(name)
        assert row is not None
        assert row.definition in text["metric"] + text["formula"]
    assert "both directions" in text["metric"]
    assert "its 2 structures" in text["mean"]
    assert "sign-flip permutation tests" in text["sign_flips"]
    assert "100 resamples" in text["bootstrap"]
    assert "margin was 0.02 in Dice" in text["margin"]
    assert "torch 2.13.0, with Python 3.11.2" in text["software"]


def set_in(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that sets one value of a nested mapping."""

    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return edit


def drop_fold(content: dict[str, Any]) -> None:
    content["folds"] = content["folds"][:2]


def share_subject(content: dict[str, Any]) -> None:
    """A case of a tested subject is trained on, too."""
    fold = content["folds"][0]
    fold["train"][0], fold["test"][0] = fold["test"][0], fold["train"][0]


CHANGES = {
    "subject on two sides": ("splits.json", share_subject, "mixed", "Some subjects"),
    "folds": ("splits.json", drop_fold, "folds", "into 2 folds"),
    "held out": ("splits.json", set_in("held_out", to=[]), "held_out", ""),
    "clipping off": ("manifest.json", set_in("preprocess", "clip", to=None), "no_clip", "not"),
    "window": ("manifest.json", set_in("preprocess", "window", to=[-100, 300]), "window", "-100"),
    "turn": ("manifest.json", set_in("preprocess", "orientation", to="LPS"), "orientation", "LPS"),
    "no turn": (
        "manifest.json",
        set_in("preprocess", "orientation", to="keep"),
        "own_orientation",
        "kept",
    ),
    "spacing": ("manifest.json", set_in("preprocess", "spacing", to="keep"), "own_spacing", "kept"),
    "range": ("manifest.json", set_in("preprocess", "normalise", to="minmax"), "minmax", "0 to 1"),
    "size": ("manifest.json", set_in("preprocess", "size", to=None), "own_size", "kept"),
    "crop": (
        "manifest.json",
        set_in("cases", 0, "foreground_lost", to=10**9),
        "cropped_labels",
        "In 1 of 12 cases this cut voxels off the labels, at most 100 %",
    ),
    "real": (
        "manifest.json",
        set_in("dataset", "source", to={"kind": "download"}),
        "synthetic",
        "",
    ),
    "used": ("summary.json", set_in("counts", "used", to=9), "used", "9 were used"),
    "precision": ("run.json", set_in("engine", "precision", to="bf16"), "precision", "bfloat16"),
    "device": ("run.json", set_in("engine", "device", to="cuda"), "precision", "a GPU"),
    "threads": ("run.json", set_in("engine", "threads", to=4), "precision", "4 threads"),
    "dropout": (
        "run.json",
        set_in("settings", "model", "arguments", "dropout", to=0.25),
        "dropout",
        "0.25",
    ),
    "augmentation": (
        "run.json",
        set_in("settings", "recipe", "augmentation", to={"affine_p": 0.3, "noise_p": 0.0}),
        "recipe",
        "augmentation by rotation and scaling",
    ),
    "patch": ("run.json", set_in("settings", "recipe", "patch", to=[8, 8, 8]), "recipe", "8 × 8"),
    "monitor": (
        "run.json",
        set_in("settings", "recipe", "monitor", to="loss"),
        "selection",
        "loss",
    ),
    "hours": ("run.json", set_in("device_seconds", to=36000.0), "hours", "100 device hours"),
    "place": ("efficiency.json", set_in("device", to="a board"), "latency", "a board"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_fact_changes_its_sentence(name: str, original: Path, facts: Facts) -> None:
    """Everything else stays as it was; a fact that is gone takes its sentence with it."""
    file, edit, sentence, expected = CHANGES[name]
    before, after = said(facts), said(facts_of(original, edit=edit, file=file))
    assert before.get(sentence) != after.get(sentence)
    assert expected in after.get(sentence, "")
    assert (sentence in after) == bool(expected)
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    assert len(changed) <= 3, changed


def test_the_verdict_names_its_test(original: Path, facts: Facts) -> None:
    one = facts
    counts = dict(one.counts) | {"seeds": 3}
    several = Facts(one.runs, one.manifest, one.costs, counts, one.statistics)
    assert "t tests" in said(several)["t_tests"]
    assert "sign_flips" not in said(several)
    assert "3 random seeds" in said(several)["seeds"]
    without = said(facts_of(original, statistics={"margin": 0.0}))
    assert "margin" not in without
    assert "not tested" in without["no_margin"]


def test_every_sentence_is_whole(facts: Facts) -> None:
    for name, text in sentences(facts):
        assert text[0].isupper() or text.startswith(tuple(DICE)), name
        assert text.endswith("."), name
        assert VERB.search(text), text
    for name, template in SENTENCES.items():
        fixed = re.sub(r"\{(were|are)\}", "were", template)
        assert VERB.search(re.sub(r"\{[^}]+\}", "", fixed)) or name == "changed", template
    assert methods(facts).count("  ") == 0


def test_each_recipe_is_named_once() -> None:
    recipe = {"epochs": 9, "batch_size": 1, "loss": {"bce": 0.5}, "optimiser": {"lr": 1e-3}}
    runs = [{"preset": name, "settings": {"recipe": recipe}} for name in ("a", "b", "a")]
    counts = {"cases": 4, "groups": 2, "folds": 1, "seeds": 1}
    text = methods(Facts(runs, {}, {}, counts, StatisticsSettings()))
    assert text.count("9 epochs") == 1
    assert "a and b were trained for 9 epochs" in text
    assert "binary cross-entropy (weight 0.5)" in text
    assert "4 cases of 2 subjects" in text


def test_checklists_are_whole_and_leave_blanks(facts: Facts) -> None:
    lists = checklists(facts)
    claim = {number: answer for number, _, answer in lists["CLAIM 2024"]}
    assert list(claim) == [str(number) for number in range(1, 45)]
    assert facts.resolves is not None
    assert f"can resolve {facts.resolves:.3f} Dice" in claim["21"]
    assert "8 cases of 4 subjects" in claim["21"]
    assert "corrected 2 defects" in claim["8"]
    assert claim["20"].startswith("No subject")
    assert "Left out: 2: no label." in claim["8"]
    assert "0 errors and 3 warnings" in claim["8"]
    assert "torch 2.13.0" in claim["23"]
    for blank in ("1", "3", "40", "44"):
        assert claim[blank] == ""
    miccai = {question: answer for _, question, answer in lists["MICCAI reproducibility"]}
    assert "device hours" in miccai["Time of training"]
    assert miccai["Machines"] == "CPU model, Linux"
    assert miccai["Energy of training"] == ""
    assert "git commit 0123abc" in miccai["Dependencies and code of training and evaluation"]
    assert all(question for rows in lists.values() for _, question, _ in rows)


def test_measured_energy_is_told(original: Path) -> None:
    measured = facts_of(
        original, edit=set_in("energy", to={"joules_per_volume": 2.5}), file="efficiency.json"
    )
    rows = {
        question: answer for _, question, answer in checklists(measured)["MICCAI reproducibility"]
    }
    assert "unet_small_4f: 2.50 J per image" in rows["Energy of inference"]


def test_energy_of_training_is_told_if_every_training_measured_it(original: Path) -> None:
    def answer(edit: Callable[[dict[str, Any]], None]) -> str:
        rows = checklists(facts_of(original, edit=edit, file="run.json"))["MICCAI reproducibility"]
        return next(text for _, question, text in rows if question == "Energy of training")

    count = len(list(original.rglob("run.json")))
    assert answer(set_in("joules", to=7.2e6 / count)) == "2.00 kWh, by the counters of the GPUs"

    def only_fold_0(content: dict[str, Any]) -> None:
        content["joules"] = 1.8e6 if content["fold"] == 0 else None

    assert answer(only_fold_0) == ""
