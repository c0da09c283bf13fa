"""Show what each run of a study is doing: its state, epoch, loss, Dice, time left, and its error.

STUDY is a configuration, a folder of results, or a name in results/; by default the study that was
active last. In a terminal the table is refreshed until all runs are done or you press Ctrl-C; with
--once, or if the output is no terminal, it is printed once. It reads only files, so it also works
while the jobs run on a cluster.

Examples: lunet watch
          lunet watch config/quick.yaml --once
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import positive

_CLEAR = "\033[2J\033[H"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet watch``."""
    parser.add_argument("study", nargs="?", metavar="STUDY", help="which study")
    parser.add_argument("--once", action="store_true", help="print the table once")
    parser.add_argument(
        "--seconds", type=positive, default=5.0, metavar="S", help="time between tables (default 5)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the table, again and again in a terminal."""
    import shutil
    import sys
    import time

    from lunet.study.watch import find_study, run_states, watch_lines

    study = find_study(arguments.study)
    if arguments.once or not sys.stdout.isatty():
        print("\n".join(watch_lines(study)))
        return
    try:
        while True:
            width, height = shutil.get_terminal_size()
            shown = [line[:width] for line in watch_lines(study)[: height - 1]]
            print(_CLEAR + "\n".join(shown), flush=True)
            runs = run_states(study)
            if runs and all(one.state == "done" for one in runs):
                return
            time.sleep(arguments.seconds)
    except KeyboardInterrupt:
        return
