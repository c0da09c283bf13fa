"""A training of a second: prepared volumes with two nested balls, folds, and a small network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lunet.files import sha256, write_json
from lunet.reading import read_json
from lunet.task import Task
from lunet.training.job import TrainingJob
from lunet.training.recipe import (
    Augmentation,
    EarlyStopping,
    Ema,
    Engine,
    Optimiser,
    Recipe,
    Schedule,
)

TASK = Task(channels=("MR",), labels={"shell": 1, "core": 2})
TINY = Recipe(
    epochs=6,
    batch_size=3,
    optimiser=Optimiser(lr=1e-2),
    loss={"dice": 1.0},
    engine=Engine(device="cpu", precision="fp32", memory_format="contiguous", compile="off"),
)
EVERYTHING = replace(
    TINY,
    epochs=12,
    batch_size=2,
    grad_accumulation=2,
    schedule=Schedule("plateau", warmup_epochs=2, patience=1, factor=0.5),
    loss={"dice": 1.0, "bce": 1.0},
    clip_norm=1.0,
    ema=Ema(decay=0.9, warmup_steps=5),
    early_stopping=EarlyStopping(patience=11, metric="loss"),
    sampler="balanced",
    patch=(8, 8, 8),
    patches_per_case=2,
    augmentation=Augmentation(flip_axes=(1,), affine_p=0.5, noise_p=0.5, gamma_p=0.5),
)
"""Every part that has a state of its own takes part."""


def volume(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Image (1, x, y, z) float32 with noise, and label (x, y, z) uint8: a ball in a ball."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(float)
    centre = np.array(shape)[:, None, None, None] / 2 + rng.normal(0, 0.7, (3, 1, 1, 1))
    radius = np.sqrt(((grid - centre) ** 2).sum(0)) / min(shape)
    label = ((radius < 0.4).astype(np.uint8) + (radius < 0.22)).astype(np.uint8)
    image = label * 0.7 + rng.normal(0, 0.4, shape)
    return image[None].astype(np.float32), label


def prepare(
    folder: Path,
    *,
    shapes: tuple[tuple[int, ...], ...] = ((12, 12, 12),) * 9,
    validation: int = 3,
    task: Task = TASK,
) -> Path:
    """Write volumes, ``manifest.json`` and ``splits.json``; the last cases are for validation."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    cases = []
    for index, shape in enumerate(shapes):
        name = f"case_{index}"
        image, label = volume(shape, rng)
        np.save(folder / f"images/{name}.npy", image)
        np.save(folder / f"labels/{name}.npy", label)
        cases.append(_record(folder, name, shape))
    content = {"task": task.as_dict(), "preprocess": {}, "dataset": {}, "digest": "tiny"}
    write_json(folder / "manifest.json", content | {"cases": cases})
    names = [case["id"] for case in cases]
    train, held = names[: len(names) - validation], names[len(names) - validation :]
    fold = {"train": train, "validation": held, "test": held}
    write_json(folder / "splits.json", {"seed": 0, "held_out": [], "folds": [fold]})
    return folder


def resave(path: Path, array: np.ndarray) -> None:
    """Put another array in the place of a prepared one; its digest, and an image's shape, too."""
    np.save(path, array)
    folder, part = path.parents[1], path.parent.name.removesuffix("s")
    content = read_json(folder / "manifest.json")
    for record in content["cases"]:
        if record["id"] == path.stem:
            record[f"{part}_sha256"] = sha256(path)
            if part == "image":
                record["shape"] = list(array.shape[1:])
    write_json(folder / "manifest.json", content)


def _record(folder: Path, name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        "id": name,
        "group": name,
        "labelled": True,
        "image": f"images/{name}.npy",
        "image_sha256": sha256(folder / f"images/{name}.npy"),
        "label": f"labels/{name}.npy",
        "label_sha256": sha256(folder / f"labels/{name}.npy"),
        "shape": list(shape),
        "spacing": [1.0] * 3,
        "affine": np.eye(4).tolist(),
        "raw": {"images": [], "label": None},
    }


def job(data: Path, place: Path, recipe: Recipe = TINY, **changes: Any) -> TrainingJob:
    """A training on :func:`prepare`'s data that works and writes below ``place``."""
    plain = TrainingJob(
        task=TASK,
        model={
            "preset": "tiny",
            "module": "unet",
            "name": "UNet",
            "arguments": {"widths": [3, 3], "dropout": 0.1},
        },
        recipe=recipe,
        code="code",
        manifest=data / "manifest.json",
        splits=data / "splits.json",
        fold=0,
        seed=0,
        work=place / "work",
        out=place / "out",
        engine_cache=place / "engine.json",
        save_interval=0.0,
    )
    return replace(plain, **changes)


def results(place: Path) -> dict[str, bytes]:
    """Content of every result that must be reproducible, by name."""
    names = ("weights.safetensors", "last.safetensors", "history.csv")
    return {name: (place / "out" / name).read_bytes() for name in names}
