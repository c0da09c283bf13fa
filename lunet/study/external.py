"""External rows in a study: checks of their settings and files, and the digest of the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lunet.data.folds import read_splits
from lunet.data.ids import file_key
from lunet.errors import ConfigError
from lunet.study.presets import known_presets

if TYPE_CHECKING:
    from lunet.study.config import Config
    from lunet.study.study import Study


def external_faults(config: Config) -> Iterator[ConfigError]:
    """External rows with the name of another row, or whose use needs what they do not have."""
    names = (*config.presets, *config.variants, *known_presets(), "atlas_prior")
    taken = {file_key(name): name for name in names}
    for name, row in config.external.items():
        is_trained = name in config.rivals
        where = f"{'rivals' if is_trained else 'external'}.{name}"
        other = taken.setdefault(file_key(name), name)
        if other != name or name in names:
            yield ConfigError(
                where=where,
                found=f"is the name of the row {other}",
                expected="each row needs a name of its own",
                action="Rename it",
            )
        if is_trained:  # what follows is about predictions that are there
            continue
        if row.layout == "folder" and row.splits is not None:
            yield ConfigError(
                where=f"{where}.splits",
                found="given with `layout: folder`",
                expected="it belongs to `layout: nnunet`",
                action="Set the layout, or remove the key",
            )
        if row.layout == "nnunet" and config.folds == (0,) and config.split.folds == 1:
            yield ConfigError(
                where=f"{where}.layout",
                found="`nnunet`, but the study has a single fold",
                expected="nnU-Net's folds must be the study's",
                action="Put its predictions of the tested cases into one folder (layout: folder)",
            )
        cost, is_rival = config.statistics.cost, row.role == "model"
        if config.statistics.pairs == "all" and is_rival and getattr(row.cost, cost) is None:
            yield ConfigError(
                where=f"{where}.cost.{cost}",
                found="missing",
                expected="`statistics.pairs: all` compares rows by their cost",
                action="State it, or name the pairs",
            )
    yield from _search_faults(config)


def _search_faults(config: Config) -> Iterator[ConfigError]:
    """External rows in the search that cannot be what they are named as."""
    smallest = config.smallest
    for name in smallest.candidates:
        if name in config.external:
            yield ConfigError(
                where="smallest.candidates",
                found=f"{name!r} is an external row",
                expected="presets or variants: the search trains its candidates",
                action="It may be smallest.reference",
            )
    if smallest.reference in config.external and smallest.early_gap is not None:
        yield ConfigError(
            where="smallest.early_gap",
            found=f"{smallest.early_gap:g}, but the reference {smallest.reference!r} is an "
            "external row",
            expected="a reference with validation scores of each epoch",
            action="Remove the key",
        )


def role_of(study: Study, name: str) -> str:
    """``trained``, ``rival``, ``external`` or ``reader``, as in :mod:`lunet.reporting.origin`."""
    if name not in study.external:
        return "trained"
    if name in study.rivals:
        return "rival"
    return "reader" if study.config.external[name].role == "reader" else "external"


def check_external(study: Study) -> None:
    """Check at the start of the workflow that the predictions of all external rows are there.

    Raises
    ------
    DataError
        If a folder is missing or has no label files, or a case is predicted twice.
    """
    if not study.external:
        return
    from lunet.evaluation.external_source import find_source

    for name in study.made_elsewhere:
        for fold in study.folds:
            find_source(study.config.external[name], name, fold)


def external_digest(study: Study, splits: str) -> Callable[[Any], str]:
    """A rule's parameter ``source``: digest of the predictions of the wildcards' row and fold.

    Only the fold's test cases count, so that an edited prediction repeats just its own fold. Before
    the folds are made, when nothing was taken yet, all files of the folder count; Snakemake asks
    again before it starts the job.
    """

    def of(wildcards: Any) -> str:
        from lunet.evaluation.external_source import source_digest

        settings, fold = study.config.external[wildcards.preset], int(wildcards.fold)
        folds = read_splits(splits).folds if Path(splits).is_file() else ()
        tested = folds[fold].test if fold < len(folds) else None
        return source_digest(settings, wildcards.preset, fold, tested)

    return of
