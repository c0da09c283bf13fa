"""Folds: complete, disjoint by subject, balanced, and the same whatever the order."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunet.cli import main
from lunet.data.custom_splits import all_of, own_splits
from lunet.data.folds import (
    Fold,
    SplitCase,
    Splits,
    make_splits,
    read_cases,
    read_splits,
    write_splits,
)
from lunet.data.rare_classes import missing_classes
from lunet.data.settings import SplitSettings
from lunet.errors import ConfigError, DataError, LunetError


def cohort(groups: int, sizes: list[int] | None = None) -> list[SplitCase]:
    """``groups`` subjects with one or more cases and different volumes."""
    cases = []
    for group in range(groups):
        count = sizes[group % len(sizes)] if sizes else 1
        for side in range(count):
            volume = 100.0 + (group * 37) % 101 + side
            cases.append(SplitCase(f"case_{group:03d}_{side}", f"subject_{group:03d}", volume))
    return cases


CONFIGURATIONS = st.builds(
    SplitSettings,
    folds=st.integers(2, 6),
    seed=st.integers(0, 1000),
    validation=st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5]),
    held_out=st.sampled_from([0.0, 0.1, 0.3]),
)


@settings(max_examples=150)
@given(
    chosen=CONFIGURATIONS,
    groups=st.integers(2, 40),
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
)
def test_folds_are_a_partition_by_subject(
    chosen: SplitSettings, groups: int, sizes: list[int]
) -> None:
    cases = cohort(groups, sizes)
    group_of = {case.id: case.group for case in cases}
    try:
        splits = make_splits(cases, chosen)
    except DataError:
        # refused only if there really are few subjects for the parts that are asked for
        assert groups * (1 - chosen.held_out) < 2 * chosen.folds + 2
        return
    tested = [case for fold in splits.folds for case in fold.test]
    assert sorted([*tested, *splits.held_out]) == sorted(group_of)
    for fold in splits.folds:
        parts = [fold.train, fold.validation, fold.test, splits.held_out]
        assert sorted(case for part in parts for case in part) == sorted(group_of)
        subjects = [{group_of[case] for case in part} for part in parts]
        assert sum(map(len, subjects)) == len(set().union(*subjects))
        assert fold.train
        assert fold.test
        assert bool(fold.validation) == bool(chosen.validation)
    assert bool(splits.held_out) == bool(chosen.held_out)
    counts = [len({group_of[case] for case in fold.test}) for fold in splits.folds]
    assert max(counts) - min(counts) <= 1


@settings(max_examples=50)
@given(chosen=CONFIGURATIONS, order=st.randoms(use_true_random=False))
def test_order_of_the_cases_does_not_matter(chosen: SplitSettings, order: random.Random) -> None:
    cases = cohort(30, [2, 1])
    shuffled = list(cases)
    order.shuffle(shuffled)
    assert make_splits(cases, chosen) == make_splits(shuffled, chosen)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_parts_are_balanced_in_volume(seed: int) -> None:
    cases = [SplitCase(f"c{i:03d}", f"s{i:03d}", float(i)) for i in range(50)]
    splits = make_splits(cases, SplitSettings(folds=5, seed=seed, validation=0.2, held_out=0.0))
    volume = {case.id: case.volume for case in cases}
    for fold in splits.folds:
        for part in (fold.test, fold.validation, fold.train):
            assert abs(sum(volume[case] for case in part) / len(part) - 24.5) <= 4.0


def test_seeds_differ_and_the_split_never_changes() -> None:
    cases = cohort(12, [2])
    first = make_splits(cases, SplitSettings(folds=3, seed=1))
    assert first != make_splits(cases, SplitSettings(folds=3, seed=2))
    # a stored expectation: a new version must not shuffle published splits
    subjects = [sorted({case[5:8] for case in fold.test}) for fold in first.folds]
    assert subjects == STORED


STORED = [["001", "005", "010", "011"], ["000", "004", "008", "009"], ["002", "003", "006", "007"]]


def test_a_small_share_still_gives_one_validation_group() -> None:
    splits = make_splits(cohort(9), SplitSettings(folds=3, validation=0.01))
    assert all(len(fold.validation) == 1 for fold in splits.folds)


def test_too_few_groups_is_a_clear_error() -> None:
    with pytest.raises(DataError, match=r"4 subject groups.*5 folds.*fewer folds"):
        make_splits(cohort(4, [3]), SplitSettings(folds=5))
    with pytest.raises(DataError, match="validate"):
        make_splits(cohort(2), SplitSettings(folds=2, validation=0.1))


def manifest(folder: Path, groups: int = 6) -> Path:
    """A manifest with two labelled cases per subject, and one case without a label."""
    common = {"shape": [2, 2, 2], "spacing": [1, 1, 2.0], "image": "x.npy", "label": "y.npy"}
    cases = [
        {"id": c.id, "group": c.group, "labelled": True, "foreground": 10, "voxels": {"1": 10}}
        for c in cohort(groups, [2])
    ]
    cases[0]["voxels"]["2"] = 1
    cases.append({"id": "bare", "group": "bare", "labelled": False})
    task = {"channels": ["MRI"], "labels": {"a": 1, "b": 2}, "regions": {}, "dimensions": 3}
    content = {"task": task, "preprocess": {}, "digest": "", "cases": [c | common for c in cases]}
    path = folder / "manifest.json"
    path.write_text(json.dumps(content))
    return path


def test_manifest_gives_labelled_cases_with_volumes(tmp_path: Path) -> None:
    cases = read_cases(manifest(tmp_path))
    assert len(cases) == 12
    assert {case.volume for case in cases} == {20.0}
    (tmp_path / "other.json").write_text('{"cases": [{"name": 1}]}')
    with pytest.raises(DataError, match=r"cases\[0\]\.id: missing"):
        read_cases(tmp_path / "other.json")


def test_command_writes_what_is_read_back(tmp_path: Path) -> None:
    out = tmp_path / "splits.json"
    section = json.dumps({"split": {"folds": 3, "seed": 5, "held_out": 0.2}})
    words = ["--manifest", str(manifest(tmp_path)), "--settings", section, "--out", str(out)]
    assert main(["folds", *words]) == 0
    first = out.read_bytes()
    splits = read_splits(out)
    assert splits.seed == 5
    assert len(splits.held_out) == 2
    assert main(["folds", *words]) == 0
    assert out.read_bytes() == first


def test_parts_that_lack_a_class_are_named(tmp_path: Path) -> None:
    ids = [f"case_00{number}_0" for number in range(3)]
    folds = tuple(Fold((one,), (), (two,)) for one, two in itertools.permutations(ids[:2]))
    path = manifest(tmp_path)
    assert missing_classes(path, Splits(0, (), folds)) == [
        "warning: no training case of fold 1 has b (2); 1 case(s) have it: case_000_0",
        "warning: no test case of fold 0 has b (2); 1 case(s) have it: case_000_0",
    ]
    content = json.loads(path.read_text())
    content["task"]["labels"]["c"] = 3
    path.write_text(json.dumps(content))
    assert missing_classes(path, Splits(0, (), folds))[2:] == [
        "warning: no training case of folds 0, 1 has c (3); no case has it",
        "warning: no test case of folds 0, 1 has c (3); no case has it",
    ]


FOLD = {"train": ["case_000_0", "case_000_1"], "test": ["case_001_0"]}
MISTAKES = {
    "unknown": ({**FOLD, "train": ["nobody"]}, [], "nobody"),
    "twice": ({**FOLD, "train": ["case_000_0", "case_000_0"]}, [], "more than once: case_000_0"),
    "empty test": ({**FOLD, "test": []}, [], "'test' is empty"),
    "leak": (
        {"train": ["case_000_0"], "test": ["case_000_1"]},
        [],
        "'subject_000' leaks: 'case_000_0' is in train, 'case_000_1' in test",
    ),
    "leak of validation": (
        {**FOLD, "validation": ["case_001_1"]},
        [],
        "'subject_001' leaks: 'case_001_1' is in validation",
    ),
    "leak of held out": (FOLD, ["case_001_1"], "'subject_001' leaks.*held_out"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_of_an_own_split_are_named(tmp_path: Path, name: str) -> None:
    fold, held_out, message = MISTAKES[name]
    path = tmp_path / "own.json"
    good = {"train": ["case_003_0"], "test": ["case_004_0"]}
    path.write_text(json.dumps({"folds": [good, fold], "held_out": held_out}))
    with pytest.raises(DataError, match=f"fold 1.*{message}"):
        own_splits(path, cohort(6, [2]), SplitSettings(folds=2))


@pytest.mark.parametrize("content", ['[{"train": []}]', '{"folds": [{"train": "case"}]}', "{"])
def test_another_form_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(content)
    with pytest.raises(LunetError, match=r"own\.json"):
        read_splits(path)


def test_own_split_must_have_the_study_s_number_of_folds(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"folds": [FOLD]}))
    with pytest.raises(ConfigError, match=r"split\.folds.*1 folds"):
        own_splits(path, cohort(6, [2]), SplitSettings(folds=2))


def test_good_own_split_is_taken_as_it_is(tmp_path: Path) -> None:
    path, cases = tmp_path / "own.json", cohort(8, [2])
    made = make_splits(cases, SplitSettings(folds=2, held_out=0.2))
    write_splits(path, made)
    assert own_splits(path, cases, SplitSettings(folds=2)) == made


def test_one_fold_trains_on_all_that_is_not_held_out() -> None:
    cases = cohort(10, [2])
    fold = make_splits(cases, SplitSettings(folds=1, validation=0, held_out=0.2)).folds[0]
    assert fold.validation == fold.train
    assert len(fold.test) == 4
    assert {*fold.train, *fold.test} == {case.id for case in cases}
    chosen = make_splits(cases, SplitSettings(folds=1, validation=0.25, held_out=0.2)).folds[0]
    assert len(chosen.validation) == 4
    assert not set(chosen.validation) & set(chosen.train)
    assert chosen.test == fold.test


def test_nnunet_splits_get_validation_cases_by_subject(tmp_path: Path) -> None:
    path, cases = tmp_path / "splits_final.json", cohort(8, [2])
    folds = [
        {"train": [c.id for c in cases[:12]], "val": [c.id for c in cases[12:]]},
        {"train": [c.id for c in cases[4:]], "val": [c.id for c in cases[:4]]},
    ]
    path.write_text(json.dumps(folds))
    settings = SplitSettings(folds=2, validation=0.3)
    splits = own_splits(path, cases, settings)
    group = {case.id: case.group for case in cases}
    for fold, published in zip(splits.folds, folds, strict=True):
        assert fold.test == tuple(published["val"])
        assert sorted([*fold.train, *fold.validation]) == sorted(published["train"])
        assert fold.validation
        assert not {group[c] for c in fold.validation} & {group[c] for c in fold.train}
    assert own_splits(path, cases, settings) == splits
    assert all_of(splits).folds[0].train == tuple(sorted(group))


def test_counts_of_an_own_split_are_checked(tmp_path: Path) -> None:
    path, cases = tmp_path / "own.json", cohort(4, [1])
    ids = [case.id for case in cases]
    path.write_text(json.dumps({"folds": [{"train": ids[:3], "test": ids[3:]}]}))
    right = SplitSettings(folds=1, validation=0.4, counts={"train": 3, "test": 1})
    splits = own_splits(path, cases, right)
    assert [len(part) for part in (splits.folds[0].train, splits.folds[0].validation)] == [2, 1]
    with pytest.raises(DataError, match=r"3 cases in 'train', split\.counts expects 876"):
        own_splits(path, cases, SplitSettings(folds=1, counts={"train": 876}))
    with pytest.raises(ConfigError, match="found 'trian'"):
        own_splits(path, cases, SplitSettings(folds=1, counts={"trian": 3}))
