"""A stand-in for nnU-Net's environment: an interpreter that finds a package `nnunetv2`.

It has the names that our scripts import, and predicts the reference moved by one voxel. Files of
the package are written as they would be installed, so that its version is found like nnU-Net's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

API = """
import json, os, shutil
from pathlib import Path

def extract_fingerprints(numbers, num_processes):
    assert numbers == [1] and num_processes > 0

def _folders():
    name = "Dataset001_study"
    return Path(os.environ["nnUNet_raw"], name), Path(os.environ["nnUNet_preprocessed"], name)

def plan_experiments(numbers, experiment_planner_class_name):
    raw, out = _folders()
    out.mkdir(parents=True)
    names = {"ExperimentPlanner": "nnUNetPlans", "nnUNetPlannerResEncM": "nnUNetResEncUNetMPlans"}
    plans = {"planner": experiment_planner_class_name}
    (out / f"{names[experiment_planner_class_name]}.json").write_text(json.dumps(plans))
    shutil.copy(raw / "dataset.json", out)

def preprocess(numbers, plans, configurations, num_processes):
    raw, out = _folders()
    assert (out / f"{plans}.json").is_file() and configurations == ["3d_fullres"]
    shutil.copytree(raw / "labelsTr", out / "gt_segmentations")
"""
TRAINING = """
import json, os, sys
from pathlib import Path
import nibabel, numpy as np

class Trainer:
    save_every, num_epochs = 50, 1000

    def __init__(self, dataset, configuration, fold, plans):
        self.source = Path(os.environ["nnUNet_preprocessed"], dataset)
        self.fold = fold
        name = f"nnUNetTrainer__{plans}__{configuration}"
        self.output_folder = str(Path(os.environ["nnUNet_results"], dataset, name, f"fold_{fold}"))
        Path(self.output_folder).mkdir(parents=True, exist_ok=True)
        self.done = 0

    def run_training(self):
        log = Path(self.output_folder, "epochs.txt")
        for epoch in range(self.done, self.num_epochs):
            with open(log, "a") as stream:
                stream.write(f"{epoch} of {self.num_epochs} x {self.num_iterations_per_epoch}\\n")
            Path(self.output_folder, "checkpoint_latest.pth").write_text(str(epoch + 1))
            if os.environ.get("STOP_AFTER") == str(epoch):
                sys.exit(1)
        Path(self.output_folder, "checkpoint_final.pth").write_text(str(self.num_epochs))

    def load_checkpoint(self, path):
        self.done = int(Path(path).read_text())

    def perform_actual_validation(self, save_probabilities):
        assert self.done == self.num_epochs and not save_probabilities
        out = Path(self.output_folder, "validation")
        out.mkdir(exist_ok=True)
        for case in json.loads((self.source / "splits_final.json").read_text())[self.fold]["val"]:
            image = nibabel.load(self.source / "gt_segmentations" / f"{case}.nii.gz")
            mask = np.roll(np.asarray(image.dataobj).astype(np.uint8), 1, axis=0)
            nibabel.save(nibabel.Nifti1Image(mask, image.affine), out / f"{case}.nii.gz")

def get_trainer_from_args(dataset, configuration, fold, plans_identifier, device):
    return Trainer(dataset, configuration, fold, plans_identifier)

def maybe_load_checkpoint(trainer, continue_training, validation_only, pretrained):
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth"):
        path = Path(trainer.output_folder, name)
        if continue_training and path.is_file():
            trainer.load_checkpoint(path)
            return
"""
NETWORK = """
from torch import nn

def get_network_from_plans(name, arguments, imports, channels, classes, deep_supervision):
    assert deep_supervision is False
    return nn.Conv3d(channels, classes, 3, padding=1)
"""
PLANS = """
class _Labels:
    num_segmentation_heads = 3

class _Configuration:
    network_arch_class_name, network_arch_init_kwargs = "conv", {}
    network_arch_init_kwargs_req_import = ()
    pool_op_kernel_sizes = [[1, 1, 1], [2, 2, 2], [1, 2, 2]]

class PlansManager:
    transpose_forward = [0, 1, 2]

    def __init__(self, plans):
        pass

    def get_configuration(self, name):
        return _Configuration()

    def get_label_manager(self, listing):
        return _Labels()
"""
MODULES = {
    "nnunetv2/experiment_planning/plan_and_preprocess_api": API,
    "nnunetv2/run/run_training": TRAINING,
    "nnunetv2/utilities/get_network_from_plans": NETWORK,
    "nnunetv2/utilities/plans_handling/plans_handler": PLANS,
}


def make_environment(
    folder: Path,
    *,
    version: str | None = "2.8.1",
    package: str = "nnunetv2",
    modules: Mapping[str, str] = MODULES,
) -> Path:
    """Its interpreter; without a version the package is not installed in it."""
    packages = folder / "packages"
    packages.mkdir(parents=True)
    if version is not None:
        about = packages / f"{package.replace('-', '_')}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        for name, text in modules.items():
            path = packages / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python
