"""Releases: ONNX that computes what torch computes at any size, a folder that predicts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from small_networks import BINARY, THREE, save_run

import lunet
from lunet.cli import main
from lunet.errors import DataError, LunetError
from lunet.exchange.release import ReleaseSources, export_release, mean_results
from lunet.exchange.torch_export import DESCRIPTION, export_program
from lunet.file_list import MARKER
from lunet.inference.description import description_of
from lunet.models.attention_unet import AttentionUNet
from lunet.models.unet import UNet
from lunet.reading import read_json

METRICS = """\
preset,fold,seed,case,group,label,dice,hd95,assd,status
p,0,0,a,a,bright,0.5,2.0,1.0,ok
p,0,0,b,b,bright,0.0,50.0,50.0,missed
p,0,0,c,c,bright,,,,both_empty
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    folder = tmp_path_factory.mktemp("release")
    save_run(folder / "run", THREE)
    (folder / "run" / "metrics.csv").write_text(METRICS)
    source = {"licence": "CC-BY-SA 4.0", "citation": "Someone 2020", "kind": "official"}
    manifest = {"dataset": {"name": "balls", "source": source}, "digest": "abc"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    words = ["export", f"{folder}/run", "--manifest", f"{folder}/manifest.json"]
    assert main([*words, "--out", f"{folder}/out"]) == 0
    return folder


def test_what_the_folder_holds(release: Path) -> None:
    names = {path.name for path in (release / "out").iterdir()}
    assert names == {
        MARKER,
        "weights.safetensors",
        "model.onnx",
        "infer_onnx.py",
        "plan.json",
        "labels.json",
        "data.json",
        "results.json",
        "README.md",
    }
    assert read_json(release / "out" / "labels.json")["output_channels"] == [
        "background",
        "bright",
        "brightest",
    ]
    assert read_json(release / "out" / "plan.json")["preprocess"]["orientation"] == "RAS"
    card = (release / "out" / "README.md").read_text()
    for words in ("CC-BY-SA 4.0", "Someone 2020", "| HD95 (mm) | 26 |", "bright = 1"):
        assert words in card


def test_onnx_is_the_network_at_any_size(release: Path) -> None:
    network = lunet.load_model(release / "out" / "model.onnx")
    twin = lunet.load_model(release / "run")
    assert description_of(network) == description_of(twin)
    for shape in ((1, 1, 8, 8, 8), (3, 1, 17, 9, 5), (1, 1, 1, 30, 2)):
        x = torch.randn(shape)
        with torch.no_grad():
            torch.testing.assert_close(network(x), twin(x), rtol=1e-4, atol=1e-5)


def test_folder_and_onnx_predict_alike(release: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((14, 9, 11)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.diag([-1.0, 2, 1, 1])), tmp_path / "x.nii.gz")
    for number, weights in enumerate(("out", "out/model.onnx", "run")):
        words = ["predict", "--weights", f"{release}/{weights}", f"{tmp_path}/x.nii.gz"]
        assert main([*words, "--out", f"{tmp_path}/{number}"]) == 0
    masks = [(tmp_path / str(n) / "x.nii.gz").read_bytes() for n in range(3)]
    assert masks[0] == masks[1] == masks[2]


def test_a_file_that_computes_something_else_is_refused(release: Path, tmp_path: Path) -> None:
    from lunet.inference.onnx import check_onnx

    other = save_run(tmp_path, THREE, seed=5)
    with pytest.raises(LunetError, match="differs from torch"):
        check_onnx(other, release / "out" / "model.onnx", channels=1, ndim=3)


def test_an_onnx_file_of_weights_that_are_no_numbers(release: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
    program = onnx.load(release / "out" / "model.onnx")
    for tensor in program.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = np.full(tensor.dims, np.nan, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(program, tmp_path / "model.onnx")
    with pytest.raises(DataError, match="NaN or infinite"), torch.no_grad():
        lunet.load_model(tmp_path)(torch.randn(1, 1, 8, 8, 8))


def test_damaged_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    (tmp_path / "model.onnx").write_bytes(b"no protobuf at all")
    with pytest.raises(DataError, match="not an ONNX file"):
        lunet.load_model(tmp_path)


def test_without_onnx_and_sources_the_card_says_so(tmp_path: Path) -> None:
    save_run(tmp_path / "run", BINARY)
    lines: list[str] = []
    export_release(tmp_path / "run", tmp_path / "out", with_onnx=False, log=lines.append)
    assert not (tmp_path / "out" / "model.onnx").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Not recorded" in card
    assert "Not measured" in card
    lunet.load_model(tmp_path / "out")


def test_means_count_what_they_leave_out(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(METRICS)
    assert mean_results(tmp_path / "m.csv") == {
        "bright": {"cases": 3, "missed": 1, "dice": 0.25, "hd95": 26.0, "assd": 25.5}
    }
    (tmp_path / "m.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="lunet evaluate"):
        mean_results(tmp_path / "m.csv")


def test_the_card_shows_what_was_evaluated(tmp_path: Path) -> None:
    """Every metric of the catalog that the file has, whatever a list of ours would name."""
    save_run(tmp_path / "run", BINARY)
    (tmp_path / "run" / "metrics.csv").write_text(
        "label,status,recall,nsd_2,volume_ml,mine\n"
        "organ,ok,0.5,0.25,7.0,1.0\n"
        "organ,ok,1.0,0.75,9.0,1.0\n"
        "other,missed,0.0,,3.0,1.0\n"
    )
    export_release(tmp_path / "run", tmp_path / "out", with_onnx=False, log=lambda line: None)
    assert read_json(tmp_path / "out" / "results.json") == {
        "organ": {"cases": 2, "missed": 0, "recall": 0.75, "nsd_2": 0.5},
        "other": {"cases": 1, "missed": 1, "recall": 0.0},
    }
    card = (tmp_path / "out" / "README.md").read_text()
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert table == [
        "| | organ | other |",
        "|---|---:|---:|",
        "| cases | 2 | 1 |",
        "| missed | 0 | 1 |",
        "| Recall | 0.75 | 0 |",
        "| NSD at 2 mm | 0.5 |  |",
    ]


def test_bad_sources(tmp_path: Path) -> None:
    save_run(tmp_path / "run", BINARY)
    with pytest.raises(DataError, match=r"none.csv"):
        export_release(
            tmp_path / "run",
            tmp_path / "out",
            sources=ReleaseSources(metrics=tmp_path / "none.csv"),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        (UNet(1, 2, widths=[2, 2], convs_per_block=1, ndim=2), (34, 48)),
        (AttentionUNet(1, 2, widths=[2, 2], ndim=2), (33, 50)),
    ],
)
def test_programs_of_torch_export(
    tmp_path: Path, model: torch.nn.Module, sizes: tuple[int, ...]
) -> None:
    """Written, loaded and compared at sizes of its own choice; here at another."""
    path, ndim = tmp_path / "model.pt2", len(sizes)
    found = export_program(model, path, channels=1, ndim=ndim, description={"a": 1})
    assert len({tuple(row["shape"]) for row in found.checks}) == 5
    extra = {DESCRIPTION: ""}
    loaded = torch.export.load(path, extra_files=extra).module()
    assert json.loads(extra[DESCRIPTION]) == {"a": 1}
    x = torch.randn(1, 1, *sizes)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_release_of_a_program_is_not_for_prediction(tmp_path: Path, capsys) -> None:
    save_run(tmp_path / "run", dataclasses.replace(BINARY, dimensions=2))
    words = ["export", f"{tmp_path}/run", "--no-onnx", "--pt2", "--out", f"{tmp_path}/out"]
    assert main(words) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "multiples of 2 x 2 from 32 x 32 voxels" in card
    assert "model.onnx" not in card
    (tmp_path / "out" / "weights.safetensors").unlink()
    words = ["predict", "x.nii.gz", "--out", f"{tmp_path}/masks", "--weights", f"{tmp_path}/out"]
    for weights in (words[-1], f"{words[-1]}/model.pt2"):
        assert main([*words[:-1], weights]) == 2
        assert "safetensors" in capsys.readouterr().err


def test_a_network_of_fixed_sizes_is_refused_in_one_line(tmp_path: Path) -> None:
    from lunet.inference.onnx import export_onnx

    class Whole(torch.nn.Module):
        """Sizes decide what it computes."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * {16: 1, 17: 2}.get(int(x.shape[2]), 3)

    for write in (export_onnx, export_program):
        with pytest.raises(LunetError, match="cannot express Whole with free sizes"):
            write(Whole(), tmp_path / "model.out", channels=1, ndim=3)
    assert not list(tmp_path.iterdir())
