"""Mending what can be mended without doubt, into a new folder; everything else is listed as left.

Safe repairs change no voxel's meaning: label types, singleton axes, header jitter, contradicting
header fields, files named against their content, stray files, wrong counts, and remapping that the
settings ask for. What changes values or takes sides needs an option.
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
from lunet.data.dataset import Case, Dataset
from lunet.data.io.images import NIFTI, LabelRule, class_indices, read_raw
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
    "singleton_axis": "axis dropped",
    "cosmetic_jitter": "header of the image copied",
    "qform_sform_conflict": "the affine that is read was stored in both",
    "bad_qform": "the affine that is read was stored in both",
    "wrong_compression": "stored as its name says",
    "stray_file": "left out",
    "wrong_count": "counted anew",
}


@dataclass(frozen=True)
class RepairOptions:
    """Repairs that need the user's word.

    Attributes
    ----------
    trust_image_header
        Where image and label have one shape but lie apart, the label gets the image's affine.
    fill_non_finite
        NaN and -inf become the smallest finite value of their channel, +inf the largest.
    leave_out
        Cases with errors that are left are not listed in the new folder.
    """

    trust_image_header: bool = False
    fill_non_finite: bool = False
    leave_out: bool = False

    @property
    def mends(self) -> dict[str, str]:
        """Check -> what is done about it."""
        done = dict(_DONE)
        if self.trust_image_header:
            done |= dict.fromkeys(_MISMATCHES, "header of the image copied, as asked")
        if self.fill_non_finite:
            done["not_finite"] = "nearest finite values filled in, as asked"
        return done


def repair(
    dataset: Dataset, out: str | Path, options: RepairOptions | None = None
) -> list[dict[str, str]]:
    """Audit ``dataset`` and write a mended copy: changed files new, all others as links.

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
    """Mend all cases below ``stage``; the log."""
    checks: dict[str, set[str]] = defaultdict(set)
    for finding in findings:
        if finding.check in options.mends:
            checks[finding.file].add(finding.check)
    rows = [_row(finding, options.mends) for finding in findings]
    bad = {f.case for f in findings if f.severity == "error" and f.check not in options.mends}
    cases = []
    for case in dataset.cases:
        if options.leave_out and case.id in bad:
            reason = "its errors cannot be mended"
            rows.append(_log("left out", "", case.id, "", "", reason, "not listed"))
            continue
        mended, more = _mend_case(case, dataset, checks, stage)
        cases.append(mended)
        rows += more
    # labels were remapped where the rule asked for it
    write_links(replace(dataset, cases=tuple(cases), rule=LabelRule()), stage)
    for folder in ("images", "labels"):
        if (stage / folder).is_dir():
            shutil.rmtree(stage / folder)
    write_csv(stage / LOG, COLUMNS, rows)
    return rows


def _row(finding: Finding, mends: dict[str, str]) -> dict[str, str]:
    done = mends.get(finding.check)
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


def _mend_case(
    case: Case, dataset: Dataset, checks: dict[str, set[str]], stage: Path
) -> tuple[Case, list[dict[str, str]]]:
    """The case with its changed files below ``stage``; further rows of the log."""
    images = tuple(
        _mend_file(path, checks[relative(path, dataset.root)], stage, f"{case.id}_{index:04d}")
        for index, path in enumerate(case.images)
    )
    if case.label is None:
        return replace(case, images=images), []
    file = relative(case.label, dataset.root)
    rule = dataset.rule
    if not rule.remap and rule.threshold is None:
        label = _mend_file(case.label, checks[file], stage, case.id, image=images[0])
        return replace(case, images=images, label=label), []
    try:
        label = _mend_file(case.label, checks[file], stage, case.id, image=images[0], rule=rule)
    except DataError as error:
        rows = [_log("left", "remap", case.id, file, "values", error.found, "nothing")]
        return replace(case, images=images), rows
    rows = [_log("repaired", "remap", case.id, file, "values", str(dict(rule.remap)), "remapped")]
    return replace(case, images=images, label=label), rows


def _mend_file(
    path: Path,
    checks: Collection[str],
    stage: Path,
    name: str,
    *,
    image: Path | None = None,
    rule: LabelRule | None = None,
) -> Path:
    """A mended copy of the file, or the file itself if there is nothing to do.

    ``image`` is given for labels: the file whose affine they take, if a check asks for it.
    """
    if "wrong_compression" in checks:
        path = _as_named(path, stage, name, "labels" if image else "images")
    if not (set(checks) - {"wrong_compression"}) and rule is None:
        return path
    raw, affine = read_raw(path)
    if "singleton_axis" in checks:
        raw = raw[..., 0]
    if image is not None:
        if {"cosmetic_jitter", *_MISMATCHES} & set(checks):
            affine = read_raw(image)[1]
        raw = class_indices(raw, rule, path) if rule else _as_integers(raw)
    if "not_finite" in checks:
        raw = _filled(raw)
    place = stage / ("labels" if image else "images") / f"{name}.nii.gz"
    write_nifti(place, raw, affine)
    return place


def _as_named(path: Path, stage: Path, name: str, folder: str) -> Path:
    """A copy of a NIfTI file whose compression is what its name says."""
    content = path.read_bytes()
    if content[:2] == _GZIP:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                path, f"damaged ({error})", "whole gzip data", "Fetch it anew"
            ) from error
    place = stage / folder / f"{name}_stored{NIFTI[0]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(gzip.compress(content, mtime=0))
    return place


def _as_integers(raw: NDArray[Any]) -> NDArray[Any]:
    """Labels in the smallest unsigned type that holds them, if all values are whole."""
    if raw.dtype.kind != "f" or not np.isfinite(raw).all() or (raw != np.rint(raw)).any():
        return raw
    whole = raw.astype(np.int64)
    return whole.astype(np.min_scalar_type(int(whole.max()))) if whole.min() >= 0 else whole


def _filled(raw: NDArray[Any]) -> NDArray[Any]:
    finite = raw[np.isfinite(raw)]
    if finite.size == 0:
        return raw
    low, high = finite.min(), finite.max()
    return np.nan_to_num(raw, nan=low, neginf=low, posinf=high).astype(raw.dtype)
