from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from lunet.errors import ConfigError
from lunet.settings import build_settings, plain, replace
from lunet.study import listing
from lunet.study.recipes import RECIPES, find_recipe
from lunet.training.recipe import Augmentation, Recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_its_source_and_survives_json(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.source
    assert build_settings(Recipe, json.loads(json.dumps(plain(recipe)))) == recipe


def test_published_values() -> None:
    small, large = find_recipe("paper_small"), find_recipe("paper_large")
    assert (small.optimiser.name, small.optimiser.lr, small.batch_size) == ("adam", 1e-2, 16)
    assert (large.optimiser.name, large.optimiser.lr, large.batch_size) == ("adam", 1e-3, 1)
    assert small.loss == large.loss == {"dice": 1.0}
    assert small.augmentation == Augmentation()
    assert (small.epochs, small.early_stopping.patience, small.clip_norm) == (10_000, 0, 0)
    assert small.optimiser.weight_decay == 0
    sgd = find_recipe("slim_sgd")
    assert (sgd.optimiser.momentum, sgd.optimiser.weight_decay, sgd.clip_norm) == (0.99, 3e-5, 12)
    assert (sgd.optimiser.name, sgd.optimiser.lr, sgd.optimiser.nesterov) == ("sgd", 1e-2, True)
    assert (sgd.schedule.name, sgd.schedule.power, sgd.epochs) == ("polynomial", 0.9, 1000)
    assert (sgd.batch_size, sgd.patch, sgd.sampler) == (2, (128,) * 3, "balanced")
    assert (sgd.loss, sgd.deep_supervision) == ({"dice_ce": 1.0}, ())
    assert sgd.augmentation.flip_axes == (0, 1, 2)
    adamw = find_recipe("slim_adamw")
    assert (adamw.optimiser.lr, adamw.optimiser.weight_decay, adamw.epochs) == (1e-3, 0.05, 300)
    assert (adamw.schedule.name, adamw.loss) == ("cosine", {"focal_dice": 1.0})
    assert adamw.deep_supervision == ()
    assert (adamw.optimiser.betas, adamw.batch_size, adamw.schedule.warmup_epochs) == (
        (0.9, 0.95),
        12,
        2,
    )
    lung = find_recipe("lung2d")
    assert (lung.optimiser.lr, lung.grad_accumulation, lung.clip_norm) == (5e-5, 8, 1.0)
    assert lung.deep_supervision == ()
    assert find_recipe("lung2d_deep").deep_supervision == (1.0, 0.4, 0.2, 0.1)
    assert find_recipe("lung2d_later_deep").deep_supervision == (1.0, 0.3, 0.1, 0.0)


def test_recipes_not_published_are_marked_ours() -> None:
    for name in ("mednext", "unetpp_small", "unetpp_large", "strong"):
        assert find_recipe(name).source.startswith("ours")


def test_the_strong_recipe_never_flips() -> None:
    assert find_recipe("strong").augmentation.flip_axes == ()


def test_all_eight_augmentations_of_the_lung_recipe_are_on() -> None:
    lung = find_recipe("lung2d").augmentation
    names = ["affine_p", "elastic_p", "grid_distortion_p", "brightness_p", "noise_p", "dropout_p"]
    assert all(getattr(lung, name) > 0 for name in names)
    assert lung.flip_axes == (0, 1)


def test_a_misspelt_recipe_gets_advice() -> None:
    with pytest.raises(ConfigError, match="did you mean 'paper_small'"):
        find_recipe("paper_smal")


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"loss": {"dicee": 1.0}}, "did you mean 'dice'"),
        ({"loss_options": {"gamma": 2.0}}, "has this option"),
        ({"deep_supervision": [0.0, 1.0]}, "deep_supervision"),
        ({"schedule": {"warmup_epochs": 10_000}}, "warmup_epochs"),
        ({"optimiser": {"lr": 0}}, "above 0"),
        ({"augmentation": {"flip_axes": [3]}}, "flip_axes"),
        ({"augmentation": {"flip_axes": [0], "flip_p": [0.5, 0.5]}}, "flip_p"),
        ({"augmentation": {"scale": [0, 1]}}, "scale"),
        ({"augmentation": {"zoom": [0.5, 1.5]}}, "zoom"),
        ({"augmentation": {"noise_std": 0.1, "noise_std_min": 0.2}}, "noise_std_min"),
        ({"augmentation": {"noice": 0.2}}, "did you mean 'noise_p'"),
        ({"ema": {"decay": 1.0}}, "decay"),
    ],
)
def test_impossible_recipes_are_refused(changes: dict, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        replace(find_recipe("paper_small"), changes, "train")


def test_recipes_import_no_numerical_library() -> None:
    code = (
        "import sys, lunet.study.recipes;"
        "print(sorted({'torch', 'numpy', 'torchio', 'pandas'} & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


def test_the_slim_recipes_lower_nested_regions_by_sigmoid() -> None:
    """Dice + BCE as nnU-Net's for regions, and sigmoid focal + Dice, against plain formulas."""
    import torch

    from lunet.task import Task
    from lunet.training.losses.build import build_objective

    labels = {"NCR": 1, "ED": 2, "ET": 3}
    regions = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
    task = Task(("a",), labels, regions)
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 6, 6, generator=random)
    label = torch.randint(0, 4, (2, 6, 6, 6), generator=random).to(torch.uint8)
    masks = [torch.isin(label, torch.tensor(members)) for members in task.regions.values()]
    target = torch.stack(masks, dim=1).float()
    probability = logits.sigmoid()
    both = (probability * target).sum((2, 3, 4))
    total = (probability + target).sum((2, 3, 4))
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = ((1 - torch.exp(-bce)) ** 2 * bce).mean()
    expected = {
        "slim_sgd": bce.mean() + 1 - ((2 * both + 1e-5) / (total + 1e-5)).mean(),
        "slim_adamw": focal + 1 - (2 * both / (total + 1e-5)).mean(),
    }
    for name, value in expected.items():
        recipe = find_recipe(name)
        objective = build_objective(recipe.loss, recipe.loss_options, task=task)
        assert objective(logits, label).item() == pytest.approx(value.item(), rel=1e-5)


def test_augmentations_are_listed_with_the_recipes_that_use_them() -> None:
    listed = list(listing.listing_lines(listing.listing_records("augmentations")))
    users = [line for line in listed if "lung2d" in line]
    # horizontal and vertical flip are one line: the eight of the lung recipe
    assert len(users) == 7
    keys = {field.name for field in dataclasses.fields(Augmentation)}
    # columns are two spaces apart: the name, what switches it on, its further keys, its users
    rows = [re.split(r" {2,}", line.strip()) for line in listed[1:]]
    assert keys == {key for row in rows for key in [row[1], *row[2].split(", ")]}


@pytest.mark.parametrize(
    ("changes", "new"),
    [
        ({"augmentation": {"elastic": 0.5}}, "elastic_p"),
        ({"augmentation": {"flip_shares": [0.5]}}, "flip_p"),
        ({"accumulate": 2}, "grad_accumulation"),
        ({"select_by": "loss"}, "monitor"),
        ({"schedule": {"exponent": 0.5}}, "power"),
    ],
)
def test_a_renamed_key_is_answered_with_its_new_name(changes: dict, new: str) -> None:
    with pytest.raises(ConfigError, match=f"is now called '{new}'"):
        replace(find_recipe("paper_small"), changes, "train")
