"""The container recipe has all that a build needs, and the environment outside of it suffices."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from itertools import pairwise

import pytest
from few_packages import PAGE, snakemake_alone
from paths import ROOT

RECIPE = (ROOT / "envs" / "container.def").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGE = "/opt/lunet/package/"


def section(name: str) -> list[list[str]]:
    """The words of each line of a section, without comments."""
    (text,) = re.findall(rf"^%{name}\n(.*?)(?=^%|\Z)", RECIPE, re.DOTALL | re.MULTILINE)
    lines = (shlex.split(line, comments=True) for line in text.splitlines())
    return [words for words in lines if words]


def pins(file: str) -> dict[str, str]:
    """Name -> version of a file of constraints."""
    text = (ROOT / "envs" / file).read_text(encoding="utf-8")
    lines = (line.partition("==") for line in text.splitlines() if not line.startswith("#"))
    return {name: version for name, _, version in lines}


def test_every_file_of_the_recipe_exists():
    copies = section("files")
    assert [words for words in copies if len(words) != 2 or not (ROOT / words[0]).exists()] == []


def test_the_recipe_copies_what_a_build_needs():
    copied = dict(section("files"))
    project, tools = PROJECT["project"], PROJECT["tool"]["setuptools"]
    data = {
        pattern.split("/")[0] for patterns in tools["data-files"].values() for pattern in patterns
    }
    packages = {pattern.rstrip("*") for pattern in tools["packages"]["find"]["include"]}
    needed = {"pyproject.toml", project["readme"], *project["license-files"], *data, *packages}
    assert {"lunet", "workflow", "Snakefile"} <= needed
    assert {name: copied.get(name) for name in needed} == {name: PACKAGE + name for name in needed}


def test_the_recipe_installs_under_the_pins():
    installs = [words for words in section("post") if words[:2] == ["pip", "install"]]
    copied = {target.removeprefix("/opt/lunet/") for _, target in section("files")}
    for words in installs:
        files = {file for option, file in pairwise(words) if option == "-c"}
        assert files == {"constraints.txt", "cuda.txt"} <= copied
    torch, package = (words[-1] for words in installs)
    assert torch == "torch"  # first, so that no other package chooses another build of it
    name, extras = re.fullmatch(r"\./(\w+)\[([\w,]+)\]", package).groups()
    assert f"/opt/lunet/{name}/" == PACKAGE
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_pins_of_cuda_are_those_of_the_pinned_torch():
    cuda, others = pins("cuda.txt"), pins("constraints.txt")
    assert "triton" in cuda
    assert set(cuda) & set(others) == set()
    assert f"torch {others['torch']} " in (ROOT / "envs" / "cuda.txt").read_text(encoding="utf-8")


def test_the_workflow_looks_where_the_image_is_built():
    (image,) = re.findall(r'^container: "(.+)"$', (ROOT / "workflow/Snakefile").read_text(), re.M)
    for text in (RECIPE, PAGE):
        assert f"apptainer build {image} envs/container.def" in text


@pytest.mark.parametrize("profile", ["local", "slurm"])
def test_snakemake_needs_no_more_outside_of_the_image(profile, tmp_path):
    for name in ("Snakefile", "config", "profiles", "workflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    study = ["--configfile", "config/demo.yaml", "-n", "--quiet", "rules"]
    done = subprocess.run(
        [*snakemake_alone(), "--profile", f"profiles/{profile}", *study],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout + done.stderr
