"""Golden values of the networks and the hash fills they were computed with (golden/README.md)."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from paths import GOLDEN
from torch import nn

FAMILIES = {
    "unet": ("unet", "UNet"),
    "lunet": ("unet", "UNet"),
    "unetpp": ("unetpp", "UNetPlusPlus"),
    "lunetpp": ("unetpp", "UNetPlusPlus"),
    "mednext": ("mednext", "MedNeXt"),
}


def read_json(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def preset_rows() -> list[dict[str, str]]:
    with open(GOLDEN / "lunet_presets.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def preset_model(row: dict[str, str]) -> tuple[str, str, dict[str, Any]]:
    """(module, class, arguments) of a row of lunet_presets.csv."""
    module, name = FAMILIES[row["preset"].split("_")[0]]
    if module == "mednext":
        return module, name, {}
    widths = [int(width) for width in row["filters_per_level"].split(";")]
    return module, name, {"widths": widths, "convs_per_block": int(row["convs_per_block"])}


def hash32(count: int, t: int) -> np.ndarray:
    """u(i, t) of the 32-bit hash, i < count, in [-1, 1), float64."""
    k = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(1000003 * (t + 1))
    k &= np.uint64(0xFFFFFFFF)
    for _ in range(2):
        k ^= k >> np.uint64(16)
        k = k * np.uint64(0x45D9F3B) & np.uint64(0xFFFFFFFF)
    k ^= k >> np.uint64(16)
    return 2 * k.astype(np.float64) / 2**32 - 1


def fill32(network: nn.Module) -> None:
    """The LUNet family's fill, over the parameters in their order."""
    norms = {id(p) for m in network.modules() if _is_norm(m) for p in [m.weight]}
    with torch.no_grad():
        for t, parameter in enumerate(network.parameters()):
            u = hash32(parameter.numel(), t)
            if parameter.ndim > 1:
                u *= np.sqrt(6 / (parameter.numel() / parameter.shape[0]))
            else:
                u = 1 + 0.1 * u if id(parameter) in norms else 0.1 * (1 + u)
            parameter.copy_(torch.from_numpy(u).reshape(parameter.shape))


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d | nn.GroupNorm)


def hash64(count: int, k: int) -> np.ndarray:
    """v(i, k) of the 64-bit hash, i < count, in [-1, 1), float64."""
    z = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(k * 2**32)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return 2 * ((z >> np.uint64(11)).astype(np.float64) * 2.0**-53) - 1


def fill64(network: nn.Module, names: Sequence[str]) -> None:
    """The fill of Slim UNETRV2 and the Attention U-Net; ``names`` are the reference's."""
    with torch.no_grad():
        for k, (parameter, name) in enumerate(zip(network.parameters(), names, strict=True)):
            v = hash64(parameter.numel(), k)
            if parameter.ndim > 1:
                v *= np.sqrt(3 / np.prod(parameter.shape[1:]))
            else:
                v = 1 + 0.2 * v if name.endswith("weight") else 0.5 * v
            value = torch.from_numpy(v.astype(np.float32)).reshape(parameter.shape)
            parameter.copy_(value)


def sine_fill(network: nn.Module, names: Sequence[str]) -> None:
    """The scaled sine fill of the unit checks; ``names`` are the reference's."""
    with torch.no_grad():
        for k, (parameter, name) in enumerate(zip(network.parameters(), names, strict=True)):
            is_wide = parameter.ndim > 1
            size = 1 / np.sqrt(np.prod(parameter.shape[1:])) if is_wide else 0.5
            v = size * np.sin(0.1 * np.arange(parameter.numel()) + k)
            v += 0.0 if is_wide or not name.endswith("weight") else 1.0
            value = torch.from_numpy(v.astype(np.float32)).reshape(parameter.shape)
            parameter.copy_(value)


def image64(shape: Sequence[int], *, k: int = 1000000) -> torch.Tensor:
    return torch.from_numpy(hash64(int(np.prod(shape)), k)).reshape(tuple(shape))


def assert_matches(y: torch.Tensor, golden: dict[str, Any], *, absolute: float = 0.0) -> None:
    """Samples and checksum of an output, 2e-5 relative unless an absolute tolerance is given."""
    flat = y.detach().double().reshape(-1).numpy()
    rtol = 0.0 if absolute else 2e-5
    assert list(y.shape) == golden["shape"]
    indices = [int(i) for i in golden["samples"]]
    wanted = list(golden["samples"].values())
    np.testing.assert_allclose(flat[indices], wanted, rtol=rtol, atol=absolute)
    checksum = np.mean(flat * np.cos(0.01 * np.arange(flat.size)))
    wanted = golden["checksum_mean_of_y_times_cos_0p01_i"]
    np.testing.assert_allclose(checksum, wanted, rtol=rtol, atol=absolute)
