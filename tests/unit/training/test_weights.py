from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lunet.errors import DataError
from lunet.training.weights import initialise, load_weights, save_weights


def network(out: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.Conv3d(3, out, 1))


def test_round_trip_keeps_every_tensor_and_the_metadata(tmp_path: Path) -> None:
    model = network().to(memory_format=torch.channels_last_3d)
    model[1].num_batches_tracked += 7
    path = tmp_path / "w.safetensors"
    save_weights(path, model, {"epoch": 3, "task": {"labels": {"a": 1}}})
    state, metadata = load_weights(path)
    assert metadata == {"epoch": 3, "task": {"labels": {"a": 1}}}
    assert list(state) == sorted(model.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    model = network()
    for name in "ab":
        save_weights(tmp_path / name, model, {"y": 1, "x": 2})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    shared = torch.ones(3)
    save_weights(tmp_path / "w", {"a": shared, "b": shared}, {})
    assert set(load_weights(tmp_path / "w")[0]) == {"a", "b"}


def test_wrong_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        load_weights(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="not a safetensors file"):
        load_weights(tmp_path / "text")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(DataError, match="import-weights"):
        load_weights(tmp_path / "foreign")


def test_fine_tuning_takes_what_fits_and_names_the_rest(tmp_path: Path) -> None:
    trained, other = network(), network(out=4)
    save_weights(tmp_path / "w", trained, {})
    head = other[2].weight.clone()
    assert initialise(other, tmp_path / "w") == ["2.weight", "2.bias"]
    assert torch.equal(other[0].weight, trained[0].weight)
    assert torch.equal(other[2].weight, head)
    with pytest.raises(DataError, match="no tensor fits"):
        initialise(nn.Linear(2, 2), tmp_path / "w")
