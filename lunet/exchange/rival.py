"""Lets nnU-Net v2 or MIST plan, train and predict with a network as a rival in a study."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lunet.data.dataset_json import LISTING
from lunet.errors import ConfigError
from lunet.evaluation.external_source import TRAINING
from lunet.exchange.nnunet_export import DATASET, ENDING, SPLITS, STEP
from lunet.exchange.rival_process import require_tool, run_script
from lunet.exchange.rival_settings import VARIANTS, RivalSettings
from lunet.files import sha256, write_json
from lunet.locks import owned
from lunet.own_files import renewed
from lunet.reading import read_object

STAMP = "lunet-rival.json"


def plan_rival(network: str, *, python: str, raw: Path, out: Path) -> None:
    """Let a tool plan its network and preprocess the data for it.

    Parameters
    ----------
    network
        A key of :data:`lunet.exchange.rival_settings.VARIANTS`.
    python
        Interpreter of the tool's environment.
    raw
        Folder that :func:`lunet.exchange.nnunet_export.export_dataset` wrote.
    out
        A folder that is new or was written by this step; for nnU-Net it is its
        ``nnUNet_preprocessed``.

    Raises
    ------
    ConfigError
        If the tool is not there, or ``out`` holds files of others.
    LunetError
        If the tool fails.
    """
    tool = VARIANTS[network].tool
    require_tool(tool, python, "--python")
    with renewed(out, step=STEP, inputs=[raw]) as stage:
        folders = {"raw": raw, "preprocessed": stage, "results": stage}
        run_script(tool.script, _job("plan", network), python=python, folders=folders)
        shutil.copyfile(raw / DATASET / SPLITS, stage / DATASET / SPLITS)


def train_rival(
    settings: RivalSettings, *, fold: int, plan: Path, work: Path, out: Path, code: str = ""
) -> None:
    """Let a tool train a fold and predict its cases; an interrupted training is resumed.

    Parameters
    ----------
    settings
        The network, its epochs, and the interpreter.
    fold
        Number of the fold.
    plan
        Folder that :func:`plan_rival` wrote.
    work
        Folder of the tool's results, with its checkpoints, which are kept. A training with other
        settings or plans starts anew there.
    out
        A folder that is new or was written by this step. It gets the masks in
        ``fold_<fold>/validation``, ``dataset.json`` and ``splits_final.json``, and
        ``training.json``: settings, version, seconds of this start.

    Raises
    ------
    ConfigError
        If the tool is not there, or ``work`` or ``out`` hold files of others.
    LunetError
        If the tool fails.
    """
    variant, source, start = settings.variant, plan / DATASET, time.monotonic()
    version = require_tool(variant.tool, settings.python, "--python")
    options = {
        "fold": fold,
        "epochs": settings.epochs,
        "iterations": settings.iterations,
        "validation_iterations": settings.validation_iterations,
    }
    digests = {name: sha256(source / name) for name in (f"{variant.plans}.json", SPLITS)}
    with owned(work), renewed(out, step=STEP, inputs=[plan]) as stage:
        _start_or_resume(work, options | {"network": settings.network, "digests": digests})
        folders = {"raw": plan, "preprocessed": plan, "results": work}
        job = _job("train", settings.network) | options
        run_script(variant.tool.script, job, python=settings.python, folders=folders)
        found = work / DATASET / variant.trained / f"fold_{fold}" / "validation"
        masks = stage / f"fold_{fold}" / "validation"
        masks.mkdir(parents=True)
        for path in sorted(found.glob(f"*{ENDING}")):
            shutil.copyfile(path, masks / path.name)
        for name in (LISTING, SPLITS):
            shutil.copyfile(source / name, stage / name)
        record = options | {"network": settings.network, "code": code}
        record[variant.tool.package] = version
        write_json(stage / TRAINING, record | {"seconds": round(time.monotonic() - start, 1)})


def _job(step: str, network: str) -> dict[str, Any]:
    variant = VARIANTS[network]
    return {
        "step": step,
        "dataset": DATASET,
        "planner": variant.planner,
        "plans": variant.plans,
        "configuration": variant.configuration,
        "trained": variant.trained,
    }


def _start_or_resume(work: Path, stamp: Mapping[str, Any]) -> None:
    """Empty the folder of a training unless it is the one that the stamp describes."""
    path = work / STAMP
    if path.is_file() and read_object(path) == stamp:
        return
    if work.is_dir() and any(work.iterdir()):
        if not path.is_file():
            raise ConfigError(
                where=work,
                found="holds files, but no training of this step",
                expected="a new or empty folder is needed",
                action="Name another one",
            )
        shutil.rmtree(work)
    write_json(path, dict(stamp))
