"""The Kaggle collection "Medical Image Segmentation: Evaluation" turned into the project's layout.

A task folder (``Task006_Lung``) holds the scans (``CT/`` or ``CT.zip``, NIfTI), the references
(``GroundTruth/``, pickles or NIfTI) and ``metadata.json`` with the label names. The collection
needs an account: fetch it with your own credentials, for example with Kaggle's own client
(``kaggle datasets download modaresimr/medical-image-segmentation``, which reads
``~/.kaggle/kaggle.json``); this module never asks for them. The licence of the collection is not
stated clearly; Task06_Lung of the Decathlon is the clean alternative.

Pickles are read by :mod:`lunet.data.layouts.kaggle.unpickle` in a process of its own, never here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lunet.data.dataset import Case, Dataset
from lunet.data.dataset_json import by_number
from lunet.data.io.images import NIFTI, is_hidden
from lunet.data.io.write import write_nifti
from lunet.data.layouts.importing import STEP, write_links
from lunet.data.layouts.task import FOREGROUND, chosen_groups, chosen_rule
from lunet.data.settings import UNNAMED, DatasetSettings
from lunet.errors import DataError
from lunet.own_files import renewed
from lunet.reading import read_object, typed
from lunet.task import Task

_READER = Path(__file__).with_name("unpickle.py")
_PICKLES = (".pkl", ".pkl.gz")
_ENCRYPTED = 0x1
_MOST_BYTES = 16 * 2**30  # of one file in CT.zip


def import_kaggle(
    source: str | Path,
    out: str | Path,
    settings: DatasetSettings,
    *,
    log: Callable[[str], None] = print,
) -> Dataset:
    """Convert one task folder of the collection into ``out``, which appears in one step.

    Scans are unpacked (or linked), references become NIfTI files on the scans' grids.

    Raises
    ------
    DataError
        If the folder is not one of the collection, a scan is missing, or a pickle holds anything
        but a label of its scan's shape.
    """
    root = Path(source)
    references = _files(root / "GroundTruth", (*_PICKLES, *NIFTI))
    if not references:
        raise DataError(
            where=root,
            found="has no GroundTruth/ with .pkl or NIfTI files",
            expected="a task folder of the collection (Task006_Lung) is expected",
            action=(
                "Fetch it with your own Kaggle credentials and unpack it; CT.zip may stay packed"
            ),
        )
    with renewed(out, step=STEP, inputs=[root]) as stage:
        cases = []
        for name, reference in references.items():
            image = _scan(root, name, stage)
            label = _reference(reference, name, image, stage)
            cases.append(Case(name, (image,), label, name))
            log(f"converted {name} ({len(cases)}/{len(references)})")
        dataset = _dataset(root, cases, settings)
        write_links(dataset, stage)
        for name in ("scans", "references"):
            # `write_links` gave the files new names
            shutil.rmtree(stage / name, ignore_errors=True)
    return replace(dataset, root=Path(out).absolute())


def convert_label(pickled: Path) -> NDArray[np.uint8]:
    """The label (x, y, z) in a pickle, read in a restricted process of its own.

    Raises
    ------
    DataError
        If the pickle refers to anything that a label does not need, or cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "label.npy"
        command = [sys.executable, "-I", str(_READER), str(pickled.absolute()), str(out)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={}, cwd=folder
        )
        if done.returncode != 0:
            raise DataError(
                where=pickled,
                found=f"is not read: {_reason(done)}",
                expected="only a label of the collection",
                action="Do not load this file with other tools either, unless you trust its source",
            )
        label: NDArray[np.uint8] = np.load(out, allow_pickle=False)
    return label


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The reason that the reading process printed; its exit code if it printed none."""
    try:
        return str(json.loads(done.stdout)["refused"])
    except (json.JSONDecodeError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return f"the reading process ended with code {done.returncode} {last}".strip()


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Case -> file, sorted by case."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((end for end in suffixes if path.name.endswith(end)), None)
        if suffix and not is_hidden(path):
            found[path.name.removesuffix(suffix)] = path
    return found


def _scan(root: Path, case: str, stage: Path) -> Path:
    loose = _files(root / "CT", NIFTI)
    if case in loose:
        return loose[case].absolute()
    archive = root / "CT.zip"
    if not archive.is_file():
        raise DataError(
            where=root,
            found=f"no CT/{case}.nii(.gz) and no CT.zip",
            expected="each case needs its scan",
        )
    try:
        with zipfile.ZipFile(archive) as packed:
            return _unpacked(packed, archive, case, stage)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(
            where=archive, found=f"cannot be read ({error})", expected="", action="Fetch it again"
        ) from error


def _unpacked(packed: zipfile.ZipFile, archive: Path, case: str, stage: Path) -> Path:
    """Unpack only the member with the case's name."""
    wanted = {f"{case}{suffix}": suffix for suffix in NIFTI}
    for member in packed.infolist():
        suffix = wanted.get(PurePosixPath(member.filename).name)
        if suffix is None or member.flag_bits & _ENCRYPTED:
            continue
        if member.file_size > _MOST_BYTES:
            raise DataError(
                where=archive,
                found=f"{member.filename} has {member.file_size} bytes",
                expected="a scan",
            )
        path = stage / "scans" / f"{case}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(member) as stream, path.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
        return path
    raise DataError(
        where=archive,
        found=f"holds no {case}.nii or {case}.nii.gz",
        expected="each case needs its scan",
    )


def _reference(path: Path, case: str, image: Path, stage: Path) -> Path:
    if not path.name.endswith(_PICKLES):
        return path.absolute()
    label = convert_label(path)
    scan: Any = nib.load(image)
    if scan.shape[:3] != label.shape:
        raise DataError(
            where=path,
            found=f"a label of shape {label.shape}",
            expected=f"{image.name} has {scan.shape}",
        )
    out = stage / "references" / f"{case}.nii.gz"
    write_nifti(out, label, scan.affine)
    return out


def _dataset(root: Path, cases: list[Case], settings: DatasetSettings) -> Dataset:
    listing = root / "metadata.json"
    where = f"{listing}: labels"
    found = read_object(listing).get("labels") if listing.is_file() else {"1": FOREGROUND}
    numbered = by_number(typed(found, dict[str, str], where), where)
    labels = {name: index for index, name in numbered.items() if index != 0}
    task = Task(settings.channels or ("CT",), settings.labels or labels, {}, settings.dimensions)
    name = root.name if settings.name == UNNAMED else settings.name
    return Dataset(root, name, task, chosen_groups(cases, settings), chosen_rule(settings))
