"""Thresholds on probabilities, apart from what is counted at them.

Maps of probabilities are written in these steps: an edit of the counting must predict nothing anew.
"""

from __future__ import annotations

import numpy as np

FROC_THRESHOLDS = 1 / (1 + np.exp(-0.08 * np.arange(-60, 195)))
"""Probabilities, rising in even steps of log odds: 0.0082 to 1 - 1.8e-7, 0.5 among them.

A trained network is sure of itself: its false positives part from its lesions at probabilities
like 0.9999, which even steps of probability would not tell apart."""
