"""``lunet STEP``: one subcommand per step of a study; each lives in ``lunet.commands``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lunet.errors import LunetError, nearest
from lunet.files import require_writable
from lunet.system_limits import require_room

STEPS = {
    "download": "get a data set from a local copy, a mirror or its origin",
    "phantom": "make a synthetic data set in the Decathlon layout",
    "audit": "examine a data set; each finding names the file, the field and what to do",
    "repair": "apply the safe repairs of an audit into a new folder",
    "init": "write the first configuration of a study of your own data",
    "import": "convert another layout (nnU-Net, BIDS, folders, CSV) to the project's, with links",
    "plan": "propose spacing, patch and batch from a data set's fingerprint",
    "preprocess": "prepare volumes: orientation, spacing, intensities, size",
    "folds": "divide the cases into cross-validation folds by subject group",
    "register": "state what a study compares, before anything is trained",
    "engine": "choose the arithmetic of a preset's trainings, once for all folds and seeds",
    "train": "train one preset; an interrupted training resumes automatically",
    "predict": "segment the cases of a run, or any new scan",
    "evaluate": "compute Dice and surface distances per case and label",
    "external": "take finished predictions of another tool or reader as a row of a study",
    "rival": "train a network of nnU-Net v2 or MIST as a row of a study, in its own environment",
    "transfer": "test a trained network on another labelled data set, with a label map",
    "lesions": "count lesions found, missed and wrongly predicted per patient; FROC",
    "efficiency": "measure parameters, MACs, latency and memory of one preset",
    "forecast": "forecast memory and time of trainings, and compare with finished runs",
    "power": "compute from a pilot what a study can resolve, before it is trained",
    "smallest": "find the smallest network that is as good as a reference",
    "prune": "remove channels step by step and retrain",
    "table": "build a table of the study from per-case files",
    "figure": "draw a figure of the study",
    "report": "write the self-contained HTML report",
    "export": "release a trained model: ONNX, safetensors, model card",
    "import-weights": "import published weights into a preset, by position",
    "nnunet": "write nnU-Net v2 plans that train a preset",
    "export-slices": "write 2D slices of volumes as PNG images and labels",
    "show": "draw an overlay of image and segmentation",
    "watch": "show what each run of a study is doing",
    "doctor": "check that a profile fits this cluster",
    "selftest": "check that this machine computes correctly; the report for an issue",
    "recover": "after a crash: list, cancel or wait for left-over jobs, and unlock",
    "list": "list presets, recipes, datasets, losses or augmentations",
    "schema": "write the JSON schema or the manual of the configuration",
}


_NO_INPUTS = ("out", "froc", "work", "logs", "cache", "engine_cache", "settings", "changes")
"""Arguments that name outputs or are not paths."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step.

    Returns
    -------
    The exit code: 0 for success, 2 for bad input, others as in :mod:`lunet.errors`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("lunet"))
        return 0
    step = words[0]
    if step not in STEPS:
        print(f"error: step {step!r}: unknown, {nearest(step, STEPS)}.", file=sys.stderr)
        return 2
    return _run(step, words[1:])


def _overview() -> str:
    width = max(map(len, STEPS))
    lines = [f"  {name:<{width}}  {text}" for name, text in STEPS.items()]
    return "usage: lunet STEP [options]; `lunet STEP --help` explains each\n\n" + "\n".join(lines)


def parser_of(step: str) -> argparse.ArgumentParser:
    """The parser of ``lunet STEP``; the command reference is generated from its help."""
    command = importlib.import_module(_module(step))
    parser = argparse.ArgumentParser(
        prog=f"lunet {step}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    parser.set_defaults(step=step)
    return parser


def _module(step: str) -> str:
    return f"lunet.commands.{step.replace('-', '_')}"


def _run(step: str, words: Sequence[str]) -> int:
    command = importlib.import_module(_module(step))
    passed_on = []
    if hasattr(command, "PASSED_ON") and "--" in words:
        place = list(words).index("--")
        words, passed_on = words[:place], list(words[place + 1 :])
    arguments = parser_of(step).parse_args(words)
    if hasattr(command, "PASSED_ON"):
        setattr(arguments, command.PASSED_ON, passed_on)
    return carry_out(command.run, arguments)


def carry_out(
    work: Callable[[argparse.Namespace], int | None], arguments: argparse.Namespace
) -> int:
    """Run a step's function, report how it ended, and return the exit code."""
    try:
        require_room()
        if getattr(arguments, "out", None):
            require_writable(arguments.out)
        with _sole_writer(arguments), _own_files(arguments):
            return work(arguments) or 0
    except LunetError as error:
        return _report(error, in_rule=getattr(arguments, "settings", None) is not None)
    except Exception as error:  # classified below; a bug keeps its traceback
        return _report_other(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _report(error: LunetError, *, in_rule: bool) -> int:
    """Print what is wrong, a line each; the log of a rule also ends with the kind of failure."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    if in_rule:
        from lunet.failures import classify

        print(classify(error).line(), file=sys.stderr)
    return error.exit_code


@contextmanager
def _sole_writer(arguments: argparse.Namespace) -> Iterator[None]:
    """Lock what a rule's job writes; a manual run (no ``--code``) locks nothing."""
    is_a_rules = getattr(arguments, "code", "") and getattr(arguments, "out", None)
    # each of several runs locks its own folder below --out, where other jobs write other runs
    parts = (getattr(arguments, name, None) for name in ("fold", "seed"))
    if not is_a_rules or any(isinstance(part, list) and len(part) > 1 for part in parts):
        yield
        return
    from lunet.locks import owned

    with owned(arguments.out):
        yield


@contextmanager
def _own_files(arguments: argparse.Namespace) -> Iterator[None]:
    """Let a step overwrite only its own files in ``--out``, and never its inputs."""
    from lunet.own_files import claim_files, refuse_same

    out, suffixes = getattr(arguments, "out", None), getattr(arguments, "out_suffixes", None)
    inputs = _inputs(arguments)
    if out:
        refuse_same(out, inputs)
    files = [f"{out}{suffix}" for suffix in suffixes or ()] if out else []
    files += [arguments.froc] if getattr(arguments, "froc", None) else []
    with claim_files(files, step=getattr(arguments, "step", ""), inputs=inputs):
        yield


def _inputs(arguments: argparse.Namespace) -> list[str]:
    """Every existing file or folder that an argument names, except outputs."""
    given = [value for name, value in vars(arguments).items() if name not in _NO_INPUTS]
    lists = [value if isinstance(value, list) else [value] for value in given]
    items = [item for values in lists for item in values]
    words = [str(item) for item in items if isinstance(item, str | os.PathLike)]
    parts = [part for word in words for part in (word, *word.split(","))]
    return [part for part in dict.fromkeys(parts) if part and os.path.exists(part)]


def _report_other(error: Exception) -> int:
    """Report an error that is not bad input: memory, disk, or a bug with its traceback."""
    if isinstance(error, BrokenPipeError):
        # the reader of our output went away (`lunet list presets | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    from lunet.failures import classify

    failure = classify(error)
    if failure.is_bug:
        traceback.print_exception(error)
    else:
        print(f"error: {error}", file=sys.stderr)
    print(failure.line(), file=sys.stderr)
    return failure.exit_code
