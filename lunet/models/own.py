"""A network of the user: built by the rules of :mod:`lunet.models`, padded, and tried once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lunet.errors import ConfigError, is_out_of_memory
from lunet.models.padding import check_image, legal_sizes, run_padded

_ODD = (11, 13, 17)
"""The trial's voxels per axis, in units of ``multiple``: a network that halves an axis more often
than it says fails at an odd number of units."""
_FEW = (3, 3, 3)
_POWERS = (1, 2, 4, 8, 16, 32, 64)
_MULTIPLE = "rule 4 of lunet.models: `multiple` is a whole number of at least 1, or one per axis"
_LOGITS = "rule 3 of lunet.models, one tensor of logits (batch, out_channels, *spatial)"


class OwnNetwork(nn.Module):
    """Runs a network of the user on images of any size.

    Parameters
    ----------
    network
        Maps (B, in_channels, \\*spatial) to logits (B, out_channels, \\*spatial), if each axis is
        a multiple of ``multiple``.
    in_channels, out_channels
        As of all networks.
    multiple
        One number per axis.
    """

    def __init__(
        self, network: nn.Module, *, in_channels: int, out_channels: int, multiple: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.network = network
        self.in_channels, self.out_channels = in_channels, out_channels
        self.multiple, self.ndim = multiple, len(multiple)

    def forward(self, x: Tensor) -> Any:
        """Logits (batch, out_channels, \\*spatial)."""
        check_image(x, channels=self.in_channels, ndim=self.ndim)
        sizes = legal_sizes(x.shape[2:], multiple=self.multiple)
        return run_padded(self.network, x, sizes)


def build_own(
    make: Callable[[], nn.Module], *, in_channels: int, out_channels: int, ndim: int, where: str
) -> OwnNetwork:
    """The network that ``make`` builds, after a trial of a twin without weights.

    Raises
    ------
    ConfigError
        If a rule of :mod:`lunet.models` is broken; the message names it.
    """
    trial = _Trial(in_channels, out_channels, ndim, where)
    with torch.random.fork_rng(devices=[]):  # the trial must not change the weights that follow
        multiple = trial.multiple(make)
    return OwnNetwork(make(), in_channels=in_channels, out_channels=out_channels, multiple=multiple)


@dataclass(frozen=True)
class _Trial:
    """One image through a network; ``where`` is its file and class, for messages."""

    in_channels: int
    out_channels: int
    ndim: int
    where: str

    def multiple(self, make: Callable[[], nn.Module]) -> tuple[int, ...]:
        """What each axis must be a multiple of: as stated by the network, else as tried."""
        with torch.device("cpu"):
            network = make().eval()
        stated = getattr(network, "multiple", None)
        if stated is not None:
            candidates = [self._stated(stated)]
        else:
            candidates = [(n,) * self.ndim for n in _POWERS]
        for candidate in candidates:
            image = self._image(candidate, _ODD).to("meta")
            logits = _on_meta(make, image)
            if isinstance(logits, Tensor) and logits.shape[2:] == image.shape[2:]:
                self._check(logits, image)
                return candidate
        # wrong, or code that reads values, which tensors on the meta device do not have
        image = self._image(candidates[0], _ODD if max(candidates[0]) == 1 else _FEW)
        self._check(self._run(network, image), image)
        return candidates[0]

    def _stated(self, value: Any) -> tuple[int, ...]:
        found = (value,) * self.ndim if isinstance(value, int) else value
        is_list = isinstance(found, Sequence) and len(found) == self.ndim
        if not is_list or not all(type(n) is int and n >= 1 for n in found):
            raise ConfigError(where=self.where, found=f"multiple is {value!r}", expected=_MULTIPLE)
        return tuple(found)

    def _image(self, multiple: Sequence[int], units: Sequence[int]) -> Tensor:
        sizes = [n * m for n, m in zip(units, multiple, strict=False)]
        return torch.zeros(1, self.in_channels, *sizes, device="meta")

    def _run(self, network: nn.Module, image: Tensor) -> Any:
        try:
            with torch.no_grad():
                return network(torch.zeros(image.shape))
        except Exception as error:  # the code of a user may fail in any way
            if is_out_of_memory(error):
                raise
            reason = (str(error).splitlines() or [""])[0]
            raise ConfigError(
                where=self.where,
                found=f"forward fails on {tuple(image.shape)} ({reason:.200})",
                expected=f"it must fit data of {self.ndim} spatial axes (rule 2 of lunet.models) "
                "and this size (rule 4: set `multiple`)",
            ) from error

    def _check(self, logits: Any, image: Tensor) -> None:
        wanted = (1, self.out_channels, *image.shape[2:])
        if isinstance(logits, Tensor) and tuple(logits.shape) == wanted:
            return
        is_tensor = isinstance(logits, Tensor)
        given = f"{tuple(logits.shape)}" if is_tensor else f"a {type(logits).__name__}"
        raise ConfigError(
            where=self.where,
            found=f"forward turns {tuple(image.shape)} into {given}",
            expected=f"{wanted} is expected: {_LOGITS}",
        )


def _on_meta(make: Callable[[], nn.Module], image: Tensor) -> Any:
    """The output for an image, without arithmetic; None where that fails."""
    try:
        with torch.device("meta"), torch.no_grad():
            return make().eval()(image)
    except Exception:
        return None
