"""Repairs what can be repaired safely, into a new folder; everything else is listed as left.

The repaired copy is audited again: a finding that remains there was not repaired and is listed as
left.

Safe repairs change no voxel's meaning: label types, singleton axes, header jitter, contradicting
header fields, files named against their content, stray files, wrong counts, and remapping that the
settings ask for. A repair that changes values, or decides which file is right, needs an option.
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.audit.audit import audit
from lunet.data.audit.findings import Finding
from lunet.data.audit.read import relative
from lunet.data.dataset import Case, Dataset, read_dataset
from lunet.data.io.images import DRIFT, NIFTI, LabelRule, class_indices, drift_of, read_raw
from lunet.data.io.write import write_nifti
from lunet.data.layouts.importing import files_of, write_links
from lunet.errors import DataError
from lunet.files import write_csv
from lunet.own_files import renewed

LOG = "repairs.csv"
COLUMNS = ("outcome", "check", "case", "file", "field", "found", "done")
_GZIP = b"\x1f\x8b"
_MISMATCHES = ("origin_mismatch", "direction_mismatch", "spacing_mismatch")
_DONE = {
    "float_label": "stored as integers",
    "label_drift": "rounded and stored as integers",
    "singleton_axis": "axis dropped",
    "cosmetic_jitter": "header of the image copied",
    "qform_sform_conflict": "the affine that is read was stored in both",
    "bad_qform": "the affine that is read was stored in both",
    "wrong_compression": "stored as its name says",
    "stray_file": "left out",
    "wrong_count": "recounted",
}


@dataclass(frozen=True)
class RepairOptions:
    """Repairs that need the user's consent.

    Attributes
    ----------
    trust_image_header
        If the files of a case have the same shape but different positions, the label and further
        channels get the affine of the first image file.
    fill_non_finite
        NaN and -inf become the smallest finite value of their channel, +inf the largest.
    leave_out
        Cases with unrepaired errors are not listed in the new folder.
    """

    trust_image_header: bool = False
    fill_non_finite: bool = False
    leave_out: bool = False

    @property
    def repairs(self) -> dict[str, str]:
        """Check -> what is done about its findings."""
        done = dict(_DONE)
        if self.trust_image_header:
            done |= dict.fromkeys(_MISMATCHES, "header of the image copied, as asked")
        if self.fill_non_finite:
            done["not_finite"] = "nearest finite values filled in, as asked"
        return done


def repair(
    dataset: Dataset, out: str | Path, options: RepairOptions | None = None
) -> list[dict[str, str]]:
    """Audit ``dataset`` and write a repaired copy: changed files are new, all others are links.

    Returns
    -------
    The rows of ``out/repairs.csv``: outcome ``repaired``, ``left`` or ``left out``.

    Raises
    ------
    ConfigError
        If ``out`` holds anything that this step did not write, or is the data set's own folder.
    """
    options = options or RepairOptions()
    with renewed(out, step="repair", inputs=[dataset.root, *files_of(dataset)]) as stage:
        return _write(dataset, audit(dataset).findings, options, stage)


def _write(
    dataset: Dataset, findings: Sequence[Finding], options: RepairOptions, stage: Path
) -> list[dict[str, str]]:
    """Repair all cases below ``stage`` and return the log."""
    checks: dict[str, set[str]] = defaultdict(set)
    for finding in findings:
        if finding.check in options.repairs:
            checks[finding.file].add(finding.check)
    rows = [_row(finding, options.repairs) for finding in findings]
    bad = {f.case for f in findings if f.severity == "error" and f.check not in options.repairs}
    cases = []
    for case in dataset.cases:
        if options.leave_out and case.id in bad:
            reason = "its errors cannot be repaired"
            rows.append(_log("left out", "", case.id, "", "", reason, "not listed"))
            continue
        repaired, more = _repair_case(case, dataset, checks, stage)
        cases.append(repaired)
        rows += more
    # labels were remapped if the rule required it
    repaired_set = replace(dataset, cases=tuple(cases), rule=LabelRule())
    write_links(repaired_set, stage)
    for folder in ("images", "labels"):
        if (stage / folder).is_dir():
            shutil.rmtree(stage / folder)
    rows = _checked(rows, dataset, read_dataset(stage, task=dataset.task))
    write_csv(stage / LOG, COLUMNS, rows)
    return rows


def _checked(
    rows: Sequence[dict[str, str]], before: Dataset, after: Dataset
) -> list[dict[str, str]]:
    """The log, where a repair is listed as left if its finding remains in the repaired copy."""
    names = {case.id: _names(case, before.root) for case in before.cases}
    standing = set()
    for finding in audit(after).findings:
        case = next((case for case in after.cases if case.id == finding.case), None)
        file = finding.file
        if case is not None:
            there = _names(case, after.root)
            file = dict(zip(there, names[case.id], strict=False)).get(file, file)
        standing.add((finding.check, finding.case, file))
    return [
        row | {"outcome": "left", "done": f"tried ({row['done']}), and still found"}
        if row["outcome"] == "repaired" and (row["check"], row["case"], row["file"]) in standing
        else row
        for row in rows
    ]


def _names(case: Case, root: Path) -> list[str]:
    """Files of a case as findings show them, in a fixed order."""
    files = [*case.images, *([case.label] if case.label else [])]
    return [relative(path, root) for path in files]


def _row(finding: Finding, repairs: dict[str, str]) -> dict[str, str]:
    done = repairs.get(finding.check)
    return _log(
        "repaired" if done else "left",
        finding.check,
        finding.case,
        finding.file,
        finding.field,
        finding.found,
        done or f"nothing ({finding.severity}); {finding.command or 'normal for some data'}",
    )


def _log(*cells: str) -> dict[str, str]:
    return dict(zip(COLUMNS, cells, strict=True))


def _repair_case(
    case: Case, dataset: Dataset, checks: dict[str, set[str]], stage: Path
) -> tuple[Case, list[dict[str, str]]]:
    """The case with its changed files below ``stage``, and further rows of the log."""
    images: list[Path] = []
    for index, path in enumerate(case.images):
        found = checks[relative(path, dataset.root)]
        name, first = f"{case.id}_{index:04d}", images[0] if images else None
        images.append(_repair_file(path, found, stage, f"images/{name}", like=first))
    files = tuple(images)
    if case.label is None:
        return replace(case, images=files), []
    file = relative(case.label, dataset.root)
    rule = dataset.rule
    if not rule.remap and rule.threshold is None:
        label = _repair_file(case.label, checks[file], stage, f"labels/{case.id}", like=files[0])
        return replace(case, images=files, label=label), []
    try:
        place = f"labels/{case.id}"
        label = _repair_file(case.label, checks[file], stage, place, like=files[0], rule=rule)
    except DataError as error:
        rows = [_log("left", "remap", case.id, file, "values", error.found, "nothing")]
        return replace(case, images=files), rows
    rows = [_log("repaired", "remap", case.id, file, "values", str(dict(rule.remap)), "remapped")]
    return replace(case, images=files, label=label), rows


def _repair_file(
    path: Path,
    checks: Collection[str],
    stage: Path,
    name: str,
    *,
    like: Path | None = None,
    rule: LabelRule | None = None,
) -> Path:
    """A repaired copy of the file below ``stage``, or the file itself if there is nothing to do.

    ``name`` is its path there, ``images/...`` or ``labels/...``, without suffix. ``like`` is the
    file whose affine it gets if a check requires it: the first image file of the case.
    """
    is_label = name.startswith("labels/")
    if "wrong_compression" in checks:
        path = _as_named(path, stage / f"{name}_stored{NIFTI[0]}")
    if not (set(checks) - {"wrong_compression"}) and rule is None:
        return path
    raw, affine = read_raw(path)
    if "singleton_axis" in checks:
        raw = raw[..., 0]
    if like is not None and {"cosmetic_jitter", *_MISMATCHES} & set(checks):
        affine = read_raw(like)[1]
    if is_label:
        raw = class_indices(raw, rule, path) if rule else _as_integers(raw)
    if "not_finite" in checks:
        raw = _filled(raw)
    place = stage / f"{name}.nii.gz"
    write_nifti(place, raw, affine)
    return place


def _as_named(path: Path, place: Path) -> Path:
    """A copy of a NIfTI file, at ``place``, whose compression matches its name."""
    content = path.read_bytes()
    if content[:2] == _GZIP:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                where=path,
                found=f"damaged ({error})",
                expected="complete gzip data",
                action="Fetch it again",
            ) from error
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(gzip.compress(content, mtime=0))
    return place


def _as_integers(raw: NDArray[Any]) -> NDArray[Any]:
    """Labels in the smallest unsigned type that holds them, if all values are whole."""
    if raw.dtype.kind != "f" or not drift_of(raw) <= DRIFT:
        return raw
    whole = np.rint(raw).astype(np.int64)
    return whole.astype(np.min_scalar_type(int(whole.max()))) if whole.min() >= 0 else whole


def _filled(raw: NDArray[Any]) -> NDArray[Any]:
    finite = raw[np.isfinite(raw)]
    if finite.size == 0:
        return raw
    low, high = finite.min(), finite.max()
    return np.nan_to_num(raw, nan=low, neginf=low, posinf=high).astype(raw.dtype)
