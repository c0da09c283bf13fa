"""The conda environment has the versions of the other ways to install, and can be solved."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from paths import ROOT

FILE = ROOT / "envs" / "lunet.yaml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = (ROOT / "envs" / "constraints.txt").read_text(encoding="utf-8").splitlines()
OF_CONDA = [word for word in yaml.safe_load(FILE.read_text())["dependencies"] if word != "pip"]
OF_PIP = OF_CONDA.pop()["pip"]
SOLVER = next(filter(None, map(shutil.which, ("micromamba", "mamba", "conda"))), None)


def test_python_is_one_that_the_package_runs_on():
    (python,) = OF_CONDA
    name, _, version = python.partition("=")
    assert name == "python"
    assert Version(version) in SpecifierSet(PROJECT["requires-python"])


def test_pip_installs_the_package_under_the_pins():
    constraints, torch, package = OF_PIP
    option, file = constraints.split()
    assert option == "-c"
    assert (FILE.parent / file).is_file()  # conda runs pip in the folder of its file
    assert torch in PINS
    option, place = package.split()
    found = Requirement(f"lunet{place.removeprefix('..')}")
    assert (option, place[:2]) == ("-e", "..")
    assert found.extras <= set(PROJECT["optional-dependencies"])


@pytest.mark.slow
def test_pip_finds_what_it_installs(tmp_path: Path):
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("\n".join(OF_PIP).replace("-c ", f"-c {FILE.parent}/"))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "-r", str(wanted)]
    done = subprocess.run(command, cwd=FILE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Would install lunet-" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(SOLVER is None, reason="there is no micromamba, mamba or conda")
def test_conda_finds_what_it_installs(tmp_path: Path):
    word = ["create"] if Path(SOLVER).name == "micromamba" else ["env", "create"]
    command = [SOLVER, *word, "--dry-run", "--name", "lunet-test", "--file", str(FILE)]
    root = {"MAMBA_ROOT_PREFIX": str(tmp_path), "CONDA_PKGS_DIRS": str(tmp_path / "packages")}
    done = subprocess.run(
        command, env=os.environ | root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
