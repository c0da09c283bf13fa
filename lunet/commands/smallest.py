"""Find the smallest network that is as good as a reference, with as few trainings as possible.

The section `smallest` of the configuration sets reference, families, cost, margin and error. Each
round trains one more fold of the undecided candidates, through the study's ordinary Snakemake
workflow, until every candidate is decided or the budget is spent. A search that was stopped
resumes; nothing is trained twice. The answer is printed and written to results/STUDY/smallest/.

  lunet smallest --config config/smallest_demo.yaml
  lunet smallest --config my.yaml -- --profile profiles/slurm
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lunet.errors import ConfigError, TrainingError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet smallest``."""
    parser.add_argument(
        "--config", required=True, metavar="FILE", help="configuration of a study (YAML)"
    )
    parser.add_argument(
        "snakemake", nargs="*", metavar="-- OPTION", help="further options of Snakemake"
    )


def run(arguments: argparse.Namespace) -> None:
    """Search and print the answer."""
    from lunet.locks import owned
    from lunet.study.config import load
    from lunet.study.smallest_run import find_smallest
    from lunet.study.study import Study

    study = Study(load(arguments.config))
    command = _command(arguments)

    def make(files: Sequence[str]) -> None:
        done = subprocess.run([*command[:3], *files, *command[3:]], check=False)
        if done.returncode != 0:
            found = f"ended with exit code {done.returncode}"
            action = "See its log above; the same command resumes the search"
            raise TrainingError(
                where="snakemake", found=found, expected="0 is expected", action=action
            )

    def log(text: str) -> None:
        print(text, flush=True)

    with owned(Path(study.results, "smallest")):
        verdict = find_smallest(study, make, log)
    print(f"\n{verdict['sentence']}")


def _command(arguments: argparse.Namespace) -> list[str]:
    """Snakemake's command line; the files to make come after its first three words."""
    options = list(arguments.snakemake)
    is_named = any(word.startswith(("--snakefile", "-s")) for word in options)
    if not is_named and not Path("Snakefile").is_file():
        action = "Run this in the project's folder, or give `-- --snakefile FILE`"
        raise ConfigError(
            where="Snakefile",
            found="is missing here",
            expected="it defines how runs are made",
            action=action,
        )
    if not any(word.startswith(("--profile", "--cores", "-c", "--jobs", "-j")) for word in options):
        local = Path("profiles", "local")
        options += ["--profile", str(local)] if local.is_dir() else ["--cores", "all"]
    module = [sys.executable, "-m", "snakemake"]
    return [*module, "--configfile", arguments.config, *options]
