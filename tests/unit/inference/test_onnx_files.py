"""ONNX files that are not what their description says are refused in one line, never in a trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny_dataset
from small_networks import BINARY, UNET

import lunet
from lunet.cli import main
from lunet.data.settings import PreprocessSettings
from lunet.errors import DataError
from lunet.files import canonical_json
from lunet.inference.description import Description
from lunet.settings import plain
from lunet.task import Task

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

FREE = ("x", "y", "z")
FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def save_onnx(
    path: Path,
    *,
    channels: int = 1,
    outputs: int = 1,
    sides: Sequence[str | int] = FREE,
    stride: int = 1,
    kind: int = FLOAT,
    names: tuple[str, str] = ("image", "logits"),
    told: bool = True,
    task: Task | None = BINARY,
) -> Path:
    """One convolution of 1x1x1 as an ONNX file; ``told``: whether the output's sizes are."""
    helper, rank = onnx.helper, len(sides)
    weight = np.ones((outputs, channels, *[1] * rank), np.float16 if kind == HALF else np.float32)
    name_in, name_out = names
    batch = "batch" if isinstance(sides[0], str) else 1
    out_sides = sides if stride == 1 else [f"{side}_out" for side in sides]
    shape_out = [batch, outputs, *out_sides] if told else ["a", "b", *(f"s{k}" for k in sides)]
    graph = helper.make_graph(
        [helper.make_node("Conv", [name_in, "w"], [name_out], strides=[stride] * rank)],
        "tiny",
        [helper.make_tensor_value_info(name_in, kind, [batch, channels, *sides])],
        [helper.make_tensor_value_info(name_out, kind, shape_out)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if task is not None:
        about = Description(task, plain(PreprocessSettings(clip=None)), UNET).as_dict()
        helper.set_model_props(model, {"lunet": canonical_json(about)})
    onnx.save(model, path)
    return path


def predict(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """`lunet predict` with a file of weights on one small scan: exit code and what it said."""
    image, _ = tiny_dataset.volumes(1, (8, 9, 7))
    scan = tmp_path / "scans/a.nii.gz"
    tiny_dataset.save(scan, image)
    words = ["predict", "--weights", str(weights), str(scan), "--out", str(tmp_path / "out")]
    code = main([*words, "--device", "cpu"])
    return code, capsys.readouterr().err


def test_a_fitting_file_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = predict(save_onnx(tmp_path / "model.onnx"), tmp_path, capsys)
    assert code == 0, said


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"channels": 2}, "input image: tensor(float) ['batch', 2, 'x', 'y', 'z']"),
        ({"outputs": 3}, "output logits: tensor(float) ['batch', 3, 'x', 'y', 'z']"),
        ({"outputs": 3, "told": False}, "output logits: tensor(float) ['a', 3, "),
        ({"sides": ("x", "y")}, "input image: tensor(float) ['batch', 1, 'x', 'y']"),
        ({"sides": (*FREE, "t")}, "5 axes, 1 channel(s) are described"),
        ({"kind": HALF}, "input image: tensor(float16)"),
        ({"names": ("x", "y")}, "input x: tensor(float)"),
        ({"task": None}, "has no description"),
    ],
)
def test_other_ends_are_refused_by_name(
    change: dict, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_onnx(tmp_path / "model.onnx", **change)
    code, said = predict(path, tmp_path, capsys)
    assert code == 2
    assert said.startswith(f"error: {path}: ")
    assert told in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sides": (4, 4, 4)}, "fails on an image of"),
        ({"stride": 2}, "gives logits of shape"),
    ],
)
def test_other_shapes_than_declared_are_an_error_of_the_scan(
    change: dict, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_onnx(tmp_path / "model.onnx", **change)
    code, said = predict(path, tmp_path, capsys)
    assert code == 1
    assert told in said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_a_cut_or_foreign_file_is_no_onnx_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = save_onnx(tmp_path / "whole.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    for content in (b"", b"no protobuf at all", whole[: len(whole) // 2], whole[:-3], whole[7:]):
        path.write_bytes(content)
        code, said = predict(path, tmp_path, capsys)
        assert code == 2, said
        assert said.startswith(f"error: {path}: ")
        assert len(said.splitlines()) == 1


def test_an_ensemble_of_files_of_different_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = Task(channels=("T1", "T2"), labels={"bright": 1})
    save_onnx(tmp_path / "a.onnx")
    other = save_onnx(tmp_path / "b.onnx", channels=2, task=two)
    image, _ = tiny_dataset.volumes(1, (8, 9, 7))
    tiny_dataset.save(tmp_path / "scan.nii.gz", image)
    words = ["--weights", str(tmp_path / "a.onnx"), str(other), str(tmp_path / "scan.nii.gz")]
    assert main(["predict", *words, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_python_reads_it_by_the_same_rules(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="output logits"):
        lunet.load_model(save_onnx(tmp_path / "model.onnx", outputs=2))
