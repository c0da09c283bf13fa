"""Plain files: a folder of images and one of masks, or both kinds of file side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lunet.data.dataset import Case, Dataset
from lunet.data.io.images import PixelSize, is_hidden, stem_of, suffix_of
from lunet.data.layouts.task import chosen_groups, dimensions_of, infer_labels
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.reading import number_in, read_spreadsheet
from lunet.task import Task

LOOKS_FOR = "images/ and masks/ (or labels/) with equal file names, or <case> next to <case>_seg"
EXPORTED = "slices.csv"
_IMAGES = ("images", "imagestr", "image", "imgs", "img", "scans")
_LABELS = ("masks", "labels", "labelstr", "mask", "label", "segmentations", "seg", "gt")
_WORDS = "seg|gmseg|dseg|mask|masks|label|labels|gt|groundtruth|segmentation|annotation"
_IS_MASK = re.compile(rf"(?:^|[-_. ])(?:{_WORDS})(?:[-_]manual)?(?:\d*)$", re.IGNORECASE)
_CHANNEL = re.compile(r"(?P<case>.+)_\d{4}")
_IS_IMAGE = re.compile(r"[-_](?:image|img|ct|mr|mri|0000)$", re.IGNORECASE)


def matches(root: Path) -> bool:
    """Whether ``root`` has this layout."""
    if not root.is_dir():
        return bool(suffix_of(root))
    return _pair_of_folders(root) is not None or bool(_scans(root))


def read(root: Path, settings: DatasetSettings) -> Dataset:
    """Pair images and masks by their names; unpaired images stay without a label."""
    folders = _pair_of_folders(root) if root.is_dir() else None
    if folders is not None:
        images, masks = _scans(folders[0]), _scans(folders[1])
    else:
        files = _scans(root)
        masks = [path for path in files if _IS_MASK.search(stem_of(path))]
        images = [path for path in files if path not in masks]
    if not images and not masks:
        raise DataError(where=root, found="no images", expected=LOOKS_FOR)
    cases = _paired(images, masks, in_folders=folders is not None)
    _refuse_channels(cases)
    labels, rule = infer_labels(cases, settings)
    channels = settings.channels or ("image",)
    task = Task(
        channels,
        labels or {"foreground": 1},
        settings.regions or {},
        dimensions_of(cases, settings),
    )
    place = root.parent if root.is_file() else root
    groups = chosen_groups(cases, settings)
    size = _exported_size(place)
    return Dataset(place, stem_of(root), task, groups, rule, pixel_mm=size)


def _exported_size(folder: Path) -> PixelSize | None:
    """The pixel size that ``lunet export-slices`` recorded, if all slices have the same."""
    path = folder / EXPORTED
    if not path.is_file():
        return None
    rows = read_spreadsheet(path, what="a list of exported slices")
    columns = "column_mm", "row_mm"
    if not rows or not all(row.get(name) for row in rows for name in columns):
        return None
    sizes = {(number_in(row, columns[0], path), number_in(row, columns[1], path)) for row in rows}
    return sizes.pop() if len(sizes) == 1 else None


def _pair_of_folders(root: Path) -> tuple[Path, Path] | None:
    inside = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    images = next((inside[name] for name in _IMAGES if name in inside), None)
    labels = next((inside[name] for name in _LABELS if name in inside), None)
    if images is None and labels is None:
        return None
    return images or root / "images", labels or root / "labels"


def _scans(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        return []
    # including links without content: a case that was not fetched must not vanish
    files = (path for path in sorted(folder.iterdir()) if not path.is_dir())
    return [path for path in files if suffix_of(path) and not is_hidden(path)]


def _paired(images: Sequence[Path], masks: Sequence[Path], *, in_folders: bool) -> list[Case]:
    """Cases; a mask that matches no image or several is an error and never paired wrongly."""
    left = {path: _bare(stem_of(path)) for path in masks}
    cases = []
    for image in images:
        stem = stem_of(image)
        own = [m for m, bare in left.items() if stem_of(m) == stem or bare in (stem, _core(stem))]
        if not own and not in_folders and len(images) == len(masks) == 1:
            own = list(masks)
        if len(own) > 1:
            names = ", ".join(path.name for path in own)
            raise DataError(
                where=image,
                found=f"{len(own)} masks ({names})",
                expected="one is needed",
                action="Keep one",
            )
        for mask in own:
            del left[mask]
        part = "training" if own or in_folders else "test"
        cases.append(Case(stem, (image,), own[0] if own else None, stem, part))
    if left:
        raise DataError(
            where=next(iter(left)),
            found="a mask without an image",
            expected="an image of that name",
            action="Add the image, or remove the mask",
        )
    return cases


def _refuse_channels(cases: Sequence[Case]) -> None:
    """Refuse nnU-Net's files without its ``dataset.json``: each channel would become a case.

    Slices with such numbers are cases, because each has a mask of its own.
    """
    masked = {stem_of(case.label) for case in cases if case.label is not None}
    further = [
        case
        for case in cases
        if case.label is None and (match := _CHANNEL.fullmatch(case.id)) and match["case"] in masked
    ]
    if further:
        raise DataError(
            where=further[0].images[0],
            found=f"{len(further)} images without a mask are numbered like a further channel",
            expected="several channels are declared in nnU-Net's dataset.json",
            action="Add that file (channel_names, labels, file_ending), or a CSV listing",
        )


def _bare(stem: str) -> str:
    """A mask's name without the word that marks it as a mask."""
    return _IS_MASK.sub("", stem)


def _core(stem: str) -> str:
    """An image's name without the word that marks it as an image."""
    return _IS_IMAGE.sub("", stem)
