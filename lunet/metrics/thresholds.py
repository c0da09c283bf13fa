"""Thresholds on probabilities, in a module apart from the counts at these thresholds.

Probability maps are written in these steps, and an edit of the counting must not rerun predictions.
"""

from __future__ import annotations

import numpy as np

FROC_THRESHOLDS = 1 / (1 + np.exp(-0.08 * np.arange(-60, 195)))
"""Probabilities in even steps of log odds, ascending from 0.0082 to 1 - 1.8e-7, including 0.5.

A trained network is confident: what separates its false positives from its lesions are
probabilities like 0.9999, which even steps of probability would not resolve."""
