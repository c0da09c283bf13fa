"""A raw CT of 512 x 512 x 600 voxels through `lunet predict`, under a hard limit of memory.

A small network is trained on synthetic CT crops (seconds), a large synthetic CT is written as
int16 .nii.gz, and the command segments it in a process whose address space may grow by no more than
the limit beyond what its imports take. Printed are the growth at the worst moment (address space
and resident), seconds, and the Dice of the mask.

    OMP_NUM_THREADS=1 python tests/benchmarks/large_volume.py [--limit-mib 1800] [--resampled]

`--smallest` lowers the limit until the command fails and prints the last one that sufficed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

SHAPE = (512, 512, 600)
AFFINE = np.array([[-0.8, 0, 0, 200], [0, -0.8, 0, 180], [0, 0, 1, -300], [0, 0, 0, 1]], float)
CROP = (64, 64, 48)
CONFIG = {
    "study": "large",
    "dataset": {"name": "crops", "labels": {"organ": 1}, "channels": ["CT"]},
    "preprocess": {"window": [-150, 250], "normalise": "minmax"},
    "split": {"folds": 2, "validation": 0.25},
    "presets": ["lunet_small_2f"],
    "folds": [0],
    "train": {
        "epochs": 15,
        "batch_size": 2,
        "patches_per_case": 16,
        "patch": [32, 32, 32],
        "sampler": "balanced",
        "loss": {"dice": 1.0, "bce": 1.0},
        "engine": {"device": "cpu"},
    },
}
# run in the child: the limit holds from the end of the imports on
_CHILD = """
import re, resource, sys, time
from pathlib import Path
import nibabel, scipy.ndimage, torch, torchio
import lunet.inference.predict_files, lunet.inference.load, lunet.commands.predict
from lunet.cli import main

def memory(key):
    return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

limit, words = int(sys.argv[1]), sys.argv[2:]
space, resident = memory("VmSize"), memory("VmRSS")
if limit:
    resource.setrlimit(resource.RLIMIT_AS, ((space + limit) * 2**20,) * 2)
start = time.perf_counter()
code = main(words)
seconds = time.perf_counter() - start
print(f"MEASURED {memory('VmPeak') - space} {memory('VmHWM') - resident} {seconds:.0f}")
sys.exit(code)
"""


def planes(
    shape: Sequence[int], first: int, count: int
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Some axial planes of the scan and where its organ lies: air, a body, a ball of 120 HU."""
    x, y, z = np.ogrid[: shape[0], : shape[1], first : first + count]
    centre, radius = np.array(shape) / 2, min(shape) / 4
    far = ((x - centre[0]) / shape[0]) ** 2 + ((y - centre[1]) / shape[1]) ** 2
    organ = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 < radius**2
    body = np.broadcast_to(far < 0.2, organ.shape)
    noise = np.random.default_rng(first).normal(0, 15, organ.shape)
    return (np.where(organ, 120, np.where(body, 40, -1000)) + noise).astype(np.int16), organ


def write_scan(path: Path, shape: Sequence[int]) -> None:
    """The whole scan as int16 .nii.gz, slab by slab."""
    header = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.int16), AFFINE).header
    header.set_data_shape(shape)
    header.set_data_offset(352)
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header.binaryblock.ljust(352, b"\0"))
        for first in range(0, shape[2], 8):
            block, _ = planes(shape, first, min(8, shape[2] - first))
            stream.write(block.tobytes(order="F"))


def train(place: Path, *, spacing: float | None) -> Path:
    """A network of two channels that finds the ball; its run folder."""
    raw = place / "raw"
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    rows = []
    for number in range(8):
        image, organ = planes((*CROP[:2], CROP[2] + number), 0, CROP[2])
        name = f"crop_{number}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(image, AFFINE), raw / "imagesTr" / name)
        nibabel.save(nibabel.Nifti1Image(organ.astype(np.uint8), AFFINE), raw / "labelsTr" / name)
        rows.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    labels = {"0": "background", "1": "organ"}
    listing = {"name": "crops", "labels": labels, "modality": {"0": "CT"}, "training": rows}
    (raw / "dataset.json").write_text(json.dumps(listing | {"test": []}))
    dataset = CONFIG["dataset"] | {"path": str(raw)}  # type: ignore[operator]
    roots = {"results": str(place / "results"), "work": str(place / "work")}
    config = place / "config.yaml"
    content = CONFIG | {"dataset": dataset, "roots": roots}
    if spacing is not None:
        content["preprocess"] = CONFIG["preprocess"] | {"spacing": [spacing] * 3}  # type: ignore[operator]
    config.write_text(json.dumps(content))
    data, run = place / "work" / "large" / "prepared", place / "run"
    manifest, splits = data / "manifest.json", place / "splits.json"
    given = ["--config", str(config)]
    _lunet("preprocess", str(raw), *given, "--out", str(data))
    _lunet("folds", *given, "--manifest", str(manifest), "--out", str(splits))
    files = ["--manifest", str(manifest), "--splits", str(splits)]
    places = ["--work", str(place / "state"), "--out", str(run)]
    _lunet("train", *given, "--preset", "lunet_small_2f", *files, *places)
    return run


def _lunet(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "lunet", *words], check=True, capture_output=True)


def predict(run: Path, scan: Path, out: Path, limit: int, more: Sequence[str]) -> str | None:
    """Segment under the limit (0: none); what was measured, or None where memory ran out."""
    words = ["predict", "--weights", str(run), str(scan), "--out", str(out), *more]
    command = [sys.executable, "-c", _CHILD, str(limit), *words]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((t for t in told.stdout.splitlines() if t.startswith("MEASURED")), None)
    if told.returncode or line is None:
        print(f"limit {limit} MiB: exit {told.returncode}: {told.stderr[-1500:]}")
        return None
    space, resident, seconds = line.split()[1:]
    return f"address space +{space} MiB, resident +{resident} MiB, {seconds} s"


def dice(mask: Path, shape: Sequence[int]) -> float:
    """Dice of the mask and the planted organ, plane by plane; checks grid and dtype too."""
    image = nibabel.load(mask)
    assert image.shape == tuple(shape)
    assert image.get_data_dtype() == np.uint8
    assert np.allclose(image.affine, AFFINE)
    found, both, sizes = np.asarray(image.dataobj) > 0, 0, 0
    for first in range(0, shape[2], 8):
        _, organ = planes(shape, first, min(8, shape[2] - first))
        part = found[..., first : first + 8]
        both += int((part & organ).sum())
        sizes += int(part.sum()) + int(organ.sum())
    return 2 * both / sizes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit-mib", type=int, default=1800, help="0: none")
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--resampled", action="store_true", help="to 1.5 mm and back")
    parser.add_argument("more", nargs="*", help="after `--`: further options of `lunet predict`")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    more = arguments.more or ["--patch", "96", "96", "96", "--overlap", "0.1"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        start = time.perf_counter()
        run = train(place, spacing=1.5 if arguments.resampled else None)
        print(f"trained in {time.perf_counter() - start:.0f} s")
        write_scan(place / "ct.nii.gz", arguments.shape)
        limit = arguments.limit_mib
        while found := predict(run, place / "ct.nii.gz", place / "out", limit, more):
            right = dice(place / "out" / "ct.nii.gz", arguments.shape)
            print(f"limit {limit or 'none'} MiB: {found}, Dice {right:.3f}", flush=True)
            if not arguments.smallest:
                break
            limit -= 100


if __name__ == "__main__":
    main()
