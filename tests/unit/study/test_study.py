"""A study: resolution of presets and variants, and what each step depends on."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from lunet.errors import ConfigError
from lunet.study.config import parse
from lunet.study.launch import check_requested_files
from lunet.study.presets import PAPER_PRESETS, find_preset
from lunet.study.study import PRIOR, Study

BASE = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": ["unet_small_2f", "lunet_small_4f"],
    "folds": [0, 1],
    "seeds": [0],
}


def study(**changes) -> Study:
    return Study(parse(BASE | changes))


def wildcards(preset="lunet_small_4f"):
    return SimpleNamespace(preset=preset)


def settings(step, preset="lunet_small_4f", **changes):
    return study(**changes).settings(step)(wildcards(preset))


def test_there_are_29_presets_in_the_paper():
    assert len(set(PAPER_PRESETS)) == 29


def test_any_width_of_a_family_is_a_preset():
    preset = find_preset("lunet_small_8f")
    assert preset.arguments["widths"] == [8] * 5
    assert find_preset("unet_large_5f").arguments["widths"] == [5, 10, 20, 40]


def test_recipes_follow_the_family():
    presets = study(presets=["unet_small_4f", "lunet_large_6f"]).presets
    small, large = presets["unet_small_4f"][1], presets["lunet_large_6f"][1]
    assert (small.batch_size, small.optimiser.lr) == (16, 1e-2)
    assert (large.batch_size, large.optimiser.lr) == (1, 1e-3)


def test_a_variant_is_a_preset_everywhere():
    variants = {"lean_bce": {"base": "lunet_small_4f", "train": {"loss": {"bce": 1.0}}}}
    s = study(variants=variants, presets=["lunet_small_4f", "lean_bce"])
    model = json.loads(s.settings("train")(wildcards("lean_bce")))
    assert model["model"]["preset"] == "lean_bce"
    assert model["model"]["module"] == "unet"
    assert "bce" in model["recipe"]["loss"]
    assert "results/s/runs/lean_bce/fold-0/seed-0" in list(s.runs())


def test_overrides_win_over_train_and_touch_one_preset():
    changes = {"train": {"epochs": 7}, "overrides": {"unet_small_2f": {"epochs": 9}}}
    presets = study(**changes).presets
    assert presets["unet_small_2f"][1].epochs == 9
    assert presets["lunet_small_4f"][1].epochs == 7


TOLD = {"table", "figure", "report", "prune_table", "prune_figure"}


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        ({"statistics": {"margin": 0.02}}, TOLD),
        # the metrics of tables follow the tolerances
        ({"evaluate": {"tolerances": [1.0, 2.0]}}, {"evaluate", "transfer", *TOLD}),
        ({"lesions": {"overlap": 0.5}}, {"lesions"}),
        ({"preprocess": {"clip": [1.0, 99.0]}}, {"preprocess"}),
        ({"split": {"seed": 1}}, {"folds"}),
        ({"train": {"epochs": 3}}, {"train", "engine", "prune"}),
        ({"train": {"batch_size": 3}}, {"train", "engine", "efficiency", "prune"}),
        ({"train": {"curves": True}}, set()),
        ({"predict": {"flip_axes": [0]}}, {"predict", "transfer"}),
        ({"efficiency": {"repeats": 7}}, {"efficiency", "rival_cost"}),
        ({"seeds": [0, 1]}, set()),
        ({"presets": ["lunet_small_4f"]}, {"plan"}),
    ],
)
def test_a_section_touches_only_its_steps(change, touched):
    from lunet.study.steps import STEPS

    one, other = study(), study(**change)
    changed = {
        step
        for step in STEPS
        # what is registered is handed to jobs apart from their settings, and runs nothing again
        if step != "register"
        and one.settings(step)(wildcards()) != other.settings(step)(wildcards())
    }
    assert changed == touched


HEADS = {"base": "attention_unet2d_8f", "arguments": {"deep_supervision": True}}
WEIGHTS = [1.0, 0.4, 0.2, 0.1]


def slices(variant, name="deep"):
    dataset = {"name": "phantom", "dimensions": 2, "phantom": {"kind": "lung"}}
    return study(dataset=dataset, presets=[name], variants={name: variant}).presets[name]


def test_heads_and_weights_of_deep_supervision_fit_each_other():
    _, recipe = slices(HEADS | {"train": {"deep_supervision": WEIGHTS}})
    assert recipe.deep_supervision == tuple(WEIGHTS)
    assert slices(HEADS | {"recipe": "lung2d_deep"})[1].deep_supervision == tuple(WEIGHTS)
    lean = HEADS | {"base": "lattention_unet2d_8f", "train": {"deep_supervision": WEIGHTS}}
    assert slices(lean)[1].deep_supervision == tuple(WEIGHTS)
    for heads in (True, False):
        own = HEADS | {"arguments": {"deep_supervision": heads}}
        assert slices(own | {"train": {"deep_supervision": "halving"}})[1].deep_supervision


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (HEADS, "0 weights, deep has 4 outputs in training, so 4 are expected"),
        (HEADS | {"train": {"deep_supervision": [1, 0.4]}}, "2 weights, deep has 4 outputs"),
        ({"base": "unet2d_8f", "recipe": "lung2d_deep"}, "deep has 1 output in training, so none"),
        (HEADS | {"base": "unetpp_small_4f"}, "UNetPlusPlus has no heads for it"),
    ],
)
def test_a_mismatch_of_deep_supervision_is_refused_before_anything_runs(variant, message):
    with pytest.raises(ConfigError, match=message):
        slices(variant)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"monitor": "dice_Anteriour"}, "train.monitor: .*did you mean 'dice_Anterior'"),
        ({"early_stopping": {"metric": "dcie"}}, "train.early_stopping.metric: .*mean 'dice'"),
    ],
)
def test_a_misspelt_metric_is_refused_before_anything_runs(change, message):
    with pytest.raises(ConfigError, match=message):
        study(train=change)


def test_rewording_a_source_trains_nothing():
    assert "source" not in json.loads(settings("train"))["recipe"]


def test_runs_and_the_prior():
    s = study(seeds=[0, 1])
    assert len(list(s.runs(["lunet_small_4f"]))) == 4
    assert list(s.runs([PRIOR])) == [s.run(PRIOR, 0, 0), s.run(PRIOR, 1, 0)]
    assert PRIOR not in study(prior=False).rows


def test_code_depends_on_the_presets_network():
    s = study(presets=["unet_small_2f", "unetpp_small_2f", "lunet_small_4f"])
    train = s.code("train")
    assert train(wildcards("unet_small_2f")) == train(wildcards("lunet_small_4f"))
    assert train(wildcards("unet_small_2f")) != train(wildcards("unetpp_small_2f"))
    evaluate = s.code("evaluate")
    assert evaluate(wildcards("unet_small_2f")) == evaluate(wildcards("unetpp_small_2f"))


def test_every_question_of_an_output_is_one_that_a_study_can_ask():
    from lunet.reporting.outputs import FIGURES, TABLES, WHEN
    from lunet.study.outputs import conditions

    assert set(conditions(study())) == set(WHEN)
    assert {row.when for row in (*TABLES.values(), *FIGURES.values())} - {""} == set(WHEN)


def test_a_study_knows_the_files_of_all_that_its_outputs_need():
    from lunet.reporting.outputs import FIGURES, TABLES

    for row in (*TABLES.values(), *FIGURES.values()):
        assert bool(study().files(row.needs)) == bool(row.needs)


def test_the_training_patch_is_the_tile_of_each_preset_that_has_one():
    s = study(
        presets=["lunet_small_4f", "unet_small_2f"],
        overrides={"lunet_small_4f": {"patch": [16, 16, 16]}},
        predict={"training_patch": True},
    )
    tiles = [s.sections("predict", name)["predict"]["patch"] for name in s.presets]
    assert tiles == [[16, 16, 16], None]
    fixed = study(predict={"training_patch": True, "patch": [8, 8, 8]})
    assert fixed.sections("predict", "lunet_small_4f")["predict"]["patch"] == [8, 8, 8]


def test_a_target_of_an_unknown_preset_is_told_in_one_line():
    study = Study(parse(BASE | {"variants": {"own": {"base": "unet_small_1f"}}}))
    known = ["runs/lunet_small_9f/fold-0/seed-0/metrics.csv", "presets/own/summary.csv",
             "runs/atlas_prior/fold-0/seed-0/metrics.csv", "tables/x.csv", "presets"]  # fmt: skip
    files = [f"{study.results}/{path}" for path in known]
    check_requested_files(study, ["--cores", "tables", *files])
    for path in ("presets/lunet_smal_4f/summary.csv", "pruning/lunet_smal_4f/stamp/run.json"):
        with pytest.raises(ConfigError, match="unknown preset 'lunet_smal_4f'"):
            check_requested_files(study, [f"./{study.results}/{path}"])
