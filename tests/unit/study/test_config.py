"""The configuration: shipped files are valid, mistakes are told in one line, nothing drifts."""

from __future__ import annotations

import argparse
import re

import jsonschema
import pytest
import yaml
from paths import ROOT

from lunet.commands.arguments import read_study
from lunet.errors import ConfigError, ConfigErrors, DataError
from lunet.files import write_json
from lunet.reading import read_json
from lunet.reading_yaml import parse_yaml
from lunet.study.config import json_schema, load, parse, with_words
from lunet.study.config_docs import manual, shipped
from lunet.study.config_examples import EXAMPLES
from lunet.study.study import Study, study_of

CONFIGS = sorted((ROOT / "config").glob("*.yaml"))
ROW = {"predictions": "masks"}
NNUNET = ROW | {"layout": "nnunet"}
SMALL = {"study": "s", "dataset": {"name": "phantom"}, "presets": ["lunet_small_1f"]}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(path)
    for variant in config.variants.values():
        if variant.structure is not None:  # of another study, which was run before
            write_json(tmp_path / variant.structure, {"arguments": {"widths": [2, 3, 4, 3, 2]}})
    assert Study(config).presets
    jsonschema.validate(yaml.safe_load(path.read_text()), json_schema())


def test_the_schema_file_is_the_model():
    assert read_json(ROOT / "workflow/schemas/config.schema.json") == json_schema(), (
        "run `lunet schema --out workflow/schemas/config.schema.json`"
    )


def test_the_manual_is_the_model():
    page = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    assert page == manual(shipped(ROOT / "config")), "run `lunet schema --out config/README.md`"


@pytest.mark.parametrize("section", EXAMPLES)
def test_the_examples_of_the_manual_are_valid(section, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/my_net.py").write_text("class MyNet:\n    pass\n")
    presets = ["unet_small_4f", "unet_small_8f", "lunet_small_4f"]
    example = parse_yaml(EXAMPLES[section], section)
    mapping = {"study": "s", "dataset": {"name": "phantom"}, "presets": presets} | example
    assert study_of(mapping).presets
    jsonschema.validate(mapping, json_schema())
    inside = example
    for key in [] if section == "shown" else filter(None, section.split(".")):
        inside = next(iter(inside.values())) if key == "<name>" else inside[key]
    assert inside


@pytest.mark.parametrize(
    ("tolerances", "columns"), [([2], ["nsd_2"]), ([0.5, 3], ["nsd_0.5", "nsd_3"]), ([], [])]
)
def test_the_default_metrics_have_the_tolerances_that_are_measured(tolerances, columns):
    mapping = {"study": "s", "dataset": {"name": "phantom"}, "presets": ["unet_small_4f"]}
    metrics = parse(mapping | {"evaluate": {"tolerances": tolerances}}).report.metrics
    assert metrics == ("dice", "hd95", "assd", *columns, "volume_error_ml")
    with pytest.raises(ConfigError, match=r"nsd_1.*is not measured"):
        parse(mapping | {"evaluate": {"tolerances": [2]}, "report": {"metrics": ["nsd_1"]}})


def test_the_manual_shows_each_example():
    page = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    assert page.count("```yaml") == len(EXAMPLES)
    assert all(text.strip() in page for text in EXAMPLES.values())


@pytest.mark.parametrize(
    ("change", "where", "text"),
    [
        ({"presests": []}, "presests", "did you mean 'presets'"),
        ({"presets": ["lunet_smal_4f"]}, "presets", "did you mean 'lunet_small_4f'"),
        ({"presets": ["unet_small_0f"]}, "presets", "unknown preset"),
        ({"presets": []}, "presets", "empty"),
        ({"presets": ["unet_small_1f", "unet_small_1f"]}, "presets", "twice"),
        ({"presets": ["atlas_prior"]}, "presets", "prior"),
        ({"folds": [5]}, "folds", "split.folds is 5"),
        ({"seeds": [-1]}, "seeds[0]", "at least 0"),
        ({"study": "../x"}, "study", "letters"),
        ({"dataset": {"name": "Task04_Hipocampus"}}, "dataset.name", "Task04_Hippocampus"),
        ({"train": {"epoch": 3}}, "train.epoch", "did you mean 'epochs'"),
        ({"train": {"optimiser": {"lr": "fast"}}}, "train.optimiser.lr", "a number"),
        ({"recipe": "papre_small"}, "recipe", "paper_small"),
        ({"overrides": {"unet_small_4f": {}}}, "overrides.unet_small_4f", "not one of the presets"),
        ({"variants": {"v": {"base": "unet_small_4f"}}, "presets": ["w"]}, "presets", "'w'"),
        ({"statistics": {"reference": "lunet_small_2f"}}, "statistics.reference", "lunet_small_1f"),
        ({"statistics": {"pairs": [["lunet_small_1f", "x"]]}}, "statistics.pairs", "'x'"),
        ({"report": {"metrics": ["dcie"]}}, "report.metrics", "did you mean 'dice'"),
        ({"report": {"metrics": ["nsd_2"]}}, "report.metrics", "evaluate.tolerances gives nsd_1"),
        ({"report": {"metrics": ["nsd_1.0"]}}, "report.metrics", "did you mean 'nsd_1'"),
        ({"statistics": {"metric": "Dice"}}, "statistics.metric", "did you mean 'dice'"),
        ({"statistics": {"metric": "volume_ml"}}, "statistics.metric", "no better side"),
        (
            {"statistics": {"metric": "nsd_2", "margin": 0.01}},
            "statistics.metric",
            "evaluate.tolerances",
        ),
        ({"variants": {"v": {}}}, "variants.v.base", "required"),
        ({"external": {"a": {}}}, "external.a.predictions", "required"),
        ({"external": {"a/b": ROW}}, "external", "letters"),
        ({"external": {"Lunet_Small_1F": ROW}}, "external.Lunet_Small_1F", "name of its own"),
        ({"external": {"unet_small_2f": ROW}}, "external.unet_small_2f", "name of its own"),
        ({"external": {"atlas_prior": ROW}}, "external.atlas_prior", "name of its own"),
        ({"external": {"a": ROW | {"layout": "nnunett"}}}, "external.a.layout", "nnunet"),
        ({"external": {"a": ROW | {"splits": "s.json"}}}, "external.a.splits", "layout: nnunet"),
        ({"external": {"a": ROW | {"map": {1: "Anteror"}}}}, "external.a.map.1", "Anterior"),
        ({"external": {"a": ROW | {"map": {1: "Anterior"}}}}, "external.a.map", "Posterior"),
        (
            {"external": {"a": ROW}, "statistics": {"pairs": "all"}},
            "external.a.cost.parameters",
            "by their cost",
        ),
        (
            {"external": {"a": NNUNET}, "folds": "all", "split": {"held_out": 0.2}},
            "external.a.layout",
            "single fold",
        ),
        ({"variants": {"unet_small_4f": {"base": "unet_small_1f"}}}, "variants.unet_small_4f", ""),
    ],
)
def test_mistakes_are_told_in_one_line(change, where, text):
    with pytest.raises(ConfigError) as caught:
        Study(parse(SMALL | change))
    assert caught.value.where == where
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_key_of_a_variant_names_its_path():
    variant = {"base": "unet_small_1f", "train": {"los": {}}}
    with pytest.raises(ConfigError, match=r"variants\.v\.train\.los"):
        Study(parse(SMALL | {"variants": {"v": variant}, "presets": ["v"]}))


@pytest.mark.parametrize("content", ["", "- 1\n", "a: [", "a: b: c\n"])
def test_a_file_that_is_no_configuration(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fold_all_trains_on_everything_but_the_held_out_cases():
    config = parse(SMALL | {"folds": "all", "split": {"held_out": 0.2}})
    assert (config.folds, config.split.folds, config.split.validation) == ((0,), 1, 0.0)
    with pytest.raises(
        ConfigError, match=r"cases are needed to evaluate on.*lunet train --fold all"
    ):
        parse(SMALL | {"folds": "all"})


def test_a_key_that_is_given_twice_is_refused(tmp_path):
    """YAML lets the last one win, so that half of a section would be lost without a word."""
    path = tmp_path / "study.yaml"
    path.write_text("study: x\ntrain: {epochs: 2}\npresets: [a, a]\ntrain: {batch_size: 2}\n")
    with pytest.raises(ConfigError, match=r"study.yaml: `train` \(lines 2 and 4\) given twice"):
        load(path)


HOSTILE = (
    "$(touch owned)",
    "`touch owned`",
    "a;touch owned",
    "a b",
    "a'b",
    "../up",
    "a/b",
    ".hidden",
    "-option",
    "a\nb",
    "a\u200bb",
    "caf\u00e9",
    "{preset}",
    "",
)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("key", ["study", "presets", "variants", "overrides", "transfer"])
def test_names_that_a_shell_or_a_folder_would_misread_are_refused(key, name):
    target = {"dataset": {"name": "phantom"}, "map": {}}
    changes = {
        "study": name,
        "presets": [name],
        "variants": {name: {"base": "lunet_small_1f"}},
        "overrides": {name: {}},
        "transfer": {name: target},
    }
    with pytest.raises(ConfigError, match="letters, digits") as caught:
        parse(SMALL | {key: changes[key]})
    assert caught.value.where == key
    assert "\n" not in str(caught.value)


def test_every_value_in_a_shell_command_is_quoted():
    # built of options and values quoted one by one; Python's own strings have an f before them
    made = r"params\.(?:engine|floor|grid|like|manifest|plan|parts|predictions|runs)"
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        text = re.sub(r'\bf".*?"', "", path.read_text(encoding="utf-8"))
        fields = re.findall(r"\{(\w+\.\w+|input|output|log)(?::q)?\}", text)
        bare = [name for name in fields if f"{{{name}}}" in text and not re.fullmatch(made, name)]
        assert not bare, f"{path.name}: {bare}"


def test_roots_are_read_as_a_shell_reads_them(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.delenv("NOWHERE", raising=False)
    found = {
        path: parse(SMALL | {"roots": {"work": path}}).roots.work
        for path in ("~/work", "$SCRATCH/work", "${SCRATCH}/work/", "a b/wo rk", "work")
    }
    assert list(found.values()) == [
        "/home/me/work", "/scratch/me/work", "/scratch/me/work", "a b/wo rk", "work"
    ]  # fmt: skip
    for path, text in (
        ("$NOWHERE/work", r"roots\.results: \$NOWHERE is not set"),
        ("${NOWHERE}/work", r"roots\.results: \$NOWHERE is not set"),
        ("{preset}", "without braces"),
        ("~nobody_of_that_name/x", "only an existing user"),
        ("", "without braces"),
    ):
        with pytest.raises(ConfigError, match=text):
            parse(SMALL | {"roots": {"results": path}})


def test_nested_values_of_the_command_line_have_their_types():
    words = {
        "seeds": ["0", "1"],
        "train": {"epochs": "7", "optimiser": {"lr": "1e-3"}},
        "dataset": {"path": "007", "labels": {"a": "1"}, "sha256": "null"},
        "preprocess": {"spacing": ["1", "1.5", "2"], "clip": "null", "normalise": "none"},
        "prior": False,
    }
    mapping = SMALL | words | {"dataset": {"name": "x", "channels": ["1"], **words["dataset"]}}
    config = parse(with_words(mapping, words))
    assert config.seeds == (0, 1)
    assert config.train == {"epochs": 7, "optimiser": {"lr": "1e-3"}}
    dataset = config.dataset
    assert (dataset.path, dataset.labels, dataset.sha256) == ("007", {"a": 1}, None)
    assert dataset.channels == ("1",)
    assert (config.preprocess.spacing, config.preprocess.clip) == ((1, 1.5, 2), None)
    assert (config.preprocess.normalise, config.prior) == ("none", False)
    with pytest.raises(ConfigError, match=r"seeds\[0\]: found 'one'"):
        parse(with_words(SMALL | {"seeds": ["one"]}, {"seeds": ["one"]}))
    assert with_words(SMALL | {"seeds": [0, 1]}, {}) == SMALL | {"seeds": [0, 1]}


@pytest.mark.parametrize("seed", [2**32, -1])
def test_seeds_that_give_one_network_are_refused(seed):
    for change in ({"seeds": [0, seed]}, {"prune": {"seeds": [seed]}}):
        with pytest.raises(ConfigError, match="seeds"):
            parse(SMALL | change)


MISTAKES = {
    "fold": ([0], "unknown key, did you mean 'folds'"),
    "seeds": ([-1, -2], "found -1, at least 0 is expected"),
    "report": ({"metrics": ["dcie"]}, "unknown metric 'dcie', did you mean 'dice'"),
    "statistics": ({"metric": "Dice", "margn": 1}, "unknown key, did you mean 'margin'"),
    "presets": (["unet_smal_1f", "lunet_small_1f"], "did you mean 'unet_small_1f'"),
    "train": ({"lr": 0.1, "augmentation": {"flip": 1}}, "did you mean 'train.optimiser.lr'"),
    "variants": ({"v": {"base": "unet_smal_2f"}}, "unknown preset 'unet_smal_2f'"),
    "transfer": ({"t": {"dataset": {"name": "phantom"}, "mapp": {}}}, "did you mean 'map'"),
}


def test_all_mistakes_are_listed_at_once() -> None:
    changes = {key: value for key, (value, _) in MISTAKES.items()}
    with pytest.raises(ConfigError) as told:
        study_of({**SMALL, **changes})
    lines = str(told.value).splitlines()
    for key, (_, text) in MISTAKES.items():
        assert any(line.startswith(key) and text in line for line in lines), key
    assert "unknown metric 'Dice'" in str(told.value)
    assert "train.augmentation.flip" in str(told.value)
    assert len(lines) == len(set(lines)) == len(MISTAKES) + 3  # `transfer` lacks its `map`, too


@pytest.mark.parametrize("key", MISTAKES)
def test_each_mistake_alone_is_told_with_no_other(key: str) -> None:
    with pytest.raises(ConfigError) as told:
        study_of({**SMALL, key: MISTAKES[key][0]})
    assert all(line.startswith(key) for line in str(told.value).splitlines())
    assert MISTAKES[key][1] in str(told.value)


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"presets": ["unet_smal_1f"], "statistics": {"reference": "unet_small_1f"}}, 1),
        ({"presets": 3, "statistics": {"reference": "unet_small_1f"}}, 1),
        ({"preset": ["unet_small_1f"], "statistics": {"reference": "unet_small_1f"}}, 1),
        ({"folds": "x", "split": {"folds": 3}}, 1),
        ({"evaluate": {"tolerances": "x"}, "statistics": {"metric": "nsd_7", "margin": 0}}, 1),
        ({"dataset": {"nam": "phantom"}, "train": {"monitor": "dice_x"}}, 2),
    ],
)
def test_a_consequence_of_a_mistake_is_not_told(change: dict[str, object], lines: int) -> None:
    with pytest.raises(ConfigError) as told:
        study_of({**SMALL, **change})
    assert len(str(told.value).splitlines()) == lines, str(told.value)


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"lr": 1}, "'train.optimiser.lr'"),
        ({"epochs": 1}, "'train.epochs'"),
        ({"path": "x"}, "'dataset.path'"),
        ({"margin": 1}, "'statistics.margin'"),
        ({"preset": []}, "'presets'"),
    ],
)
def test_a_key_of_another_section_is_told_with_its_place(
    change: dict[str, object], advice: str
) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {advice}"):
        study_of({**SMALL, **change})


def test_presets_that_share_a_folder_on_some_disks_are_refused() -> None:
    variants = {name: {"base": "unet_small_1f"} for name in ("v", "V")}
    with pytest.raises(ConfigError, match="'v' and 'V' name one folder"):
        study_of({**SMALL, "variants": variants, "presets": ["v", "V"]})


def test_external_rows_are_rows_that_are_not_trained():
    reader = ROW | {"role": "reader"}
    s = Study(
        parse(
            SMALL
            | {"external": {"a": ROW, "b": reader}, "statistics": {"pairs": [["a", "atlas_prior"]]}}
            | {"folds": [0], "seeds": [0, 1]}
        )
    )
    assert s.rows == ("lunet_small_1f", "a", "b", "atlas_prior")
    assert list(s.runs(["a"])) == ["results/s/runs/a/fold-0/seed-0"]
    files = s.files(("metrics", "histories"), ["lunet_small_1f", "a"])
    assert "results/s/runs/a/fold-0/seed-0/run.json" in files
    assert not any("/a/" in file for file in files if file.endswith("history.csv"))
    # the protocol states which rivals there are; a reader is none
    assert s.sections("register")["grid"]["presets"] == ["lunet_small_1f", "a"]
    with_cost = Study(parse(SMALL | {"external": {"a": ROW | {"cost": {"parameters": 5}}}}))
    wildcards = type("Wildcards", (), {"preset": "a"})
    assert with_cost.settings("external")(wildcards) == s.settings("external")(wildcards)
    assert with_cost.settings("external_cost")(wildcards) != s.settings("external_cost")(wildcards)


def test_a_missing_plan_hides_no_other_mistake():
    with pytest.raises(ConfigErrors) as found:
        parse(SMALL | {"plan": "nofile.yaml", "folds": [7]})
    missing, fold = map(str, found.value.errors)
    assert missing.startswith("plan: nofile.yaml does not exist")
    assert "`lunet plan DATA --out nofile.yaml`" in missing
    assert fold.startswith("folds: fold 7")


def test_the_size_of_the_measurement_has_the_axes_of_the_networks():
    with pytest.raises(ConfigError, match=r"efficiency.size: found \[50, 50\], 3 values"):
        study_of(SMALL | {"efficiency": {"size": [50, 50]}})


def test_a_data_set_that_does_not_exist_is_named_by_its_path(tmp_path):
    missing = {"name": "mine", "path": str(tmp_path / "none")}
    with pytest.raises(DataError, match=r"dataset.path: .*none: does not exist"):
        study_of(SMALL | {"dataset": missing})
    with pytest.raises(ConfigError, match=r"dataset.labels and dataset.channels: missing"):
        study_of(SMALL | {"dataset": missing | {"path": str(tmp_path)}})


def test_a_command_adds_a_preset_to_those_of_the_study():
    words = argparse.Namespace(config=str(ROOT / "config/config.yaml"), changes=[])
    words.preset = "lunet_small_4f"  # one of the default list, which the file does not repeat
    listed = read_study(words).presets
    assert len(listed) == 29
    words.preset = "lunet_small_5f"
    assert [*read_study(words).presets] == [*listed, "lunet_small_5f"]
    words.config = str(ROOT / "config/smallest.yaml")
    assert len(read_study(words).presets) > 2  # the candidates of its search
