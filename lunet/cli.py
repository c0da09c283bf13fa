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
    "download": "get a data set: local folder, mirror or origin; resumed and checked",
    "phantom": "make a synthetic data set in the Decathlon layout",
    "audit": "examine a data set and say which file, which field, what to do",
    "repair": "apply the safe repairs of an audit into a new folder",
    "init": "write the first configuration of a study of your own data",
    "import": "turn another layout (nnU-Net, BIDS, folders, CSV) into the project's, by links",
    "plan": "propose spacing, patch and batch from a data set's fingerprint",
    "preprocess": "canonical orientation, spacing, intensities; memory-mappable volumes",
    "folds": "cross-validation folds by subject group",
    "register": "state what a study compares, before anything is trained; written once",
    "train": "train one preset on one fold with one seed; resumes by itself",
    "predict": "segment the cases of a run, or any new scan",
    "evaluate": "Dice and surface distances per case and label",
    "transfer": "test a trained network on another labelled data set, with a label map",
    "lesions": "lesions found, missed and wrongly predicted per patient; FROC",
    "efficiency": "parameters, MACs, latency, memory of one preset",
    "forecast": "memory and time of trainings, foreseen and taken",
    "power": "what a study can resolve, from a pilot, before it is trained",
    "smallest": "find the smallest network that is as good, training as little as it takes",
    "prune": "remove channels step by step and retrain",
    "table": "build a table of the study from per-case files",
    "figure": "draw a figure of the study",
    "report": "write the self-contained HTML report",
    "export": "release a trained model: ONNX, safetensors, model card",
    "import-weights": "carry over published weights by position",
    "nnunet": "let nnU-Net v2 train a preset: network and patch in a plans file of its own",
    "export-slices": "write 2D slices of volumes as PNG images and labels",
    "show": "draw an overlay of image and segmentation",
    "doctor": "check that a profile fits this cluster",
    "recover": "find, end or await left-over jobs; unlock",
    "list": "list presets, datasets, losses, recipes or augmentations",
    "schema": "write the JSON schema of the configuration",
}


_WRITTEN = ("out", "froc", "work", "cache", "engine_cache", "settings", "changes")
"""Arguments that name what is written, or are no paths."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step; returns the exit code (0 done, 2 bad input, see :mod:`lunet.errors`)."""
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
    """The parser of ``lunet STEP``; its help is the step's page of the documentation."""
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
    """Run a step's function and tell how it ended; returns the exit code."""
    try:
        require_room()
        if getattr(arguments, "out", None):
            require_writable(arguments.out)
        with _sole_writer(arguments), _own_files(arguments):
            return work(arguments) or 0
    except LunetError as error:
        return _tell(error, in_rule=getattr(arguments, "settings", None) is not None)
    except Exception as error:  # sorted and told below, a bug with its traceback
        return _explain(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _tell(error: LunetError, *, in_rule: bool) -> int:
    """One line that says what is wrong; the log of a rule ends with one that sorts it."""
    print(f"error: {error}", file=sys.stderr)
    if in_rule:
        from lunet.failures import classify

        print(classify(error).line(), file=sys.stderr)
    return error.exit_code


@contextmanager
def _sole_writer(arguments: argparse.Namespace) -> Iterator[None]:
    """Hold the lock of what a rule's job writes; by hand (no ``--code``) nothing is locked."""
    if not (getattr(arguments, "code", "") and getattr(arguments, "out", None)):
        yield
        return
    from lunet.locks import owned

    with owned(arguments.out):
        yield


@contextmanager
def _own_files(arguments: argparse.Namespace) -> Iterator[None]:
    """Let a step write to ``--out`` only what is its own, and never over what it reads."""
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
    """Every file or folder that an argument names, but for those that are written."""
    given = [value for name, value in vars(arguments).items() if name not in _WRITTEN]
    lists = [value if isinstance(value, list) else [value] for value in given]
    items = [item for values in lists for item in values]
    words = [str(item) for item in items if isinstance(item, str | os.PathLike)]
    parts = [part for word in words for part in (word, *word.split(","))]
    return [part for part in dict.fromkeys(parts) if part and os.path.exists(part)]


def _explain(error: Exception) -> int:
    """Tell an end that is not bad input: memory, disk; the rest is a bug and keeps its trace."""
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
