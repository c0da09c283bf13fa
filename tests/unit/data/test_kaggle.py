"""Labels of the Kaggle collection: pickled labels are read, anything else is refused, not run."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lunet.cli import main
from lunet.data.dataset import read_dataset
from lunet.data.io.images import read_label
from lunet.data.layouts.kaggle.collection import convert_label
from lunet.data.layouts.kaggle.unpickle import Refused, read
from lunet.errors import DataError
from lunet.file_list import MARKER

SHAPE = (12, 10, 8)


@pytest.fixture
def package() -> Iterator[types.ModuleType]:
    """Stands for the collection's own package while pickles are written."""
    module = types.ModuleType("evalseg.io.segment_array")
    for name in ("SegmentArray", "SingleSegment"):
        setattr(module, name, type(name, (), {"__module__": module.__name__}))
    names = ("evalseg", "evalseg.io", module.__name__)
    for name in names:
        sys.modules[name] = module if name == module.__name__ else types.ModuleType(name)
    yield module
    for name in names:
        del sys.modules[name]


def made(kind: type, **fields: object) -> object:
    thing = kind()
    vars(thing).update(fields)
    return thing


def truth() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 3:6, 1:4] = 1
    label[8:10, 1:3, 5:8] = 2
    return label


def segments(package: types.ModuleType, label: np.ndarray, *, by_column: bool = False) -> object:
    boxes = [np.s_[2:5, 3:6, 1:4], np.s_[8:10, 1:3, 5:8]]
    order = np.asfortranarray if by_column else np.ascontiguousarray
    common = {"dtype": label.dtype, "shape": label.shape, "fill_value": label.dtype.type(0)}
    parts = [
        made(package.SingleSegment, roi=box, data=order(label[box]), **common) for box in boxes
    ]
    roi, voxelsize = np.s_[2:10, 1:6, 1:8], np.array([0.7, 0.7, 2.5])
    return made(package.SegmentArray, roi=roi, voxelsize=voxelsize, segments=parts, **common)


@pytest.mark.parametrize("protocol", [1, 2, 4, 5])
def test_segments_become_the_whole_label(package: types.ModuleType, protocol: int) -> None:
    content = pickle.dumps(segments(package, truth(), by_column=protocol == 4), protocol)
    label, spacing = read(content)
    np.testing.assert_array_equal(label, truth())
    assert spacing == (0.7, 0.7, 2.5)
    zipped, _ = read(gzip.compress(content))
    np.testing.assert_array_equal(zipped, truth())


def test_plain_arrays_and_binary_classes(package: types.ModuleType) -> None:
    array, spacing = read(pickle.dumps((truth(), np.array([1.0, 1.0, 3.0]))))
    np.testing.assert_array_equal(array, truth())
    assert spacing == (1, 1, 3)
    whole = tuple(slice(0, n) for n in SHAPE)
    classes = {
        c: made(package.SingleSegment, data=truth() == c, roi=whole, shape=SHAPE) for c in (1, 2)
    }
    content = pickle.dumps(made(package.SegmentArray, classes=classes, shape=SHAPE))
    np.testing.assert_array_equal(read(content)[0], truth())


class Evil:
    """Runs a command when it is loaded."""

    def __init__(self, call: object, *arguments: object) -> None:
        self.call = call, arguments

    def __reduce__(self) -> tuple:
        return self.call


def bad_pickles(marker: Path) -> dict[str, bytes]:
    shell = f"touch {marker}"
    objects = np.array([Evil(os.system, shell)], dtype=object)
    text = b"cos\nsystem\n(V" + shell.encode() + b"\ntR."
    return {
        "command": pickle.dumps(Evil(os.system, shell)),
        "command by protocol 0": text,
        "evaluated": pickle.dumps(Evil(eval, f"__import__('os').system({shell!r})")),
        "attribute": pickle.dumps(Evil(getattr, "x", "__class__")),
        "numpy file": pickle.dumps(Evil(np.load, "/dev/null", None, True)),
        "nested in an array": pickle.dumps(objects),
        "other package": b"cevalseg.io.segment_array\nos\n.",
        "code of a stand-in": b"cnumpy.core.multiarray\n_reconstruct\n(dV__code__\nNsb.",
        "persistent": b"Px\n.",
        "a number": pickle.dumps(3),
        "cut off": pickle.dumps(truth())[:100],
        "nonsense": b"nothing",
    }


NAMES = list(bad_pickles(Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_is_read_or_run(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content = bad_pickles(marker)[name]
    with pytest.raises((Refused, pickle.UnpicklingError, EOFError, AttributeError, TypeError)):
        read(content)
    assert not marker.exists()


def test_boxes_and_values_that_do_not_fit(package: types.ModuleType) -> None:
    label = truth()
    for change in (
        {"roi": np.s_[0:3, 0:3, 0:2]},
        {"roi": np.s_[10:13, 3:6, 1:4]},
        {"roi": np.s_[-3:-1, 3:6, 1:4]},
        {"data": np.full((3, 3, 3), 0.5)},
        {"data": np.full((3, 3, 3), 300)},
        {"data": np.array(["a"])},
    ):
        whole = segments(package, label)
        vars(whole.segments[0]).update(change)  # type: ignore[attr-defined]
        with pytest.raises(Refused):
            read(pickle.dumps(whole))
    huge = made(package.SegmentArray, shape=(10**6,) * 3, segments=[])
    with pytest.raises(Refused, match="shape"):
        read(pickle.dumps(huge))


def test_a_malicious_file_is_one_line_and_nothing_happens(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "case.pkl"
    path.write_bytes(bad_pickles(marker)["command"])
    with pytest.raises(DataError, match=r"case\.pkl: is not read: the name posix\.system"):
        convert_label(path)
    assert not marker.exists()


def test_a_task_folder_becomes_a_data_set(package: types.ModuleType, tmp_path: Path) -> None:
    root = tmp_path / "Task006_Lung"
    (root / "GroundTruth").mkdir(parents=True)
    (root / "metadata.json").write_text(json.dumps({"labels": {"0": "background", "1": "tumour"}}))
    affine = np.diag([-0.7, -0.7, 2.5, 1.0])
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(root / "CT.zip", "w") as packed:
        for name in ("lung_001", "lung_003"):
            scan = rng.integers(-1000, 400, SHAPE).astype(np.int16)
            nib.save(nib.Nifti1Image(scan, affine), tmp_path / f"{name}.nii.gz")
            packed.write(tmp_path / f"{name}.nii.gz", f"CT/{name}.nii.gz")
            label = np.minimum(truth(), 1)
            content = pickle.dumps(segments(package, label))
            (root / f"GroundTruth/{name}.pkl").write_bytes(content)
    out = tmp_path / "raw"
    assert (
        main(["import", str(root), "--layout", "kaggle", "--dimensions", "2", "--out", str(out)])
        == 0
    )
    dataset = read_dataset(out)
    assert [case.id for case in dataset.cases] == ["lung_001", "lung_003"]
    assert (dataset.task.labels, dataset.task.dimensions) == ({"tumour": 1}, 2)
    read_back, grid = read_label(dataset.cases[0].label)
    np.testing.assert_array_equal(read_back, np.minimum(truth(), 1))
    np.testing.assert_allclose(grid, affine)
    assert {path.name for path in out.iterdir()} == {
        MARKER,
        "dataset.json",
        "imagesTr",
        "labelsTr",
    }


def test_a_wrong_shape_leaves_nothing_behind(
    package: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("GroundTruth", "CT"):
        (tmp_path / "task" / name).mkdir(parents=True)
    scan = nib.Nifti1Image(np.zeros((12, 10, 9), np.int16), np.eye(4))
    nib.save(scan, tmp_path / "task/CT/a.nii")
    (tmp_path / "task/GroundTruth/a.pkl").write_bytes(pickle.dumps(segments(package, truth())))
    words = ["import", str(tmp_path / "task"), "--layout", "kaggle", "--out", str(tmp_path / "raw")]
    assert main(words) == 2
    assert "a label of shape (12, 10, 8), a.nii has (12, 10, 9)" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"task"}
    assert main(["import", str(tmp_path), "--layout", "kaggle", "--out", str(tmp_path / "r")]) == 2
    assert "own Kaggle credentials" in capsys.readouterr().err
