"""Checks of one file's header: magic, geometry fields, and the agreement of image and label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from lunet.data.audit.findings import REPAIR, Finding, FindingSite, numbers, times
from lunet.data.geometry import corner_shift, is_invertible, spacing_of
from lunet.data.io.images import GRID_TOLERANCE, NIFTI, suffix_of

# Grids closer than this count as equal: float32 headers round by as much.
EQUAL_MM = 1e-3
ORTHONORMAL = 1e-3
_HEADER_BYTES = 540
_GZIP = b"\x1f\x8b"


def check_magic(path: Path, place: FindingSite) -> Iterator[Finding]:
    """A NIfTI file whose first bytes show that it is something else."""
    if suffix_of(path) not in NIFTI:
        return
    with open(path, "rb") as stream:
        start = stream.read(_HEADER_BYTES)
    zipped, named_zipped = start[:2] == _GZIP, suffix_of(path) == ".nii.gz"
    if not start:
        yield place.error("empty_file", "size", "0 bytes", "an image", "fetch it again")
    elif zipped and not named_zipped:
        yield place.error("wrong_compression", "magic", "gzip data", "plain NIfTI", REPAIR)
    elif not zipped and is_nifti(start) and named_zipped:
        yield place.error("wrong_compression", "magic", "plain NIfTI", "gzip data", REPAIR)
    elif not zipped and not is_nifti(start):
        found, expected = f"first bytes {start[:4].hex()}", "gzip data" * named_zipped or "NIfTI"
        yield place.error("wrong_magic", "magic", found, expected, "fetch it again")


def is_nifti(start: bytes) -> bool:
    """Whether these first bytes of a file are a NIfTI header."""
    return start[344:347] in (b"n+1", b"ni1") or start[4:7] in (b"n+2", b"ni2")


def check_header(path: Path, place: FindingSite) -> Iterator[Finding]:
    """Geometry fields of a NIfTI header that contradict each other or make no sense."""
    if suffix_of(path) not in NIFTI:
        return
    header = stored_header(path)
    yield from _check_zooms(np.asarray(header["pixdim"][1:4], np.float64), place)
    try:
        qform, sform = header.get_qform(coded=True), header.get_sform(coded=True)
    except (ValueError, HeaderDataError) as error:
        yield place.warning("bad_qform", "qform", str(error), "a unit quaternion", REPAIR)
        return
    if not qform[1] and not sform[1]:
        yield place.warning(
            "no_orientation",
            "qform_code, sform_code",
            "0, 0",
            "one above 0: the axes' directions are a guess",
            "state the orientation in the header",
        )
    if qform[1] and sform[1] and qform[0] is not None:
        shift = corner_shift(header.get_data_shape()[:3], qform[0], sform[0])
        if shift > GRID_TOLERANCE * max(min(spacing_of(sform[0])), 1e-6):
            yield place.warning(
                "qform_sform_conflict",
                "qform, sform",
                f"corners {shift:.4g} mm apart",
                "equal; the sform is read here",
                REPAIR,
            )


def stored_header(path: Path) -> nib.Nifti1Header:
    """The header as stored in the file, without nibabel's silent corrections."""
    kind: Any = type(nib.load(path).header)
    with ImageOpener(str(path)) as stream:
        header = kind.from_fileobj(stream, check=False)
    return header if isinstance(header, nib.Nifti1Header) else nib.Nifti1Header()


def _check_zooms(zooms: NDArray[np.float64], place: FindingSite) -> Iterator[Finding]:
    if not np.isfinite(zooms).all() or (zooms <= 0).any():
        yield place.error("bad_spacing", "pixdim", times(zooms), "above 0 mm", "correct the header")
    elif (zooms > 50).any() or (zooms < 0.005).any():
        yield place.warning(
            "odd_spacing",
            "pixdim",
            f"{times(zooms)} mm",
            "0.005 to 50 mm; is the unit mm?",
            "correct the header",
        )


def check_affine(affine: NDArray[np.float64], place: FindingSite) -> Iterator[Finding]:
    """Directions that are singular or not orthonormal."""
    linear = affine[:3, :3]
    if not is_invertible(affine):
        found = numbers(linear.ravel(), 9)
        yield place.error("singular_affine", "affine", found, "invertible", "correct the header")
        return
    directions = linear / np.array(spacing_of(affine))
    skew = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if skew > ORTHONORMAL:
        yield place.warning(
            "not_orthonormal",
            "direction",
            f"axes {np.degrees(np.arcsin(min(skew, 1))):.3g} degrees off a right angle",
            f"cosines up to {ORTHONORMAL:g} (ITK refuses such files)",
            "resample it onto an orthogonal grid",
        )


def check_pair(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    affines: tuple[NDArray[np.float64], NDArray[np.float64]],
    image: str,
    place: FindingSite,
) -> Iterator[Finding]:
    """Whether the file at ``place`` (second) lies on the grid of the case's ``image`` (first)."""
    if shapes[0] != shapes[1]:
        yield place.error(
            "shape_mismatch",
            "shape",
            times(shapes[1]),
            f"{times(shapes[0])} as in {image}",
            "find the file that belongs to this image",
        )
    limit = GRID_TOLERANCE * min(spacing_of(affines[0]))
    shift = corner_shift(shapes[0], affines[0], affines[1])
    if shift <= EQUAL_MM:
        return
    field, found, expected = _difference(affines)
    if shift <= limit:
        yield place.warning(
            "cosmetic_jitter",
            field,
            found,
            f"{expected} as in {image}; corners {shift:.3g} mm apart, tolerated up to {limit:.3g}",
            REPAIR,
        )
    elif shapes[0] == shapes[1] or field == "spacing":
        yield place.error(
            f"{field}_mismatch",
            field,
            found,
            f"{expected} as in {image}; corners {shift:.4g} mm apart, tolerated {limit:.3g}",
            "find which file is right; if the image: " + REPAIR + " --trust-image-header",
        )


def _difference(
    affines: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> tuple[str, str, str]:
    """The field in which two affines differ most: name, value of the second, of the first."""
    spacings = [np.array(spacing_of(affine)) for affine in affines]
    if np.abs(spacings[0] / spacings[1] - 1).max() > 1e-3:
        return "spacing", f"{times(spacings[1])} mm", f"{times(spacings[0])} mm"
    directions = [a[:3, :3] / s for a, s in zip(affines, spacings, strict=True)]
    if np.abs(directions[0] - directions[1]).max() > 1e-3:
        codes = ["".join(nib.aff2axcodes(affine)) for affine in affines]
        if codes[0] != codes[1]:
            return "direction", f"axes {codes[1]}", f"axes {codes[0]}"
        angle = np.degrees(np.abs(directions[0] - directions[1]).max())
        return "direction", f"turned by about {angle:.3g} degrees", "no turn"
    origins = [numbers(affine[:3, 3]) for affine in affines]
    return "origin", f"({origins[1]}) mm", f"({origins[0]}) mm"
