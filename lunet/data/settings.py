"""Settings of the data: which data set, how it is prepared, how it is split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lunet.errors import ConfigError
from lunet.settings import LARGEST_SEED, LONGEST_AXIS, setting

UNNAMED = "unnamed"
"""Name of a data set whose own name, from its files, is to be used."""


@dataclass(frozen=True)
class PhantomSettings:
    """A synthetic data set, made where no real one is named."""

    kind: Literal[
        "hippocampus", "harp", "spleen", "lung", "brats2021", "brats2023", "heart_ct", "heart_mr"
    ] = setting("hippocampus", doc="data set that is imitated")
    subjects: int = setting(12, doc="number of subjects", minimum=1, maximum=100_000)
    seed: int = setting(0, doc="seed of the generator", minimum=0, maximum=LARGEST_SEED)
    difficulty: float = setting(1.0, doc="scale of noise and bias field", minimum=0, maximum=10)
    scale: float = setting(
        0.75, doc="size in voxels, relative to the real data", minimum=0.5, maximum=4
    )
    layout: Literal["project", "published"] = setting(
        "project", doc="files as the project or (HarP, BraTS, MM-WHS) as the source lays them out"
    )


@dataclass(frozen=True)
class DatasetSettings:
    """Which data set is studied, and where it may be found."""

    name: str = setting(doc="name in the catalog, `phantom`, or a name of your own with `path`")
    path: str | None = setting(
        None,
        doc="local folder or archive, or the number (quoted: it is text) or name of a data set in "
        "$nnUNet_raw; `~` and `$NAME` are put in; else $LUNET_DATA, else download",
    )
    sha256: str | None = setting(
        None, doc="expected digest of the archive; unset, it is only recorded"
    )
    mirrors: tuple[str, ...] = setting(
        (),
        doc="further addresses, tried before the origin; `$NAME` in one is that environment "
        "variable, so that a configuration needs to hold no password or token",
    )
    layout: Literal[
        "auto", "decathlon", "nnunet", "bids", "folders", "csv", "brats", "mmwhs", "per_subject"
    ] = setting("auto", doc="how the folder is laid out")
    labels: dict[str, int] | None = setting(None, doc="label name -> index; else the data set's")
    remap: dict[str, int] = setting({}, doc="index in the label files -> class index")
    mask_threshold: float | None = setting(
        None, doc="for soft or lossy masks (JPEG): values above it are label 1"
    )
    regions: dict[str, tuple[int, ...]] | None = setting(
        None, doc="overlapping regions: name -> label indices; {} switches the data set's own off"
    )
    channels: tuple[str, ...] | None = setting(None, doc="channel names, in order")
    dimensions: int = setting(3, doc="2 for slices, 3 for volumes", minimum=2, maximum=3)
    pixel_mm: float | tuple[float, float] | None = setting(
        None,
        doc="size of a pixel in mm, for pictures (PNG, TIFF), which do not state it: one number, "
        "or two for x and y; unset, all distances of pictures are in px",
        minimum=1e-6,
        maximum=1e3,
    )
    groups: str | None = setting(
        None, doc="regular expression; its first group, found in a case id, is the subject"
    )
    limit: int | None = setting(None, doc="use only this many subjects, the first ones", minimum=1)
    phantom: PhantomSettings = setting(PhantomSettings(), doc="the synthetic data set, if chosen")


@dataclass(frozen=True)
class PreprocessSettings:
    """How raw volumes become prepared ones."""

    orientation: str = setting("RAS", doc="axis codes of the prepared volumes, or `keep`")
    spacing: tuple[float, ...] | Literal["keep"] = setting(
        "keep",
        doc="target spacing in mm (px for pictures of unknown size), or `keep`",
        minimum=1e-3,
        maximum=1e3,
    )
    clip: tuple[float, float] | None = setting(
        (0.5, 99.5), doc="percentiles that intensities are clipped to"
    )
    window: tuple[float, float] | None = setting(
        None, doc="fixed intensity window (low, high), as for CT; replaces `clip`"
    )
    normalise: Literal["zscore", "zscore_nonzero", "minmax", "none"] = setting(
        "zscore",
        doc="intensity normalisation, per image and channel; `minmax` maps the window, if one is "
        "set, else the image's range, to 0..1",
    )
    size: tuple[int, ...] | None = setting(
        None,
        doc="voxels per axis that volumes are centre cropped or padded to",
        minimum=1,
        maximum=LONGEST_AXIS,
    )
    crop_labels: bool = setting(
        False,
        doc="accept that the crop to `size` cuts voxels off labels; they are never trained on, and "
        "count as missed. Otherwise such a crop is an error that names the cases",
    )


@dataclass(frozen=True)
class PlanSettings:
    """How `plan: auto` fits patch and batch to a device."""

    memory_gb: float | None = setting(
        None,
        doc="memory of a training, GiB; else 80 % of what is free where the plan is made",
        minimum=0,
        maximum=1e6,
    )
    largest_batch: int = setting(16, doc="largest batch proposed", minimum=1, maximum=65536)


@dataclass(frozen=True)
class TopologySettings:
    """The topology of networks whose arguments say ``topology: planned``; a plan fills it in."""

    strides: tuple[tuple[int, ...], ...] = setting(
        (),
        doc="per level and axis, full resolution first: how much the axis is shortened on the way "
        "to this level",
        minimum=1,
        maximum=64,
    )
    kernels: tuple[tuple[int, ...], ...] = setting(
        (), doc="per level and axis: size of the kernels, odd", minimum=1, maximum=63
    )

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.kernels):
            raise ConfigError(
                where="topology",
                found=f"{len(self.strides)} strides and {len(self.kernels)} kernels",
                expected="one of each per level is expected",
            )


@dataclass(frozen=True)
class SplitSettings:
    """Folds by subject group, fixed by a seed."""

    folds: int = setting(
        5,
        doc="number of cross-validation folds; 1: one fold that trains on all cases that are not "
        "held out, and tests on those",
        minimum=1,
        maximum=1000,
    )
    seed: int = setting(42, doc="seed of the split", minimum=0)
    validation: float = setting(
        0.1,
        doc="share of a fold's training groups kept for model selection, unless `file` names them",
        minimum=0,
        maximum=0.9,
    )
    held_out: float = setting(
        0.0, doc="share of all groups never trained or selected on", minimum=0, maximum=0.9
    )
    file: str | None = setting(
        None,
        doc="a split file of your own (JSON) instead, in the form of `splits.json` or of nnU-Net's "
        "`splits_final.json`",
    )
    counts: dict[str, int] = setting(
        {},
        doc="cases that each part of a fold of the file must have, e.g. {train: 876, test: 375}",
        minimum=0,
    )
