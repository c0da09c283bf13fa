"""One bad scan never ends the batch: whatever its reader says, it is told and the rest follows."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_networks import save_run

from lunet.cli import main
from lunet.files import write_bytes

SHAPE = (8, 9, 10)
GOOD = np.random.default_rng(0).random(SHAPE).astype(np.float32)


def volume(path: Path, array: np.ndarray = GOOD, affine: np.ndarray | None = None) -> None:
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    nib.save(image, path)


def header(**fields: object) -> Callable[[Path], None]:
    """A NIfTI file with fields of its header set to something else."""

    def make(path: Path) -> None:
        volume(path)
        content = path.read_bytes()
        head = nib.Nifti1Header(content[:348], check=False)
        for name, value in fields.items():
            head[name] = value
        write_bytes(path, head.binaryblock + content[348:])

    return make


def affine(*, offset: float = 0.0, scale: float = 1.0) -> Callable[[Path], None]:
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = offset
    return lambda path: volume(path, affine=matrix)


def picture_bomb(path: Path) -> None:
    """A PNG of 100,000 x 100,000 pixels in a few bytes."""
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in parts:
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content)


def nrrd(fields: str, voxels: bytes = b"\0" * 720) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(f"NRRD0004\n{fields}\n\n".encode() + voxels)


ODD: dict[str, Callable[[Path], None]] = {
    "empty.nii.gz": text(""),
    "text.nii": text("not an image at all" * 100),
    "zero_axis.nii": header(dim=[3, 8, 0, 10, 1, 1, 1, 1]),
    "negative_axis.nii": header(dim=[3, 8, -9, 10, 1, 1, 1, 1]),
    "no_axes.nii": header(dim=[0, 8, 9, 10, 1, 1, 1, 1]),
    "huge_axes.nii": header(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]),
    "odd_type.nii": header(datatype=12345),
    "complex.nii": lambda path: volume(path, GOOD.astype(np.complex64)),
    "five_axes.nii": lambda path: volume(path, np.zeros((3, 4, 5, 2, 2), np.float32)),
    "far_away.nii": affine(offset=1e30),
    "huge_voxels.nii": affine(scale=1e30),
    "tiny_voxels.nii": affine(scale=1e-30),
    "flat_affine.nii": header(srow_x=[0, 0, 0, 0], sform_code=1),
    "nan_affine.nii": header(srow_x=[np.nan, 0, 0, 0], sform_code=1),
    "nan_scale.nii": header(scl_slope=3e38, scl_inter=3e38),
    "large.png": picture_bomb,
    "broken.png": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 60),
    "picture.png": lambda path: _png(path),
    "not.jpg": text("JFIF"),
    "torn.tif": lambda path: path.write_bytes(b"II*\0\x08\0\0\0\xff\xff"),
    "line.nrrd": nrrd(f"type: float\ndimension: 3\nsizes: 8 9 10\nkinds: {'9' * 5000}"),
    "short.nrrd": nrrd("type: float\ndimension: 3\nsizes: 8 9 10\nencoding: raw"),
    "overflow.nrrd": nrrd("type: uchar\ndimension: 3\nsizes: 99999999999 9 10\nencoding: raw"),
    "elsewhere.nhdr": nrrd("type: uchar\ndimension: 3\nsizes: 8 9 10\ndata file: none.raw"),
    "cut.mha": text("ObjectType = Image\nNDims = 3\nDimSize = 8 9 10\n"
                      "ElementType = MET_FLOAT\nElementDataFile = LOCAL\nx"),
    "lonely.mhd": text("NDims = 3\nDimSize = 8 9 10\nElementType = MET_FLOAT\n"
                     "ElementDataFile = none.raw\n"),
}  # fmt: skip


def _png(path: Path) -> None:
    from PIL import Image

    Image.fromarray((GOOD[..., 0] * 255).astype(np.uint8)).save(path)


def test_no_odd_scan_ends_the_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_run(tmp_path / "run")
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    volume(scans / "a_good.nii.gz")
    volume(scans / "z_good.nii.gz")
    for name, make in ODD.items():
        make(scans / f"m_{name}")
    words = ["predict", "--weights", str(tmp_path / "run"), "--out", str(out)]
    code = main([*words, str(scans)])
    told = capsys.readouterr().err
    assert code == 1, told
    assert "Traceback" not in told
    assert "bug" not in told
    assert "segmented a_good" in told
    assert "segmented z_good" in told
    last = told[told.index("image(s) failed:") :].splitlines()
    failed = [line for line in last[1:] if line.startswith("  ")]
    for name in ODD:
        assert any(f"m_{name}" in line for line in failed), (name, told)
    assert f"{len(ODD)} of {len(ODD) + 2} image(s) failed:" in told
