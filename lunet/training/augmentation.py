"""The augmentation that a recipe names: batched on the device, or TorchIO's."""

from __future__ import annotations

from collections.abc import Sequence

from lunet.training.augment import Augment, Augmenter, active
from lunet.training.recipe import Augmentation


def build_augment(
    settings: Augmentation, ndim: int, *, spacing: Sequence[float] | None = None
) -> Augment | None:
    """The augmentation of a recipe, by the engine it names; None where nothing is switched on.

    Parameters
    ----------
    ndim
        2 or 3.
    spacing
        mm per axis of the prepared volumes, so that rotations keep angles; None is isotropic.

    Raises
    ------
    ConfigError
        An axis to flip that the images do not have.
    """
    if not active(settings):
        return None
    if settings.engine == "torchio":
        # TorchIO takes seconds to import, and most recipes don't use it
        from lunet.training.torchio_augment import TorchioAugmenter

        return TorchioAugmenter(settings, ndim, spacing=spacing)
    return Augmenter(settings, ndim, spacing=spacing)
