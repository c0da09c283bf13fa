"""Folds that share a job: what Snakemake runs, and what it never runs again."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_invalidation import CONFIG, checkout_of, dry_run, snakemake, write_config

from lunet.training.kept_results import FOLDER

pytestmark = pytest.mark.slow

PRESET = "lunet_small_1f"
STUDY = CONFIG | {"presets": [PRESET], "folds": [0, 1], "seeds": [0], "folds_per_job": "one"}


def runs(seeds: tuple[int, ...] = (0,), folds: tuple[int, ...] = (0, 1)) -> list[str]:
    """Targets: the records of runs."""
    here = f"results/s/runs/{PRESET}"
    return [f"{here}/fold-{fold}/seed-{seed}/run.json" for seed in seeds for fold in folds]


def test_the_key_and_a_new_seed_rerun_nothing_that_is_finished(tmp_path: Path) -> None:
    root = checkout_of(tmp_path)
    write_config(root, STUDY)
    snakemake(root, "--quiet", "--", *runs())
    assert not list(root.glob(f"work/s/runs/**/{FOLDER}"))  # nothing is kept for a removed run
    write_config(root, STUDY | {"folds_per_job": "all"})
    assert dry_run(root, *runs()) == {}
    # a new fold gets a job of its own, because a common job would remove what is finished
    write_config(root, STUDY | {"folds_per_job": "all", "folds": [0, 1, 2]})
    assert dry_run(root, *runs(folds=(0, 1, 2))) == {"train": 1}
    write_config(root, STUDY | {"folds_per_job": "all", "seeds": [0, 1]})
    assert dry_run(root, *runs((0, 1))) == {"train_together": 1}
    snakemake(root, "--quiet", "--", *runs((0, 1)))
    assert dry_run(root, *runs((0, 1))) == {}
    assert dry_run(root, *runs((0, 1)), "--forcerun", "train_together") == {"train_together": 2}
    write_config(root, STUDY | {"seeds": [0, 1]})
    assert dry_run(root, *runs((0, 1))) == {}
