"""The recipe of a training as data: everything that decides what is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lunet.errors import ConfigError
from lunet.settings import LONGEST_AXIS, MOST_THREADS, setting
from lunet.training.losses.table import objective_options


@dataclass(frozen=True)
class Optimiser:
    """Optimiser by name, with its constants."""

    name: Literal["adam", "adamw", "sgd"] = setting("adam", doc="optimiser")
    lr: float = setting(1e-2, doc="learning rate", minimum=0)
    weight_decay: float = setting(0.0, doc="weight decay", minimum=0)
    momentum: float = setting(0.9, doc="momentum of SGD", minimum=0, maximum=1)
    nesterov: bool = setting(True, doc="Nesterov momentum of SGD")
    betas: tuple[float, float] = setting((0.9, 0.999), doc="decay rates of Adam and AdamW")

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ConfigError(
                where="train.optimiser.lr",
                found=f"found {self.lr:g}",
                expected="above 0 is expected",
            )
        if self.name == "sgd" and self.nesterov and self.momentum == 0:
            raise ConfigError(
                where="train.optimiser.nesterov",
                found="true without momentum",
                expected="momentum > 0",
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                where="train.optimiser.betas",
                found=f"found {self.betas}",
                expected="0 <= beta < 1 is expected",
            )


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the epochs."""

    name: Literal["constant", "step", "cosine", "polynomial", "plateau"] = setting(
        "constant", doc="schedule of the learning rate"
    )
    warmup_epochs: int = setting(0, doc="epochs of linear rise before the schedule", minimum=0)
    step_epochs: int = setting(30, doc="epochs between the steps of `step`", minimum=1)
    factor: float = setting(0.1, doc="factor of `step` and `plateau`", minimum=0, maximum=1)
    power: float = setting(0.9, doc="power of `polynomial`", minimum=0, was="exponent")
    patience: int = setting(30, doc="epochs without improvement before `plateau` acts", minimum=0)
    floor: float = setting(0.0, doc="lowest learning rate", minimum=0)


@dataclass(frozen=True)
class Ema:
    """Exponential moving average of weights and buffers."""

    decay: float = setting(
        0.0, doc="decay per optimiser step; 0 is off", minimum=0, maximum=0.999999
    )
    warmup_steps: int = setting(0, doc="steps in which the decay grows to its value", minimum=0)


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when a named metric of the validation set no longer improves."""

    patience: int = setting(0, doc="epochs without improvement; 0 is off", minimum=0)
    metric: str = setting("dice", doc="column of the history, `loss` or `dice` or `dice_<label>`")
    min_delta: float = setting(0.0, doc="smallest improvement that counts", minimum=0)


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training batches; a probability (`..._p`) of 0 switches a transform off.

    Intensities are meant after normalisation; lengths are in voxels of the prepared volumes.
    """

    flip_axes: tuple[int, ...] = setting(
        (), doc="axes that may be flipped (0 is x)", minimum=0, maximum=2
    )
    flip_p: tuple[float, ...] = setting(
        (),
        doc="probability of a flip, one per axis of `flip_axes`; empty is 0.5 each",
        was="flip_shares",
    )
    affine_p: float = setting(
        0.0,
        doc="probability that a sample is rotated and scaled",
        minimum=0,
        maximum=1,
        was="affine",
    )
    degrees: float = setting(15.0, doc="largest rotation per axis, degrees", minimum=0)
    scale: tuple[float, float] = setting((0.85, 1.15), doc="range of the isotropic scale")
    translate: float = setting(0.0, doc="largest shift as a share of the size", minimum=0)
    elastic_p: float = setting(
        0.0, doc="probability that a sample is deformed", minimum=0, maximum=1, was="elastic"
    )
    elastic_voxels: float = setting(
        3.0, doc="largest displacement of a control point, voxels", minimum=0
    )
    elastic_points: int = setting(
        7, doc="control points per axis (cubic B-spline)", minimum=5, maximum=100
    )
    grid_distortion_p: float = setting(
        0.0, doc="probability of grid distortion", minimum=0, maximum=1, was="grid_distortion"
    )
    grid_steps: int = setting(
        5, doc="cells per axis of the grid distortion", minimum=1, maximum=1000
    )
    grid_limit: float = setting(0.2, doc="largest change of a cell's size", minimum=0, maximum=0.9)
    blur_p: float = setting(
        0.0, doc="probability that a sample is blurred", minimum=0, maximum=1, was="blur"
    )
    blur_sigma: tuple[float, float] = setting((0.5, 1.0), doc="range of the blur, voxels")
    low_resolution_p: float = setting(
        0.0,
        doc="probability that a sample is made coarser",
        minimum=0,
        maximum=1,
        was="low_resolution",
    )
    zoom: tuple[float, float] = setting((0.5, 1.0), doc="range of the coarse grid's zoom")
    gamma_p: float = setting(
        0.0, doc="probability of a gamma change", minimum=0, maximum=1, was="gamma"
    )
    gamma_inverted_p: float = setting(
        0.0,
        doc="probability of a gamma change of the inverted image",
        minimum=0,
        maximum=1,
        was="gamma_inverted",
    )
    gamma_log: float = setting(0.3, doc="largest |log gamma|", minimum=0)
    bias_p: float = setting(
        0.0, doc="probability of a bias field", minimum=0, maximum=1, was="bias"
    )
    bias_strength: float = setting(
        0.5, doc="largest coefficient of the log field's cubic polynomial", minimum=0
    )
    brightness_p: float = setting(
        0.0,
        doc="probability of a change of brightness and contrast",
        minimum=0,
        maximum=1,
        was="brightness",
    )
    brightness_range: float = setting(0.25, doc="largest |factor - 1| of the values", minimum=0)
    contrast_range: float = setting(0.25, doc="largest |factor - 1| about the mean", minimum=0)
    shift_range: float = setting(0.0, doc="largest |value| that is added", minimum=0)
    noise_p: float = setting(
        0.0, doc="probability of Gaussian noise", minimum=0, maximum=1, was="noise"
    )
    noise_std: float = setting(0.1, doc="largest standard deviation of the noise", minimum=0)
    noise_std_min: float = setting(0.0, doc="smallest standard deviation of the noise", minimum=0)
    dropout_p: float = setting(
        0.0, doc="probability of coarse dropout", minimum=0, maximum=1, was="dropout"
    )
    dropout_holes: tuple[int, int] = setting(
        (1, 4), doc="fewest and most holes per sample", minimum=0, maximum=1000
    )
    dropout_size: tuple[float, float] = setting(
        (0.03, 0.06), doc="range of a hole's side, as a share of the image's"
    )

    def __post_init__(self) -> None:
        for name in ("scale", "blur_sigma", "zoom", "dropout_holes", "dropout_size"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                found = f"found [{low:g}, {high:g}]"
                raise ConfigError(
                    where=f"train.augmentation.{name}",
                    found=found,
                    expected="0 < low <= high is expected",
                )
        if self.zoom[1] > 1 or self.dropout_size[1] > 1:
            raise ConfigError(
                where="train.augmentation",
                found="zoom or dropout_size above 1",
                expected="at most 1",
            )
        if self.noise_std_min > self.noise_std:
            raise ConfigError(
                where="train.augmentation.noise_std_min",
                found="above noise_std",
                expected="at most noise_std",
            )
        self._check_flips()

    def _check_flips(self) -> None:
        axes, shares = self.flip_axes, self.flip_p
        if len(set(axes)) != len(axes) or not all(0 <= axis < 3 for axis in axes):
            raise ConfigError(
                where="train.augmentation.flip_axes",
                found=f"found {list(axes)}",
                expected="0, 1 and 2, each at most once",
            )
        if shares and len(shares) != len(axes):
            raise ConfigError(
                where="train.augmentation.flip_p",
                found=f"{len(shares)} shares",
                expected="one per axis",
            )
        if not all(0 <= share <= 1 for share in shares):
            raise ConfigError(
                where="train.augmentation.flip_p",
                found=f"found {list(shares)}",
                expected="0 to 1 each",
            )


@dataclass(frozen=True)
class Engine:
    """The arithmetic; `auto` is chosen by a measurement, once per preset (``lunet engine``)."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", doc="where to train")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting("auto", doc="autocast type")
    memory_format: Literal["auto", "contiguous", "channels_last"] = setting(
        "auto", doc="layout of activations"
    )
    compile: Literal["auto", "on", "off"] = setting(
        "auto", doc="torch.compile; `off` also leaves out CUDA graphs of whole steps"
    )
    threads: int | None = setting(
        None, doc="CPU threads; unset, as in the environment", minimum=1, maximum=MOST_THREADS
    )
    deterministic: bool = setting(True, doc="deterministic kernels, also on CUDA")

    @property
    def is_open(self) -> bool:
        """Whether there is something to measure. Compilation alone is never tried."""
        return "auto" in (self.precision, self.memory_format)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training learns.

    Named recipes and their sources are in ``lunet.study.recipes``.
    """

    source: str = setting("", doc="where the recipe comes from (paper, or ours)")
    epochs: int = setting(100, doc="passes over the training cases", minimum=1, maximum=10_000_000)
    batch_size: int = setting(16, doc="samples per step", minimum=1, maximum=65536)
    grad_accumulation: int = setting(
        1, doc="batches per optimiser step", minimum=1, maximum=65536, was="accumulate"
    )
    optimiser: Optimiser = setting(Optimiser(), doc="optimiser")
    schedule: Schedule = setting(Schedule(), doc="learning rate schedule")
    loss: dict[str, float] = setting({"dice": 1.0}, doc="loss name -> weight")
    loss_options: dict[str, Any] = setting({}, doc="options of the losses")
    deep_supervision: Literal["halving"] | tuple[float, ...] = setting(
        (),
        doc="weights of the outputs, main output first; empty: only the main output; `halving`: 1, "
        "1/2, 1/4 ..., divided by their sum, for any number of outputs",
        minimum=0,
    )
    augmentation: Augmentation = setting(Augmentation(), doc="augmentation of training batches")
    clip_norm: float = setting(0.0, doc="largest gradient norm; 0 is off", minimum=0)
    ema: Ema = setting(Ema(), doc="moving average of the weights")
    early_stopping: EarlyStopping = setting(EarlyStopping(), doc="early stopping")
    monitor: str = setting(
        "dice", doc="validation metric that chooses the best weights", was="select_by"
    )
    patch: tuple[int, ...] | None = setting(
        None,
        doc="training patch in voxels; unset, whole images",
        minimum=1,
        maximum=LONGEST_AXIS,
    )
    patches_per_case: int = setting(
        1, doc="patches of each case per epoch", minimum=1, maximum=1_000_000
    )
    samples_per_epoch: int | None = setting(
        None, doc="samples drawn per epoch; unset, as many as there are (slices: all)", minimum=1
    )
    few_samples: Literal["error", "shrink"] = setting(
        "error", doc="fewer samples than `batch_size`: an error, or one batch of all of them"
    )
    sampler: Literal["shuffle", "balanced"] = setting(
        "shuffle", doc="`balanced`: half of the samples (patches, slices) show foreground"
    )
    validate_every: int = setting(1, doc="epochs between validations", minimum=1)
    save_every: int = setting(0, doc="epochs between kept snapshots; 0 keeps none", minimum=0)
    keep_state: bool = setting(
        False, doc="keep the final state, so that the training can be continued with more epochs"
    )
    resident: Literal["auto", "device", "host", "disk"] = setting(
        "auto", doc="where volumes are during training; `auto`: the first place where they fit"
    )
    images: Literal["fp32", "fp16"] = setting(
        "fp32",
        doc="type in which volumes are held; fp16 halves their memory, and is refused where it "
        "changes a voxel by more than 1/500 of its image's standard deviation",
    )
    engine: Engine = setting(Engine(), doc="device and arithmetic")

    def __post_init__(self) -> None:
        objective_options(self.loss, self.loss_options)
        weights = self.deep_supervision
        if weights and not isinstance(weights, str) and (weights[0] <= 0 or min(weights) < 0):
            raise ConfigError(
                where="train.deep_supervision",
                found=f"found {list(weights)}",
                expected="weights >= 0, main one > 0",
            )
        if self.schedule.warmup_epochs >= self.epochs:
            raise ConfigError(
                where="train.schedule.warmup_epochs",
                found=f"found {self.schedule.warmup_epochs}",
                expected=f"fewer than the {self.epochs} epochs are expected",
                action="Set it (the recipe has this warm-up unless you state one), or train longer",
            )
