"""The runs that a search for the smallest network can ask for; standard library only."""

from __future__ import annotations

from dataclasses import dataclass

Run = tuple[str, int, int]
"""Preset, fold, seed."""


@dataclass(frozen=True)
class SearchGrid:
    """Folds and seeds of the networks of a search.

    Attributes
    ----------
    reference
        Name of the reference.
    folds
        Folds in the order of the looks.
    seeds
        Seeds of each candidate, and of a reference that the study trains.
    is_given
        Whether the reference is an external row, which has one set of predictions per fold.
    """

    reference: str
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    is_given: bool = False

    def seeds_of(self, name: str) -> tuple[int, ...]:
        """Seeds of a network or row."""
        return (0,) if self.is_given and name == self.reference else self.seeds

    def runs(self, name: str, fold: int) -> list[Run]:
        """Runs of a network or row in a fold."""
        return [(name, fold, seed) for seed in self.seeds_of(name)]
