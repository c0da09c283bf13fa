from __future__ import annotations

import errno
import math
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lunet.errors import ConfigError, TrainingError
from lunet.failures import classify
from lunet.leftovers import part_of
from lunet.training.checkpoint import (
    Checkpoint,
    Unusable,
    digest,
    random_state,
    read_state,
    seed_everything,
    set_random_state,
    stamp_of,
)

STATE = {"epoch": 3, "best": -math.inf, "rows": [{"a": None}], "w": torch.arange(6.0).view(2, 3)}


@pytest.fixture
def place(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path)


def test_state_is_read_back_without_pickled_code(place: Checkpoint) -> None:
    place.save(STATE, stamp="s")
    raw = torch.load(place.newest, weights_only=True)
    assert raw["state"]["epoch"] == 3
    found = place.load(stamp="s", log=pytest.fail)
    assert found is not None
    assert digest(found) == digest(STATE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_called_so_and_the_state_before_stands(place: Checkpoint) -> None:
    place.save(STATE, stamp="s")
    part_of(place.newest).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        place.save({"epoch": 4}, stamp="s")
    assert classify(caught.value).reason == "full disk"
    assert [path.name for path in place.folder.iterdir()] == ["state.pt"]
    assert read_state(place.newest, stamp="s")["epoch"] == 3


def test_two_generations(place: Checkpoint) -> None:
    for epoch in (1, 2, 3):
        place.save({"epoch": epoch}, stamp="s")
    assert read_state(place.newest, stamp="s")["epoch"] == 3
    assert read_state(place.previous, stamp="s")["epoch"] == 2


@pytest.mark.parametrize("damage", ["cut", "zeros", "empty", "text"])
def test_damaged_state_falls_back_with_a_line(place: Checkpoint, damage: str) -> None:
    for epoch in (1, 2):
        place.save({"epoch": epoch, "w": torch.randn(500)}, stamp="s")
    content = place.newest.read_bytes()
    half = len(content) // 2
    place.newest.write_bytes(
        {
            "cut": content[:half],
            "zeros": content[: half - 400] + bytes(800) + content[half + 400 :],
            "empty": b"",
            "text": b"no state at all",
        }[damage]
    )
    lines: list[str] = []
    found = place.load(stamp="s", log=lines.append)
    assert found is not None
    assert found["epoch"] == 1
    assert len(lines) == 1
    assert "damaged" in lines[0]


def test_what_cannot_be_read_now_is_kept(
    place: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.save(STATE, stamp="a")
    content = place.newest.read_bytes()
    load, fail = torch.load, zipfile.ZipFile

    def failing(error: Exception) -> Any:
        def call(*_: Any, **__: Any) -> None:
            raise error

        return call

    def refuse(text: str) -> None:
        raise AssertionError(text)

    passing = [
        (zipfile, "ZipFile", fail, OSError(errno.EIO, "Input/output error"), TrainingError),
        (zipfile, "ZipFile", fail, OSError(errno.EACCES, "Permission denied"), TrainingError),
        (zipfile, "ZipFile", fail, OSError(errno.EMFILE, "Too many open files"), TrainingError),
        (torch, "load", load, MemoryError(), MemoryError),
        (torch, "load", load, RuntimeError("can't allocate memory"), RuntimeError),
        (torch, "load", load, OSError(errno.EIO, "Input/output error"), TrainingError),
    ]
    for module, name, original, error, expected in passing:
        monkeypatch.setattr(module, name, failing(error))
        with pytest.raises(expected):
            place.load(stamp="a", log=refuse)
        monkeypatch.setattr(module, name, original)
        assert place.newest.read_bytes() == content
    assert place.load(stamp="a", log=refuse) is not None


def test_what_is_damaged_is_set_aside_until_the_end(place: Checkpoint) -> None:
    place.save(STATE, stamp="a")
    place.save(STATE, stamp="a")
    content = place.newest.read_bytes()[:-100]
    place.newest.write_bytes(content)
    lines: list[str] = []
    assert place.load(stamp="a", log=lines.append) is not None
    assert "damaged" in lines[0]
    assert "set aside as state.unused.pt" in lines[0]
    assert (place.folder / "state.unused.pt").read_bytes() == content
    place.remove()
    assert not place.folder.exists()


def test_every_changed_number_is_noticed(place: Checkpoint) -> None:
    place.save(STATE, stamp="s")
    raw = torch.load(place.newest, weights_only=True)
    raw["state"]["w"][1, 2] += 1e-3
    torch.save(raw, place.newest)
    with pytest.raises(Unusable, match="checksum"):
        read_state(place.newest, stamp="s")


def test_state_of_another_training_is_not_used(place: Checkpoint) -> None:
    place.save(STATE, stamp="s")
    lines: list[str] = []
    assert place.load(stamp="other", log=lines.append) is None
    assert "other settings" in lines[0]


def test_nothing_saved_is_no_fault(place: Checkpoint) -> None:
    assert place.load(stamp="s", log=pytest.fail) is None


def test_digest_tells_types_shapes_and_order_of_lists_apart() -> None:
    one = torch.zeros(4)
    different = [one, one.view(2, 2), one.double(), [one], {"a": one}, (one,), 0, 0.0, False, "0"]
    assert len({digest(value) for value in different}) == len(different)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    strided = torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1)
    assert digest(strided) == digest(strided.contiguous())


def test_seeds_that_would_give_one_network_are_refused() -> None:
    for seed in (2**32, -1):
        with pytest.raises(ConfigError, match=f"seed: {seed}"):
            seed_everything(seed)
    seed_everything(2**32 - 1)


def test_random_generators_go_on_where_they_were(place: Checkpoint) -> None:
    seed_everything(5)
    np.random.standard_normal(3)  # leaves a cached second normal
    place.save({"random": random_state()}, stamp="s")

    def draw() -> list[float]:
        return [random.random(), float(np.random.standard_normal()), float(torch.rand(1))]

    first = draw()
    seed_everything(6)
    set_random_state(read_state(place.newest, stamp="s")["random"])
    assert draw() == first


def test_a_state_saved_where_two_gpus_were_resumes_where_one_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the generator of the GPU in use is saved."""
    numbers, restored = torch.arange(16, dtype=torch.uint8), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: numbers)
    saved = random_state()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored.append)
    set_random_state(saved)
    assert len(restored) == 1
    assert restored[0].equal(numbers)


def test_stamp_depends_on_content_not_on_order() -> None:
    assert stamp_of({"a": 1, "b": [2]}) == stamp_of({"b": [2], "a": 1})
    assert stamp_of({"a": 1}) != stamp_of({"a": 2})
