"""A synthetic study on disk: per-case files with planted effects, for tables, figures, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lunet.files import write_csv, write_json

PARAMETERS = {
    "unet_small_4f": 353_949,
    "unet_small_2f": 88_807,
    "lunet_small_4f": 9_929,
    "lunet_small_2f": 2_569,
    "mednext_small": 102_725,
}
MACS = {
    "unet_small_4f": 954_597_000,
    "unet_small_2f": 245_989_000,
    "lunet_small_4f": 567_925_000,
    "lunet_small_2f": 149_321_000,
    "mednext_small": 398_952_000,
}
DICE = {
    "unet_small_4f": 0.880,
    "unet_small_2f": 0.870,
    "lunet_small_4f": 0.878,  # non-inferior to unet_small_4f
    "lunet_small_2f": 0.840,  # truly worse
    "mednext_small": 0.872,
}
LABELS = ("anterior", "posterior")


def write_study(
    root: Path, *, folds: int = 5, seeds: int = 2, cases: int = 20, epochs: int = 12
) -> Path:
    """Write the results folder of a study of five presets and the atlas prior; returns it."""
    noise = np.random.default_rng(0).normal(0, 0.02, (folds, cases, len(LABELS)))
    for place, (preset, dice) in enumerate({**DICE, "atlas_prior": 0.66}.items()):
        rng = np.random.default_rng(place + 1)
        for fold in range(folds):
            for seed in range(seeds if preset != "atlas_prior" else 1):
                run = root / "runs" / preset / f"fold-{fold}" / f"seed-{seed}"
                values = dice + noise[fold] + rng.normal(0, 0.008, noise[fold].shape)
                _write_metrics(run / "metrics.csv", (preset, fold, seed), values, rng)
                if preset != "atlas_prior":
                    _write_lesions(run, (preset, fold, seed), values, rng)
                    _write_run(run, (preset, fold, seed), dice, epochs)
        if preset != "atlas_prior":
            write_json(root / "presets" / preset / "efficiency.json", cost(preset, place))
    write_json(root / "manifest.json", manifest(cases))
    return root


def write_external(
    root: Path,
    name: str,
    dice: float,
    *,
    role: str = "model",
    parameters: int | None = None,
    folds: int = 5,
    cases: int = 20,
) -> None:
    """Add a row to a study of :func:`write_study`, with the same cases and seed 0."""
    noise = np.random.default_rng(0).normal(0, 0.02, (folds, cases, len(LABELS)))
    rng = np.random.default_rng(99)
    for fold in range(folds):
        run = root / "runs" / name / f"fold-{fold}" / "seed-0"
        values = dice + noise[fold] + rng.normal(0, 0.008, noise[fold].shape)
        _write_metrics(run / "metrics.csv", (name, fold, 0), values, rng)
        about = {"role": role, "layout": "folder", "source": "somebody", "splits": None}
        about |= {"tested": cases, "missing": []}
        write_json(run / "run.json", {"preset": name, "fold": fold, "seed": 0, "external": about})
    cost = {"preset": name, "parameters": parameters, "macs": None, "latency": [], "given": True}
    write_json(root / "presets" / name / "efficiency.json", cost | {"role": role})


def manifest(cases: int) -> dict[str, Any]:
    """What is read of a manifest of prepared volumes."""
    case = {"labelled": True, "shape": [48, 64, 48]}
    return {"task": {"channels": ["MRI"], "dimensions": 3}, "cases": [case] * cases}


def _write_metrics(
    path: Path, key: tuple[str, int, int], values: np.ndarray, rng: np.random.Generator
) -> None:
    preset, fold, seed = key
    rows = []
    for (case, index), dice in np.ndenumerate(np.clip(values, 0, 1)):
        missed = preset == "lunet_small_2f" and (case, index, fold) == (3, 0, 1)
        rows.append(
            {"preset": preset, "fold": fold, "seed": seed}
            | {"case": f"case_{fold:02d}{case:02d}", "group": f"s{fold:02d}{case // 2:02d}"}
            | _measured(LABELS[index], 0.0 if missed else float(dice), rng, missed=missed)
        )
    write_csv(path, list(rows[0]), rows)


def _write_lesions(
    run: Path, key: tuple[str, int, int], values: np.ndarray, rng: np.random.Generator
) -> None:
    """Counts per case and label, and at three thresholds; the better the Dice, the more found."""
    head = dict(zip(("preset", "fold", "seed"), key, strict=True))
    counts, curve = [], []
    for (case, index), dice in np.ndenumerate(np.clip(values, 0, 1)):
        named = head | {"case": f"case_{key[1]:02d}{case:02d}", "label": LABELS[index]}
        named |= {"group": f"s{key[1]:02d}{case // 2:02d}"}
        found, wrong = int(rng.binomial(3, dice)), int(rng.poisson(1))
        counted = {"lesions": 3, "found": found, "false_positives": wrong, "sensitivity": found / 3}
        accuracies = {"pixel_accuracy": 0.997, "pixel_accuracy_of_nothing": 0.996}
        counts.append(named | counted | accuracies)
        for level, share in ((0.9, 0), (0.5, 1), (0.1, 3)):
            point = {"found": max(0, min(3, found + share - 1)), "false_positives": wrong * share}
            curve.append(named | {"threshold": level, "lesions": 3} | point)
    write_csv(run / "lesions.csv", list(counts[0]), counts)
    write_csv(run / "froc.csv", list(curve[0]), curve)


def _measured(label: str, dice: float, rng: np.random.Generator, *, missed: bool) -> dict[str, Any]:
    distance = 70.0 if missed else 8 * (1 - dice) + rng.gamma(2, 0.1)
    reference = 1.6 + 0.3 * float(rng.standard_normal()) ** 2
    error = -reference if missed else reference * float(rng.normal(0.02, 0.05))
    return {
        "label": label,
        "dice": dice,
        "iou": dice / (2 - dice),
        "precision": dice,
        "recall": dice,
        "hd": 2 * distance,
        "hd95": distance,
        "assd": distance / 3,
        "masd": distance / 3,
        "nsd_1": 0.0 if missed else min(1.0, dice + 0.08),
        "volume_ml": reference + error,
        "volume_reference_ml": reference,
        "volume_error_ml": error,
        "volume_error_relative": error / reference,
        "centre_distance": distance / 4,
        "status": "missed" if missed else "ok",
    }


def _write_run(run: Path, key: tuple[str, int, int], dice: float, epochs: int) -> None:
    preset, fold, seed = key
    rng = np.random.default_rng([fold, seed])
    epoch = np.arange(epochs)
    rise = 1 - np.exp(-(epoch + 1) / 3)
    frame = {"epoch": epoch, "lr": np.full(epochs, 1e-2)}
    frame["train_loss"] = 1 - dice * rise + rng.normal(0, 0.01, epochs)
    frame["val_loss"] = 1.02 - dice * rise + rng.normal(0, 0.02, epochs)
    frame["dice"] = dice * rise + rng.normal(0, 0.01, epochs)
    frame |= {f"dice_{label}": frame["dice"] for label in LABELS}
    path = run / "history.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(frame).to_csv(path, index=False)
    write_json(run / "run.json", provenance(preset, fold, seed, epochs))


def provenance(preset: str, fold: int, seed: int, epochs: int) -> dict[str, Any]:
    """What a run says of itself."""
    return {
        "settings": {
            "task": {"channels": ["MRI"], "labels": {"anterior": 1, "posterior": 2}},
            "model": {"preset": preset, "name": "UNet", "arguments": {"dropout": 0.005}},
            "recipe": {
                "epochs": epochs,
                "batch_size": 16,
                "patch": None,
                "patches_per_case": 1,
                "samples_per_epoch": None,
                "validate_every": 1,
                "ema": {"decay": 0.0},
                "loss": {"dice": 1.0},
                "optimiser": {"name": "adam", "lr": 0.01},
            },
        },
        "code": f"code-of-{preset}",
        "data": "a" * 64,
        "fold": fold,
        "seed": seed,
        "epochs": epochs,
        "best_epoch": epochs - 1,
        "device_seconds": 100.0 + fold,
        "peak_memory_bytes": 2**30 + fold,
        "cases": {"train": 160, "validation": 16},
        "engine": {"device": "cpu", "precision": "fp32", "threads": 1},
        "provenance": {
            "python": "3.11.2",
            "packages": {"lunet": "0.1.0", "torch": "2.13.0"},
            "git": {"commit": "0123abc", "changed": False},
            "system": "Linux",
            "cpu": "CPU model",
            "cpus": 2,
        },
    }


def cost(preset: str, place: int) -> dict[str, Any]:
    """An efficiency.json."""
    base = 5.0 + 3 * place

    def row(batch: int) -> dict[str, Any]:
        p50 = base * batch**0.9
        return {
            "batch": batch,
            "precision": "fp32",
            "engine": "eager",
            "p50_ms": p50,
            "p95_ms": 1.2 * p50,
            "p99_ms": 1.4 * p50,
            "jitter_ms": 0.1 * p50,
            "p50_of_processes_ms": [0.97 * p50, p50, (1.2 if place == 1 else 1.01) * p50],
            "unstable": place == 1,
        }

    return {
        "preset": preset,
        "parameters": PARAMETERS[preset],
        "macs": MACS[preset],
        "flops": 2 * MACS[preset],
        "size": [64, 64, 64],
        "device": {"type": "cpu", "cpu": "CPU model", "cpus": 2},
        "latency": [row(1), row(2)],
        "throughput": {"batch": 4, "per_s": 1000 / base},
        "settings": {"device": "auto", "threads": 1},
        "weights_bytes": 4 * PARAMETERS[preset],
        "training_step_ms": 90.0,
        "training_engine": {
            "batch": 16,
            "process_bytes": 350 * 2**20,
            "tried": [
                {
                    "precision": "fp32",
                    "memory_format": "contiguous",
                    "compile": False,
                    "step_ms": 80.0,
                    "growth_bytes": 600 * 2**20,
                }
            ],
        },
        "training_peak_bytes": 2**29,
        "training_peak_measured_bytes": 2**30,
        "training_memory": [
            {
                "batch": b,
                "counted_bytes": 2**20 * (5 + 90 * b),
                "measured_bytes": 2**20 * (9 + 97 * b),
            }
            for b in (2, 4, 8)
        ],
        "peak_memory_bytes": 2**20 * (4 + 3 * place),
        "peak_measured_bytes": 2**20 * (40 + 30 * place),
    }
