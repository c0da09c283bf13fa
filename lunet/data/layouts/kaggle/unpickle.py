"""Reads label pickles of the Kaggle collection without running the code in them.

A pickle is a program: loading it may call any function. The Kaggle layout therefore runs this
module as a separate program (``python -I unpickle.py SOURCE OUT``, POSIX systems only) with bounded
memory and time. Its unpickler finds no function of any library: the few names that label files need
resolve to inert stand-ins in this module, and any other name is an error. It writes the label as
``.npy`` and prints one JSON line.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEMORY = 8 * 2**30  # bytes of address space
SECONDS = 600  # of processor time
MOST_VOXELS = 2**31
_KINDS = "buif"
_GZIP = b"\x1f\x8b"


class Refused(ValueError):
    """The pickle refers to something that a label does not need."""


class Record:
    """Stands for an object of the collection's package: its attributes, no behaviour."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise Refused("an object whose state is not a dictionary")
        self.fields = state


class DataType:
    """Stands for ``numpy.dtype``."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else str(code)
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise Refused("a structured number format")
        self.order = state[1]

    def real(self) -> np.dtype[Any]:
        """The number format: only booleans, whole numbers and floats."""
        try:
            found = np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]
        except TypeError as error:
            raise Refused(f"the number format {self.code!r}") from error
        if found.kind not in _KINDS:
            raise Refused(f"the number format {found}")
        return found


class Array:
    """Stands for ``numpy.ndarray``; its numbers are taken from plain bytes."""

    def __init__(self, *_: Any) -> None:
        self.values: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_column, content = state
        self.values = _from_bytes(content, kind, shape, "F" if by_column else "C")


def _from_bytes(content: Any, kind: Any, shape: Any, order: str) -> NDArray[Any]:
    if not isinstance(kind, DataType) or not isinstance(content, bytes | bytearray):
        raise Refused("an array of objects")
    numbers = np.frombuffer(bytes(content), kind.real())
    if int(np.prod(shape, dtype=object)) != numbers.size:
        raise Refused(f"an array of shape {shape} with {numbers.size} numbers")
    return numbers.reshape(shape, order=order)  # type: ignore[call-overload, no-any-return]


def _array(*_: Any) -> Array:
    return Array()


def _array_of_buffer(content: Any, kind: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.values = _from_bytes(content, kind, shape, "F" if order == "F" else "C")
    return array


def _number(kind: Any, content: Any = b"") -> Any:
    return _from_bytes(content, kind, (1,), "C")[0].item()


_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_PLAIN: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): DataType,
    ("numpy", "ndarray"): Array,
    ("builtins", "slice"): slice,
    ("builtins", "bool"): "bool",
    ("builtins", "int"): "int64",
    ("builtins", "float"): "float64",
    ("builtins", "bytearray"): bytearray,
    ("_codecs", "encode"): lambda text, _: text.encode("latin1"),  # bytes in protocols 0 to 2
    ("copyreg", "_reconstructor"): lambda kind, *_: kind(),
    ("builtins", "object"): object,
    **{(module, "_reconstruct"): _array for module in _MULTIARRAY},
    **{(module, "scalar"): _number for module in _MULTIARRAY},
    **{(module, "_frombuffer"): _array_of_buffer for module in _NUMERIC},
}
_OLD_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # in protocols 0 to 2
_SCALARS = {"bool_", "bool", *(f"{sign}int{n}" for sign in ("", "u") for n in (8, 16, 32, 64))}
_SCALARS |= {"float16", "float32", "float64"}
_RECORDS = ("SegmentArray", "SingleSegment", "MultiPartSegment", "MultiClassSegment", "Segment")


class Reader(pickle.Unpickler):
    """An unpickler that knows only the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; a name without one is refused."""
        module = _OLD_NAMES.get(module, module)
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        if module == "numpy" and name in _SCALARS:
            return name
        if module.split(".")[0] == "evalseg" and name in _RECORDS:
            return Record
        raise Refused(f"the name {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Refuse every persistent id: a label refers to nothing outside the pickle."""
        raise Refused("a reference to something outside")


def read(content: bytes) -> tuple[NDArray[np.uint8], tuple[float, ...] | None]:
    """Label (x, y, z) uint8 and voxel size in mm, if the pickle names one.

    Raises
    ------
    Refused
        If the pickle holds anything but a label.
    """
    raw = gzip.decompress(content) if content[:2] == _GZIP else content
    found = Reader(io.BytesIO(raw)).load()
    spacing = None
    if isinstance(found, tuple) and len(found) == 2:
        found, spacing = found
    if isinstance(found, Array):
        return _label(found.values), _spacing(spacing)
    if not isinstance(found, Record | dict):
        raise Refused(f"a {type(found).__name__} instead of a label")
    fields = _fields(found)
    return _dense(fields), _spacing(fields.get("voxelsize", spacing))


def _fields(found: Any) -> dict[str, Any]:
    fields = found.fields if isinstance(found, Record) else found
    if not isinstance(fields, dict):
        raise Refused("a segment that is not an object")
    return fields


def _dense(fields: dict[str, Any]) -> NDArray[np.uint8]:
    """The whole label from its segments, each with the box (``roi``) that it fills."""
    shape = _shape(fields.get("shape"))
    label = np.zeros(shape, np.uint8)
    for segment, index in _segments(fields):
        box = _box(segment.get("roi"), shape)
        data = segment.get("data")
        if not isinstance(data, Array):
            raise Refused("a segment without an array `data`")
        part = _label(data.values * index)
        if part.shape != label[box].shape:
            raise Refused(f"a segment of {part.shape} voxels in a box of {label[box].shape}")
        np.maximum(label[box], part, out=label[box])
    return label


def _segments(fields: dict[str, Any], index: int = 1) -> Iterator[tuple[dict[str, Any], int]]:
    """Segments, and the factor for their values: the class of a binary segment."""
    if "data" in fields:
        yield fields, index
        return
    parts = fields.get("segments", fields.get("classes"))
    numbered = parts.items() if isinstance(parts, dict) else ((index, part) for part in parts or ())
    if not isinstance(parts, list | dict):
        raise Refused("no list `segments`")
    for number, part in numbered:
        if type(number) is not int or not 0 < number < 256:
            raise Refused(f"the class {number!r}")
        yield from _segments(_fields(part), number)


def _shape(value: Any) -> tuple[int, ...]:
    usable = isinstance(value, tuple | list) and all(type(n) is int and n > 0 for n in value)
    if not usable or len(value) != 3 or int(np.prod(value, dtype=object)) > MOST_VOXELS:
        raise Refused(f"the shape {value!r}")
    return tuple(value)


def _box(value: Any, shape: Sequence[int]) -> tuple[slice, ...]:
    usable = isinstance(value, tuple | list) and len(value) == len(shape)
    if not usable or not all(isinstance(part, slice) and part.step in (None, 1) for part in value):
        raise Refused(f"the box {value!r}")
    box = tuple(slice(part.start or 0, part.stop) for part in value)
    for part, length in zip(box, shape, strict=True):
        whole = type(part.start) is int and (part.stop is None or type(part.stop) is int)
        if not whole or not 0 <= part.start <= (length if part.stop is None else part.stop):
            raise Refused(f"the box {value!r}")
        if part.stop is not None and part.stop > length:
            raise Refused(f"the box {value!r} in a volume of {tuple(shape)}")
    return box


def _label(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.size and (
        values.min() < 0 or values.max() > 255 or (values != np.rint(values)).any()
    ):
        raise Refused("label values that are not whole numbers from 0 to 255")
    return values.astype(np.uint8)


def _spacing(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = value.values.tolist() if isinstance(value, Array) else list(value)
    if len(numbers) != 3 or not all(type(n) in (int, float) and 0 < n < 1e4 for n in numbers):
        raise Refused(f"the voxel size {numbers!r}")
    return tuple(float(n) for n in numbers)


def main(words: Sequence[str]) -> int:
    """``SOURCE OUT``: read one pickle, write ``OUT`` (.npy), print shape and voxel size as JSON."""
    source, out = map(Path, words)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    content = source.read_bytes()
    try:
        label, spacing = read(content)
    except Refused as error:
        print(json.dumps({"refused": str(error)}))
        return 1
    except Exception as error:  # any error here is caused by the file
        print(json.dumps({"refused": f"{type(error).__name__}: {error}"[:300]}))
        return 1
    with out.open("wb") as stream:
        np.save(stream, label, allow_pickle=False)
    print(json.dumps({"shape": label.shape, "spacing": spacing}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
