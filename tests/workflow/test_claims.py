"""The study of the claims in the workflow: what is made of it, and of studies that ask less."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from paths import ROOT

from lunet.study.config import load

pytestmark = pytest.mark.slow  # each test plans a study with Snakemake


def jobs(folder: Path, config: Path, *targets: str) -> dict[str, int]:
    """Jobs by rule of a dry run in an empty folder."""
    command = [sys.executable, "-m", "snakemake", *targets, "-n", "--quiet", "rules"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    done = subprocess.run(
        [*command, "--cores", "1", "--configfile", str(config)],
        env=os.environ | {"LUNET_SOURCE": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE)}


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    return jobs(tmp_path_factory.mktemp("claims"), ROOT / "config/claims_demo.yaml")


def test_each_network_is_tested_on_the_other_data_set(claims: dict[str, int]) -> None:
    assert claims["train"] == claims["transfer"] == 6
    assert claims["transfer_download"] == claims["transfer_audit"] == 1
    assert claims["transfer_table"] == 4
    assert claims["transfer_figure"] == 2


def test_pruning_is_a_part_of_the_study_if_it_says_so(
    claims: dict[str, int], tmp_path: Path
) -> None:
    assert (claims["prune"], claims["prune_control"]) == (1, 2)
    assert (claims["pruning_table"], claims["pruning_figure"]) == (2, 3)
    config = yaml.safe_load((ROOT / "config/claims_demo.yaml").read_text())
    config["prune"]["enabled"] = False
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(config))
    plain = jobs(tmp_path, tmp_path / "plain.yaml")
    assert "prune" not in plain
    assert plain["report"] == 1
    assert {name: n for name, n in claims.items() if "prun" not in name and name != "total"} == {
        name: n for name, n in plain.items() if name != "total"
    }


def test_a_pruned_structure_of_another_study_is_trained_when_that_is_there(tmp_path: Path) -> None:
    config = ROOT / "config/pruned_elsewhere_demo.yaml"
    for variant in yaml.safe_load(config.read_text())["variants"].values():
        path = tmp_path / variant["structure"]
        path.parent.mkdir(parents=True)
        widths = {"module": "unet", "arguments": {"widths": [2, 3, 4, 3, 2]}}
        path.write_text(json.dumps({"chosen": {"model": widths | {"name": "UNet"}}}))
    assert jobs(tmp_path, config)["train"] == 2


def test_questions_that_are_not_asked_make_no_jobs(claims: dict[str, int], tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "config/claims_demo.yaml").read_text())
    del config["transfer"], config["statistics"]["pairs"]
    config["presets"] = ["unet_small_2f", "lunet_small_2f", "narrow"]
    config["efficiency"]["memory_batches"] = []
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(config))
    plain = jobs(tmp_path, tmp_path / "plain.yaml")
    assert "transfer" not in plain
    assert "transfer_download" not in plain
    assert claims["figure"] - plain["figure"] == 3  # pairs, skips, batches
    assert claims["table"] - plain["table"] == 1  # batches
    assert plain["architecture"] == 3


MODULE = """
configfile: "study.yaml"
module seg:
    snakefile: {snakefile!r}
    config: config
    prefix: "sub"
use rule * from seg as seg_*
"""


def test_below_a_prefix_every_path_is_that_of_the_prefixed_study(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "config/claims_demo.yaml").read_text())
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config | {"plan": "auto"}))
    path = str(ROOT / "workflow/Snakefile")
    (tmp_path / "Snakefile").write_text(MODULE.format(snakefile=path))
    name = config["study"]
    targets = [f"sub/results/{name}/{file}" for file in ("report.html", "tables/forecast.csv")]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "-p", "--cores", "1", *targets],
        cwd=tmp_path,
        env=os.environ | {"LUNET_SOURCE": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    paths = re.findall(rf"\S*(?:results|work)/{name}\b\S*", text)
    assert len(paths) > 500
    assert [path for path in paths if f"sub/results/{name}" not in path
            and f"sub/work/{name}" not in path] == []  # fmt: skip
    assert {found.parts[0] for found in _made(tmp_path)} <= {"Snakefile", "study.yaml", "sub"}


def _made(folder: Path) -> list[Path]:
    """Files below a folder, but for Snakemake's own."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [path for path in found if path.parts[0] != ".snakemake"]


def test_pictures_of_runs_are_a_target_of_their_own(claims: dict[str, int], tmp_path: Path) -> None:
    assert "run_pictures" not in claims
    found = jobs(tmp_path, ROOT / "config/claims_demo.yaml", "pictures")
    assert found["run_pictures"] == found["train"] == 6
    assert "table" not in found


RUN_ELSEWHERE = ("claims_demo", "pruned_elsewhere_demo", "brats2021", "mmwhs_ct", "demo")


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((ROOT / "config").glob("*.yaml")) if p.stem not in RUN_ELSEWHERE],
    ids=lambda path: path.stem,
)
def test_every_shipped_study_is_planned_to_its_report(tmp_path: Path, path: Path) -> None:
    config = load(path)
    (tmp_path / "config").symlink_to(ROOT / "config")  # published results are read from there
    if config.dataset.path is not None:
        (tmp_path / config.dataset.path).mkdir(parents=True)
    found = jobs(tmp_path, path)
    assert found["train"] == len(config.presets) * len(config.folds) * len(config.seeds)
    assert found["measure"] == found["architecture"] == len(config.presets)
    assert found["report"] == 1
    assert ("prune" in found) == config.prune.enabled
