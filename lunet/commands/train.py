"""Train one preset, one run per fold and seed; an interrupted training resumes automatically.

Writes weights.safetensors (best on validation), last.safetensors, history.csv and run.json.
On SIGTERM, SIGUSR1 or Ctrl-C the state is saved and the exit code is 75; the same command resumes.
Several folds or seeds give several runs, of which --at-once run at the same time on one device.
Each run writes to fold-F/seed-S below --out and --work, and its files and numbers are the same as
if it ran alone. Without --out a run is in results/STUDY/by-hand/; a finished run is not trained
again, and a run of other settings is not overwritten.

Examples:
  lunet train --config config/config.yaml --preset lunet_small_4f --fold 0 --seed 0
  lunet train --config config/config.yaml --preset lunet_small_4f --fold 0 1 2 --at-once 3
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lunet.commands.arguments import (
    NATURAL,
    POSITIVE,
    SEED,
    add_plan,
    add_settings,
    by_hand_folders,
    planned,
    prepared_of,
    read_settings,
    read_study,
    real,
    task_of,
)
from lunet.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from lunet.study.shown import Shown
    from lunet.training.history import Row
    from lunet.training.parallel import ParallelRun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet train``."""
    add_settings(parser)
    add_plan(parser)
    data = parser.add_argument_group("data and folders (default: from the study of --config)")
    data.add_argument("--manifest", type=Path, metavar="FILE", help="manifest.json of the volumes")
    data.add_argument("--splits", type=Path, metavar="FILE", help="splits.json")
    data.add_argument(
        "--fold",
        type=_fold,
        default=[0],
        nargs="+",
        help="folds, counted from 0 (default 0), or `all` to train on all cases",
    )
    data.add_argument(
        "--seed", type=SEED, default=[0], nargs="+", help="seeds of everything random (default 0)"
    )
    data.add_argument(
        "--at-once", type=POSITIVE, default=1, metavar="N", help="runs at the same time (default 1)"
    )
    data.add_argument("--work", type=Path, metavar="DIR", help="folder of the resume state")
    data.add_argument("--out", type=Path, metavar="DIR", help="folder of the results")
    data.add_argument(
        "--protocol",
        type=Path,
        metavar="FILE",
        help="protocol.json of the study; the first training writes it (see lunet register)",
    )
    _add_jobs(parser)
    start = parser.add_argument_group("start")
    start.add_argument("--resume", type=Path, metavar="FILE", help="resume from this state file")
    start.add_argument(
        "--pause-after", type=POSITIVE, metavar="EPOCH", help="stop after this epoch; resumable"
    )
    start.add_argument(
        "--pause-file", type=Path, metavar="FILE", help="file of the history up to there (JSON)"
    )
    start.add_argument("--init", type=Path, metavar="FILE", help="fine-tune these weights")
    short = parser.add_argument_group("shorthands for changes of the recipe")
    short.add_argument("--loss", help="train with this loss alone")
    short.add_argument("--epochs", type=int, help="number of epochs")
    short.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to train")
    other = parser.add_argument_group("other")
    other.add_argument(
        "--tensorboard", action="store_true", help="as `train.tensorboard: true`: TensorBoard files"
    )
    other.add_argument(
        "--curves", action="store_true", help="as `train.curves: true`: curves.png during training"
    )
    other.add_argument(
        "--engine", type=Path, metavar="FILE", help="arithmetic that `lunet engine` chose"
    )
    other.add_argument(
        "--engine-cache", type=Path, metavar="FILE", help="measured choices of the engine"
    )
    other.add_argument(
        "--save-interval",
        type=real,
        metavar="S",
        help="seconds between saved states (default: saving takes 1 %% of the time)",
    )


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(is_alone=True)
    jobs = parser.add_argument_group("jobs of a workflow")
    jobs.add_argument(
        "--keep-results",
        action="store_true",
        help="keep finished results in --work, too: a retry uses them instead of training again. "
        "Several runs write theirs to --out when all are finished",
    )
    jobs.add_argument(
        "--logs", type=Path, metavar="DIR", help="logs of several runs (default: in their folders)"
    )


def _fold(word: str) -> int | str:
    return word if word == "all" else NATURAL(word)


def run(arguments: argparse.Namespace) -> None:
    """Train the runs that are asked for."""
    runs = [_single(arguments, fold, seed) for fold in arguments.fold for seed in arguments.seed]
    if len(runs) == 1:
        return _train(runs[0])
    return _train_several(arguments, runs)


def _train_several(arguments: argparse.Namespace, runs: list[argparse.Namespace]) -> None:
    from lunet.devices import SHARE
    from lunet.inference.ahead import MODULES
    from lunet.study.together import handed_over_prediction
    from lunet.training.kept_results import release
    from lunet.training.parallel import TRAINING, ParallelRun, run_together, server

    _check_several(arguments)
    os.environ.setdefault(SHARE, str(arguments.at_once))
    preset = read_settings(arguments, "train")["model"]["preset"]
    asked = handed_over_prediction(preset) if arguments.keep_results else None
    modules = (*TRAINING, *MODULES) if asked else TRAINING
    places = [_places(one, preset) for one in runs]
    named = [
        ParallelRun(f"fold {one.fold}, seed {one.seed}", _log_of(one, place["out"]), one)
        for one, place in zip(runs, places, strict=True)
    ]
    with server():
        run_together(named, _carry_out, at_once=arguments.at_once, modules=modules)
        if arguments.keep_results:
            for place in places:
                release(place["work"], place["out"])
        if asked:
            _predict_ahead(arguments, named, places, asked)


def _predict_ahead(
    arguments: argparse.Namespace,
    trained: list[ParallelRun],
    places: list[dict[str, Path]],
    asked: dict[str, Any],
) -> None:
    """Predict the test cases of each run, as the workflow is going to ask for it."""
    from lunet.inference.ahead import THREADS, Prediction
    from lunet.training.parallel import run_together, tell

    sections = planned(asked["sections"], arguments.plan)
    wanted = (
        Prediction(
            sections,
            asked["code"],
            weights=place["out"],
            manifest=place["manifest"],
            splits=place["splits"],
            fold=run.argument.fold,
            work=place["work"],
        )
        for run, place in zip(trained, places, strict=True)
    )
    runs = [
        dataclasses.replace(run, argument=argparse.Namespace(prediction=one))
        for run, one in zip(trained, wanted, strict=True)
    ]
    try:
        run_together(runs, _carry_out_prediction, at_once=arguments.at_once, threads=THREADS)
    except TrainingError as error:  # the trainings are finished, and the step `predict` says why
        tell(f"not all predictions were made ahead: {error}")


def _carry_out_prediction(arguments: argparse.Namespace) -> int:
    from lunet.cli import carry_out
    from lunet.inference.ahead import predict_ahead

    return carry_out(lambda given: predict_ahead(given.prediction), arguments)


def _log_of(one: argparse.Namespace, out: Path) -> Path:
    folder = one.logs / f"fold-{one.fold}" / f"seed-{one.seed}" if one.logs else out
    return Path(folder, "train.log")


def _single(arguments: argparse.Namespace, fold: int | str, seed: int) -> argparse.Namespace:
    """The arguments of one of the runs."""
    is_alone = len(arguments.fold) * len(arguments.seed) == 1
    own = {"fold": fold, "seed": seed, "is_alone": is_alone}
    one = argparse.Namespace(**vars(arguments) | own)
    if not is_alone:
        for name in ("work", "out"):
            if folder := getattr(arguments, name):
                setattr(one, name, folder / f"fold-{fold}" / f"seed-{seed}")
    return one


def _finished(arguments: argparse.Namespace) -> Literal["out", "both", "work"]:
    """Where a finished run's results go: a run that shares its job waits for the others."""
    if not arguments.keep_results:
        return "out"
    return "both" if arguments.is_alone else "work"


def _check_several(arguments: argparse.Namespace) -> None:
    if arguments.resume:
        raise ConfigError(
            where="--resume", found="given with several runs", expected="a state belongs to one run"
        )
    if arguments.at_once < 1:
        raise ConfigError(
            where="--at-once", found=f"found {arguments.at_once}", expected="at least 1 is expected"
        )
    for name in ("fold", "seed"):
        values = getattr(arguments, name)
        if len(set(values)) < len(values):
            raise ConfigError(where=f"--{name}", found=f"found {values}", expected="each once")


def _carry_out(arguments: argparse.Namespace) -> int:
    from lunet.cli import carry_out

    return carry_out(_train, arguments)


def _train(arguments: argparse.Namespace) -> None:
    out = train_run(arguments)
    if arguments.settings is None:  # a rule knows the folder, a person may not
        print(f"weights, history and provenance in {out}", flush=True)


def train_run(arguments: argparse.Namespace) -> Path:
    """Train one run, unless a person asks for a run that is finished; returns its folder."""
    from lunet.devices import claimed_gpu
    from lunet.own_files import claim_files
    from lunet.settings import build_settings, replace
    from lunet.training.callbacks import draw_curves, earlier_rows
    from lunet.training.compute.device import choose_device
    from lunet.training.finished import is_finished
    from lunet.training.job import TrainingJob
    from lunet.training.recipe import Recipe
    from lunet.training.run import run_training

    sections = read_settings(arguments, "train")
    recipe = replace(
        build_settings(Recipe, sections["recipe"], "train"), _changes(arguments), "train"
    )
    if arguments.loss is not None:
        recipe = dataclasses.replace(recipe, loss={arguments.loss: 1.0}, loss_options={})
    preset = sections["model"]["preset"]
    places, shown = _places(arguments, preset), _shown(arguments, preset)
    if arguments.protocol:
        _register(arguments, places)
    if arguments.fold == "all":
        places["splits"] = _everything(places)
    job = TrainingJob(
        task=task_of(arguments, sections, places["manifest"]),
        model=sections["model"],
        recipe=recipe,
        code=arguments.code or _code(arguments, preset),
        fold=0 if arguments.fold == "all" else arguments.fold,
        seed=arguments.seed,
        resume=arguments.resume,
        init=arguments.init,
        engine=arguments.engine,
        save_interval=arguments.save_interval,
        observers=_observers(shown, places["out"]),
        pause=_pause(arguments),
        finished=_finished(arguments),
        **places,
    )
    # a rule runs when something has changed, and --resume names what to go on with
    if arguments.settings is None and not arguments.resume and is_finished(job):
        print(f"{job.out} holds this run, which is finished: it is not trained again", flush=True)
        return job.out
    drawn = [places["out"] / "curves.png"] if shown.curves else []
    with claim_files(drawn, step="train"), claimed_gpu(recipe.engine.device):
        choose_device(recipe.engine.device, key="train.engine.device")  # refused before any work
        run_training(job)
        for path in drawn:
            draw_curves(path, earlier_rows(job.out / "history.csv"))
    return job.out


def _register(arguments: argparse.Namespace, places: dict[str, Path]) -> None:
    """Make sure that the study's protocol exists before the study trains anything."""
    from lunet.study.protocol import handed_over, register

    sections = handed_over()
    if sections is None:
        if arguments.config is None:
            return  # a rule's command that was pasted: its study is registered already
        sections = read_study(arguments).sections("register")
    manifest, splits = places["manifest"], places["splits"]
    for line in register(arguments.protocol, sections, manifest=manifest, splits=splits):
        print(line, flush=True)


def _everything(places: dict[str, Path]) -> Path:
    """Write a split file with one fold that trains on all cases that are not held out."""
    from lunet.data.custom_splits import all_of
    from lunet.data.folds import read_splits, write_splits

    path = places["work"] / "all.json"
    write_splits(path, all_of(read_splits(places["splits"])))
    return path


def _code(arguments: argparse.Namespace, preset: str) -> str:
    """Digest of the code, so that a manual run never resumes from a state of different code."""
    if arguments.settings is not None:
        return ""
    return read_study(arguments).digest("train", preset)


def _shown(arguments: argparse.Namespace, preset: str) -> Shown:
    """What the training shows: as the options say, and the study or, in a job, its workflow."""
    from lunet.study.shown import Shown, handed_over_shown, require_tensorboard

    is_job = arguments.settings is not None
    asked = handed_over_shown(preset) if is_job else read_study(arguments).shown(preset)
    shown = Shown(asked.curves or arguments.curves, asked.tensorboard or arguments.tensorboard)
    if shown.tensorboard:
        require_tensorboard("--tensorboard" if arguments.tensorboard else "train.tensorboard")
    return shown


def _observers(shown: Shown, out: Path) -> tuple[Callable[[Row], None], ...]:
    from lunet.training.callbacks import live_curves, tensorboard

    chosen = []
    if shown.tensorboard:
        chosen.append(tensorboard(out / "tensorboard"))
    if shown.curves:
        chosen.append(live_curves(out / "curves.png"))
    return tuple(chosen)


def _pause(arguments: argparse.Namespace) -> tuple[int, Path] | None:
    if (arguments.pause_after is None) != (arguments.pause_file is None):
        raise ConfigError(
            where="--pause-after, --pause-file", found="found one of them", expected="both or none"
        )
    return None if arguments.pause_after is None else (arguments.pause_after, arguments.pause_file)


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if arguments.epochs is not None:
        changes["epochs"] = arguments.epochs
    if arguments.device is not None:
        changes["engine"] = {"device": arguments.device}
    return changes


def _places(arguments: argparse.Namespace, preset: str) -> dict[str, Path]:
    """Files and folders; a manual run reads the study's volumes but writes to ``by-hand``."""
    run = Path("runs", preset, f"fold-{arguments.fold}", f"seed-{arguments.seed}")
    manifest, splits = prepared_of(arguments, "the training")
    by_hand = by_hand_folders(arguments)
    work = arguments.work or by_hand["work"] / run
    return {
        "manifest": manifest,
        "splits": splits,
        "work": work,
        "out": arguments.out or by_hand["results"] / run,
        "engine_cache": arguments.engine_cache or work.parent.parent / "engine.json",
    }
