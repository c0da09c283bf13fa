"""The FROC curve of a set of images, from whole probability maps held at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lunet.metrics.lesions import image_froc


def froc_curve(
    references: Sequence[ArrayLike],
    probabilities: Sequence[ArrayLike],
    *,
    thresholds: ArrayLike,
    overlap: float = 0.0,
) -> pd.DataFrame:
    """Columns ``threshold`` (falling), ``sensitivity`` and ``false_positives_per_image``."""
    levels = np.sort(np.asarray(thresholds, np.float64))[::-1]
    images = [
        image_froc(
            mask,
            np.asarray(probability, np.float64),
            levels=levels,
            overlap=overlap,
        )
        for mask, probability in zip(references, probabilities, strict=True)
    ]
    lesions = sum(image.lesions for image in images)
    found_lesions = np.sum([image.found for image in images], axis=0)
    false_positives = np.mean([image.false_positives for image in images], axis=0)
    return pd.DataFrame(
        {
            "threshold": levels,
            "sensitivity": found_lesions / lesions if lesions else math.nan,
            "false_positives_per_image": false_positives,
        }
    )
