"""The resume state of a training: written atomically in two generations, checked on reading.

A state is a nested structure of dicts, lists, numbers, strings and tensors, so that
``torch.load(weights_only=True)`` can read it without executing code. Its stamp identifies the
settings, code and data for which it is valid; its checksum covers every tensor and number.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lunet.data.settings import LARGEST_SEED
from lunet.errors import ConfigError, TrainingError
from lunet.files import atomic

State = dict[str, Any]
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """The files of a training's state: ``state.pt``, and the state before as ``previous.pt``."""

    folder: Path

    @property
    def newest(self) -> Path:
        """File of the last state."""
        return self.folder / "state.pt"

    @property
    def previous(self) -> Path:
        """File of the state before the last."""
        return self.folder / "previous.pt"

    @property
    def aside(self) -> tuple[Path, Path]:
        """Files for states that cannot be used; kept until the training has ended successfully."""
        return self.folder / "state.unused.pt", self.folder / "previous.unused.pt"

    def save(self, state: Mapping[str, Any], *, stamp: str) -> None:
        """Write a state; at any moment at least one complete state is on disk."""
        complete = {"format": _FORMAT, "stamp": stamp, "state": dict(state)}
        complete["sha256"] = digest(complete)
        buffer = io.BytesIO()
        torch.save(complete, buffer)
        with atomic(self.newest) as part:
            # PyTorch's own writer hides a full disk behind a RuntimeError without errno
            part.write_bytes(buffer.getbuffer())
            if self.newest.exists():
                os.replace(self.newest, self.previous)

    def load(self, *, stamp: str, log: Callable[[str], None]) -> State | None:
        """The newest intact state with this stamp; None if there is none to resume from.

        ``log`` gets one line per file that is not used. Such a file is set aside, so that the next
        save does not keep it as the previous good state.

        Raises
        ------
        TrainingError
            If a file cannot be read for a reason that may be temporary (permission, a failing
            disk).
        MemoryError, RuntimeError
            If there is too little memory now. In both cases the file is left unchanged.
        """
        for path, aside in zip((self.newest, self.previous), self.aside, strict=True):
            try:
                if path.exists():
                    return read_state(path, stamp=stamp)
            except Unusable as error:
                log(f"{path}: {error}; it is not used and was set aside as {aside.name}")
                os.replace(path, aside)
            except OSError as error:
                raise TrainingError(
                    where=path,
                    found=f"cannot be read now ({error.strerror or error})",
                    expected="it may be intact, so it is kept",
                    action=(
                        "Start again when it can be read, or remove it to train from the beginning"
                    ),
                ) from error
        return None

    def remove(self) -> None:
        """Remove the states, and the folder if nothing else is in it."""
        for path in (self.newest, self.previous, *self.aside):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


class Unusable(Exception):
    """A state that a training cannot resume from: it is damaged, or from another training."""


def read_state(path: Path, *, stamp: str) -> State:
    """Read one state file.

    Raises
    ------
    Unusable
        If the file is damaged or has another format, or checksum or stamp do not match.
    OSError, MemoryError, RuntimeError
        If the file cannot be read now, which does not prove that it is damaged.
    """
    _require_whole(path)
    try:
        complete = torch.load(path, map_location="cpu", weights_only=True)
        found = complete.pop("sha256")
        intact = found == digest(complete)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # other content fails in many ways, none of which is a bug here
        if "allocate" in str(error):
            raise
        raise Unusable(f"damaged ({type(error).__name__})") from error
    if not intact:
        raise Unusable("damaged (checksum)")
    if complete["format"] != _FORMAT:
        raise Unusable(f"has format {complete['format']}, but this version reads {_FORMAT}")
    if complete["stamp"] != stamp:
        raise Unusable("made with other settings, code or data")
    return complete["state"]


def _require_whole(path: Path) -> None:
    """Refuse an archive that is truncated or has a wrong byte, by its own checksums.

    If an archive passes and still cannot be loaded, there is too little memory, or it is another
    program's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except MemoryError:
        raise
    except Exception as error:  # damaged tables of contents fail in many ways
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise Unusable(f"damaged ({error or type(error).__name__})") from error
    if bad is not None:
        raise Unusable(f"damaged (checksum of {bad})")


def digest(value: Any) -> str:
    """SHA-256 of a nested structure: types and shapes matter, the order of dicts does not."""
    summary = hashlib.sha256()
    for piece in _pieces(value):
        summary.update(piece)
    return summary.hexdigest()


def _pieces(value: Any) -> Iterator[bytes | memoryview]:
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        yield f"tensor {plain.dtype} {tuple(plain.shape)};".encode()
        if plain.numel():
            yield plain.reshape(-1).view(torch.uint8).numpy().data
    elif isinstance(value, Mapping):
        yield f"dict {len(value)};".encode()
        for key in sorted(value, key=repr):
            yield f"{key!r}:".encode()
            yield from _pieces(value[key])
    elif isinstance(value, list | tuple):
        yield f"{type(value).__name__} {len(value)};".encode()
        for item in value:
            yield from _pieces(item)
    else:
        yield f"{value!r};".encode()


def stamp_of(parts: Mapping[str, Any]) -> str:
    """One digest of everything that a state depends on (plain JSON values)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def random_state() -> State:
    """The state of every global random generator: Python, NumPy, torch, the GPU in use."""
    kind, keys, position, has_gauss, gauss = cast(tuple[Any, ...], np.random.get_state())
    version, numbers, pending = random.getstate()
    return {
        "python": [version, torch.tensor(numbers), pending],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        # of one GPU: a training that saw two may resume where there is one
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore every global random generator to a state from :func:`random_state`."""
    version, numbers, pending = state["python"]
    random.setstate((version, tuple(numbers.tolist()), pending))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, torch and CUDA.

    Raises
    ------
    ConfigError
        If the seed has more than 32 bits: PyTorch would use only the last ones, and two seeds
        could give the same network.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise ConfigError(where="seed", found=f"{seed}", expected=f"0 to {LARGEST_SEED}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
