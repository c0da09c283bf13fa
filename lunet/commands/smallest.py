"""Find the smallest network that is as good as a reference, with as few trainings as possible.

The section `smallest` of the configuration sets reference, families, cost, margin and error. Each
round trains one more fold of the undecided candidates, through the study's ordinary Snakemake
workflow, until every candidate is decided or the budget is spent. A search that was stopped
resumes; nothing is trained twice. The answer is printed and written to results/STUDY/smallest/.

  lunet smallest --config config/smallest_demo.yaml
  lunet smallest --config my.yaml -- --profile profiles/slurm

Given a folder of data instead, it first writes a configuration, as `lunet init` does, which is
yours to keep and to change:

  lunet smallest my_data --labels spleen=1 --channels CT --reference unet_small_8f
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lunet.commands.init import add_wishes, write_configuration
from lunet.commands.raw import add_description
from lunet.errors import ConfigError, TrainingError

PASSED_ON = "snakemake"
"""What follows two dashes are options of Snakemake."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet smallest``."""
    parser.usage = "lunet smallest [-h] [DATA] [--config FILE] [...] [-- OPTION_OF_SNAKEMAKE ...]"
    parser.add_argument("source", nargs="?", metavar="DATA", help="folder, listing, or archive")
    parser.add_argument("--config", metavar="FILE", help="of a study (YAML); with DATA: a new one")
    add_description(parser.add_argument_group("the data, where the folder does not say it"))
    add_wishes(parser)


def run(arguments: argparse.Namespace) -> None:
    """Search and print the answer."""
    from lunet.locks import owned
    from lunet.study.config import load
    from lunet.study.smallest_run import find_smallest
    from lunet.study.study import Study

    if arguments.source is None and arguments.config is None:
        raise ConfigError(
            where="lunet smallest", found="neither DATA nor --config", expected="one is needed"
        )
    if arguments.source is None:
        config = Path(arguments.config)
    else:
        config = write_configuration(arguments, arguments.config, step="smallest")
    command = _command(config, arguments.snakemake)
    study = Study(load(config))

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


def _command(config: Path, options: Sequence[str]) -> list[str]:
    """Snakemake's command line; the files to make come after its first three words."""
    options = list(options)
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
    if not any(word.startswith(("--quiet", "-q", "--verbose")) for word in options):
        options += ["--quiet", "rules", "host"]  # the looks and the answer are what counts here
    module = [sys.executable, "-m", "snakemake"]
    return [*module, "--configfile", str(config), *options]
