"""The last lines of the workflow: the answer and where it is, or why jobs failed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from few_packages import snakemake_alone
from paths import ROOT

from lunet.files import write_json
from lunet.reporting.markup import Column, Table, cell, write
from lunet.study.ending import Ending, failed_jobs
from lunet.study.study import study_of

STAND_IN = Path(__file__).with_name("stand_in")
CONFIG = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": ["lunet_small_1f", "lunet_small_2f"],
    "folds": [0],
    "statistics": {"reference": "lunet_small_2f"},
    "prior": False,
}
SENTENCE = "Dice, mean over labels: lunet_small_1f is worse than lunet_small_2f."
FAILING = """#!/bin/sh
if [ "$1" = audit ]; then
    echo "reads the images"
    echo "error: case_1: the image is empty, voxels are expected." >&2
    echo "lunet ended: bad data." >&2
    exit 2
fi
exec "$STAND_IN/lunet" "$@"
"""


def claims(base: Path, count: int = 1) -> None:
    """A table of claims as `lunet table claims` writes it."""
    heads = (Column("Verdict", text=True), Column("Claim", text=True))
    keys = {"verdict": "worse", "preset": "lunet_small_1f", "reference": "lunet_small_2f"}
    record = {**keys, "label": "mean over labels", "metric": "dice", "sentence": SENTENCE}
    other = {**record, "label": "a", "sentence": "Of a structure."}
    row = (cell("worse"), cell("..."))
    records = (*(record | {"preset": f"net{i}"} for i in range(count)), other)
    write(Table("claims", "Claims.", heads, (row,) * (count + 1), records), base)


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ending:
    monkeypatch.chdir(tmp_path)
    return Ending(study_of(CONFIG))


def test_the_answer_is_printed_with_its_places(ended: Ending) -> None:
    claims(ended.results / "tables/claims")
    (ended.results / "report.html").write_text("page")
    lines = [line for line in ended.answer() if line]
    assert lines == [SENTENCE, "tables   results/s/tables/", "report   results/s/report.html"]


def test_a_damaged_table_is_told_and_does_not_fail_the_run(ended: Ending) -> None:
    claims(ended.results / "tables/claims")
    (ended.results / "tables/claims.json").write_text("")
    lines = [line for line in ended.answer() if line]
    assert "claims.json: is empty" in lines[0]
    assert lines[1:] == ["tables   results/s/tables/"]


def test_networks_that_have_not_learnt_are_named_first(ended: Ending) -> None:
    claims(ended.results / "tables/claims")
    for name, finding in (("lunet_small_1f", "It found nothing."), ("lunet_small_2f", "")):
        rows = ({"preset": name, "finding": finding},) * 2
        table = Table("summary", "", (Column("Preset", text=True),), ((cell(name),),) * 2, rows)
        write(table, ended.results / "presets" / name / "summary")
    assert [line for line in ended.answer() if line][:2] == ["It found nothing.", SENTENCE]


def test_many_claims_are_counted(ended: Ending) -> None:
    claims(ended.results / "tables/claims", count=9)
    lines = ended.answer()
    assert lines.count(SENTENCE) == 6
    assert "... and 3 more in results/s/tables/claims.md" in lines


def test_the_verdict_of_a_search_comes_instead_of_claims(ended: Ending) -> None:
    claims(ended.results / "tables/claims")
    write_json(ended.results / "smallest/verdict.json", {"sentence": "The smallest is x."})
    assert "The smallest is x." in ended.answer()
    assert SENTENCE not in ended.answer()


def test_an_answer_that_was_there_before_is_not_printed_again(ended: Ending) -> None:
    """A start with other targets makes no answer, and the old one may be outdated."""
    assert ended.answer() == []
    claims(ended.results / "tables/claims")
    old = time.time() - 3600
    os.utime(ended.results / "tables/claims.json", (old, old))
    assert ended.answer() == []


def test_each_failed_job_has_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("epoch 1/2\nerror: no memory\nlunet ended: memory.\n")
    (tmp_path / "killed.log").write_text("epoch 1/2: loss 0.1\n")
    message = "    log: {} (check log file(s) for error details)\n"
    names = ["train.log", "killed.log", "none.log", "train.log"]
    text = "".join("Error in rule x:\n" + message.format(tmp_path / name) for name in names)
    (tmp_path / "snakemake.log").write_text(f"{text}    log: other.log\n")
    assert [line.split(".log: ")[1] for line in failed_jobs([str(tmp_path / "snakemake.log")])] == [
        "error: no memory",
        "epoch 1/2: loss 0.1",
        "is empty; the job was killed, or never started",
    ]


SNAKEMAKE = (sys.executable, "-m", "snakemake")


def snakemake(
    folder: Path, path: Path, start: Sequence[str] = SNAKEMAKE
) -> subprocess.CompletedProcess[str]:
    """Run the study up to its claims, with another command `lunet`."""
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    environment = os.environ | {
        "LUNET_SOURCE": str(ROOT),
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join([str(path), os.environ["PATH"]]),
        "STAND_IN": str(STAND_IN),
        "STAND_IN_FILES": str(folder / "known"),
    }
    command = [*start, "results/s/tables/claims.csv"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "2", "--configfile", str(folder / "config.yaml")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_workflow_prints_the_answer(tmp_path: Path) -> None:
    claims(tmp_path / "known/claims")
    done = snakemake(tmp_path, STAND_IN)
    assert done.returncode == 0, done.stderr
    assert SENTENCE in done.stderr
    assert "tables   results/s/tables/" in done.stderr


@pytest.mark.slow
def test_the_workflow_prints_why_a_job_failed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/lunet").write_text(FAILING)
    (tmp_path / "bin/lunet").chmod(0o755)
    done = snakemake(tmp_path, tmp_path / "bin")
    assert done.returncode == 1
    last = done.stderr.split("Exiting because a job execution failed")[-1]
    line = "results/s/logs/audit.log: error: case_1: the image is empty, voxels are expected."
    assert line in last
    assert "reads the images" not in last


@pytest.mark.slow
def test_the_answer_needs_only_the_packages_that_are_outside_of_an_image(tmp_path: Path) -> None:
    claims(tmp_path / "known/claims")
    done = snakemake(tmp_path, STAND_IN, snakemake_alone())
    assert done.returncode == 0, done.stderr
    assert SENTENCE in done.stderr
