"""Plans, trains and predicts with MIST for a study; runs in MIST's own environment.

    python mist_rival.py JOB

JOB is JSON: ``step`` (``plan`` or ``train``) and what the step needs. The data are read in the
form that the study exports for nnU-Net, so the folders have the names of nnU-Net's environment
variables. Only code of MIST computes anything here.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch

ENDING = ".nii.gz"
PREFIX = "case_"  # MIST reads names that are numbers as numbers
VALIDATION = 0.1  # of the training cases, on which MIST chooses the weights that it keeps


def plan(job):
    """Configuration and preprocessed volumes of the data set."""
    from mist.cli.analyze_entrypoint import analyze_entry
    from mist.cli.preprocess_entrypoint import preprocess_entry

    raw, out = folder(job, "raw"), folder(job, "preprocessed")
    out.mkdir()
    shutil.copyfile(raw / "dataset.json", out / "dataset.json")
    listing = json.loads((raw / "dataset.json").read_text())
    link_cases(raw, out / "cases", len(listing["channel_names"]))
    (out / "mist.json").write_text(json.dumps(description(listing)))
    # two folds, because MIST wants some; a training replaces them by the study's
    analyze_entry(["--data", str(out / "mist.json"), "--results", str(out), "--nfolds", "2",
                   "--num-workers-analyze", str(cores())])  # fmt: skip
    preprocess_entry(["--results", str(out), "--numpy", str(out / "numpy"),
                      "--num-workers-preprocess", str(cores())])  # fmt: skip
    config = read_config(out)
    config["model"]["architecture"] = job["configuration"]
    (out / "config.json").write_text(json.dumps(config, indent=2))


def link_cases(raw, out, channels):
    """A folder per case with links to its images and its mask."""
    for mask in sorted((raw / "labelsTr").glob(f"*{ENDING}")):
        case = mask.name.removesuffix(ENDING)
        own = out / f"{PREFIX}{case}"
        own.mkdir(parents=True)
        (own / f"mask{ENDING}").symlink_to(mask.resolve())
        for number in range(channels):
            image = raw / "imagesTr" / f"{case}_{number:04d}{ENDING}"
            (own / f"image_{number}{ENDING}").symlink_to(image.resolve())


def description(listing):
    """MIST's description of a data set that nnU-Net's ``dataset.json`` describes.

    Regions are classes of MIST's own evaluation only; it trains on the labels.
    """
    channels = listing["channel_names"]
    classes = {
        name: members if isinstance(members, list) else [members]
        for name, members in listing["labels"].items()
        if name != "background"
    }
    names = [f"image_{number}" for number in range(len(channels))]
    return {
        "task": "study",
        "modality": "ct" if {name.lower() for name in channels.values()} == {"ct"} else "other",
        "train-data": "cases",
        "mask": [f"/mask{ENDING}"],  # with the slash, because MIST searches the whole path
        "images": {name: [f"/{name}{ENDING}"] for name in names},
        "labels": sorted({0, *(label for members in classes.values() for label in members)}),
        "final_classes": classes,
    }


def train(job):
    """Train one fold, or resume its training, and predict the cases that it did not train on."""
    from mist.cli.args import ArgParser, add_train_args
    from mist.inference.inference_runners import test_on_fold
    from mist.training.trainers.patch_3d_trainer import Patch3DTrainer

    if not torch.cuda.is_available():
        torch.set_num_threads(cores())
    source, results = folder(job, "preprocessed"), folder(job, "results") / job["trained"]
    tested = write_fold(job, source, results)
    parser = ArgParser()
    add_train_args(parser)
    arguments = parser.parse_args(
        ["--results", str(results), "--numpy", str(source / "numpy"), "--resume"]
    )
    trainer = Patch3DTrainer(arguments)
    trainer.folds[0]["steps_per_epoch"] = job["iterations"]
    trainer.fit()
    test_on_fold(arguments, 0)
    masks = results / f"fold_{job['fold']}" / "validation"
    masks.mkdir(parents=True, exist_ok=True)
    for case in tested:  # MIST only prints which case it failed to predict; this ends with an error
        found = results / "predictions/train/raw" / f"{PREFIX}{case}{ENDING}"
        shutil.copyfile(found, masks / f"{case}{ENDING}")


def write_fold(job, source, results):
    """MIST's folder of results with a single fold, which is the study's; its test cases.

    Fold 0 of MIST tests on the cases of number 0 and trains on all others.
    """
    import pandas

    for name in ("models", "logs"):
        (results / name).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "fg_bboxes.csv", results / "fg_bboxes.csv")
    split = json.loads((source / "splits_final.json").read_text())[job["fold"]]
    numbers = dict.fromkeys(split["train"], 1) | dict.fromkeys(split["val"], 0)
    paths = pandas.read_csv(source / "train_paths.csv")
    paths["fold"] = paths["id"].str.removeprefix(PREFIX).map(numbers)
    paths = paths.dropna(subset="fold").astype({"fold": int})
    for kind in [name for name in paths.columns if name not in ("id", "fold")]:
        # the volumes have moved since they were planned
        paths[kind] = [str(source / "cases" / case / f"{kind}{ENDING}") for case in paths["id"]]
    paths.to_csv(results / "train_paths.csv", index=False)
    config = read_config(source)
    training = config["training"]
    training |= {"nfolds": 1, "folds": [0], "epochs": job["epochs"], "val_percent": VALIDATION}
    # MIST refuses a training that is not longer than its warm-up
    training["warmup_epochs"] = min(training["warmup_epochs"], job["epochs"] // 2)
    training["hardware"]["num_cpu_workers"] = min(8, cores())
    (results / "config.json").write_text(json.dumps(config, indent=2))
    return split["val"]


def folder(job, kind):
    """One of the folders of the data set: ``raw``, ``preprocessed`` or ``results``."""
    return Path(os.environ[f"nnUNet_{kind}"], job["dataset"])


def read_config(path):
    """MIST's configuration in a folder."""
    return json.loads((path / "config.json").read_text())


def cores():
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


if __name__ == "__main__":  # MIST starts processes, which import this file
    job = json.loads(sys.argv[1])
    {"plan": plan, "train": train}[job["step"]](job)
