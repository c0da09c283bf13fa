"""Large CTs under a limit of memory: training patches, prediction, the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from small_networks import save_run

sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

import large_volume

SHAPE = (512, 512, 600)
# The limit is of private memory: pages of mapped files can be dropped at any time. The image
# has 600 MiB, the label 150.
_LIMITED = """
import re, resource, sys
from dataclasses import dataclass
from pathlib import Path
import numpy as np, torch
from lunet.data.geometry import plan_geometry
from lunet.inference.segment import segment
from lunet.inference.settings import PredictSettings
from lunet.task import Task
from lunet.training.volumes import load_volumes
from lunet.training.recipe import Recipe
from lunet.training.sampling import build_sampler

@dataclass
class Case:
    folder: Path
    id: str = "ct"
    def image(self):
        return np.load(self.folder / "image.npy", mmap_mode="r")
    def label(self):
        return np.load(self.folder / "label.npy", mmap_mode="r")

def private():
    return int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

case, step, limit = Case(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
task = Task(channels=("CT",), labels={"organ": 1}, dimensions=3)
torch.set_num_threads(1)
resource.setrlimit(resource.RLIMIT_DATA, (private() + limit * 2**20,) * 2)
if step == "train":
    volumes = load_volumes([case], task, device=torch.device("cpu"), budget=0)
    recipe = Recipe(batch_size=2, patch=(64, 64, 32), patches_per_case=8, sampler="balanced")
    sampler = build_sampler(volumes, recipe, dimensions=3, seed=0)
    batches = [sampler.batch(1, step) for step in range(4)]
    assert all(batch.image.shape == (2, 1, 64, 64, 32) for batch in batches)
    shown = sum(int(label.any()) for batch in batches for label in batch.label)
    assert 4 <= shown < 8, shown
else:
    network = torch.nn.Conv3d(1, 1, 1)
    torch.nn.init.constant_(network.weight, 8.0)
    torch.nn.init.constant_(network.bias, -4.0)
    image = case.image()
    affine = np.diag([-0.8, 0.8, 1.0, 1.0])
    geometry = plan_geometry(image.shape[1:], affine)
    settings = PredictSettings(patch=(64, 256, 300), overlap=0.0)
    with torch.inference_mode():
        mask, _ = segment([network.eval()], image, geometry, task=task, settings=settings)
    expected = case.label()[::-1]  # x runs to the left in the raw file
    assert all(np.array_equal(a, b) for a, b in zip(mask, expected, strict=True))
print("done")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sparse files: what is zero takes no disk."""
    place = tmp_path_factory.mktemp("large")
    block = (slice(200, 240), slice(100, 150), slice(300, 340))
    for name, shape, dtype in (("image", (1, *SHAPE), "f4"), ("label", SHAPE, "u1")):
        array = np.lib.format.open_memmap(place / f"{name}.npy", "w+", dtype, shape)
        array[(..., *block)] = 1
        array.flush()
    return place


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of private memory are Linux's")
@pytest.mark.parametrize(("step", "limit"), [("train", 250), ("predict", 1900)])
def test_a_large_ct_stays_within_a_limit(folder: Path, step: str, limit: int) -> None:
    words = [sys.executable, "-c", _LIMITED, str(folder), step, str(limit)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    told = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert told.stdout == "done\n", told.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address spaces are limited on Linux")
def test_the_command_holds_a_raw_scan_a_few_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """50 MiB as float32, of which 186 MiB are needed and 300 given: an allocator may reserve 64.

    tests/benchmarks/large_volume.py has the larger scan.
    """
    save_run(tmp_path / "run")
    large_volume.write_scan(tmp_path / "ct.nii.gz", (256, 256, 200))
    files = tmp_path / "run", tmp_path / "ct.nii.gz", tmp_path / "out"
    options = ["--patch", "32", "32", "32", "--overlap", "0"]
    assert large_volume.predict(*files, 300, options), capsys.readouterr().out
