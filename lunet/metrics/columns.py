"""Columns of the per-case table; what reads tables does not depend on what measures."""

from __future__ import annotations

from collections.abc import Sequence

OVERLAP = ("dice", "iou", "precision", "recall")
DISTANCES = ("hd", "hd95", "assd", "masd")
VOLUMES = ("volume_ml", "volume_reference_ml", "volume_error_ml", "volume_error_relative")
STATUSES = ("ok", "missed", "spurious", "both_empty")


def case_columns(tolerances: Sequence[float] = (1.0,)) -> list[str]:
    """Columns of :func:`evaluate_case` in their order."""
    surface = [*DISTANCES, *(nsd_column(tolerance) for tolerance in tolerances)]
    return ["label", *OVERLAP, *surface, *VOLUMES, "centre_distance", "status"]


def nsd_column(tolerance: float) -> str:
    """Name of the NSD column at a tolerance in mm: ``nsd_1`` for 1.0, ``nsd_0.5`` for 0.5."""
    return f"nsd_{tolerance:g}"
