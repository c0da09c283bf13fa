"""Which folds are trained in one job."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from measured import PRESET, cost, manifest

from lunet.files import canonical_json, write_json, write_text
from lunet.study.forecast import (
    FALLBACK_MB,
    FALLBACK_MINUTES,
    LONGEST_MINUTES,
    START_MINUTES,
    Forecasts,
)
from lunet.study.study import Study, study_of
from lunet.study.together import (
    advise_measuring,
    choose_together,
    folds_together,
    hand_over_predictions,
    hand_over_together,
    handed_over_prediction,
    presets_together,
)

CLUSTER = ["all", "--executor", "slurm"]
FOLDS = [0, 1, 2, 3, 4]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(**changes: Any) -> Study:
    config = {"study": "s", "dataset": {"name": "phantom"}, "presets": [PRESET], "folds": FOLDS}
    return study_of(config | {"seeds": [0, 1], "seeds_per_job": "one"} | changes)


def write_forecast(root: Path) -> None:
    """Files from which 1000 epochs of this preset are forecast to take minutes."""
    write_json(root / f"results/s/presets/{PRESET}/efficiency.json", cost())
    write_json(root / "work/s/prepared/manifest.json", manifest())
    parts = {"train": list("abcdefgh"), "validation": list("ijk"), "test": ["l"]}
    write_json(root / "results/s/splits.json", {"seed": 0, "held_out": [], "folds": [parts]})


def test_short_trainings_on_a_cluster(root: Path) -> None:
    short, long = ({"train": {"epochs": epochs, "batch_size": 2}} for epochs in (1, 10**7))
    assert choose_together(study(**short), CLUSTER) == []  # nothing is measured yet
    write_forecast(root)
    assert choose_together(study(**short), CLUSTER) == [(PRESET, 0), (PRESET, 1)]
    assert choose_together(study(**long), CLUSTER) == []
    assert choose_together(study(**short), ["all", "--cores", "4"]) == []
    assert choose_together(study(**short, folds_per_job="one"), CLUSTER) == []


def test_all_seeds_of_what_takes_minutes(root: Path) -> None:
    write_forecast(root)

    def chosen(epochs: int, **changes: Any) -> list[tuple[str, int | None]]:
        train = {"epochs": epochs, "batch_size": 2}
        return choose_together(study(train=train, **changes), CLUSTER)

    seconds = (
        Forecasts(study(train={"epochs": 1000, "batch_size": 2}), print).look(PRESET, 0).seconds
    )
    # ten trainings of just above, and of just below, three minutes
    above, below = (int(1000 * wanted / seconds) for wanted in (190, 170))
    assert chosen(below, seeds_per_job="auto") == [(PRESET, None)]
    assert chosen(below, seeds_per_job="one") == [(PRESET, 0), (PRESET, 1)]
    assert chosen(above, seeds_per_job="auto") == [(PRESET, 0), (PRESET, 1)]
    assert chosen(above, seeds_per_job="all") == [(PRESET, None)]
    assert chosen(above, seeds_per_job="auto", runs_per_gpu=2) == [(PRESET, None)]
    assert chosen(below, seeds_per_job="all", seeds=[3]) == [(PRESET, 3)]
    assert chosen(below, seeds_per_job="all", folds_per_job="one") == []


def test_the_seeds_of_a_single_fold(root: Path) -> None:
    """A fixed split with many seeds is many short runs as well."""
    write_forecast(root)
    short = {"train": {"epochs": 1, "batch_size": 2}, "folds": [0], "seeds": [0, 1, 2]}
    assert choose_together(study(**short, seeds_per_job="auto"), CLUSTER) == [(PRESET, None)]
    assert choose_together(study(**short, seeds_per_job="one"), CLUSTER) == []
    assert choose_together(study(**short, seeds_per_job="all"), CLUSTER) == [(PRESET, None)]


def test_on_a_cluster_one_is_told_to_measure_first(root: Path) -> None:
    short = study(train={"epochs": 1, "batch_size": 2})
    (line,) = advise_measuring(short, CLUSTER)
    assert "1 of 1 presets" in line
    assert line.endswith("run the target `efficiency` first")
    settled = [
        (short, ["--cores", "4"]),
        (short, ["efficiency", *CLUSTER]),
        (study(folds_per_job="all"), CLUSTER),
        (study(efficiency={"training_step": False}), CLUSTER),
    ]
    assert [list(advise_measuring(*case)) for case in settled] == [[]] * 4
    for fold in FOLDS:
        for seed in (0, 1):
            write_text(root / f"results/s/runs/{PRESET}/fold-{fold}/seed-{seed}/run.json", "{}")
    assert list(advise_measuring(short, CLUSTER)) == []


def test_nobody_is_told_to_measure_what_is_measured(root: Path) -> None:
    write_forecast(root)
    assert list(advise_measuring(study(train={"epochs": 10**7}), CLUSTER)) == []


def test_the_executor_is_that_of_the_profile(root: Path) -> None:
    write_forecast(root)
    write_text(root / "mine/config.yaml", "executor: lsf\n")
    short = study(train={"epochs": 1, "batch_size": 2})
    assert len(choose_together(short, ["--profile=mine"])) == 2
    assert len(choose_together(short, ["--profile", "mine", "all"])) == 2
    assert choose_together(short, ["--profile", "mine", "--executor=local"]) == []


def test_all_is_all_but_for_a_search_and_a_single_fold() -> None:
    assert choose_together(study(folds_per_job="all"), []) == [(PRESET, 0), (PRESET, 1)]
    assert choose_together(study(folds_per_job="all", folds=[2]), []) == []


def test_finished_runs_are_not_put_in_a_job_with_unfinished_ones(root: Path) -> None:
    def finish(fold: int) -> None:
        write_text(root / f"results/s/runs/{PRESET}/fold-{fold}/seed-1/run.json", "{}")

    finish(3)
    every = study(folds_per_job="all", seeds_per_job="all")
    assert choose_together(study(folds_per_job="all"), []) == [(PRESET, 0)]
    assert choose_together(every, []) == [(PRESET, 0)]
    for fold in FOLDS:
        finish(fold)
    assert choose_together(study(folds_per_job="all"), []) == [(PRESET, 0), (PRESET, 1)]
    assert choose_together(every, []) == [(PRESET, 0), (PRESET, 1)]


def test_the_patterns_match_the_runs_that_were_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    one = study(folds=[0, 3, 10], seeds=[1, 12], split={"folds": 12})
    monkeypatch.setenv("LUNET_TOGETHER", "")
    run = f"{PRESET}/fold-0/seed-1/run.json"
    assert re.match(folds_together(one), run) is None
    assert re.match(presets_together(one), run) is None
    hand_over_together([(PRESET, 1), ("a.b", 12), ("c", None)])
    runs = [f"{PRESET}/fold-3/seed-1", "a.b/fold-10/seed-12"]
    whole = ["c/fold-0/seed-1", "c/fold-10/seed-12"]
    others = [f"{PRESET}/fold-0/seed-12", "axb/fold-0/seed-12", "cc/fold-0/seed-1"]
    # of no fold or seed of the study
    others += [f"{PRESET}/fold-1/seed-1", "c/fold-0/seed-2", "c/fold-1/seed-1", "c/fold-0/seed-123"]
    every = [f"{run}/run.json" for run in (*runs, *whole, *others)]
    for pattern, wanted in ((folds_together(one), runs), (presets_together(one), whole)):
        assert [run for run in every if re.match(pattern, run)] == [f"{w}/run.json" for w in wanted]


def test_a_job_is_told_how_its_runs_will_be_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUNET_PREDICTIONS", raising=False)
    assert handed_over_prediction(PRESET) is None  # a person's training
    one = study(predict={"flip_axes": [1]})
    hand_over_together([(PRESET, None), ("of another study", 0)])
    hand_over_predictions(one)
    asked = handed_over_prediction(PRESET)
    assert asked is not None
    # what the rule's parameters `settings` and `code` are
    assert canonical_json(asked["sections"]) == one.settings("predict", PRESET)(None)
    assert asked["code"] == one.code("predict")(SimpleNamespace(preset=PRESET))
    assert handed_over_prediction("of another study") is None


@pytest.mark.parametrize(
    ("seeds", "share", "turns", "at_once"),
    [(1, 1, 5, 1), (1, 2, 3, 2), (1, 9, 1, 5), (2, 1, 10, 1), (2, 4, 3, 4), (2, 99, 1, 10)],
)
def test_a_job_of_several_runs_requests_what_they_take(
    seeds: int, share: int, turns: int, at_once: int
) -> None:
    found = Forecasts(study(runs_per_gpu=share), print)
    wildcards = {"preset": PRESET} | ({"seed": "0"} if seeds == 1 else {})
    row, files = SimpleNamespace(**wildcards), SimpleNamespace(manifest="", splits="")
    assert found.at_once(seeds) == at_once
    assert found.mem_mb_together(row, files, 1, 1) == at_once * FALLBACK_MB
    minutes = START_MINUTES + turns * (FALLBACK_MINUTES - START_MINUTES)
    for attempt in (1, 2, 9):
        # with its predictions, the job requests no more than a partition may allow
        most = LONGEST_MINUTES - 5 * seeds * attempt * 2
        assert found.runtime_together(row, files, attempt, 1) == min(attempt * minutes, most)


def test_many_predictions_leave_half_of_the_time_to_the_trainings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LUNET_LONGEST_MINUTES", "60")
    found = Forecasts(study(seeds=list(range(13))), print)
    row, files = SimpleNamespace(preset=PRESET), SimpleNamespace(manifest="", splits="")
    assert found.runtime_together(row, files, 1, 1) == 30


def test_a_prediction_without_a_training_gets_its_time_at_the_second_attempt(
    tmp_path: Path,
) -> None:
    found, files = Forecasts(study(), print), SimpleNamespace(weights=tmp_path / "w.safetensors")
    assert [found.runtime_ahead(files, attempt) for attempt in (1, 2, 3)] == [2, 4, 6]
    files.weights.touch()
    assert [found.runtime_ahead(files, attempt) for attempt in (1, 2, 3)] == [2, 60, 90]
