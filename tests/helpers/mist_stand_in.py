"""A stand-in for MIST's environment, like that of nnU-Net.

It has the names that our script imports, takes MIST's files and folders, and predicts the
reference moved by one voxel.
"""

from __future__ import annotations

from pathlib import Path

from nnunet_stand_in import make_environment

ANALYZE = """
import argparse, csv, json
from pathlib import Path

def analyze_entry(argv):
    parser = argparse.ArgumentParser()
    for name in ("--data", "--results", "--nfolds", "--num-workers-analyze"):
        parser.add_argument(name, required=True)
    given = parser.parse_args(argv)
    about, out = json.loads(Path(given.data).read_text()), Path(given.results)
    kinds = {"mask": about["mask"], **about["images"]}
    with open(out / "train_paths.csv", "w") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "fold", *kinds])
        for case in sorted((Path(given.data).parent / about["train-data"]).iterdir()):
            files = [str(path) for path in case.iterdir()]
            found = [next(f for f in files if any(word in f for word in words))
                     for words in kinds.values()]
            writer.writerow([case.name, 0, *found])
    (out / "fg_bboxes.csv").write_text("id\\n")
    config = {
        "modality": about["modality"],
        "labels": about["labels"],
        "model": {"architecture": "nnunet", "params": {"in_channels": len(about["images"])}},
        "training": {"nfolds": int(given.nfolds), "epochs": 1000, "warmup_epochs": 20,
                     "val_percent": 0.0, "hardware": {"num_cpu_workers": 8}},
        "spatial_config": {"patch_size": [32, 32, 32], "target_spacing": [1, 1, 1]},
    }
    (out / "config.json").write_text(json.dumps(config))
"""
PREPROCESS = """
from pathlib import Path

def preprocess_entry(argv):
    assert argv[0] == "--results" and argv[2] == "--numpy"
    Path(argv[3]).mkdir()
"""
ARGUMENTS = """
from argparse import ArgumentParser as ArgParser

def add_train_args(parser):
    parser.add_argument("--results")
    parser.add_argument("--numpy")
    parser.add_argument("--resume", action="store_true")
"""
TRAINER = """
import json, os, sys
from pathlib import Path
import pandas

class Patch3DTrainer:
    def __init__(self, arguments):
        assert arguments.resume and Path(arguments.numpy).is_dir()
        self.out = Path(arguments.results)
        self.training = json.loads((self.out / "config.json").read_text())["training"]
        assert self.training["warmup_epochs"] < self.training["epochs"]
        assert self.training["val_percent"] > 0
        paths = pandas.read_csv(self.out / "train_paths.csv")
        self.folds = {
            fold: {"train": list(paths.loc[paths["fold"] != fold]["id"]), "steps_per_epoch": 250}
            for fold in range(self.training["nfolds"])
        }

    def fit(self):
        for fold in self.training["folds"]:
            checkpoint = self.out / f"checkpoint_{fold}.txt"
            first = int(checkpoint.read_text()) if checkpoint.is_file() else 0
            for epoch in range(first, self.training["epochs"]):
                with open(self.out / "epochs.txt", "a") as stream:
                    steps = self.folds[fold]["steps_per_epoch"]
                    stream.write(f"{epoch} x {steps}: {' '.join(self.folds[fold]['train'])}\\n")
                checkpoint.write_text(str(epoch + 1))
                if os.environ.get("STOP_AFTER") == str(epoch):
                    sys.exit(1)
            (self.out / "models" / f"fold_{fold}.pt").write_text("weights")
"""
RUNNERS = """
import os
from pathlib import Path
import nibabel, numpy as np, pandas

def test_on_fold(arguments, fold):
    results = Path(arguments.results)
    assert (results / "models" / f"fold_{fold}.pt").is_file()
    out = results / "predictions" / "train" / "raw"
    out.mkdir(parents=True, exist_ok=True)
    paths = pandas.read_csv(results / "train_paths.csv")
    for row in paths.loc[paths["fold"] == fold].to_dict("records"):
        assert Path(row["image_0"]).is_file()
        if row["id"] == os.environ.get("FAIL_ON"):
            print(f"Prediction failed for {row['id']}")
            continue
        image = nibabel.load(row["mask"])
        mask = np.roll(np.asarray(image.dataobj).astype(np.uint8), 1, axis=0)
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), out / f"{row['id']}.nii.gz")
"""
REGISTRY = """
from torch import nn

def get_model_from_registry(name, in_channels, patch_size, target_spacing):
    assert name == "nnunet-pocket"
    return nn.Conv3d(in_channels, 3, 3, padding=1)
"""
PLANNER = """
def get_unet_params(patch_size, spacings):
    return None, [[1, 1, 1], [2, 2, 2], [2, 2, 1]], None
"""
MODULES = {
    "mist/cli/analyze_entrypoint": ANALYZE,
    "mist/cli/preprocess_entrypoint": PREPROCESS,
    "mist/cli/args": ARGUMENTS,
    "mist/training/trainers/patch_3d_trainer": TRAINER,
    "mist/inference/inference_runners": RUNNERS,
    "mist/models/__init__": "",
    "mist/models/model_registry": REGISTRY,
    "mist/models/nnunet/nnunet_utils": PLANNER,
}


def make_mist_environment(folder: Path) -> Path:
    """Its interpreter."""
    return make_environment(folder, version="2.3.0", package="mist-medical", modules=MODULES)
