"""A job on a cluster runs its steps itself, as many at once as its request was computed for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

SNAKEFILE = """
rule {limit}:
    output: "{{n}}.txt"
    resources: {limit}=1
    shell: "date +%s.%N > {{output}}; sleep 0.5; date +%s.%N >> {{output}}"

include: "{rules}/in_job.smk"
"""


@pytest.mark.parametrize(("limit", "most"), [("turn", 1), ("quarter", 4)])
def test_steps_run_as_many_at_once_as_the_limit_says(tmp_path: Path, limit: str, most: int):
    text = SNAKEFILE.format(limit=limit, rules=ROOT / "workflow" / "rules")
    (tmp_path / "Snakefile").write_text(text)
    jobs = [f"{limit}:n={n}" for n in range(6)]
    # as the plugin starts it in a job
    plugin = ["--executor", "slurm-jobstep", "--jobs", "1", "--mode", "remote"]
    group = ["--target-jobs", *jobs, "--allowed-rules", limit, "--local-groupid", "g", "--force"]
    other = ["--cores", "all", "--nolock", "--scheduler", "greedy"]
    command = [sys.executable, "-m", "snakemake", *group, *other, *plugin]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    spans = [tuple(map(float, path.read_text().split())) for path in tmp_path.glob("*.txt")]
    assert len(spans) == 6
    at_once = [sum(start <= moment < end for start, end in spans) for moment, _ in spans]
    assert max(at_once) == most
