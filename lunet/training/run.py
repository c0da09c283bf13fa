"""Runs one training from prepared volumes to weights, history and record, as `lunet train` does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lunet.data.folds import Fold, read_splits
from lunet.data.prepared import Manifest, read_manifest
from lunet.errors import ConfigError, DataError, TrainingError, is_out_of_memory
from lunet.files import sha256
from lunet.leftovers import remove
from lunet.locks import owned
from lunet.own_files import claim, claim_files
from lunet.settings import plain
from lunet.training.callbacks import ProgressReporter, growing_history, log, warn
from lunet.training.checkpoint import Checkpoint, State, Unusable, read_state, stamp_of
from lunet.training.compute.arithmetic import Arithmetic, keep_freed_memory
from lunet.training.compute.device import choose_device
from lunet.training.diagnostics import suspects
from lunet.training.history import check_metrics
from lunet.training.job import TrainingJob
from lunet.training.kept_results import bring_back, is_kept, keep, withdraw
from lunet.training.loop import CheckpointSaver, train
from lunet.training.memory import out_of_memory
from lunet.training.optim import extendable
from lunet.training.recipe import Recipe
from lunet.training.results import output_files, snapshots, write_pause, write_results
from lunet.training.setup import build_training, choose_engine
from lunet.training.signals import StopRequest, stop_requests
from lunet.training.state import TrainingState


def run_training(job: TrainingJob) -> None:
    """Train, resuming from a saved state if there is a matching one, and write the results.

    Raises
    ------
    LunetError
        One of the kinds in :mod:`lunet.errors`; no file is half-written then.
    """
    check_metrics(job.recipe, job.task)
    inputs = [path for path in (job.init, job.resume) if path]
    pauses = [job.pause[1]] if job.pause else []
    with (
        owned(job.work),
        claim(job.out, output_files(job), step="train", inputs=inputs),
        claim_files(pauses, step="train", inputs=inputs),
        stop_requests() as request,
    ):
        keep_freed_memory()
        manifest, fold = read_data(job)
        stamp = _stamp(job, manifest, fold)
        saver = CheckpointSaver(Checkpoint(job.work), stamp, job.save_interval)
        if _was_finished(job, stamp):
            return
        tidy(job.work)
        state = _saved_state(job, saver)
        training = build_within_memory(job, manifest, fold, state)
        grows = growing_history(job.out / "history.csv", training)
        watched = replace(job, observers=(*job.observers, grows))
        train_stage(watched, training, manifest, saver=saver, request=request)
        if job.pause:
            saver.save(training)
            write_pause(*job.pause, training)
            return
        if job.recipe.keep_state:
            saver.save(training)
            _warn_about_more_epochs(job.recipe)
        doubtful = suspects(training)
        for case in doubtful:
            log(f"warning: {case}")
        request.cancel_deadline()
        write_results(job, training, manifest, doubtful)
        _keep_results(job, stamp)
        if not job.recipe.keep_state:
            saver.checkpoint.remove()


def _was_finished(job: TrainingJob, stamp: str) -> bool:
    """Whether an earlier attempt has finished this training; its results are put in place."""
    is_asked_again = (job.out / "run.json").is_file()
    if job.finished == "out" or job.pause or is_asked_again:
        return False
    if not is_kept(job.work, stamp=_stamp_of_results(job, stamp), log=log):
        return False
    log(f"finished in an earlier attempt, whose results were kept in {job.work}")
    if job.finished == "both":
        bring_back(job.work, job.out)
    return True


def _keep_results(job: TrainingJob, stamp: str) -> None:
    names = output_files(job)
    if job.finished != "out":
        keep(job.out, job.work, names, stamp=_stamp_of_results(job, stamp))
    if job.finished == "work":
        withdraw(job.out, names)


def _stamp_of_results(job: TrainingJob, stamp: str) -> str:
    """A state may be valid for more epochs; results are those of one number of epochs."""
    return stamp_of({"state": stamp, "epochs": job.recipe.epochs, "files": output_files(job)})


def _warn_about_more_epochs(recipe: Recipe) -> None:
    if not _may_grow(recipe):
        reason = (
            f"{recipe.epochs} epochs are not a multiple of validate_every"
            if extendable(recipe.schedule)
            else f"the rates of the {recipe.schedule.name} schedule depend on their number"
        )
        log(f"the state is kept, but more epochs will start from the beginning: {reason}")


def read_data(job: TrainingJob) -> tuple[Manifest, Fold]:
    """Manifest and fold of a job, checked against its task.

    Raises
    ------
    LunetError
        If the data were prepared for another task, there is no such fold, or a part of it is empty.
    """
    manifest, splits = read_manifest(job.manifest), read_splits(job.splits)
    if not job.task.same_content(manifest.task):
        raise DataError(
            where=job.manifest,
            found=f"prepared for {manifest.task.as_dict()}",
            expected=f"the task is {job.task.as_dict()}",
            action="Prepare the data set with this configuration",
        )
    flat = next((c.id for c in manifest.cases.values() if len(c.shape) < job.task.dimensions), None)
    if flat is not None:
        raise DataError(
            where=job.manifest,
            found=f"case {flat} is a picture",
            expected="a network of 3 dimensions needs volumes",
        )
    if not 0 <= job.fold < len(splits.folds):
        expected = f"{job.splits} has the folds 0 to {len(splits.folds) - 1}"
        raise ConfigError(where="--fold", found=f"found {job.fold}", expected=expected)
    if job.seed < 0:
        raise ConfigError(
            where="--seed", found=f"found {job.seed}", expected="at least 0 is expected"
        )
    fold = splits.folds[job.fold]
    for part in ("train", "validation"):
        if not getattr(fold, part):
            raise TrainingError(
                where=f"{job.splits}, fold {job.fold}",
                found=f"no case for {part}",
                expected="at least one is needed",
                action="Use fewer folds, or a larger share for validation (split.validation)",
            )
    return manifest, fold


def _stamp(job: TrainingJob, manifest: Manifest, fold: Fold) -> str:
    """Digest of what a saved state is valid for, without the epochs if more may be added."""
    recipe = plain(job.recipe)
    for key in ("source", "keep_state", "save_every", "resident"):
        del recipe[key]
    if _may_grow(job.recipe):
        del recipe["epochs"]
    return stamp_of(
        {
            "task": job.task.as_dict(),
            "model": dict(job.model),
            "recipe": recipe,
            "code": job.code,
            "data": manifest.digest,
            "cases": [list(fold.train), list(fold.validation)],
            "seed": job.seed,
            "init": sha256(job.init) if job.init and job.init.is_file() else None,
        }
    )


def _may_grow(recipe: Recipe) -> bool:
    """Whether a finished training that gets more epochs equals one that had them from the start.

    The last epoch is always validated. If it is not a multiple of ``validate_every``, a longer
    training would not have validated it.
    """
    return extendable(recipe.schedule) and recipe.epochs % recipe.validate_every == 0


def tidy(work: Path) -> None:
    """Remove what a killed process left half-written; the lock rules out that one is running."""
    work.mkdir(parents=True, exist_ok=True)
    for part in work.glob(".part-*"):
        remove(part)


def _saved_state(job: TrainingJob, saver: CheckpointSaver) -> State | None:
    if job.resume:
        try:
            return read_state(job.resume, stamp=saver.stamp)
        except FileNotFoundError as error:
            raise TrainingError(
                where=job.resume,
                found="the file is missing",
                expected="a saved state is needed here",
            ) from error
        except Unusable as error:
            action = "Use the settings with which it was made"
            raise TrainingError(
                where=job.resume, found=str(error), expected="", action=action
            ) from error
    state = saver.checkpoint.load(stamp=saver.stamp, log=log)
    if state and state["progress"]["epoch"] - 1 > job.recipe.epochs:
        log(f"{job.work}: the state has more than {job.recipe.epochs} epochs and is not used")
        return None
    return state


def build_within_memory(
    job: TrainingJob, manifest: Manifest, fold: Fold, state: State | None
) -> TrainingState:
    """:func:`build_training`, with a clear error if there is too little memory."""
    with _within_memory(job):
        return build_training(job, manifest, fold, state)


def run_engine(job: TrainingJob, out: Path) -> Arithmetic:
    """Choose the arithmetic for trainings like ``job`` and write it to ``out``.

    Raises
    ------
    LunetError
        One of the kinds in :mod:`lunet.errors`; no file is half-written then.
    """
    check_metrics(job.recipe, job.task)
    keep_freed_memory()
    manifest, fold = read_data(job)
    with _within_memory(job):
        return choose_engine(job, manifest, fold, out)


@contextmanager
def _within_memory(job: TrainingJob) -> Iterator[None]:
    """A clear error if there is too little memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        device = choose_device(job.recipe.engine.device, key="train.engine.device")
        raise out_of_memory(error, device, f"{job.recipe.batch_size} samples") from error


def train_stage(
    job: TrainingJob,
    training: TrainingState,
    manifest: Manifest,
    *,
    saver: CheckpointSaver,
    request: StopRequest,
) -> None:
    """Train until ``training.recipe.epochs`` are done, with progress; see :func:`loop.train`.

    Raises
    ------
    LunetError
        One of the kinds in :mod:`lunet.errors`, in terms that a user knows.
    """
    reporter = ProgressReporter(training, bar=sys.stderr.isatty(), on_epoch=job.observers)
    try:
        train(
            training,
            saver=saver,
            request=request,
            reporter=reporter,
            snapshot=snapshots(job, training, manifest),
            until=job.pause[0] if job.pause else None,
        )
    except (RuntimeError, MemoryError) as error:
        if request.pending:  # a compilation wraps the error that the signal raised
            raise request.interruption(job.work, "the last saved state is kept") from error
        raise _user_error(error, training) from error
    finally:
        reporter.close()
    warn(training)


def _user_error(error: Exception, training: TrainingState) -> Exception:
    """A full memory as an error that a user can act on; any other error unchanged."""
    sampler = training.sampler
    if is_out_of_memory(error):
        batch = f"{sampler.batch_size} x {sampler.size or 'whole images'}"
        return out_of_memory(error, sampler.volumes.device, batch)
    return error
