"""The statistics of a study in one place: summaries, comparisons, claims, rank stability."""

from __future__ import annotations

from lunet.statistics.aggregate import summarise
from lunet.statistics.claims import claim_sentence, claims
from lunet.statistics.paired import compare
from lunet.statistics.ranking import rank_stability
from lunet.statistics.significance import holm, sign_flip_test, wilcoxon_test
from lunet.statistics.values import MEAN_LABEL, case_values, direction

__all__ = [
    "MEAN_LABEL",
    "case_values",
    "claim_sentence",
    "claims",
    "compare",
    "direction",
    "holm",
    "rank_stability",
    "sign_flip_test",
    "summarise",
    "wilcoxon_test",
]
