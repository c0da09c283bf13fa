"""The shipped studies, from raw files as each source hands them out to per-region results.

Networks, patches and epochs are shrunk and the data synthetic; all else is the shipped file.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import ROOT

from lunet.cli import main
from lunet.data.phantoms.make import make_phantom
from lunet.data.settings import PhantomSettings
from lunet.study.config import read_mapping
from lunet.study.study import Study, study_of

TINY_SLIM = {"widths": [4, 4, 8, 8], "heads": [1, 1, 2, 2], "hidden": 8}
ENGINE = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "compile": "off"}
HEART = {"LV", "RV", "LA", "RA", "Myo", "AO", "PA"}


def shrunk(name: str, data: Path, root: Path, **changes: Any) -> dict[str, Any]:
    """A shipped study on ``data`` with two tiny networks under the recipe of its first preset."""
    mapping = read_mapping(ROOT / "config" / f"{name}.yaml")
    study = study_of(mapping)
    recipe = mapping.get("recipe") or next(iter(study.presets.values()))[0].recipe
    variants = {
        "slim": {"base": "slim_unetrv2_96_planes", "recipe": recipe, "arguments": TINY_SLIM},
        "lunet": {"base": "lunet_small_1f", "recipe": recipe},
    }
    preprocess = mapping["preprocess"]
    if preprocess["spacing"] != "keep":  # the phantoms' own voxels are large
        preprocess = preprocess | {"spacing": [5.0, 5.0, 5.0]}
    return (
        mapping
        | {
            "preprocess": preprocess,
            "dataset": mapping["dataset"] | {"path": str(data)},
            "presets": list(variants),
            "variants": variants,
            "split": {"folds": 3, "validation": 0.2},
            "folds": [0],
            "prior": False,
            "roots": {"results": str(root / "results"), "work": str(root / "work")},
            "train": {
                "epochs": 1,
                "schedule": {"warmup_epochs": 0},
                "batch_size": 1,
                "patch": [32, 32, 32],
                "engine": ENGINE,
            },
            "statistics": {"resamples": 100},
            "report": {},
            "efficiency": {"size": [32, 32, 32], "repeats": 5, "warmups": 1, "processes": 1},
        }
        | changes
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def phantom(folder: Path, kind: str, subjects: int, layout: str = "published") -> Path:
    settings = PhantomSettings(kind=kind, subjects=subjects, scale=0.5, layout=layout)  # type: ignore[arg-type]
    return make_phantom(settings, folder)


def snakemake(root: Path, config: dict[str, Any], *targets: str) -> None:
    (root / "study.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", *targets, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", "1", "--configfile", "study.yaml"]
    done = subprocess.run(command, cwd=root, env=os.environ, capture_output=True, text=True)
    logs = "".join(path.read_text() for path in root.glob("results/*/logs/**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs


@pytest.mark.parametrize(
    ("name", "structures"), [("brats2021", {"WT", "TC", "ET"}), ("mmwhs_ct", HEART)]
)
def test_from_published_files_to_the_accuracy_table(tmp_path: Path, name, structures) -> None:
    kind = {"brats2021": "brats2021", "mmwhs_ct": "heart_ct"}[name]
    data = phantom(tmp_path / "data", kind, 5)
    config = shrunk(name, data, tmp_path, split={"folds": 2, "validation": 0.3})
    table = tmp_path / f"results/{name}/tables/accuracy.csv"
    snakemake(tmp_path, config, str(table))
    rows = rows_of(table)
    assert {row["preset"] for row in rows} == {"slim", "lunet"}
    assert structures <= {row["label"] for row in rows}
    for row in rows:
        assert int(row["n"]) > 0
        assert 0 <= float(row["dice_mean"]) <= 1
        assert float(row["hd95_mean"]) > 0


def by_hand(config: dict[str, Any], root: Path) -> list[dict[str, str]]:
    """The steps of one run with the rules' own arguments; rows of its metrics.csv."""
    study = study_of(config)
    raw, prepared, run = root / "raw", root / "prepared", root / "run"
    manifest, splits = prepared / "manifest.json", root / "splits.json"
    data = ("--manifest", manifest, "--splits", splits, "--fold", 0)
    step(study, "download", "--out", raw)
    step(study, "audit", raw, "--out", root / "audit")
    step(study, "preprocess", raw, "--out", prepared)
    step(study, "folds", "--manifest", manifest, "--out", splits)
    step(study, "train", *data, "--seed", 0, "--work", root / "state", "--out", run)
    step(study, "predict", *data, "--weights", run, "--out", run / "predictions")
    named = ("--preset", "slim", "--seed", 0, "--predictions", run / "predictions")
    step(study, "evaluate", *data, *named, "--out", run / "metrics.csv")
    return rows_of(run / "metrics.csv")


def step(study: Study, name: str, *words: object) -> None:
    settings = json.dumps(study.sections(name, "slim"))
    assert main([name, *map(str, words), "--settings", settings]) == 0


DATA = {
    "brats2023": (lambda folder: phantom(folder, "brats2023", 5), {"WT", "TC", "ET"}),
    "mmwhs_mr": (lambda folder: phantom(folder, "heart_mr", 5), HEART),
    "harp": (lambda folder: phantom(folder, "harp", 5), {"hippocampus"}),
    "spleen": (lambda folder: phantom(folder, "spleen", 5, "project"), {"spleen"}),
}


@pytest.mark.parametrize("name", DATA)
def test_each_study_by_hand(tmp_path: Path, name: str) -> None:
    make, structures = DATA[name]
    split = {"folds": 2, "validation": 0.3}
    config = shrunk(name, make(tmp_path / "data"), tmp_path, split=split)
    rows = by_hand(config, tmp_path)
    assert {row["label"] for row in rows} == structures
    assert {row["preset"] for row in rows} == {"slim"}
    assert all(0 <= float(row["dice"]) <= 1 for row in rows)
    source = json.loads((tmp_path / "raw" / "source.json").read_text())
    assert source["kind"] == ("local copy" if name == "spleen" else "registered")


@pytest.mark.parametrize(("year", "other"), [("2021", "2023"), ("2023", "2021")])
def test_codes_of_the_other_edition_end_the_study(tmp_path: Path, capsys, year, other) -> None:
    """An enhancing tumour written as 3 in 2021's files, or as 4 in 2023's."""
    folder = phantom(tmp_path / "data", f"brats{other}", 2)
    names = {"2021": "BraTS2021_{:05d}", "2023": "BraTS-GLI-{:05d}-000"}
    parts = {
        "2021": ["_flair", "_t1", "_t1ce", "_t2", "_seg"],
        "2023": ["-t2f", "-t1n", "-t1c", "-t2w", "-seg"],
    }
    for number in (1, 2):
        old, new = names[other].format(number), names[year].format(number)
        for before, after in zip(parts[other], parts[year], strict=True):
            place = folder / old / f"{old}{before}.nii.gz"
            place.rename(folder / old / f"{new}{after}.nii.gz")
        (folder / old).rename(folder / new)
    study = study_of(shrunk(f"brats{year}", folder, tmp_path))
    step(study, "download", "--out", tmp_path / "raw")
    settings = json.dumps(study.sections("audit"))
    words = ["audit", str(tmp_path / "raw"), "--settings", settings, "--out", str(tmp_path / "a")]
    assert main(words) == 2
    assert "undeclared_label" in capsys.readouterr().err
    words[0], words[-1] = "preprocess", str(tmp_path / "prepared")
    words[3] = json.dumps(study.sections("preprocess"))
    assert main(words) == 2
    assert not (tmp_path / "prepared" / "manifest.json").exists()


@pytest.mark.parametrize("name", ["brats2021", "brats2023", "mmwhs_ct", "mmwhs_mr", "harp"])
def test_registered_data_are_explained(tmp_path: Path, monkeypatch, capsys, name: str) -> None:
    monkeypatch.delenv("LUNET_DATA", raising=False)
    config = ROOT / "config" / f"{name}.yaml"
    assert main(["download", "--config", str(config), "--out", str(tmp_path / "raw")]) == 2
    told = capsys.readouterr().err
    assert "Register at http" in told
    assert "dataset.path" in told
    head = config.read_text().split("\nstudy:")[0]
    assert "http" in head
    assert "dataset.path" in head
    assert "LUNET_DATA" in head


def test_data_are_found_by_the_environment(tmp_path: Path, monkeypatch) -> None:
    phantom(tmp_path / "sets" / "BraTS2021", "brats2021", 1)
    monkeypatch.setenv("LUNET_DATA", str(tmp_path / "sets"))
    config = shrunk("brats2021", tmp_path, tmp_path)
    config["dataset"]["path"] = None
    step(study_of(config), "download", "--out", tmp_path / "raw")
    listing = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert [len(case["image"]) for case in listing["training"]] == [4]
    assert listing["modality"]["0"] == "flair"
