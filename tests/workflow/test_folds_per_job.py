"""Folds that share a job: what Snakemake runs, and what it never runs again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).with_name("slurm")))

from studies import configuration, prepared
from test_invalidation import CONFIG, checkout_of, dry_run, snakemake, write_config

from lunet.training.kept_results import FOLDER

pytestmark = pytest.mark.slow

PRESET = "lunet_small_1f"
STUDY = CONFIG | {"presets": [PRESET], "folds": [0, 1], "seeds": [0], "folds_per_job": "one"}
FOLDS, ALL = ({"folds_per_job": "all", "seeds_per_job": key} for key in ("one", "all"))


def runs(seeds: tuple[int, ...] = (0,), folds: tuple[int, ...] = (0, 1)) -> list[str]:
    """Targets: the records of runs."""
    here = f"results/s/runs/{PRESET}"
    return [f"{here}/fold-{fold}/seed-{seed}/run.json" for seed in seeds for fold in folds]


def test_the_key_and_a_new_seed_rerun_nothing_that_is_finished(tmp_path: Path) -> None:
    root = checkout_of(tmp_path)
    write_config(root, STUDY)
    snakemake(root, "--quiet", "--", *runs())
    assert not list(root.glob(f"work/s/runs/**/{FOLDER}"))  # nothing is kept for a removed run
    write_config(root, STUDY | FOLDS)
    assert dry_run(root, *runs()) == {}
    # a new fold gets a job of its own, because a common job would remove what is finished
    write_config(root, STUDY | FOLDS | {"folds": [0, 1, 2]})
    assert dry_run(root, *runs(folds=(0, 1, 2))) == {"train": 1}
    write_config(root, STUDY | FOLDS | {"seeds": [0, 1]})
    assert dry_run(root, *runs((0, 1))) == {"train_together": 1}
    snakemake(root, "--quiet", "--", *runs((0, 1)))
    assert dry_run(root, *runs((0, 1))) == {}
    assert dry_run(root, *runs((0, 1)), "--forcerun", "train_together") == {"train_together": 2}
    write_config(root, STUDY | ALL | {"seeds": [0, 1]})
    assert dry_run(root, *runs((0, 1))) == {}
    assert dry_run(root, *runs((0, 1)), "--forcerun", "train_preset") == {"train_preset": 1}
    write_config(root, STUDY | {"seeds": [0, 1]})
    assert dry_run(root, *runs((0, 1))) == {}


def test_all_runs_in_one_job_are_predicted_by_it(tmp_path: Path) -> None:
    """With real steps; afterwards each run is one of its own."""
    config = configuration(epochs=2) | ALL | {"folds": [0, 1], "seeds": [0, 1], "runs_per_gpu": 2}
    checkout = prepared(tmp_path / "study", config)
    scores = [run.replace("run.json", "metrics.csv") for run in runs((0, 1))]

    def start(*words: str) -> int:
        return checkout.run(*words, "--", *scores, profile="profiles/local", seconds=180)

    assert start() == 0, checkout.output
    for run in runs((0, 1)):
        log = checkout.root / Path(run.replace("/runs/", "/logs/")).with_name("predict.log")
        assert log.read_text().startswith("predicted by the job of the training")
        assert (checkout.root / run).with_name("predictions").joinpath("predictions.json").is_file()
    assert dry_run(checkout.root, *scores) == {}
    # a seed that is not the study's gets a job of its own
    other = f"results/s/runs/{PRESET}/fold-0/seed-7/metrics.csv"
    assert dry_run(checkout.root, other) == {"train": 1, "predict": 1, "evaluate": 1}
    for change in ({"seeds_per_job": "one"}, {"folds_per_job": "one"}, {"seeds": [0, 1, 2]}):
        write_config(checkout.root, config | change)
        assert dry_run(checkout.root, *scores) == {}
    write_config(checkout.root, config | {"predict": {"device": "cpu", "flip_axes": [1]}})
    assert dry_run(checkout.root, *scores) == {"predict": 4, "evaluate_preset": 4}


def test_a_failed_fold_costs_the_other_nothing(tmp_path: Path) -> None:
    """With real trainings: a fold fails, the next start trains it, and then all on demand."""
    config = configuration(epochs=3) | FOLDS | {"folds": [0, 1]}
    checkout = prepared(tmp_path / "study", config)
    records = [f"results/s/runs/{PRESET}/fold-{fold}/seed-0/run.json" for fold in (0, 1)]
    obstacle = checkout.root / f"work/s/runs/{PRESET}/fold-1/seed-0"
    obstacle.parent.mkdir(parents=True)
    obstacle.touch()  # a file where the training needs a folder

    def start(*words: str) -> int:
        return checkout.run(*words, "--", *records, profile="profiles/local", seconds=120)

    def trained(fold: int) -> tuple[int, bytes]:
        """How often a fold was trained to its end, and the weights."""
        log = checkout.root / f"results/s/logs/{PRESET}/fold-{fold}/seed-0/train.log"
        weights = checkout.root / Path(records[fold]).with_name("weights.safetensors")
        return log.read_text().count("epoch 3/3"), weights.read_bytes()

    assert start() != 0
    assert "fold 1, seed 0: error: " in checkout.output
    assert not (checkout.root / records[0]).exists()
    obstacle.unlink()
    assert start() == 0, checkout.output
    first = trained(0), trained(1)
    assert [count for count, _ in first] == [1, 1]
    assert start("--forcerun", "train_together") == 0, checkout.output
    again = trained(0), trained(1)
    assert [count for count, _ in again] == [2, 2]
    assert [weights for _, weights in again] == [weights for _, weights in first]
