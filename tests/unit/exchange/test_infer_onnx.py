"""The script of a release gives the masks of `lunet predict`, without the package."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation
from small_networks import BINARY, THREE, UNET

import lunet
from lunet.data.io.images import read_label
from lunet.data.preprocess import prepare_image
from lunet.data.settings import PreprocessSettings
from lunet.exchange.card import preparation_steps
from lunet.exchange.release import export_release
from lunet.inference.description import Description
from lunet.models.build import build_for_task
from lunet.settings import build_settings, plain
from lunet.task import Task
from lunet.training.weights import save_weights

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

REGIONS = Task(
    ("MR", "T2"), {"a": 1, "b": 2, "c": 3}, {"ab": (1, 2), "whole": (1, 2, 3), "c": (3,)}
)
KINDS: dict[str, tuple[Task, dict[str, Any]]] = {
    "labels": (THREE, {"spacing": [1.2, 1.0, 0.9], "size": [20, 24, 20]}),
    "one label": (BINARY, {"spacing": [1.5], "normalise": "zscore_nonzero"}),
    "regions": (REGIONS, {"window": [-2.0, 3.0], "normalise": "minmax", "orientation": "LPI"}),
    "slices": (replace(THREE, dimensions=2), {"spacing": [1.1, 1.3], "size": [20, 20]}),
    "as it is": (THREE, {"orientation": "keep", "clip": None, "size": [9, 30, 21]}),
}
MODEL = UNET | {"arguments": {"widths": [6, 6], "convs_per_block": 1}}
CODES = ("RAS", "LPS", "PIR", "SAL")
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import infer_onnx
for line in sys.stdin:
    *scans, mask = line.split()
    infer_onnx.main(scans, mask)
assert not {"torch", "lunet"} & set(sys.modules)
"""


def scan(folder: Path, codes: str, channels: int, draw: np.random.Generator) -> list[Path]:
    """An oblique scan of odd size and spacing whose axes point as ``codes`` say."""
    shape = tuple(map(int, draw.integers(3, 34, 3)))
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", draw.uniform(-12, 12, 3), degrees=True).as_matrix()
    affine = affine @ inv_ornt_aff(turn, shape) @ np.diag([*draw.uniform(0.6, 2.2, 3), 1])
    files = [folder / f"{codes}_{channel}.nii" for channel in range(channels)]
    for file in files:
        values = ndimage.gaussian_filter(draw.normal(size=shape), 1.5) * 10
        values[values < -1] = 0
        nib.save(nib.Nifti1Image(values.astype(np.float32), affine), file)
    return files


def balanced(task: Task, preprocess: dict[str, Any], example: list[Path]) -> torch.nn.Module:
    """A network with random weights whose logits vary about zero on an example."""
    torch.manual_seed(0)
    network = build_for_task(MODEL, task).eval()
    image, _ = prepare_image(example, build_settings(PreprocessSettings, preprocess, ""))
    x = torch.from_numpy(image)[None]
    x = x[..., x.shape[-1] // 2] if task.dimensions == 2 and x.ndim == 5 else x
    head = next(m for m in reversed(list(network.modules())) if hasattr(m, "weight"))
    with torch.no_grad():
        logits = network(x).transpose(0, 1).flatten(1)
        scale = 2 / logits.std(1)
        head.weight *= scale.reshape(-1, *[1] * (head.weight.ndim - 1))
        head.bias.copy_((head.bias - logits.mean(1)) * scale)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_masks_are_equal(tmp_path: Path, kind: str) -> None:
    task, changes = KINDS[kind]
    preprocess = plain(PreprocessSettings()) | changes
    draw = np.random.default_rng(1)
    scans = [scan(tmp_path, codes, len(task.channels), draw) for codes in CODES]
    network = balanced(task, preprocess, scans[0])
    described = Description(task, preprocess, MODEL, {}).as_dict()
    save_weights(tmp_path / "weights.safetensors", network, described)
    release = tmp_path / "release"
    export_release(tmp_path / "weights.safetensors", release, log=lambda _: None)
    lines = [" ".join(map(str, [*files, f"{files[0]}.mask.nii"])) for files in scans]
    command = [sys.executable, "-c", SCRIPT, str(release)]
    subprocess.run(command, input="\n".join(lines), text=True, check=True)
    loaded = lunet.load_model(release)
    found = set()
    for files in scans:
        wanted = lunet.predict(loaded, [str(file) for file in files])
        mask = nib.load(f"{files[0]}.mask.nii")
        differs = np.flatnonzero(np.asarray(mask.dataobj) != wanted)
        assert len(differs) == 0, f"{files[0].name}: {len(differs)} of {wanted.size}"
        assert np.allclose(mask.affine, nib.load(files[0]).affine, atol=1e-5)
        found |= set(np.unique(wanted))
    assert len(found) >= 2


def photo(folder: Path, number: int, suffix: str, channels: int, draw: np.random.Generator) -> Path:
    """A picture of odd size with blobs; of one channel also as 16 bits, grey colours or palette."""
    shape = (*map(int, draw.integers(7, 40, 2)), channels)
    values = ndimage.gaussian_filter(draw.normal(size=shape), (1.5, 1.5, 0))
    grey = np.clip(128 + 300 * values, 0, 255).astype(np.uint8)
    picture = Image.fromarray(grey if channels > 1 else grey[..., 0])
    if channels == 1 and number % 4:
        modes = (
            picture.convert("RGB"),
            picture.convert("P"),
            Image.fromarray(257 * grey[..., 0].astype(np.uint16)),
        )
        picture = modes[number % 4 - 1]
    path = folder / f"photo{number}{suffix}"
    picture.save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "changes", "training"),
    [
        (("grey",), {"size": [20, 24]}, {"unit": "px"}),
        (("red", "green", "blue"), {"spacing": [0.4, 0.5]}, {"pixel_mm": [0.3, 0.6]}),
    ],
)
def test_the_masks_of_pictures_are_equal(
    tmp_path: Path, channels: tuple[str, ...], changes: dict[str, Any], training: dict[str, Any]
) -> None:
    task = replace(THREE, channels=channels, dimensions=2)
    preprocess = plain(PreprocessSettings()) | changes
    draw = np.random.default_rng(2)
    suffixes = (".png", ".tif", ".bmp", ".png", ".tiff", ".png", ".png", ".png")
    files = [photo(tmp_path, i, end, len(channels), draw) for i, end in enumerate(suffixes)]
    network = balanced(task, preprocess, files[:1])
    described = Description(task, preprocess, MODEL, training).as_dict()
    save_weights(tmp_path / "weights.safetensors", network, described)
    release = tmp_path / "release"
    export_release(tmp_path / "weights.safetensors", release, log=lambda _: None)
    lines = [f"{file} {file}.mask.png" for file in files]
    command = [sys.executable, "-c", SCRIPT, str(release)]
    subprocess.run(command, input="\n".join(lines), text=True, check=True)
    loaded = lunet.load_model(release)
    found = set()
    for file in files:
        wanted = lunet.predict(loaded, file)
        mask = read_label(f"{file}.mask.png")[0]
        assert mask.shape == wanted.shape
        assert np.array_equal(mask, wanted), file.name
        found |= set(np.unique(wanted))
    assert len(found) >= 2
    words = [sys.executable, str(release / "infer_onnx.py"), "scan.nrrd", "mask.png"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "scan.nrrd: NIfTI files or pictures" in done.stderr


def test_the_card_says_the_steps_with_numbers() -> None:
    task, changes = KINDS["labels"]
    described = Description(task, plain(PreprocessSettings()) | changes, UNET, {})
    words = " ".join(preparation_steps(described))
    for part in ("to RAS", "1.2 x 1 x 0.9 mm", "0.5 and 99.5 of all voxels", "(n - 1)"):
        assert part in words
    assert "padded with 0 about the centre to 20 x 24 x 20 voxels" in words
