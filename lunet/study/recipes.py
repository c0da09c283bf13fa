"""Named recipes: published ones, and our own where none is published or more is needed.

A recipe is plain data (:class:`lunet.training.recipe.Recipe`); a study names one and may change
single values. An epoch is a pass over the training cases.
"""

from __future__ import annotations

from dataclasses import replace

from lunet.errors import ConfigError, nearest
from lunet.training.recipe import (
    Augmentation,
    EarlyStopping,
    Ema,
    Optimiser,
    Recipe,
    Schedule,
)

_LUNET = "arXiv:2512.03834 (published configuration)"
_SLIM = "Slim UNETRV2, IEEE TMI 2025"
_LUNG = "2D attention U-Net for lung tumours (public code)"

# Rotations about each axis and the intensity transforms of nnU-Net v2's default trainer
# (doi:10.1038/s41592-020-01008-z); rotation and scale share one draw here.
_NNUNET = Augmentation(
    affine_p=0.35,
    degrees=30.0,
    scale=(0.7, 1.4),
    noise_p=0.1,
    noise_std=0.316,
    blur_p=0.2,
    blur_sigma=(0.5, 1.0),
    brightness_p=0.28,
    brightness_range=0.25,
    contrast_range=0.25,
    low_resolution_p=0.25,
    zoom=(0.5, 1.0),
    gamma_p=0.3,
    gamma_inverted_p=0.1,
    gamma_log=0.4,
    flip_axes=(0, 1, 2),
)

_PAPER_SMALL = Recipe(
    source=f"{_LUNET}, small networks",
    epochs=10_000,
    batch_size=16,
    optimiser=Optimiser("adam", 1e-2),
    loss={"dice": 1.0},
    monitor="loss",
)

_STRONG = Recipe(
    source="ours: a schedule, Dice with cross-entropy and augmentation; no left-right flips",
    epochs=300,
    batch_size=8,
    optimiser=Optimiser("adamw", 4e-3, weight_decay=1e-2),
    schedule=Schedule("cosine", warmup_epochs=5),
    loss={"dice_ce": 1.0},
    clip_norm=12.0,
    ema=Ema(decay=0.995, warmup_steps=500),
    augmentation=replace(
        _NNUNET, flip_axes=(), degrees=20.0, scale=(0.8, 1.25), elastic_p=0.2, noise_std=0.2
    ),
)

_SLIM_SGD = Recipe(
    source=f"{_SLIM}, as published on nnU-Net v2: Dice + CE (BCE for regions), one of two patches"
    " on foreground, no deep supervision, default initialisation (there an epoch is 250 steps, here"
    " a pass over the cases)",
    epochs=1000,
    batch_size=2,
    optimiser=Optimiser("sgd", 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True),
    schedule=Schedule("polynomial", power=0.9),
    loss={"dice_ce": 1.0},
    clip_norm=12.0,
    patch=(128, 128, 128),
    sampler="balanced",
    augmentation=_NNUNET,
)

_NNUNET_SGD = replace(
    _SLIM_SGD,
    source="nnU-Net v2's default trainer (doi:10.1038/s41592-020-01008-z): SGD, Dice + CE, weights"
    " of the outputs halved level by level (there without the lowest). The patch is planned, else"
    " whole volumes; default initialisation (there an epoch is 250 steps, here a pass over the"
    " cases)",
    deep_supervision="halving",
    patch=None,
)

_SLIM_ADAMW = Recipe(
    source=f"{_SLIM}, as developed: focal + Dice on sigmoids, default initialisation (batch of"
    " one of four processes)",
    epochs=300,
    batch_size=12,
    optimiser=Optimiser("adamw", 1e-3, weight_decay=0.05, betas=(0.9, 0.95)),
    schedule=Schedule("cosine", warmup_epochs=2),
    loss={"focal_dice": 1.0},
    patch=(128, 128, 128),
    validate_every=10,
    augmentation=Augmentation(
        flip_axes=(0, 1, 2),
        brightness_p=1.0,
        brightness_range=0.1,
        contrast_range=0.0,
        shift_range=0.1,
    ),
)

_LUNG2D = Recipe(
    source=f"{_LUNG}, first configuration; noise as its authors meant it: variance of 5 to 25"
    " squared grey levels of 256",
    epochs=400,
    batch_size=4,
    grad_accumulation=8,
    optimiser=Optimiser("adamw", 5e-5, weight_decay=1e-3),
    schedule=Schedule("plateau", factor=0.5, patience=30, floor=1e-6),
    loss={"combined": 1.0},
    loss_options={"ce_weight": 0.5, "dice_weight": 0.5, "class_weights": [1.0, 5.0]},
    clip_norm=1.0,
    early_stopping=EarlyStopping(patience=50, metric="dice"),
    sampler="balanced",
    augmentation=Augmentation(
        flip_axes=(0, 1),
        flip_p=(0.5, 0.3),
        affine_p=0.5,
        degrees=15.0,
        scale=(0.85, 1.15),
        translate=0.1,
        elastic_p=0.3,
        elastic_voxels=3.0,
        elastic_points=28,
        grid_distortion_p=0.3,
        grid_steps=5,
        grid_limit=0.2,
        brightness_p=0.3,
        brightness_range=0.0,
        contrast_range=0.15,
        shift_range=0.15,
        noise_p=0.2,
        noise_std_min=0.0088,
        noise_std=0.0196,
        dropout_p=0.2,
        dropout_holes=(1, 4),
        dropout_size=(0.125, 0.125),
    ),
)

_LUNG2D_LATER = replace(
    _LUNG2D,
    source=f"{_LUNG}, later configuration",
    schedule=Schedule("cosine", warmup_epochs=10, floor=1e-6),
    loss={"dice_bce_2d": 1.0},
    loss_options={},
    augmentation=Augmentation(
        flip_axes=(0, 1),
        flip_p=(0.5, 0.3),
        affine_p=0.5,
        degrees=15.0,
        scale=(0.85, 1.15),
        translate=0.1,
        noise_p=0.2,
        noise_std_min=0.01,
        noise_std=0.02,
        dropout_p=0.1,
        dropout_holes=(1, 4),
        dropout_size=(0.03, 0.06),
    ),
)

RECIPES: dict[str, Recipe] = {
    "paper_small": _PAPER_SMALL,
    "paper_large": replace(
        _PAPER_SMALL,
        source=f"{_LUNET}, large networks",
        batch_size=1,
        optimiser=Optimiser("adam", 1e-3),
    ),
    "unetpp_small": replace(
        _PAPER_SMALL,
        source="ours: as for the small U-Nets; the paper gives no recipe for U-Net++",
    ),
    "unetpp_large": replace(
        _PAPER_SMALL,
        source="ours: as for the large U-Nets; the paper gives no recipe for U-Net++",
        batch_size=1,
        optimiser=Optimiser("adam", 1e-3),
    ),
    "mednext": replace(
        _PAPER_SMALL,
        source="ours: AdamW 1e-3 as in arXiv:2303.09975, otherwise as for the small U-Nets; the"
        " LUNet paper gives no recipe",
        optimiser=Optimiser("adamw", 1e-3, weight_decay=1e-2),
    ),
    "strong": _STRONG,
    "nnunet": _NNUNET_SGD,
    "slim_sgd": _SLIM_SGD,
    "slim_sgd_96": replace(
        _SLIM_SGD, source=f"{_SLIM_SGD.source}; 96^3 patches", patch=(96, 96, 96)
    ),
    "slim_adamw": _SLIM_ADAMW,
    "lung2d": _LUNG2D,
    # for networks with deep_supervision: true; weights of the outputs at 1, 1/2, 1/4, 1/8
    "lung2d_deep": replace(_LUNG2D, deep_supervision=(1.0, 0.4, 0.2, 0.1)),
    "lung2d_later": _LUNG2D_LATER,
    "lung2d_later_deep": replace(_LUNG2D_LATER, deep_supervision=(1.0, 0.3, 0.1, 0.0)),
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises
    ------
    ConfigError
        If there is no such recipe; the message names the nearest one.
    """
    if name not in RECIPES:
        raise ConfigError(
            where="recipe", found=f"unknown recipe {name!r}", expected=nearest(name, RECIPES)
        )
    return RECIPES[name]
