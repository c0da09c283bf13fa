"""The protocol of a study: written once, compared for ever, described for a deposit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lunet.cli import main
from lunet.errors import DataError
from lunet.file_list import MARKER
from lunet.files import write_json
from lunet.own_files import is_own
from lunet.reading import read_json
from lunet.statistics.registration import registration
from lunet.study.config import parse
from lunet.study.protocol import (
    STATED,
    comparisons,
    hand_over,
    handed_over,
    known_warnings,
    register,
    resolution_warnings,
    subjects_tested,
)
from lunet.study.study import Study

DONE = ["2001-01-01T00:00:00Z"]
BASE = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": ["unet_small_2f", "lunet_small_4f", "lunet_small_2f"],
    "folds": [0, 1],
    "seeds": [0],
    "statistics": {"reference": "unet_small_2f"},
}


def study(**changes) -> Study:
    return Study(parse(BASE | changes))


def sections(**changes) -> dict:
    return study(**changes).sections("register")


def state(folder: Path, **changes) -> list[str]:
    return register(folder / "protocol.json", sections(**changes))


def test_the_first_protocol_stays(tmp_path: Path) -> None:
    lines = state(tmp_path)
    assert "registered on" in lines[0]
    assert "no prepared volumes yet" in lines[1]
    before = (tmp_path / "protocol.json").read_bytes()
    assert "nothing has changed" in state(tmp_path)[0]
    changed = {"statistics": {"reference": "unet_small_2f", "margin": 0.05}}
    assert state(tmp_path, **changed) == ["Changed after the runs: margin was 0.01."]
    assert (tmp_path / "protocol.json").read_bytes() == before
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [MARKER, "protocol.json", "ro-crate-metadata.json"]
    assert is_own(tmp_path / "ro-crate-metadata.json", step="register")


def test_a_description_of_the_user_s_stays(tmp_path: Path) -> None:
    crate = tmp_path / "ro-crate-metadata.json"
    crate.symlink_to(tmp_path / "kept elsewhere")
    state(tmp_path)
    assert crate.is_symlink()
    assert not crate.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: [], "a mapping is expected"),
        (lambda content: {**content, "stated": 3}, "stated: found 3"),
        (lambda content: {k: v for k, v in content.items() if k != "digest"}, "digest: missing"),
        (
            lambda content: {**content, "stated": {**content["stated"], "presets": 1}},
            "stated.presets: found 1",
        ),
        (
            lambda content: {
                **content,
                "stated": {**content["stated"], "statistics": {"pairs": [1]}},
            },
            "stated.statistics.pairs",
        ),
        (lambda content: {**content, "trained": "x"}, "trained: found 'x'"),
    ],
)
def test_a_damaged_protocol_is_refused_by_its_key(change, told: str, tmp_path: Path) -> None:
    state(tmp_path)
    path = tmp_path / "protocol.json"
    write_json(path, change(read_json(path)))
    with pytest.raises(DataError, match=told) as caught:
        state(tmp_path)
    assert str(path) in caught.value.where


@pytest.mark.parametrize("name", ["splits.json", "manifest.json"])
def test_damaged_data_are_no_bug_at_registration(name: str, tmp_path: Path) -> None:
    made = prepared(tmp_path, 6, folds=[0])
    files = {
        "splits.json": Path(made.results, "splits.json"),
        "manifest.json": Path(made.manifest),
    }
    for content in ([], {"folds": 1, "cases": [3]}, {"folds": [], "cases": [{}]}):
        write_json(files[name], content)
        assert known_warnings(made) == []
        with pytest.raises(DataError, match=name):
            register(
                tmp_path / "protocol.json",
                made.sections("register"),
                manifest=files["manifest.json"],
                splits=files["splits.json"],
            )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"statistics": {"reference": "lunet_small_4f"}}, ["reference was unet_small_2f"]),
        (
            {"statistics": {"pairs": [["lunet_small_4f", "unet_small_2f"]]}},
            ["reference was unet_small_2f", "pairs was none"],
        ),
        (
            {"statistics": {"metric": "hd95", "margin": 1.0, "reference": "unet_small_2f"}},
            ["metric was dice", "margin was 0.01"],
        ),
        ({"seeds": [0, 1]}, ["seeds were 0"]),
        ({"folds": [0]}, ["folds were 0, 1"]),
        (
            {"presets": ["unet_small_2f", "lunet_small_4f"]},
            ["presets were unet_small_2f, lunet_small_4f, lunet_small_2f"],
        ),
        ({"presets": ["lunet_small_2f", "unet_small_2f", "lunet_small_4f"]}, []),
        ({"report": {"examples": 1}}, []),
    ],
)
def test_every_statement_is_compared(tmp_path: Path, changes: dict, words: list[str]) -> None:
    state(tmp_path)
    now = sections(**changes)
    found = registration(read_json(tmp_path / "protocol.json"), now["statistics"], now["grid"])
    assert list(found.changes) == words
    assert found.is_beforehand is not bool(words)
    assert ("stated before the runs" in found.when) is found.is_beforehand


def test_trainings_that_had_finished_are_told(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_json(tmp_path / f"runs/a/fold-0/seed-{seed}/run.json", {})
    assert "2 training(s)" in "\n".join(state(tmp_path))
    content = read_json(tmp_path / "protocol.json")
    found = registration(content, content["stated"]["statistics"], {})
    assert "after 2 trainings had finished" in found.when
    # whoever deletes the protocol and writes it again has runs that are older than it
    again = content | {"trained": 0}
    older = registration(again, again["stated"]["statistics"], {}, finished=DONE)
    assert (older.earlier, older.is_beforehand) == (1, False)
    assert "unknown when this was stated" in registration(None, {}, {}).when


def test_an_edit_by_hand_is_told(tmp_path: Path) -> None:
    state(tmp_path)
    content = read_json(tmp_path / "protocol.json")
    content["stated"]["statistics"]["margin"] = 0.05
    found = registration(content, content["stated"]["statistics"], {})
    assert found.changes == ("protocol.json was edited",)


def test_the_crate_describes_what_is_there(tmp_path: Path) -> None:
    """RO-Crate 1.1: descriptor, root with its required properties, and the file itself."""
    state(tmp_path)
    crate = read_json(tmp_path / "ro-crate-metadata.json")
    graph = {entity["@id"]: entity for entity in crate["@graph"]}
    assert crate["@context"] == "https://w3id.org/ro/crate/1.1/context"
    descriptor = graph["ro-crate-metadata.json"]
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"]["@id"] == "https://w3id.org/ro/crate/1.1"
    root = graph["./"]
    assert {"name", "description", "datePublished", "license"} <= set(root)
    assert root["hasPart"] == [{"@id": "protocol.json"}]
    size = (tmp_path / "protocol.json").stat().st_size
    assert graph["protocol.json"]["contentSize"] == str(size)


def test_registering_by_hand_locks_and_refuses_another_statement(tmp_path: Path, capsys) -> None:
    config = tmp_path / "config.yaml"
    roots = {"results": str(tmp_path / "results"), "work": str(tmp_path / "work")}
    config.write_text(json.dumps(BASE | {"roots": roots}))
    licence = "https://creativecommons.org/licenses/by/4.0/"
    assert main(["register", "--config", str(config), "--licence", licence]) == 0
    folder = tmp_path / "results" / "s"
    content = read_json(folder / "protocol.json")
    assert content["stated"]["presets"] == BASE["presets"]
    assert content["settings"]["networks"]["lunet_small_4f"]["recipe"]["epochs"] == 10_000
    assert content["code"]
    crate = read_json(folder / "ro-crate-metadata.json")
    assert {"@id": licence} in [entity.get("license") for entity in crate["@graph"]]
    assert main(["register", "--config", str(config)]) == 0
    capsys.readouterr()
    assert main(["register", "--config", str(config), "--set", "seeds=[0, 1]"]) == 2
    told = capsys.readouterr().err
    assert "seeds were 0" in told
    assert "never replaced" in told
    assert main(["register", "--config", str(config), "--set", "train.epochs=3"]) == 2
    assert main(["register"]) == 2


def test_jobs_are_handed_the_statements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATED, "")
    assert handed_over() is None
    hand_over(study(), tmp_path)
    assert handed_over() == json.loads(json.dumps(sections()))


def prepared(tmp_path: Path, subjects: int, **changes) -> Study:
    roots = {"results": str(tmp_path / "results"), "work": str(tmp_path / "work")}
    made = study(roots=roots, **changes)
    cases = [{"id": f"c{i}", "group": f"s{i // 2}"} for i in range(4 * subjects)]
    write_json(made.manifest, {"cases": cases})
    names = [case["id"] for case in cases]
    parts = [names[: 2 * subjects], names[2 * subjects :]]
    folds = [{"train": [], "validation": [], "test": part} for part in parts]
    write_json(Path(made.results, "splits.json"), {"folds": folds})
    return made


def test_too_few_subjects_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    made = prepared(tmp_path, 6, folds=[0])
    splits, manifest = read_json(Path(made.results, "splits.json")), read_json(made.manifest)
    assert subjects_tested(splits, manifest, [0]) == 6
    assert subjects_tested(splits, manifest, [0, 1]) == 12
    # 2 pairs x (2 structures and their mean): the smallest p of 6 subjects is 2 / 64
    assert comparisons(made.sections("register"), 2) == 6
    first, second = known_warnings(made)
    assert "cannot" not in second
    assert "No comparison can be resolved with 6 subjects" in first
    assert "smallest adjusted p of 6 tests is 0.19" in first
    assert len(known_warnings(prepared(tmp_path, 6, folds=[0, 1]))) == 1
    assert known_warnings(prepared(tmp_path, 6, folds=[0, 1], seeds=[0, 1, 2])) == []
    assert "few" in known_warnings(prepared(tmp_path, 6, folds=[0], seeds=[0, 1, 2]))[0]


def test_they_are_told_by_the_source_before_there_are_splits(tmp_path: Path) -> None:
    roots = {"results": str(tmp_path / "results"), "work": str(tmp_path / "work")}
    few = {"name": "phantom", "phantom": {"subjects": 20}}
    made = study(roots=roots, dataset=few, split={"folds": 5}, folds=[0])
    assert "No comparison can be resolved with 4 subjects" in known_warnings(made)[0]
    assert (
        main(
            ["phantom", "--kind", "spleen", "--subjects", "8", "--scale", "0.5"]
            + ["--out", str(tmp_path / "mine")]
        )
        == 0
    )
    mine = {"name": "mine", "path": str(tmp_path / "mine")}
    made = study(roots=roots, dataset=mine, split={"folds": 2}, folds=[0])
    assert "No comparison can be resolved with 4 subjects" in known_warnings(made)[0]
    away = {"name": "mine", "path": str(tmp_path / "away"), "labels": {"a": 1}, "channels": ["MR"]}
    assert known_warnings(study(roots=roots, dataset=away)) == []


def test_a_study_without_a_comparison_is_told() -> None:
    none = sections(statistics={})
    assert "No comparison is configured" in resolution_warnings(none, 40, 2)[0]
    every = sections(statistics={"pairs": "all"})
    assert comparisons(every, 1) == 3
