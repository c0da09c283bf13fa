"""BIDS: a participants table, raw images by subject, masks among the derivatives."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from lunet.data.dataset import Case, Dataset
from lunet.data.io.images import is_hidden, stem_of, suffix_of
from lunet.data.layouts.task import chosen_groups, infer_labels
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.reading import number_in, read_object, read_rows
from lunet.task import Task

LOOKS_FOR = "participants.tsv, sub-*/anat/*_T1w.nii.gz and derivatives/*/sub-*/anat/*_{seg,mask}"
_MASKS = ("mask", "dseg", "seg", "label", "roi")
_DESCRIPTION = "dataset_description.json"
Session = tuple[str, str]


def matches(root: Path) -> bool:
    """Whether ``root`` has this layout."""
    return root.is_dir() and (root / "participants.tsv").is_file() and any(root.glob("sub-*"))


def read(root: Path, settings: DatasetSettings) -> Dataset:
    """One case per subject and session; ``settings.channels`` chooses the suffixes (T1w, T2w)."""
    images = _files(root)
    masks = _files(root / "derivatives")
    subjects = _participants(root / "participants.tsv")
    left = _left(images, masks, subjects, root)
    for subject in subjects:
        if not any(found == subject for found, _ in images):
            raise DataError(
                where=root / "participants.tsv",
                found=f"subject {subject} has no images",
                expected=f"files in {root / subject}",
                action="Add them, or remove the subject from the table",
            )
    channels = settings.channels or _common_suffixes(images, root)
    cases = [
        _case(session, channels, images[session], masks.get(session, []), root)
        for session in sorted(images)
        if session[0] in subjects
    ]
    labels, rule = infer_labels(cases, settings)
    names = _lookup(root) if settings.labels is None else {}
    named = {names.get(index, name): index for name, index in labels.items()}
    return Dataset(
        root=root,
        name=_name(root),
        task=Task(tuple(channels), named, settings.regions or {}, settings.dimensions),
        cases=chosen_groups(cases, settings),
        rule=rule,
        left_out=left,
        lost=frozenset(left) & {_session_name(session) for session in images},
    )


def _left(
    images: dict[Session, list[Path]],
    masks: dict[Session, list[Path]],
    subjects: Sequence[str],
    root: Path,
) -> dict[str, str]:
    """Subjects that the table does not list, and masks of subjects without images."""
    left = {
        _session_name(session): "not in participants.tsv"
        for session in sorted(images)
        if session[0] not in subjects
    }
    alone = [path for session in sorted(set(masks) - set(images)) for path in masks[session]]
    return left | {p.relative_to(root).as_posix(): "a mask without an image" for p in alone}


def _session_name(session: Session) -> str:
    return "_".join(part for part in session if part)


def _name(root: Path) -> str:
    path = root / _DESCRIPTION
    return str(read_object(path).get("Name") or root.name) if path.is_file() else root.name


def _participants(path: Path) -> list[str]:
    what = "a BIDS participants table"
    rows = read_rows(path, needed=["participant_id"], separators="\t", what=what)
    return [row["participant_id"] for row in rows]


def _files(root: Path) -> dict[Session, list[Path]]:
    """(subject, session) -> image files below ``root``, except derivatives and source data."""
    found: dict[Session, list[Path]] = defaultdict(list)
    for path in sorted(root.rglob("sub-*")):
        inside = path.relative_to(root).parts
        if path.is_dir() or not suffix_of(path) or is_hidden(path):
            continue
        if inside[0] in ("derivatives", "sourcedata"):
            continue
        parts = path.name.split("_")
        session = next((part for part in parts if part.startswith("ses-")), "")
        found[parts[0], session].append(path)
    return found


def _ending(path: Path) -> str:
    """The BIDS suffix of a file: ``T1w`` of ``sub-01_T1w.nii.gz``."""
    return stem_of(path).rpartition("_")[2]


def _common_suffixes(images: dict[Session, list[Path]], root: Path) -> tuple[str, ...]:
    counts = Counter(ending for files in images.values() for ending in {_ending(f) for f in files})
    common = sorted(ending for ending, count in counts.items() if count == len(images))
    if not common:
        raise DataError(
            where=root,
            found=f"no image kind that all subjects have ({dict(counts)})",
            expected="at least one",
            action="Choose with dataset.channels, e.g. --channels T2w",
        )
    return tuple(common)


def _case(
    session: Session,
    channels: Sequence[str],
    images: Sequence[Path],
    masks: Sequence[Path],
    root: Path,
) -> Case:
    name = _session_name(session)
    chosen = []
    for channel in channels:
        found = [path for path in images if _ending(path) == channel]
        if len(found) != 1:
            raise DataError(
                where=root / session[0],
                found=f"subject {name} has {len(found)} files {name}*_{channel}",
                expected=f"one per channel ({', '.join(channels)})",
                action="Add the file, or remove the subject from participants.tsv",
            )
        chosen.append(found[0])
    return Case(name, tuple(chosen), _mask(masks, chosen, name), session[0])


def _mask(masks: Sequence[Path], images: Sequence[Path], name: str) -> Path | None:
    """The mask of a session; if masks are named after images, the mask of the first image."""
    usable = [path for path in masks if any(word in _ending(path).lower() for word in _MASKS)]
    for image in images:
        own = [path for path in usable if stem_of(path).startswith(stem_of(image))]
        if own:
            usable = own
            break
    if len(usable) > 1:
        raise DataError(
            where=usable[0].parent,
            found=f"subject {name} has {len(usable)} masks ({', '.join(p.name for p in usable)})",
            expected="one is needed",
            action="Keep one, or name image and mask in a CSV listing",
        )
    return usable[0] if usable else None


def _lookup(root: Path) -> dict[int, str]:
    """Names of class indices from a ``*dseg.tsv`` table, if there is one."""
    tables = [*sorted(root.rglob("*dseg.tsv"))]
    if not tables:
        return {}
    rows = read_rows(
        tables[0], needed=["index", "name"], separators="\t", what="a BIDS table of labels"
    )
    named = [row for row in rows if row["index"] and row["name"]]
    return {int(number_in(row, "index", tables[0])): row["name"] for row in named}
