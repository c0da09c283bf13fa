"""Segments new scans of any readable format, as ``lunet predict --weights W INPUT...`` does."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lunet.data.ids import file_key
from lunet.data.io.images import SUFFIXES, PixelSize, is_hidden, stem_of, suffix_of
from lunet.data.io.masks import mask_suffix, write_mask
from lunet.data.io.write import write_channels
from lunet.errors import DataError, LunetError, is_out_of_memory
from lunet.inference.output import STEP
from lunet.inference.predict import common_description, predict_native
from lunet.inference.probability_maps import map_file
from lunet.inference.settings import PredictSettings
from lunet.inference.show import write_overlay
from lunet.own_files import claim, note

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True)
class Input:
    """One image: the name of its mask and its files, one per channel or one with all."""

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Extras:
    """What is written besides the masks; ``labels`` (name -> class index) are for legends, and
    ``pixel_mm`` is the size of a picture's pixels.
    """

    probabilities: bool
    overlay: bool
    labels: Mapping[str, int]
    pixel_mm: PixelSize | None = None


def find_inputs(words: Sequence[str], *, channels: int) -> list[Input]:
    """The images that a command line names.

    Parameters
    ----------
    words
        Files, folders (searched without their subfolders), or the files of one multi-channel
        image joined by commas (``flair.nii.gz,t1.nii.gz``).
    channels
        Number of channels of the task. In a folder, files ``case_0000``, ``case_0001``, ... are
        the channels of one image, as nnU-Net names them.

    Raises
    ------
    DataError
        If a folder does not exist or holds no image, or two images would get one mask.
    """
    inputs = [item for word in words for item in _inputs(word, channels)]
    seen: dict[str, Input] = {}
    for item in inputs:
        key = file_key(item.name)
        if key in seen:
            raise DataError(
                where=item.files[0],
                found=f"its mask would have the same name as for {seen[key].files[0]}",
                expected="names must differ, not only in upper and lower case",
                action="Segment them into two folders",
            )
        seen[key] = item
    return inputs


def predict_scans(
    models: Sequence[nn.Module],
    inputs: Sequence[Input],
    out: str | Path,
    *,
    settings: PredictSettings,
    with_probabilities: bool = False,
    with_overlay: bool = False,
    pixel_mm: PixelSize | None = None,
    log: Callable[[str], None] = print,
) -> list[str]:
    """Segment each image into ``out``; an unusable file is reported, and the others are segmented.

    Masks have the name, format, shape and affine of the raw image, uint8; the mask of a JPEG is a
    PNG, because its losses change labels. Probabilities, if requested, are
    ``probabilities/<name>.nii.gz``, float32, channels last; overlays are
    ``overlays/<name>_overlay.png``. The folder itself holds masks only, so that `lunet evaluate`
    can read it. The log gives the share of labelled voxels for each image, and at the end the
    number of images with any label.

    Returns
    -------
    One line per image that failed.

    Raises
    ------
    ConfigError
        If an output is one of the images, or a file that no earlier run wrote.
    """
    labels = common_description(models).task.labels
    extras = Extras(with_probabilities, with_overlay, labels, pixel_mm)
    outputs = [name for item in inputs for name in _outputs(item, extras)]
    with claim(out, outputs, step=STEP, inputs=[path for item in inputs for path in item.files]):
        return _predict_each(models, inputs, Path(out), settings, extras, log)


def _predict_each(
    models: Sequence[nn.Module],
    inputs: Sequence[Input],
    out: Path,
    settings: PredictSettings,
    extras: Extras,
    log: Callable[[str], None],
) -> list[str]:
    failures, shares = [], []
    for number, item in enumerate(inputs, start=1):
        place = f"({number}/{len(inputs)})"
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("default")
                written, share = _predict_one(models, item, out, settings, extras)
        except Exception as error:
            if not isinstance(error, LunetError) and not is_out_of_memory(error):
                raise
            failures.append(_reason(error, item))
            log(f"FAILED {item.name} {place}: {failures[-1]}")
        else:
            note(out, _outputs(item, extras), step=STEP)
            shares.append(share)
            for warning in caught:
                log(f"WARNING {item.name} {place}: {warning.message}")
            log(f"segmented {item.name} {place}: {written}, {100 * share:.3g} % labelled")
    log(_summary(shares))
    return failures


def _reason(error: Exception, item: Input) -> str:
    if isinstance(error, LunetError):
        return str(error) if str(item.files[0]) in error.where else f"{item.files[0]}: {error}"
    text = str(error).splitlines()[0] if str(error) else "no memory is left"
    advice = "Lower --memory-gb, or name a smaller tile with --patch"
    return str(
        DataError(where=item.files[0], found=f"out of memory ({text})", expected="", action=advice)
    )


def _summary(shares: Sequence[float]) -> str:
    some = [share for share in shares if share > 0]
    mean = f", {100 * sum(some) / len(some):.3g} % of the image on average" if some else ""
    return f"something labelled in {len(some)} of {len(shares)} image(s){mean}"


def _inputs(word: str, channels: int) -> Iterator[Input]:
    path = Path(word)
    if path.is_dir():
        yield from _in_folder(path, channels)
    elif "," in word and not path.exists():
        files = tuple(Path(part) for part in word.split(","))
        yield Input(stem_of(files[0]), files)
    elif not suffix_of(path) and not path.exists():
        raise DataError(
            where=path, found="does not exist", expected="an image or a folder of images is needed"
        )
    else:
        yield Input(stem_of(path), (path,))


def _in_folder(folder: Path, channels: int) -> list[Input]:
    files = [p for p in sorted(folder.iterdir()) if suffix_of(p) and not is_hidden(p)]
    if not files:
        raise DataError(
            where=folder, found="holds no image", expected=f"one of {', '.join(SUFFIXES)}"
        )
    groups: dict[str, list[Path]] = {}
    for path in files:
        match = _CHANNEL.match(stem_of(path)) if channels > 1 else None
        groups.setdefault(match["case"] if match else stem_of(path), []).append(path)
    return [Input(name, tuple(paths)) for name, paths in groups.items()]


def _outputs(item: Input, extras: Extras) -> list[str]:
    """Files that are written for an image, relative to the folder; the mask first."""
    files = [f"{item.name}{mask_suffix(item.files[0])}"]
    if extras.probabilities:
        files.append(map_file(item.name))
    if extras.overlay:
        files.append(f"overlays/{item.name}_overlay.png")
    return files


def _predict_one(
    models: Sequence[nn.Module],
    item: Input,
    out: Path,
    settings: PredictSettings,
    extras: Extras,
) -> tuple[str, float]:
    """Segment one image; returns the mask's file and the share of labelled voxels."""
    mask, channels, geometry = predict_native(
        models, item.files, settings=settings, pixel_mm=extras.pixel_mm
    )
    path = out / f"{item.name}{mask_suffix(item.files[0])}"
    write_mask(path, mask, geometry.native_affine, like=item.files[0])
    if extras.probabilities:
        write_channels(out / map_file(item.name), channels, geometry.native_affine)
    if extras.overlay:
        place = out / "overlays" / f"{item.name}_overlay.png"
        write_overlay(place, item.files, mask, names=extras.labels)
    return str(path), float((mask > 0).mean())
