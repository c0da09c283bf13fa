"""The wheel works where there is no checkout: commands, a training, the workflow's files."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml
from paths import ROOT

pytestmark = pytest.mark.slow

SOURCES = (
    "LICENSE",
    "README.md",
    "Snakefile",
    "config",
    "lunet",
    "profiles",
    "pyproject.toml",
    "workflow",
)
STUDY = {
    "study": "tiny",
    "dataset": {"name": "phantom", "phantom": {"subjects": 4, "scale": 0.5}},
    "preprocess": {"size": [24, 32, 24]},
    "split": {"folds": 2},
    "presets": ["lunet_small_1f"],
    "folds": [0],
    "train": {
        "epochs": 1,
        "batch_size": 2,
        "engine": {
            "device": "cpu",
            "precision": "fp32",
            "memory_format": "contiguous",
            "compile": "off",
        },
    },
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An environment that has the wheel, and the dependencies of the present one."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:  # a build leaves files in the folder that it builds
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy2(ROOT / name, source / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source]
    finish(build, source)
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    # a line of a .pth file adds a folder without obeying the .pth files in it, so that an
    # editable installation of the checkout is not seen
    (packages / "present.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    (wheel,) = dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python"]
    finish([*pip, "install", "--no-deps", "--no-index", wheel], environment)
    return environment


def finish(command: list, folder: Path, environment: Path | None = None) -> str:
    """Run a command outside of the checkout and without a trace of it; returns what it prints."""
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "LUNET_SOURCE")}
    if environment is not None:
        path = os.pathsep.join([str(environment / "bin"), os.environ["PATH"]])
        variables |= {"PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_commands_are_those_of_the_wheel(installed, tmp_path):
    where = [installed / "bin" / "python", "-c", "import lunet; print(lunet.__file__)"]
    assert finish(where, tmp_path, installed).startswith(str(installed))
    assert (next(installed.glob("lib/python*/site-packages")) / "lunet" / "py.typed").is_file()
    assert "usage: lunet STEP" in finish(["lunet", "--help"], tmp_path, installed)
    assert "lunet_small_4f" in finish(["lunet", "list", "presets"], tmp_path, installed)


def test_a_training_step_by_step(installed, tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    raw, prepared, splits = "work/tiny/raw", "work/tiny/prepared", "results/tiny/splits.json"
    for words in (
        ["download", "--out", raw],
        ["preprocess", raw, "--out", prepared],
        ["folds", "--manifest", f"{prepared}/manifest.json", "--out", splits],
        ["train", "--preset", "lunet_small_1f", "--out", "run"],
    ):
        finish(["lunet", *words, "--config", "study.yaml"], tmp_path, installed)
    scan = next((tmp_path / raw / "imagesTr").glob("*.nii.gz"))
    finish(["lunet", "predict", "--weights", "run", scan, "--out", "masks"], tmp_path, installed)
    assert (tmp_path / "masks" / scan.name).is_file()


def test_the_workflow_travels_in_the_wheel(installed, tmp_path):
    shutil.copytree(installed / "share" / "lunet", tmp_path / "study")
    snakemake = [installed / "bin" / "python", "-m", "snakemake", "--profile", "profiles/local"]
    study = ["--configfile", "config/demo.yaml", "-n", "--quiet", "rules"]
    text = finish([*snakemake, *study], tmp_path / "study", installed)
    assert "train" in text
    (frozen,) = (tmp_path / "study" / ".snakemake" / "source").iterdir()
    assert (frozen / "lunet" / "cli.py").is_file()


def test_no_file_is_forgotten(installed):
    """``pyproject.toml`` lists folders one by one; a new one must not be missing in the wheel."""
    (packages,) = installed.glob("lib/python*/site-packages")
    places = dict.fromkeys(
        ("Snakefile", "config", "profiles", "workflow"), installed / "share/lunet"
    )
    for name, place in (places | {"lunet": packages}).items():
        files = [path for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.is_file()]
        expected = {p.relative_to(ROOT) for p in files if "__pycache__" not in p.parts}
        assert {path for path in expected if not (place / path).is_file()} == set()
