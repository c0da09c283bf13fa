"""The same study through another executor: a site's own commands for submission and status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from paths import ROOT

sys.path.insert(0, str(Path(__file__).with_name("slurm")))

from studies import WEIGHTS, configuration, prepared

pytest.importorskip("snakemake_executor_plugin_cluster_generic")
pytestmark = pytest.mark.slow

STAND_IN = Path(__file__).with_name("stand_in")
CONFIG = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": ["lunet_small_1f"],
    "folds": [0],
}
SITE = {
    # a scheduler of one line: the job's number is that of its process
    "submit.sh": """\
echo "$1 $2 $3 $4" >> "$SITE_RECORDS/asked"
script=$5
( setsid sh -c "sh '$script' && echo success > $SITE_RECORDS/\\$\\$ \
  || echo failed > $SITE_RECORDS/\\$\\$" > /dev/null 2>&1 & echo $! )
""",
    "status.sh": 'cat "$SITE_RECORDS/$1" 2>/dev/null || echo running\n',
    "cancel.sh": '#!/bin/sh\nkill "$@"\n',
}
SUMMARY = "results/s/presets/lunet_small_1f/summary.csv"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project, and a site's commands."""
    for name in ("workflow", "lunet", "profiles"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("Snakefile", "README.md"):
        shutil.copy2(ROOT / name, tmp_path / name)
    for name in ("config", "site", "records"):
        (tmp_path / name).mkdir()
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(CONFIG))
    for name, text in SITE.items():
        (tmp_path / "site" / name).write_text(text)
        (tmp_path / "site" / name).chmod(0o755)
    return tmp_path


def snakemake(root: Path, profile: str, *words: str) -> str:
    environment = os.environ | {
        "LUNET_SOURCE": str(root),
        "LUNET_SITE": str(root / "site"),
        "SITE_RECORDS": str(root / "records"),
        "PYTHONPATH": str(root),
        "PATH": os.pathsep.join([str(STAND_IN), os.environ["PATH"]]),
    }
    command = [sys.executable, "-m", "snakemake", "--profile", f"profiles/{profile}", *words]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_site_with_commands_of_its_own(checkout):
    snakemake(checkout, "generic", "--seconds-between-status-checks", "1", SUMMARY)
    asked = (checkout / "records/asked").read_text().splitlines()
    # audit, preparation, atlas prior and two evaluations without a GPU; measurement, choice of the
    # arithmetic, training and prediction with one
    assert sorted(line.split()[-1] for line in asked) == [*"00000", *"1111"]
    assert any(line.startswith("8000 240 ") for line in asked)
    assert "Nothing to be done" in snakemake(checkout, "local", "-n", SUMMARY)


@pytest.mark.parametrize(
    ("squeue", "sacct", "told"),
    [
        ("echo RUNNING", "", "running"),
        ("echo COMPLETED", "", "success"),
        ("echo TIMEOUT", "", "failed"),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "echo FAILED", "running"),
        ("echo 'error: Invalid job id specified' >&2; exit 1", "echo COMPLETED", "success"),
        ("echo 'error: Invalid job id specified' >&2; exit 1", "echo 'CANCELLED by 7'", "failed"),
        ("echo 'error: Invalid job id specified' >&2; exit 1", "exit 1", "success"),
        ("true", "echo OUT_OF_ME+", "failed"),
    ],
)
def test_the_state_of_a_job_as_the_generic_profile_tells_it(tmp_path, squeue, sacct, told):
    """A job that is called failed loses its outputs."""
    for name, script in {"squeue": squeue, "sacct": sacct}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    command = ["sh", str(ROOT / "profiles/generic/status.sh"), "7"]
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [told]


def test_results_that_show_too_late_are_not_trained_again(tmp_path):
    """A real training whose weights the file system hides from Snakemake when the job has ended."""
    checkout = prepared(tmp_path / "study", configuration(epochs=2))
    site, hidden = tmp_path / "site", tmp_path / "hidden"
    site.mkdir()
    hide = f"test -e '{hidden}' || mv '{checkout.root / WEIGHTS}' '{hidden}'"
    submit = f"""\
( setsid sh -c "sh '$5' && ({hide}) && echo success > {site}/\\$\\$ \
  || echo failed > {site}/\\$\\$" > /dev/null 2>&1 & echo $! )
"""
    status = f'cat "{site}/$1" 2>/dev/null || echo running\n'
    for name, text in {"submit.sh": submit, "status.sh": status, "cancel.sh": "exit\n"}.items():
        (site / name).write_text(text)
    words = ["--latency-wait", "2", "--seconds-between-status-checks", "1", WEIGHTS]
    code = checkout.run(*words, profile="profiles/generic", LUNET_SITE=str(site), seconds=120)
    assert code == 0, checkout.output
    assert "Missing" in checkout.output
    assert "finished in an earlier attempt" in checkout.log
    assert checkout.epoch() == 0  # the log of the second attempt
    assert (checkout.root / WEIGHTS).read_bytes() == hidden.read_bytes()
