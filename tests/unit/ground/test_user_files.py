"""No command of `lunet` loses a file of the user: each is started over a foreign file and an input.

The commands are those of the package, so a new one has to be added here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prepared_cases import LABELS, make_prepared
from small_networks import save_run

from lunet.cli import STEPS, main
from lunet.file_list import read_list
from lunet.files import write_json
from lunet.inference import output, predict_files
from lunet.study.code_digest import PACKAGE
from lunet.task import Task

WRITE_NOTHING = {"list", "forecast", "recover", "doctor", "watch"}
NEW_FILES_ONLY = {"init"}
"""Refuses every existing file: tests/unit/study/test_first_study.py."""
IN_RESULTS = {"register", "smallest"}
"""They write into the results folder of their study, under names of their own."""
TASK = Task(("MRI",), {name: int(i) for i, name in LABELS.items() if i != "0"})
MINE = b"somebody's work"
TRANSFER = {
    "dataset": {"name": "balls", "path": "raw"},
    "map": {"inner": "inner", "outer": "outer"},
    "task": TASK.as_dict(),
    "predict": {},
    "evaluate": {},
    "model": {"preset": "lunet_small_2f"},
}
EXTERNAL = {
    "task": TASK.as_dict(),
    "external": {"predictions": "raw/labelsTr"},
}


@dataclass(frozen=True)
class Call:
    """One way to start a command.

    Attributes
    ----------
    words
        Its arguments; ``OUT`` is the place that is written.
    files
        What is appended to that place to make files that it writes.
    inputs
        Places that must not be written: each is an input of the words.
    alone
        Whether any foreign file in the folder is refused.
    """

    words: str
    files: Sequence[str]
    inputs: Sequence[str]
    alone: bool = False


PREPARED = "--manifest prepared/manifest.json --splits splits.json"
RUN = f"{PREPARED} --preset lunet_small_2f"
MASKS = ("/case_04.nii.gz", "/predictions.json")
RELEASE = ("/README.md", "/data.json", "/weights.safetensors", "/run.json")
CALLS = {
    "download": Call("--name balls --path raw --out OUT", ["/dataset.json"], ["raw"], alone=True),
    "phantom": Call("--subjects 1 --scale 0.5 --out OUT", ["/dataset.json"], [], alone=True),
    "audit": Call("raw --out OUT", ["/findings.csv", "/summary.json"], ["raw"], alone=True),
    "repair": Call("raw --out OUT", ["/dataset.json"], ["raw", "raw/../raw"], alone=True),
    "import": Call("raw --out OUT", ["/dataset.json"], ["raw", "./raw", "link"], alone=True),
    "plan": Call("raw --memory-gb 1 --out OUT.yaml", [".yaml"], []),
    "preprocess": Call(
        "raw --out OUT", ["/manifest.json", "/images/case_00.npy"], ["raw", "link"], alone=True
    ),
    "folds": Call("--manifest prepared/manifest.json --out OUT", [""], ["prepared/manifest.json"]),
    "engine": Call(
        f"{RUN} --set train.epochs=1 --out OUT",
        [""],
        ["prepared/manifest.json", "splits.json"],
    ),
    "train": Call(
        f"{RUN} --init run/weights.safetensors --work w --out OUT",
        ["/weights.safetensors", "/history.csv", "/run.json"],
        ["run"],
    ),
    "predict": Call("--weights run scans --out OUT", ["/case_00.nii.gz"], ["scans", "run"]),
    "predict --prior": Call(f"{PREPARED} --prior --out OUT", MASKS, []),
    "predict --manifest": Call(f"{PREPARED} --weights run --out OUT", MASKS, ["run"]),
    "evaluate": Call(
        "--reference raw/labelsTr/case_00.nii.gz --prediction link/labelsTr/case_04.nii.gz"
        " --labels inner=1 --out OUT",
        [""],
        ["raw/labelsTr/../labelsTr/case_00.nii.gz", "raw/labelsTr/case_04.nii.gz", "hard.nii.gz"],
    ),
    "transfer": Call(
        f"--settings '{json.dumps(TRANSFER)}' --raw raw --weights run --out OUT",
        ["/metrics.csv", "/run.json", "/predictions/case_00.nii.gz"],
        ["raw", "run"],
        alone=True,
    ),
    "external": Call(
        f"{RUN} --settings '{json.dumps(EXTERNAL)}' --out OUT",
        ["/case_04.nii.gz"],
        [],
    ),
    "rival": Call(
        f"export {PREPARED} --out OUT",
        ["/Dataset001_study/dataset.json"],
        ["prepared/manifest.json"],
        alone=True,
    ),
    "lesions": Call(
        f"{RUN} --predictions scans --out OUT --froc OUT.froc", ["", ".froc"], ["splits.json"]
    ),
    "efficiency": Call("--preset lunet_small_2f --size 16 16 16 --out OUT", [""], []),
    "prune": Call(
        f"{RUN} --strategy stamp --init run/weights.safetensors --work w --out OUT",
        ["/weights.safetensors", "/trajectory.csv", "/test_curve.csv"],
        ["run"],
    ),
    "table": Call("failures --inputs old/m.csv --out OUT", [".csv", ".md", ".tex"], ["old/m"]),
    "figure": Call("curves --inputs old/m.csv --out OUT", [".svg", ".png", ".csv"], ["old/m"]),
    "report": Call("--results old --presets a --out OUT", [""], ["old"]),
    "export": Call("run --no-onnx --out OUT", RELEASE, ["run", "run/../run"], alone=True),
    "import-weights": Call(
        "run/weights.safetensors --preset lunet_small_2f --out OUT",
        ["/weights.safetensors"],
        ["run"],
        alone=True,
    ),
    "nnunet": Call("OUT/plans.json --preset lunet_small_2f", ["/plans_lunet_small_2f.json"], []),
    "export-slices": Call("raw --window 0 9 --out OUT", ["/slices.csv"], ["raw"], alone=True),
    "show": Call(
        "scans/case_00.nii.gz --segmentation raw/labelsTr/case_00.nii.gz --out OUT.png",
        [".png"],
        [],
    ),
    "power": Call(
        "--sd-subjects 0.1 --sd-trainings 0.1 --sd-rest 0.1 --subjects 9 --folds 3 --out OUT",
        [".csv", ".json", "-figure.png"],
        [],
    ),
    "schema": Call("--out OUT.md", [".md"], []),
    "selftest": Call("--device cpu --out OUT", [""], []),
}


def test_every_command_is_here() -> None:
    modules = {p.stem for p in (PACKAGE / "commands").glob("*.py")}
    helpers = {"__init__", "arguments", "raw"}
    assert {name.replace("_", "-") for name in modules - helpers} == set(STEPS)
    assert {name.split()[0] for name in CALLS} | WRITE_NOTHING | NEW_FILES_ONLY | IN_RESULTS == set(
        STEPS
    )


@pytest.fixture
def world(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with a raw data set, prepared volumes, a run, scans; the working directory."""
    made = tmp_path_factory.getbasetemp() / "world"
    if not made.exists():
        make_prepared(made)
        save_run(made / "run", TASK)
        write_json(made / "run" / "run.json", {})
        (made / "scans").mkdir()
        for name in ("case_00", "case_04", "case_05"):
            shutil.copy(made / f"raw/imagesTr/{name}.nii.gz", made / "scans")
        (made / "old").mkdir()
        (made / "old" / "m.csv").write_text("epoch,train_loss\n1,0.5\n")
    place = tmp_path / "world"
    shutil.copytree(made, place)
    (place / "link").symlink_to("raw")
    (place / "hard.nii.gz").hardlink_to(place / "raw/labelsTr/case_00.nii.gz")
    monkeypatch.chdir(place)
    return place


def words_of(name: str, out: str) -> list[str]:
    """The command line; a JSON text is one word."""
    text = CALLS[name].words
    before, quote, rest = text.partition("'")
    inside, _, after = rest.partition("'") if quote else ("", "", "")
    words = [*before.split(), *([inside] if quote else []), *after.split()]
    return [*name.split()[:1], *(word.replace("OUT", out) for word in words)]


def content(folder: Path) -> dict[str, bytes]:
    """Every file but locks beside what is written, and the memory of checked digests."""
    aside = (".out.lock", ".checked.jsonl")
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in aside]
    return {str(p): p.read_bytes() for p in files}


CASES = [(name, file) for name, call in CALLS.items() for file in call.files]


@pytest.mark.parametrize(("name", "file"), CASES, ids=lambda text: text.strip("/"))
def test_a_foreign_file_stays(
    world: Path, capsys: pytest.CaptureFixture[str], name: str, file: str
) -> None:
    foreign = world / f"out{file}"
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_bytes(MINE)
    if name == "nnunet":
        write_json(world / "out" / "plans.json", {"configurations": {"3d_fullres": {}}})
    before = content(world)
    assert main(words_of(name, "out")) == 2
    lines = capsys.readouterr().err.splitlines()
    told = [line for line in lines if line.startswith("error: ")]
    assert len(told) == 1
    assert f"out{file} exists and was not written by this command" in told[0]
    assert content(world) == before


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.alone])
def test_a_folder_that_holds_anything_else_is_left_alone(
    world: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (world / "out" / "deep").mkdir(parents=True)
    (world / "out" / "deep" / "notes.txt").write_bytes(MINE)
    before = content(world)
    assert main(words_of(name, "out")) == 2
    told = capsys.readouterr().err
    assert "out/deep/notes.txt exists and was not written" in told
    assert content(world) == before


INPUTS = [(name, place) for name, call in CALLS.items() for place in call.inputs]


@pytest.mark.parametrize(("name", "place"), INPUTS)
def test_an_input_is_never_written(
    world: Path, capsys: pytest.CaptureFixture[str], name: str, place: str
) -> None:
    before = content(world)
    assert main(words_of(name, place)) == 2
    assert " is an input" in capsys.readouterr().err
    assert content(world) == before


@pytest.mark.parametrize(
    "name", ["predict", "predict --prior", "audit", "export", "evaluate", "preprocess"]
)
def test_the_same_command_again_replaces_its_own_files(world: Path, name: str) -> None:
    assert main(words_of(name, "out")) == 0
    if name == "preprocess":  # who reads the volumes notes which digests were right
        (world / "out" / ".checked.jsonl").write_text("")
    first = content(world)
    assert main(words_of(name, "out")) == 0
    assert content(world) == first


@pytest.mark.parametrize(
    ("name", "module", "function"),
    [
        ("predict", predict_files, "_predict_one"),
        ("predict --manifest", output, "write_native"),
    ],
)
def test_each_mask_is_listed_when_it_is_written(
    world: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: Any, function: str
) -> None:
    """A prediction of hours may be killed, and somebody corrects what is there."""
    original, listed = getattr(module, function), []

    def spied(*arguments: Any) -> Any:
        known = read_list(world / "out")
        listed.append(sum(entry.size is not None for entry in known.values()))
        return original(*arguments)

    monkeypatch.setattr(module, function, spied)
    assert main(words_of(name, "out")) == 0
    assert listed == list(range(len(listed)))
    assert len(listed) > 1


def test_a_prediction_that_ends_early_leaves_no_mask_of_other_weights(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = words_of("predict --manifest", "out")
    assert main(words) == 0
    first, *others = sorted(path.name for path in (world / "out").glob("case_*"))
    original, calls = output.write_native, iter(range(9))

    def killed(*arguments: Any) -> None:
        if next(calls):
            raise KeyboardInterrupt
        original(*arguments)

    monkeypatch.setattr(output, "write_native", killed)
    assert main(words) != 0
    assert others
    assert [path.name for path in (world / "out").glob("case_*")] == [first]


def test_a_picture_without_out_is_not_written_over_the_image(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for name in ("scan.png", "mask.png"):
        Image.fromarray(image // 255 if name == "mask.png" else image).save(world / name)
    before = content(world)
    assert main(["show", "scan.png", "--segmentation", "mask.png"]) == 2
    assert "scan.png is an input" in capsys.readouterr().err
    assert content(world) == before
