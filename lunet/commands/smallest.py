"""Find the smallest network that is as good as a reference, with as few trainings as possible.

The section `smallest` of the configuration sets reference, families, cost, margin and error. Each
round trains one more fold of the undecided candidates, through the study's ordinary Snakemake
workflow, until every candidate is decided or the budget is spent. A search that was stopped
resumes; nothing is trained twice. The answer is printed and written to results/STUDY/smallest/.

  lunet smallest --config config/smallest_demo.yaml
  lunet smallest --config my.yaml -- --profile profiles/slurm

With a folder of data instead, it first writes a configuration, as `lunet init` does, which you can
keep and edit:

  lunet smallest my_data --labels spleen=1 --channels CT --reference unet_small_8f
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from lunet.commands.init import add_wishes, write_configuration
from lunet.commands.raw import add_description
from lunet.errors import ConfigError, Interrupted, TrainingError

PASSED_ON = "snakemake"
"""Options after two dashes are passed on to Snakemake."""
_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet smallest``."""
    parser.usage = "lunet smallest [-h] [DATA] [--config FILE] [...] [-- OPTION_OF_SNAKEMAKE ...]"
    parser.add_argument("source", nargs="?", metavar="DATA", help="folder, listing, or archive")
    parser.add_argument("--config", metavar="FILE", help="study (YAML); with DATA: file to write")
    add_description(parser.add_argument_group("the data, if the folder does not describe them"))
    add_wishes(parser)


def run(arguments: argparse.Namespace) -> None:
    """Run the search and print the answer."""
    from lunet.locks import owned
    from lunet.study.config import read_mapping
    from lunet.study.smallest_run import find_smallest
    from lunet.study.study import study_of

    if arguments.source is None and arguments.config is None:
        raise ConfigError(
            where="lunet smallest",
            found="neither DATA nor --config is given",
            expected="one is needed",
        )
    if arguments.source is None:
        config = Path(arguments.config)
    else:
        config = write_configuration(arguments, arguments.config, step="smallest")
    command = _command(config, arguments.snakemake)
    study = study_of(read_mapping(config))

    def make(files: Sequence[str]) -> None:
        code = _carry_out([*command[:3], *files, *command[3:]])
        if code != 0:
            found = f"ended with exit code {code}"
            action = "See its log above; run the same command again to resume the search"
            raise TrainingError(
                where="snakemake", found=found, expected="exit code 0 is expected", action=action
            )

    def log(text: str) -> None:
        print(text, flush=True)

    with owned(Path(study.results, "smallest")):
        verdict = find_smallest(study, make, log)
    print(f"\n{verdict['sentence']}")


def _carry_out(command: Sequence[str]) -> int:
    """Run Snakemake and return its exit code; it never goes on alone.

    Whatever asks this process to stop reaches Snakemake and all its jobs as Ctrl-C does, on which
    trainings save their state.

    Raises
    ------
    Interrupted
        If a signal asked to stop; Snakemake has ended.
    """
    caught: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        os.killpg(process.pid, signal.SIGINT)

    process = subprocess.Popen(command, start_new_session=True)
    former = {number: signal.signal(number, stop) for number in _STOP}
    try:
        code = process.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if caught:
        raise Interrupted(
            where="the search",
            found=f"{signal.Signals(caught[0]).name} asked it to stop",
            expected="its trainings have saved their states",
            action="Run the same command again to resume it",
        )
    return code


def _command(config: Path, options: Sequence[str]) -> list[str]:
    """Snakemake's command line; the files to make come after its first three words."""
    options = list(options)
    is_named = any(word.startswith(("--snakefile", "-s")) for word in options)
    if not is_named and not Path("Snakefile").is_file():
        action = "Run this in the project's folder, or give `-- --snakefile FILE`"
        raise ConfigError(
            where="Snakefile",
            found="is missing in this folder",
            expected="the workflow that makes the runs is needed",
            action=action,
        )
    if not any(word.startswith(("--profile", "--cores", "-c", "--jobs", "-j")) for word in options):
        local = Path("profiles", "local")
        options += ["--profile", str(local)] if local.is_dir() else ["--cores", "all"]
    if not any(word.startswith(("--quiet", "-q", "--verbose")) for word in options):
        options += ["--quiet", "host"]
    module = [sys.executable, "-m", "snakemake"]
    return [*module, "--configfile", str(config), *options]
