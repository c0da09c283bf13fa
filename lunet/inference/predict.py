"""``lunet.predict``: a trained network, or several, on one image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from lunet.data.geometry import Geometry, plan_geometry
from lunet.data.intensity import NoContrast
from lunet.data.io.images import PixelSize, Scan, read_image
from lunet.data.preprocess import prepare_image
from lunet.data.settings import PreprocessSettings
from lunet.errors import DataError
from lunet.inference.decode import Indices
from lunet.inference.description import Description, description_of
from lunet.inference.segment import NativeChannels, segment
from lunet.inference.settings import PredictSettings
from lunet.settings import build_settings
from lunet.task import Task


class BlankImage(UserWarning):
    """An image whose voxels all have one value; its mask is empty."""


Image = str | Path | Sequence[str | Path] | NDArray[Any]


def predict(
    model: nn.Module | Sequence[nn.Module],
    image: Image,
    *,
    spacing: Sequence[float] | None = None,
    affine: ArrayLike | None = None,
    settings: PredictSettings | None = None,
) -> Indices:
    """Segment one image.

    Parameters
    ----------
    model
        A network from :func:`lunet.load_model`, or several for the same task, which are averaged.
    image
        A file, a file per channel, or an array: (x, y, z) or (channel, x, y, z), raw intensities.
    spacing
        Voxel size of an array in mm, axis by axis; 1 mm by default. The array's axes are then
        taken as right, anterior, superior (RAS).
    affine
        Voxel-to-mm matrix (4 x 4, RAS+) of an array instead of ``spacing``.
    settings
        Tiles, flips, threshold and so on; by default the volume is processed whole if it fits.

    Returns
    -------
    uint8 class indices in the spatial shape of the raw image, background 0.

    Raises
    ------
    DataError
        If the image cannot be read or does not fit the task.

    Warns
    -----
    BlankImage
        If all voxels have one value, so that there is no contrast to normalise; the mask is empty.
    """
    models = [model] if isinstance(model, nn.Module) else list(model)
    source = source_of(image, spacing, affine)
    return predict_native(models, source, settings=settings or PredictSettings())[0]


def predict_native(
    models: Sequence[nn.Module],
    source: Scan | Sequence[str | Path],
    *,
    settings: PredictSettings,
    pixel_mm: PixelSize | None = None,
) -> tuple[Indices, NativeChannels, Geometry]:
    """Mask, probabilities and geometry of one raw image.

    The image is prepared like the training data, except that an image larger than
    ``preprocess.size`` is not cropped.

    The networks run on the device that their weights are on. ``pixel_mm`` is the size of the pixels
    of a picture; by default, it is that of the training pictures.
    """
    described = common_description(models)
    pixel_mm = pixel_mm or described.pixel_mm
    prepared, geometry = _prepared(source, described, pixel_mm)
    if prepared is None:
        channels = _background(described.task, geometry)
        return np.zeros(geometry.native_shape, np.uint8), channels, geometry
    device = next((p.device for p in models[0].parameters()), torch.device("cpu"))
    mask, probabilities = segment(
        models,
        prepared,
        geometry,
        task=described.task,
        settings=settings,
        device=device,
    )
    return mask, probabilities, geometry


def _prepared(
    source: Scan | Sequence[str | Path], described: Description, pixel_mm: PixelSize | None
) -> tuple[NDArray[np.float32] | None, Geometry]:
    """The image as the networks see it, or None if all voxels have one value.

    A raw image that is read from a file is freed before this returns.
    """
    preprocess = build_settings(PreprocessSettings, described.preprocess, "preprocess")
    channels = len(described.task.channels)
    if isinstance(source, Scan):
        scan = source
    else:
        scan = read_image(source, channels=channels, pixel_mm=pixel_mm)
    where = "image" if isinstance(source, Scan) else str(source[0])
    if scan.array.ndim - 1 < described.task.dimensions:
        raise DataError(
            where=where,
            found="a picture",
            expected="the network segments volumes (NIfTI, NRRD, MHA)",
        )
    try:
        # the structure may be anywhere in a new scan, so nothing is cropped
        return prepare_image(scan, preprocess, channels=channels, name=where, crop=False)
    except NoContrast as error:
        # one blank channel of several is a missing modality
        if len(scan.array) > 1 and any(part.min() < part.max() for part in scan.array):
            raise
        warnings.warn(f"{error.where}: {error.found}; its mask is empty", BlankImage, stacklevel=3)
        return None, plan_geometry(scan.array.shape[1:], scan.affine)


def _background(task: Task, geometry: Geometry) -> NativeChannels:
    """Probabilities for an image without contrast: background everywhere, without using memory."""
    values = np.zeros((task.out_channels, 1, 1, 1), np.float32)
    values[0] = float(task.activation == "softmax")
    shape = (*geometry.shape, 1)[:3]
    return NativeChannels(np.broadcast_to(values, (len(values), *shape)), geometry)


def common_description(models: Sequence[nn.Module]) -> Description:
    """The description that all networks of an ensemble share.

    Raises
    ------
    DataError
        If there is no network, or two differ in task or preprocessing.
    """
    if not models:
        raise DataError(where="ensemble", found="no network", expected="at least one is needed")
    first, *others = (description_of(model) for model in models)
    for other in others:
        if (other.task, other.preprocess) != (first.task, first.preprocess):
            raise DataError(
                where="ensemble",
                found=f"one network is for {other.task.as_dict()}, {other.preprocess}",
                expected=f"another for {first.task.as_dict()}, {first.preprocess}",
                action="Average networks of one study",
            )
    return first


def source_of(
    image: Image, spacing: Sequence[float] | None, affine: ArrayLike | None
) -> Scan | Sequence[str | Path]:
    """The files of an image, or the array as a scan; parameters as in :func:`predict`."""
    if isinstance(image, str | Path):
        return [image]
    if not isinstance(image, np.ndarray):
        return image
    array = image if image.ndim == 4 else image[None]
    if array.ndim != 4:
        raise DataError(
            where="image", found=f"shape {image.shape}", expected="(x, y, z) or (channel, x, y, z)"
        )
    if affine is None:
        matrix = np.diag([*map(float, spacing or (1, 1, 1)), 1.0])
    elif spacing is None:
        matrix = np.asarray(affine, np.float64)
    else:
        raise DataError(
            where="image",
            found="both spacing and affine are given",
            expected="one of them is enough",
        )
    if matrix.shape != (4, 4):
        raise DataError(
            where="image",
            found=f"a {matrix.shape} affine",
            expected="4 x 4, or a spacing of 3 values",
        )
    return Scan(np.ascontiguousarray(array, np.float32), matrix)
