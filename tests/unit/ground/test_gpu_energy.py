from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from lunet import gpu_energy
from lunet.devices import SHARE
from lunet.gpu_energy import NoCounter, joules_of_one_run, joules_so_far


class Failure(Exception):
    """What NVML raises."""


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A pretended NVML with one GPU, whose counter (mJ) a test sets."""
    now = SimpleNamespace(millijoules=5000, broken=False)

    def consumption(handle: bytes) -> int:
        assert handle == b"GPU-abc"
        if now.broken:
            raise Failure("not supported")
        return now.millijoules

    nvml = SimpleNamespace(
        NVMLError=Failure,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda identity: identity,
        nvmlDeviceGetTotalEnergyConsumption=consumption,
    )
    monkeypatch.delenv(SHARE, raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="abc"))
    gpu_energy._handle.cache_clear()
    return now


def test_the_counter_is_read_in_joules(counter: SimpleNamespace) -> None:
    assert joules_so_far("cuda") == 5.0
    counter.millijoules = 6500
    assert joules_of_one_run(torch.device("cuda")) == 6.5


def test_a_shared_gpu_says_nothing_about_one_run(
    counter: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARE, "2")
    assert math.isnan(joules_of_one_run("cuda"))
    assert joules_so_far("cuda") == 5.0


def test_without_a_counter_the_reason_is_told(
    counter: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoCounter, match="only GPUs"):
        joules_so_far("cpu")
    counter.broken = True
    with pytest.raises(NoCounter, match="not supported"):
        joules_so_far("cuda")
    assert math.isnan(joules_of_one_run("cuda"))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoCounter, match="pynvml is not installed"):
        joules_so_far("cuda")
