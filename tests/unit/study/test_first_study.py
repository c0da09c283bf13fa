"""From a folder of one's own to a configuration that is ready to run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lunet.cli import main
from lunet.commands import smallest
from lunet.data.dataset import read_dataset
from lunet.data.layouts.open import open_dataset
from lunet.files import write_json
from lunet.reading import read_json
from lunet.study.config import load, read_mapping
from lunet.study.launch import source_warnings
from lunet.study.study import study_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert main(["phantom", "--subjects", "6", "--scale", "0.5", "--out", "phantom"]) == 0
    return tmp_path / "phantom"


def test_a_folder_becomes_a_configuration(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "phantom", "--margin", "0.02", "--budget-hours", "3"]) == 0
    told = capsys.readouterr().out
    assert ": 12 cases of 6 subjects\n" in told
    assert "--groups" not in told
    assert "lunet smallest --config config/" in told
    (path,) = Path("config").glob("*.yaml")
    config = load(path)
    assert config.dataset.path == str(folder)
    assert config.dataset.labels == {"Anterior": 1, "Posterior": 2}
    assert config.plan == "auto"
    assert config.split.folds == 3
    assert config.folds == (0, 1, 2)
    assert config.statistics.reference == config.smallest.reference == "unet_small_8f"
    assert config.statistics.margin == 0.02
    assert config.smallest.budget_hours == 3


def test_regions_of_the_data_set_are_trained(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = read_json(folder / "dataset.json")
    regions = {"whole": [1, 2], "posterior": [2]}
    write_json(folder / "dataset.json", listing | {"regions": regions})
    assert main(["init", "phantom", "--out", "m.yaml"]) == 0
    study = study_of(read_mapping("m.yaml"))
    assert study.task.regions == {"whole": (1, 2), "posterior": (2,)}
    assert "segments whole, posterior?" in Path("m.yaml").read_text()
    assert list(source_warnings(study)) == []
    text = Path("m.yaml").read_text().splitlines()
    Path("m.yaml").write_text("\n".join(line for line in text if "regions:" not in line))
    (warning,) = source_warnings(study_of(read_mapping("m.yaml")))
    assert "regions: none are named" in warning
    assert "whole, posterior" in warning


def test_what_was_stated_to_read_the_folder_stays_stated(folder: Path) -> None:
    for place in sorted((folder / "labelsTr").iterdir()):
        for number in "ab":  # two scans of each subject
            for kind, source in (("images", "imagesTr"), ("masks", "labelsTr")):
                target = Path("mine", kind, place.name.replace(".nii", f"_{number}.nii"))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / source / place.name, target)
    words = ["mine", "--labels", "head=1", "tail=2", "--groups", r"_(\d+)_", "--out", "m.yaml"]
    assert main(["init", *words]) == 0
    config = load("m.yaml")
    assert config.study == "m"
    assert config.dataset.labels == {"head": 1, "tail": 2}
    assert config.dataset.groups == r"_(\d+)_"
    assert "24 labelled cases of 12 subjects" in Path("m.yaml").read_text().replace("\n# ", " ")


@pytest.mark.parametrize(("epochs", "warmup"), [(2, 0), (5, 1), (6, 5)])
def test_a_few_epochs_shorten_the_warm_up_of_the_recipe(
    folder: Path, epochs: int, warmup: int
) -> None:
    assert main(["init", "phantom", "--epochs", str(epochs), "--out", "m.yaml"]) == 0
    recipe = study_of(read_mapping("m.yaml")).resolved("unet_small_8f")[1]
    assert (recipe.epochs, recipe.schedule.warmup_epochs) == (epochs, warmup)


def test_the_data_set_has_the_name_that_it_states_or_that_the_user_gives(folder: Path) -> None:
    listing = read_json(folder / "dataset.json")
    write_json(folder / "dataset.json", listing | {"name": "Our scans, part 2/3"})
    assert main(["init", "phantom", "--out", "a.yaml"]) == 0
    assert load("a.yaml").dataset.name == "Our scans_ part 2_3"
    assert main(["init", "phantom", "--name", "Clinic A", "--out", "b.yaml"]) == 0
    settings = load("b.yaml").dataset
    assert settings.name == "Clinic A"
    # as a rule reads the data: the manifest, which the report reads, has this name
    assert read_dataset(folder, settings).name == "Clinic A"
    assert open_dataset(folder, settings).name == "Clinic A"
    assert read_dataset(folder).name == "Our scans, part 2/3"


def test_the_hint_about_subjects_has_the_pattern_of_the_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in sorted((folder / "labelsTr").iterdir()):
        for visit in "12":
            for kind, source in (("images", "imagesTr"), ("masks", "labelsTr")):
                end = place.name.replace(".nii", f"_visit{visit}.nii")
                target = Path("mine", kind, end)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / source / place.name, target)
    assert main(["init", "mine", "--labels", "a=1", "b=2"]) == 0
    told = capsys.readouterr().out
    assert told.count("--groups") == 1
    (line,) = (line for line in told.splitlines() if "--groups" in line)
    assert "the names look like 12 subjects" in line
    assert "visit" in line.partition("--groups")[2]


@pytest.mark.parametrize("words", [["init"], ["import"]])
def test_paths_hold_no_steps_upwards(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "inner").mkdir()
    out = {"init": "m.yaml", "import": "raw"}[words[0]]
    assert main([*words, "inner/../phantom", "--out", out]) == 0
    assert ".." not in capsys.readouterr().out
    written = Path("m.yaml" if out == "m.yaml" else "raw/dataset.json").read_text()
    assert "/.." not in written


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ("--out", "there.yaml"),
            "there.yaml: exists already, a configuration is never overwritten",
        ),
        (("--families", "unett"), "unknown preset 'unett_8f'"),
        (("--reference", "unet_smal_8f"), "unknown preset 'unet_smal_8f'"),
        (("--recipe", "strnog"), "did you mean 'strong'"),
        (("--cost", "mac"), "smallest.cost"),
    ],
)
def test_a_mistake_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], message: str
) -> None:
    Path("there.yaml").write_text("mine")
    assert main(["init", "phantom", *more]) == 2
    assert message in capsys.readouterr().err
    assert not list(Path("config").glob("*"))
    assert Path("there.yaml").read_text() == "mine"


def test_too_few_subjects_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", "--subjects", "3", "--scale", "0.5", "--out", "few"]) == 0
    assert main(["init", "few"]) == 2
    assert "3 subjects with labels" in capsys.readouterr().err


def test_the_search_starts_from_a_folder_and_hands_on_options(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = []

    def refuse(command: list[str]) -> int:
        commands.append(command)
        raise KeyboardInterrupt

    monkeypatch.setattr(smallest, "_carry_out", refuse)
    options = ["--snakefile", "elsewhere", "--profile", "profiles/slurm"]
    words = ["smallest", "phantom", "--config", "q.yaml", "--widths", "1", "2", "--", *options]
    assert main(words) == 130
    assert load("q.yaml").smallest.widths == (1, 2)
    assert commands[0][-8:-2] == ["--configfile", "q.yaml", *options]
    assert "results/q/splits.json" in commands[0]
    # the second start takes the configuration as it is now
    assert main(["smallest", "--config", "q.yaml", "--", *options]) == 130
    assert main(["smallest", "phantom", "--config", "q.yaml", "--", *options]) == 2
    assert "q.yaml: exists" in capsys.readouterr().err
    assert main(["smallest"]) == 2
    assert "neither DATA nor --config" in capsys.readouterr().err
