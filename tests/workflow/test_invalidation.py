"""Which jobs an edit reruns: exactly the expected ones.

A study of four runs is brought to its end with a stand-in for the command `lunet` (the steps'
files without content), then each edit is made, the jobs of a dry run are counted, and the edit is
taken back.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_dataset as tiny
import yaml
from paths import ROOT

pytestmark = pytest.mark.slow
STAND_IN = Path(__file__).with_name("stand_in")
CONFIG = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": ["lunet_small_1f", "mednext_small"],
    "folds": [0],
    "seeds": [0, 1],
    "statistics": {"reference": "lunet_small_1f"},
}
SCORE_FIGURES, RUN_FIGURES, FIGURES = 8, 9, 10  # made of metrics; of runs' files; all


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A finished study in a copy of the project."""
    root = checkout_of(tmp_path_factory.mktemp("checkout"))
    write_config(root, CONFIG)
    snakemake(root, "--quiet")
    assert dry_run(root) == {}
    return root


def checkout_of(root: Path) -> Path:
    """A copy of the project."""
    for name in ("Snakefile", "workflow", "lunet", "profiles", "README.md"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, root / name)
    return root


def write_config(root: Path, config: dict) -> None:
    (root / "config").mkdir(exist_ok=True)
    (root / "config" / "config.yaml").write_text(yaml.safe_dump(config))


def snakemake(root: Path, *words: str) -> str:
    """Run Snakemake in the copy; the copy is its own frozen source."""
    environment = os.environ | {
        "LUNET_SOURCE": str(root),
        "PYTHONPATH": str(root),
        "PATH": os.pathsep.join([str(STAND_IN), os.environ["PATH"]]),
    }
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", *words]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def dry_run(root: Path, *words: str) -> dict[str, int]:
    """Jobs by rule that Snakemake would run for all or some targets, which are not counted."""
    text = snakemake(root, "-n", *words, "--quiet", "rules")
    rows = re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE)
    aims = {"total", "all", "tables", "figures", "efficiency"}
    return {rule: int(count) for rule, count in rows if rule not in aims}


class Edit:
    """Replace text in a file of the copy for the length of a ``with`` block, times included."""

    def __init__(self, path: Path, old: str, new: str) -> None:
        self.path, self.old, self.new = path, old, new

    def __enter__(self) -> None:
        self.stat, self.content = self.path.stat(), self.path.read_text()
        assert self.old in self.content
        self.path.write_text(self.content.replace(self.old, self.new, 1))

    def __exit__(self, *_: object) -> None:
        self.path.write_text(self.content)
        os.utime(self.path, ns=(self.stat.st_atime_ns, self.stat.st_mtime_ns))


def append(path: Path, text: str) -> Edit:
    content = path.read_text()
    return Edit(path, content, content + text)


@pytest.fixture(autouse=True)
def _restored(checkout) -> Iterator[None]:
    yield
    write_config(checkout, CONFIG)


CODE = "\n\ndef _added() -> int:\n    return 1\n"
ONE_PRESET = {"train": 2, "predict": 2, "evaluate": 2}
EDITS = {
    "README": ("README.md", "\nmore\n", {}),
    "comment": ("lunet/models/unet.py", "\n# why\n", {}),
    "comment in the loop": ("lunet/training/loop.py", "\n# why\n", {}),
    "one model": (
        "lunet/models/mednext.py",
        CODE,
        {
            **ONE_PRESET,
            "engine": 1,
            "measure": 1,
            "table": 11,
            "summary": 1,
            "figure": FIGURES,
            "architecture": 1,
            "examples": 1,
            "side_by_side": 1,
            "report": 1,
        },
    ),
    "shared blocks": (
        "lunet/models/blocks.py",
        CODE,
        {
            "engine": 2,
            "train": 4,
            "predict": 4,
            "evaluate": 4,
            "measure": 2,
            "table": 11,
            "summary": 2,
            "figure": FIGURES,
            "architecture": 2,
            "examples": 2,
            "side_by_side": 1,
            "report": 1,
        },
    ),
    "a loss": (
        "lunet/training/losses/build.py",
        CODE,
        {
            "engine": 2,
            "train": 4,
            "predict": 4,
            "evaluate": 4,
            "table": 9,
            "summary": 2,
            "figure": RUN_FIGURES,
            "examples": 2,
            "side_by_side": 1,
            "report": 1,
        },
    ),
    "metrics": (
        "lunet/metrics/surface.py",
        CODE,
        {
            "evaluate": 5,
            "table": 7,
            "summary": 3,
            "figure": SCORE_FIGURES,
            "examples": 3,
            "side_by_side": 1,
            "report": 1,
        },
    ),
    "the table of presets": ("lunet/study/presets.py", CODE, {}),
    "a command's help": ("lunet/commands/train.py", CODE, {}),
    "the downloader": ("lunet/data/download/download.py", CODE, {}),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_reruns_what_it_invalidates(checkout, name):
    file, text, expected = EDITS[name]
    with append(checkout / file, text):
        assert dry_run(checkout) == expected


def test_touching_sources_reruns_nothing(checkout):
    for path in (checkout / "lunet").rglob("*.py"):
        path.touch()
    for path in (checkout / "workflow").rglob("*.smk"):
        path.touch()
    assert dry_run(checkout) == {}


def test_an_edit_of_drawing_code_redraws_and_trains_nothing(checkout):
    with append(checkout / "lunet/reporting/figures/index.py", CODE):
        assert set(dry_run(checkout)) == {"figure", "examples", "side_by_side", "report"}


def test_one_presets_recipe(checkout):
    write_config(checkout, CONFIG | {"overrides": {"mednext_small": {"optimiser": {"lr": 0.5}}}})
    jobs = dry_run(checkout)
    rules = ("engine", "train", "predict", "evaluate", "summary", "measure")
    assert {rule: jobs.get(rule, 0) for rule in rules} == {
        "engine": 1,
        "train": 2,
        "predict": 2,
        "evaluate": 2,
        "summary": 1,
        "measure": 0,  # a learning rate changes no cost
    }
    assert jobs["examples"] == 1


def test_one_more_seed(checkout):
    write_config(checkout, CONFIG | {"seeds": [0, 1, 2]})
    jobs = dry_run(checkout)
    rules = ("engine", "train", "predict", "prior", "measure")
    assert {rule: jobs.get(rule, 0) for rule in rules} == {
        "engine": 0,  # the new seed is computed as the others were
        "train": 2,
        "predict": 2,
        "prior": 0,
        "measure": 0,
    }


def test_one_more_preset(checkout):
    write_config(checkout, CONFIG | {"presets": [*CONFIG["presets"], "unet_small_1f"]})
    jobs = dry_run(checkout)
    assert {rule: jobs.get(rule, 0) for rule in ("train", "measure", "summary", "preprocess")} == {
        "train": 2,
        "measure": 1,
        "summary": 1,
        "preprocess": 0,
    }


def test_the_margin_reruns_tables_only(checkout):
    write_config(checkout, CONFIG | {"statistics": {"margin": 0.02}})
    assert not set(dry_run(checkout)) & {"train", "predict", "evaluate", "measure", "preprocess"}


def test_one_presets_target_runs_that_preset_only(checkout):
    text = snakemake(
        checkout,
        "-n",
        "--forceall",
        "results/s/presets/mednext_small/summary.csv",
    )
    assert "lunet_small_1f" not in text
    assert "runs/mednext_small/fold-0/seed-1" in text


def test_a_corrected_label_reruns_what_depends_on_it(checkout):
    raw = tiny.make(checkout / "tiny", 4)
    dataset = {"name": "tiny", "path": str(raw)}
    write_config(checkout, CONFIG | {"study": "local", "dataset": dataset})
    target = "results/local/splits.json"
    snakemake(checkout, "--quiet", "--", target)

    def jobs() -> set[str]:
        text = snakemake(checkout, "-n", "--quiet", "rules", "--", target)
        return {rule for rule in ("download", "audit", "preprocess", "folds") if rule in text}

    for path in raw.rglob("*.nii.gz"):
        path.touch()
    assert jobs() == set()
    tiny.save(raw / "labelsTr/case_02.nii.gz", tiny.volumes(9)[1])
    assert jobs() == {"download", "audit", "preprocess", "folds"}
    snakemake(checkout, "--quiet", "--", target)
    assert jobs() == set()
    tiny.write_listing(raw, ["case_01", "case_02", "case_03"])
    assert jobs() == {"download", "audit", "preprocess", "folds"}
