"""Plans, trains and predicts with nnU-Net v2 for a study; runs in nnU-Net's own environment.

    python nnunet_rival.py JOB

JOB is JSON: ``step`` (``plan`` or ``train``) and what the step needs. nnU-Net's folders are given
by its environment variables. Only code of nnU-Net computes anything here.
"""

import json
import os
import sys
from pathlib import Path

import torch

NUMBER = 1  # of the data set; every study has folders of its own


def plan(job):
    """Fingerprint, plans and preprocessed volumes of the data set."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    processes = cores()
    api.extract_fingerprints([NUMBER], num_processes=processes)
    api.plan_experiments([NUMBER], experiment_planner_class_name=job["planner"])
    api.preprocess(
        [NUMBER],
        job["plans"],
        configurations=[job["configuration"]],
        num_processes=[processes],
    )


def train(job):
    """Train one fold, or resume its training, and predict the cases that it did not train on."""
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        torch.set_num_threads(cores())
    torch.backends.cudnn.benchmark = on_gpu
    trainer = get_trainer_from_args(
        job["dataset"],
        job["configuration"],
        job["fold"],
        plans_identifier=job["plans"],
        device=torch.device("cuda" if on_gpu else "cpu"),
    )
    trainer.num_epochs = job["epochs"]
    trainer.num_iterations_per_epoch = job["iterations"]
    trainer.num_val_iterations_per_epoch = job["validation_iterations"]
    trainer.save_every = min(trainer.save_every, 10)  # an interruption loses at most these epochs
    maybe_load_checkpoint(trainer, True, False, None)
    final = Path(trainer.output_folder, "checkpoint_final.pth")
    if not final.is_file():
        trainer.run_training()
    trainer.load_checkpoint(str(final))
    trainer.perform_actual_validation(False)


def cores():
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


if __name__ == "__main__":  # nnU-Net starts processes, which import this file
    job = json.loads(sys.argv[1])
    os.environ.setdefault("nnUNet_n_proc_DA", str(min(12, cores())))
    os.environ.setdefault("nnUNet_def_n_proc", str(min(8, cores())))
    {"plan": plan, "train": train}[job["step"]](job)
