"""Presets inside nnU-Net v2: the plans, and a training step of its own trainer where installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lunet.cli import main
from lunet.errors import ConfigError
from lunet.exchange.nnunet import CLASS, TRAINER, network

SLIM = {"widths": [4, 4, 8, 8], "heads": [1, 1, 2, 2], "hidden": 8}
DATASET = {
    "name": "Dataset137_Tiny",
    "channel_names": {"0": "MRI", "1": "MRI"},
    "labels": {"background": 0, "whole": [1, 2], "core": [2]},
    "regions_class_order": [1, 2],
    "numTraining": 4,
    "file_ending": ".nii.gz",
}
PLANS: dict[str, Any] = {
    "dataset_name": "Dataset137_Tiny",
    "plans_name": "nnUNetPlans",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {},
    "configurations": {
        "2d": {"patch_size": [64, 64], "batch_size": 8},
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "patch_size": [20, 40, 40],
            "batch_size": 2,
            "batch_dice": False,
            "spacing": [1.0, 1.0, 1.0],
            "normalization_schemes": ["ZScoreNormalization", "ZScoreNormalization"],
            "use_mask_for_norm": [True, True],
            "architecture": {"network_class_name": "x", "arch_kwargs": {}},
        },
    },
}


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    path = tmp_path / "nnUNetPlans.json"
    path.write_text(json.dumps(PLANS))
    return path


def tiny(tmp_path: Path) -> list[str]:
    """Arguments that name a tiny variant, whose recipe has patches of 32 x 32 x 64 voxels."""
    config = tmp_path / "study.yaml"
    variant = {"base": "slim_unetrv2_96", "arguments": SLIM, "train": {"patch": [64, 32, 32]}}
    dataset = {"name": "BraTS2021"}
    study = {"study": "s", "dataset": dataset, "presets": ["tiny"], "variants": {"tiny": variant}}
    config.write_text(json.dumps(study))
    return ["--config", str(config), "--preset", "tiny"]


def test_patch_and_network_are_where_nnunet_reads_them(tmp_path: Path, plans: Path) -> None:
    assert main(["nnunet", str(plans), *tiny(tmp_path)]) == 0
    changed = json.loads((tmp_path / "nnUNetPlans_tiny.json").read_text())
    chosen = changed["configurations"]["3d_fullres"]
    assert chosen["patch_size"] == [32, 32, 64]
    assert chosen["batch_size"] == 2
    assert chosen["architecture"]["network_class_name"] == CLASS
    assert changed["plans_name"] == "nnUNetPlans_tiny"
    assert changed["configurations"]["2d"] == PLANS["configurations"]["2d"]
    assert json.loads(plans.read_text()) == PLANS
    model = network(2, 3, **chosen["architecture"]["arch_kwargs"], deep_supervision=False)
    assert model(torch.zeros(1, 2, 32, 32, 32)).shape == (1, 3, 32, 32, 32)


def test_a_network_with_heads_leaves_them_out(tmp_path: Path, plans: Path) -> None:
    assert main(["nnunet", str(plans), "--preset", "nnunet_like_2f"]) == 0
    changed = json.loads((tmp_path / "nnUNetPlans_nnunet_like_2f.json").read_text())
    chosen = changed["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    logits = network(1, 3, **chosen).train()(torch.zeros(2, 1, 32, 32, 64))
    assert logits.shape == (2, 3, 32, 32, 64)


def test_refusals(tmp_path: Path, plans: Path, capsys) -> None:
    words = ["nnunet", str(plans), *tiny(tmp_path)]
    assert main([*words, "--configuration", "3d_fulres"]) == 2
    assert "did you mean '3d_fullres'" in capsys.readouterr().err
    assert main([*words, "--patch", "32", "32"]) == 2
    assert main(["nnunet", str(plans)]) == 2
    assert not (tmp_path / "nnUNetPlans_tiny.json").exists()
    with pytest.raises(ConfigError, match=TRAINER):
        network(1, 1, module="unet", name="UNet", ndim=3, arguments={}, deep_supervision=True)


def test_a_step_of_nnunets_own_trainer(tmp_path: Path, plans: Path, monkeypatch) -> None:
    pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("nnUNet_compile", "f")
    folder = tmp_path / "nnUNet_preprocessed" / "Dataset137_Tiny"
    (folder / "nnUNetPlans_3d_fullres").mkdir(parents=True)
    (folder / "nnUNetPlans_3d_fullres" / "case.npz").touch()  # tells how the data are stored
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    assert main(["nnunet", str(plans), *tiny(tmp_path)]) == 0
    from nnunetv2.training.nnUNetTrainer.variants.network_architecture import (
        nnUNetTrainerNoDeepSupervision as variant,
    )

    content = json.loads((tmp_path / "nnUNetPlans_tiny.json").read_text())
    arguments = (content | {"continue_training": False}, "3d_fullres", 0, DATASET)
    trainer = getattr(variant, TRAINER)(*arguments, device=torch.device("cpu"))
    trainer.initialize()
    assert list(trainer.configuration_manager.patch_size) == [32, 32, 64]
    assert trainer.network.in_channels == 2
    data = torch.randn(2, 2, 32, 32, 64)
    target = (torch.rand(2, 2, 32, 32, 64) > 0.7).float()
    losses = [trainer.train_step({"data": data, "target": target})["loss"] for _ in range(3)]
    assert losses[-1] < losses[0]
    trainer.set_deep_supervision_enabled(False)
