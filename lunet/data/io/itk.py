"""Reads and writes NRRD and MetaImage files with ITK.

Reading checks for damage that ITK accepts or crashes on.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lunet.data.io.detached import data_files
from lunet.files import atomic

_LONGEST_LINE, _MOST_LINES = 1000, 1000
_CHUNK = 1 << 20


def read_itk(path: str | Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Array with x first (channels last, if any) and the affine, RAS+.

    Raises
    ------
    OSError, ValueError, zlib.error
        If the file is damaged.
    DataError
        If the header names a file in another folder.
    """
    import SimpleITK as sitk  # only some data sets need it

    data_files(Path(path))  # refuses a header that names a file elsewhere
    header = _header(Path(path))
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ValueError(str(error).strip().splitlines()[-1]) from error
    array = sitk.GetArrayFromImage(image)
    if "elementdatafile" in header:
        _check_length(Path(path), header, array.nbytes)
    dimensions = image.GetDimension()
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(dimensions, dimensions)
    affine[:dimensions, :dimensions] = direction * np.array(image.GetSpacing())
    affine[:dimensions, 3] = image.GetOrigin()
    affine[:2] *= -1  # ITK's world is LPS
    spatial = tuple(reversed(range(dimensions)))
    return array.transpose(spatial + tuple(range(dimensions, array.ndim))), affine


def write_itk(path: str | Path, array: NDArray[Any], affine: ArrayLike) -> None:
    """Write a volume (x, y, z) as ``.nrrd`` or ``.mha``, compressed and atomically.

    ``affine`` (4 x 4, RAS+) must be free of shear, which these formats cannot hold.
    """
    import SimpleITK as sitk  # only some data sets need it

    world = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, np.float64)  # ITK's is LPS
    spacing = np.sqrt((world[:3, :3] ** 2).sum(axis=0))
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((world[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(world[:3, 3].tolist())
    with atomic(path) as part:  # ITK tells the format from the suffix
        named = part.with_name(f"{part.name}{Path(path).suffix.lower()}")
        try:
            sitk.WriteImage(image, str(named), useCompression=True)
            os.replace(named, part)
        finally:
            named.unlink(missing_ok=True)


def _header(path: Path) -> dict[str, str]:
    """Keys (lower case) and values of a text header; ``""`` -> its length in bytes.

    Raises
    ------
    ValueError
        If a line is too long: ITK would end the whole process.
    """
    found: dict[str, str] = {}
    with open(path, "rb") as stream:
        for _ in range(_MOST_LINES):
            line = stream.readline(_LONGEST_LINE + 1)
            if len(line) > _LONGEST_LINE:
                raise ValueError(f"a line of its header has more than {_LONGEST_LINE} characters")
            key, _, value = line.decode("latin-1").partition("=")
            found[key.strip().lower()] = value.strip()
            if not line.strip() or key.strip().lower() == "elementdatafile":
                break
        found[""] = str(stream.tell())
    return found


def _check_length(path: Path, header: dict[str, str], wanted: int) -> None:
    """Check that no voxels of a MetaImage are missing: ITK would fill in arbitrary values.

    Raises
    ------
    ValueError, zlib.error
        If there are fewer bytes than ``wanted``, or compressed ones are damaged.
    """
    name = header["elementdatafile"]
    is_local = name.upper() == "LOCAL"
    place = path if is_local else path.parent / name
    if not place.is_file():  # a list of files, one per slice
        return
    start = int(header[""]) if is_local else 0
    if header.get("compresseddata", "").lower() != "true":
        found = place.stat().st_size - start
    else:
        found, unpacked = 0, zlib.decompressobj(zlib.MAX_WBITS | 32)
        with open(place, "rb") as stream:
            stream.seek(start)
            while (chunk := stream.read(_CHUNK)) and not unpacked.eof:
                found += len(unpacked.decompress(chunk))
        if not unpacked.eof:
            raise ValueError("its compressed voxels end early")
    if found < wanted:
        raise ValueError(f"{found} bytes of voxels, {wanted} are expected")
