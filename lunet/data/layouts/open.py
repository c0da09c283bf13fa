"""Opens data sets in the layouts of other systems in place: nothing is copied or moved.

Each layout is a module ``lunet.data.layouts.<name>`` with ``LOOKS_FOR`` (what its files look like,
for messages), ``matches(root) -> bool`` and ``read(root, settings) -> Dataset``.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from lunet.data.dataset import Dataset, check_threshold, chosen_name, with_pixel_size
from lunet.data.dataset_json import locate
from lunet.data.ids import require_different, require_id
from lunet.data.left_out import NO_CONTENT, unused_files, without_content
from lunet.data.settings import UNNAMED, DatasetSettings
from lunet.data.subjects import listed_subjects, subject_in
from lunet.errors import ConfigError, DataError, nearest

_FETCH = "Fetch the content (`git annex get`, `datalad get`)"
# In the order in which they are tried; the first ones are the most specific.
LAYOUTS = ("decathlon", "nnunet", "bids", "brats", "mmwhs", "per_subject", "csv", "folders")


def open_dataset(
    source: str | Path, settings: DatasetSettings | None = None, layout: str | None = None
) -> Dataset:
    """Read a data set in any of the known layouts.

    Parameters
    ----------
    source
        Its folder, a CSV listing, or an nnU-Net data set's number or name in ``$nnUNet_raw``.
    settings
        Labels, channels, remapping and groups, if the layout does not define them or to override
        it; ``settings.layout`` is used if ``layout`` is not given.
    layout
        Name of the layout, or ``auto``.

    Raises
    ------
    DataError
        If no layout fits (the message lists what was looked for), a file is missing, or only some
        cases have a physical size.
    """
    settings = settings or DatasetSettings(name=UNNAMED, path=str(source))
    name = layout or settings.layout
    root = locate(source)
    module = _module(name) if name != "auto" else _detect(root)
    dataset: Dataset = module.read(root, settings)
    dataset = replace(dataset, name=chosen_name(dataset.name, settings))
    subjects = listed_subjects(dataset.root) if settings.groups is None else {}
    if subjects:
        changed = (
            replace(case, group=subject_in(subjects, case.id, dataset.root))
            for case in dataset.cases
        )
        dataset = replace(dataset, cases=tuple(changed))
    dataset = with_pixel_size(check_threshold(dataset), settings.pixel_mm)
    return account_for_source(dataset, root)


def account_for_source(dataset: Dataset, root: Path) -> Dataset:
    """Check the ids of a data set, and account for everything that its source holds.

    Cases whose files are links without content are left out, and so is every image below ``root``
    that no case names (the source of a CSV listing is the listing alone).

    Raises
    ------
    DataError
        If an id cannot name files, two ids are the same, or no case is left.
    """
    for case in dataset.cases:
        require_id(case.id, case.images[0])
    require_different(((case.id, case.images[0]) for case in dataset.cases), root)
    empty = [case.id for case in dataset.cases if without_content(case)]
    if empty and len(empty) == len(dataset.cases):
        raise DataError(
            where=root,
            found=f"{len(empty)} cases, each {NO_CONTENT.split(';')[0]}",
            expected="",
            action=_FETCH,
        )
    left = dict.fromkeys(empty, NO_CONTENT)
    unused = unused_files(root, dataset.cases) if root.is_dir() else {}
    return replace(
        dataset,
        cases=tuple(case for case in dataset.cases if case.id not in left),
        left_out={**unused, **left, **dataset.left_out},
        lost=dataset.lost | frozenset(empty),
    )


def _module(name: str) -> ModuleType:
    if name not in LAYOUTS:
        raise ConfigError(
            where="layout", found=f"{name!r} is unknown", expected=nearest(name, ("auto", *LAYOUTS))
        )
    return importlib.import_module(f"lunet.data.layouts.{name}")


def _detect(root: Path) -> ModuleType:
    modules = [_module(name) for name in LAYOUTS]
    for module in modules:
        if module.matches(root):
            return module
    looked = "; ".join(
        f"{name}: {module.LOOKS_FOR}" for name, module in zip(LAYOUTS, modules, strict=True)
    )
    inside = sorted(path.name for path in root.iterdir())[:8] if root.is_dir() else [root.name]
    raise DataError(
        where=root,
        found=f"no known layout (it holds {', '.join(inside) or 'nothing'})",
        expected=f"looked for {looked}",
        action="Name the files in a CSV listing, with columns id, image, label",
    )
