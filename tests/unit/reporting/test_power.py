"""`lunet power`: numbers of a pilot, the sentence, the files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from study_of_numbers import write_study

from lunet import cli
from lunet.errors import LunetError
from lunet.files import write_json
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.html.answer import power_part
from lunet.reporting.html.page import Text
from lunet.reporting.power import Question, facts, sentence
from lunet.statistics.power import Components, Design
from lunet.study.config import parse
from lunet.study.power import power_sentence
from lunet.study.study import Study


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("pilot"))


def test_a_pilot_gives_table_figure_and_sentence(pilot: Path, tmp_path: Path, capsys) -> None:
    words = ["--pilot", str(pilot), "--reference", "unet_small_4f", "--presets", "lunet_small_4f"]
    assert cli.main(["power", *words, "--margin", "0.004", "--out", str(tmp_path / "power")]) == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "power.json").read_text())
    assert found["design"] == {"subjects": 50, "folds": 5, "seeds": 2}
    # two labels of independent noise 0.008, two cases per subject: 0.008 / 2 on each side
    assert found["components"]["rest"] == pytest.approx(0.004, rel=0.15)
    assert found["sentence"] in told
    assert "can resolve" in told
    names = {path.name for path in tmp_path.iterdir()}
    assert {"power.csv", "power.md", "power.tex", "power-figure.svg", "power-figure.csv"} <= names


def test_stated_deviations_and_json(capsys) -> None:
    words = ["--sd-subjects", "0.019", "--subjects", "24", "--margin", "0.01", "--json"]
    assert cli.main(["power", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["design"] == {"subjects": 24, "folds": 5, "seeds": 1}
    assert found["power_at_difference"]["equal"] == pytest.approx(0.69, abs=0.01)
    assert found["power_at_difference"]["half_worse"] < 0.3
    assert "one seed" in found["sentence"]
    needed = found["options"][0]["subjects_needed"]
    assert f"Enough would be {needed} subjects." in found["sentence"]


def test_what_no_number_of_subjects_resolves_is_said() -> None:
    found = facts(Components(0.01, 0.02, 0.01), Design(30, 5, 2), Question(margin=0.01))
    assert found["options"][0]["subjects_needed"] is None
    assert "seeds per fold" in sentence(found)
    found = facts(Components(0.2, 0.02, 0.01), Design(30, 5, 2), Question(margin=0.001))
    assert "Neither more subjects nor" in sentence(found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--margin", "0.01"], "neither a pilot"),
        (["--pilot", "nowhere"], "does not exist"),
        (["--sd-subjects", "0.1", "--subjects", "20", "--level", "0.7"], "--level"),
        (["--sd-subjects", "-1", "--subjects", "20"], "sd of subjects"),
        (["--sd-subjects", "0.1", "--subjects", "3"], "a subject per fold"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys) -> None:
    assert cli.main(["power", *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("error: ")


def test_an_unknown_preset_of_the_pilot_is_named(pilot: Path, capsys) -> None:
    assert cli.main(["power", "--pilot", str(pilot), "--presets", "unet_small_9f"]) == 2
    assert "no finished run of unet_small_9f" in capsys.readouterr().err


def a_study(tmp_path: Path, **changes):
    content = {"study": "next", "dataset": {"name": "phantom"}, "presets": ["unet_small_4f"]}
    content["roots"] = {"results": str(tmp_path)}
    return Study(parse(content | changes))


def test_a_study_with_a_pilot_says_what_it_resolves(pilot: Path, tmp_path: Path) -> None:
    study = a_study(tmp_path, pilot=str(pilot), seeds=[0, 1, 2])
    told = power_sentence(study)
    assert "50 subjects, 5 folds, 3 seeds" in told
    folds = [{"train": [], "test": [f"c{fold}{n}" for n in range(40)]} for fold in range(5)]
    write_json(Path(study.results, "splits.json"), {"folds": folds})
    # the pilot has two cases per subject
    assert "100 subjects, 5 folds, 3 seeds" in power_sentence(study)
    with pytest.raises(LunetError, match="no pilot"):
        power_sentence(a_study(tmp_path))
    assert study.sections("report")["pilot"] == str(pilot)


def test_the_command_takes_the_design_of_a_study(pilot: Path, tmp_path: Path, capsys) -> None:
    config = tmp_path / "next.yaml"
    config.write_text(
        yaml.safe_dump(
            {"study": "next", "dataset": {"name": "phantom"}, "seeds": [0, 1, 2]}
            | {"roots": {"results": str(tmp_path)}, "statistics": {"margin": 0.005}}
        )
    )
    words = ["--config", str(config), "--pilot", str(pilot), "--json"]
    assert cli.main(["power", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["design"] == {"subjects": 50, "folds": 5, "seeds": 3}
    assert (found["question"]["margin"], found["question"]["level"]) == (
        0.005,
        pytest.approx(0.025),
    )


def test_the_report_says_what_the_design_could_resolve(pilot: Path) -> None:
    counts = {"groups": 30, "folds": 5, "seeds": 2}
    (said,) = power_part(str(pilot), StatisticsSettings(), counts)
    assert isinstance(said, Text)
    assert "30 subjects, 5 folds, 2 seeds" in said.text
    assert power_part(None, StatisticsSettings(), counts) == []
