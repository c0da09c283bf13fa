"""Pictures: orientation, slices, colours, files."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from small_networks import save_run

from lunet.cli import main
from lunet.errors import ConfigError, DataError
from lunet.inference.show import COLOURS, montage

RAS = np.eye(4)


def colour_centre(picture: np.ndarray, index: int) -> tuple[float, float]:
    """Mean row and column, as shares of the picture, of the outline of a label."""
    body = picture[:-28]
    rows, columns = np.nonzero((body == COLOURS[index - 1]).all(axis=-1))
    assert len(rows) > 0
    return rows.mean() / body.shape[0], columns.mean() / body.shape[1]


@pytest.mark.parametrize("affine", [RAS, np.diag([-1.0, -1, 1, 1])])
@pytest.mark.parametrize(
    ("axis", "expected"),
    [(2, ("top", "left")), (1, ("top", "left")), (0, ("top", "right"))],
)
def test_patients_right_is_at_the_left(
    axis: int, expected: tuple[str, str], affine: np.ndarray
) -> None:
    """A label in the right, anterior, superior corner, whatever the axes of the file are."""
    mask = np.zeros((20, 22, 24), np.uint8)
    mask[14:18, 16:20, 17:21] = 1
    for along in (0, 1):
        if affine[along, along] < 0:
            mask = np.flip(mask, along)
    row, column = colour_centre(montage(mask, mask, affine, axis=axis, slices=1), 1)
    assert ("top" if row < 0.4 else "bottom", "left" if column < 0.4 else "right") == expected


def test_voxels_keep_their_proportions() -> None:
    image = np.random.default_rng(0).random((10, 20, 30))
    mask = np.ones_like(image, np.uint8)
    picture = montage(image, mask, np.diag([2.0, 1, 3, 1]), axis=1, slices=1)
    height, width = picture.shape[0] - 28, picture.shape[1]
    assert height / width == pytest.approx(30 * 3 / (10 * 2), rel=0.02)


def test_slices_lie_in_the_labelled_part_and_rows_hold_four() -> None:
    image = np.zeros((16, 16, 40))
    image += np.arange(40)  # brightness tells the slice
    mask = np.zeros(image.shape, np.uint8)
    mask[4:12, 4:12, 10:30] = 2
    six = montage(image, mask, RAS, slices=6)
    assert six.shape == (2 * 384 + 4 + 28, 4 * 384 + 3 * 4, 3)
    for column in range(4):
        tile = six[:384, column * 388 : column * 388 + 384]
        assert (tile == COLOURS[1]).all(axis=-1).any()
    assert montage(image, mask, RAS, slices=1).shape == (384 + 28, 384, 3)


def test_nothing_labelled_and_flat_images_are_shown() -> None:
    picture = montage(np.full((8, 8, 8), 3.0), np.zeros((8, 8, 8), np.uint8), RAS, slices=3)
    assert picture.dtype == np.uint8
    assert picture[-28:].max() > 100  # the legend says so


def test_wrong_arguments() -> None:
    image = np.zeros((4, 4, 4))
    with pytest.raises(DataError, match="shape"):
        montage(image, np.zeros((4, 4, 5), np.uint8), RAS)
    for chosen in ({"axis": 3}, {"slices": 0}):
        with pytest.raises(ConfigError):
            montage(image, image.astype(np.uint8), RAS, **chosen)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    scan, label = tmp_path / "scan.nii.gz", tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(random.random((12, 14, 10)).astype(np.float32), RAS), scan)
    mask = np.zeros((12, 14, 10), np.uint8)
    mask[3:8, 3:8, 3:8] = 1
    nib.save(nib.Nifti1Image(mask, RAS), label)
    words = ["show", str(scan), "--out", str(tmp_path / "p.png"), "--slices", "2"]
    assert main([*words, "--segmentation", str(label), "--labels", "organ=1"]) == 0
    with Image.open(tmp_path / "p.png") as picture:
        picture.verify()
    save_run(tmp_path / "run")
    assert main([*words, "--weights", f"{tmp_path}/run", "--axis", "0"]) == 0
    capsys.readouterr()
    assert main(words) == 2
    nib.save(nib.Nifti1Image(mask[1:], RAS), label)
    assert main([*words, "--segmentation", str(label)]) == 2
    assert "shape" in capsys.readouterr().err


def test_a_photograph_with_its_mask(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray((grey > 200).astype(np.uint8)).save(tmp_path / "mask.png")
    words = ["show", f"{tmp_path}/a.png", "--segmentation", f"{tmp_path}/mask.png"]
    assert main([*words, "--out", f"{tmp_path}/out.png"]) == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size == (384, 256 + 28)
