"""Ids name files everywhere, and whatever of a source is left out is named in a line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiny_dataset as tiny

from lunet.cli import main
from lunet.data.dataset import read_dataset
from lunet.data.dataset_json import declared_task
from lunet.data.ids import require_different, require_id
from lunet.data.layouts.importing import write_project
from lunet.data.layouts.open import open_dataset
from lunet.data.left_out import count_lines, counts_of
from lunet.data.prepare import prepare_dataset
from lunet.data.prepared import read_manifest
from lunet.data.settings import DatasetSettings, PreprocessSettings
from lunet.errors import DataError
from lunet.files import write_json
from lunet.reading import read_json

BAD = [
    "", ".", "..", "a/b", "/abs", "../x", "a\\b", ".hidden", "~x", "=1", "-a", "@x",
    " a", "a ", "a\tb", "a\nb", "a\0b", "a\u200bb", "a\u202eb", "a\u00a0b", "\ufeffa",
    "\udc80", "x" * 201, "é" * 101,
]  # fmt: skip
GOOD = ["a", "sub-01_ses-2", "Jörg", "患者 1", "a.b", "x" * 200, "1", "a(b)", "$(x)"]


@pytest.mark.parametrize("name", BAD)
def test_an_id_that_cannot_name_a_file_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="the id"):
        require_id(name, "x")


@pytest.mark.parametrize("name", GOOD)
def test_any_other_id_is_taken(name: str) -> None:
    assert require_id(name, "x") == name


def test_ids_that_look_the_same_are_the_same() -> None:
    with pytest.raises(DataError, match=r"name one file .* \(1 and 2\)"):
        require_different([("J\u00f6rg", 1), ("Jo\u0308rg", 2)], "x")


@pytest.mark.parametrize("layout", ["decathlon", "folders", "csv", "nnunet"])
def test_ids_that_differ_in_case_only_are_refused_with_both_files(
    tmp_path: Path, layout: str
) -> None:
    names = ("Case_1", "case_1")
    root = tmp_path / "set"
    for name in names:
        tiny.save(root / "imagesTr" / f"{name}.nii.gz", tiny.volumes(1)[0])
        tiny.save(root / "labelsTr" / f"{name}.nii.gz", tiny.volumes(1)[1])
    source = root
    if layout == "decathlon":
        tiny.write_listing(root, list(names))
    elif layout == "csv":
        source = root / "list.csv"
        rows = [f"{name},imagesTr/{name}.nii.gz,labelsTr/{name}.nii.gz" for name in names]
        source.write_text("\n".join(["id,image,label", *rows]))
    elif layout == "nnunet":
        about = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "front": 1}}
        for name in names:
            image = root / "imagesTr" / f"{name}.nii.gz"
            image.rename(image.with_name(f"{name}_0000.nii.gz"))
        write_json(root / "dataset.json", about | {"numTraining": 2, "file_ending": ".nii.gz"})
    both = r"'[Cc]ase_1' and '[Cc]ase_1' .*\(.*/[Cc]ase_1.*nii.gz and .*/[Cc]ase_1.*nii.gz\)"
    with pytest.raises(DataError, match=both):
        open_dataset(source)


def test_a_manifest_with_ids_that_differ_in_case_only_is_refused(tmp_path: Path) -> None:
    dataset = read_dataset(tiny.make(tmp_path / "raw", 2))
    prepare_dataset(dataset, PreprocessSettings(), tmp_path / "p", log=lambda _: None)
    content = read_json(tmp_path / "p/manifest.json")
    content["cases"][1]["id"] = content["cases"][0]["id"].upper()
    write_json(tmp_path / "p/manifest.json", content)
    with pytest.raises(DataError, match="'case_01' and 'CASE_01'"):
        read_manifest(tmp_path / "p")


LISTED = [
    (kind, name)
    for kind in ("decathlon", "nnunet", "csv", "manifest")
    for name in ("a/b", "../x", "{tmp}/x", ".x", "a\u200b")
]


@pytest.mark.parametrize(("kind", "name"), [*LISTED, ("folders", "a\u200b")])
def test_every_listing_is_asked(tmp_path: Path, kind: str, name: str) -> None:
    name = name.format(tmp=tmp_path)
    root = tiny.make(tmp_path / "raw", 2)
    image, label = "imagesTr/case_01.nii.gz", "labelsTr/case_01.nii.gz"
    listing = read_json(root / "dataset.json")
    source = root
    if kind == "decathlon":
        listing["training"][0]["id"] = name
        write_json(root / "dataset.json", listing)
    elif kind == "nnunet":
        about = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "front": 1}}
        files = {"dataset": {name: {"images": [image], "label": label}}, "file_ending": ".nii.gz"}
        write_json(root / "dataset.json", about | files | {"numTraining": 1})
    elif kind == "csv":
        source = root / "list.csv"
        source.write_text(f"id,image,label\n{name},{image},{label}\n", encoding="utf-8")
    elif kind == "folders":
        (root / "dataset.json").unlink()
        for part in ("images", "labels"):
            (root / f"{part}Tr" / "case_01.nii.gz").rename(root / f"{part}Tr" / f"{name}.nii.gz")
    if kind == "manifest":
        dataset = read_dataset(root)
        prepare_dataset(dataset, PreprocessSettings(), tmp_path / "p", log=lambda _: None)
        content = read_json(tmp_path / "p/manifest.json")
        content["cases"][0]["id"] = name
        write_json(tmp_path / "p/manifest.json", content)
        with pytest.raises(DataError, match="the id"):
            _ = read_manifest(tmp_path / "p").cases
    else:
        with pytest.raises(DataError, match="the id"):
            open_dataset(source)


def test_equal_file_names_in_a_csv_listing_are_told(tmp_path: Path) -> None:
    for number in (1, 2):
        tiny.make(tmp_path / f"sub-{number}", 1)
    rows = [f"sub-{n}/imagesTr/case_01.nii.gz,sub-{n}/labelsTr/case_01.nii.gz" for n in (1, 2)]
    (tmp_path / "list.csv").write_text("\n".join(["image,label", *rows]))
    with pytest.raises(DataError, match=r"two cases are called 'case_01' .*sub-1.*sub-2"):
        open_dataset(tmp_path / "list.csv")


def break_links(*paths: Path) -> None:
    """As a clone of a git-annex repository before `git annex get`."""
    for path in paths:
        path.unlink()
        path.symlink_to("../.git/annex/objects/none")


def folders(root: Path, cases: int = 3) -> Path:
    tiny.make(root, cases)
    (root / "dataset.json").unlink()
    return root


@pytest.mark.parametrize("broken", [("imagesTr",), ("labelsTr",), ("imagesTr", "labelsTr")])
@pytest.mark.parametrize("layout", ["folders", "nnunet", "bids", "mmwhs"])
def test_a_link_without_content_is_named(
    tmp_path: Path, layout: str, broken: tuple[str, ...]
) -> None:
    made = folders(tmp_path / "made")
    root = tmp_path / "set"
    names = {
        "folders": ("images/p{}.nii.gz", "labels/p{}.nii.gz"),
        "nnunet": ("imagesTr/p{}_0000.nii.gz", "labelsTr/p{}.nii.gz"),
        "bids": (
            "sub-{0}/anat/sub-{0}_T1w.nii.gz",
            "derivatives/manual/sub-{0}/anat/sub-{0}_T1w_seg.nii.gz",
        ),
        "mmwhs": ("ct_train/ct_train_{}_image.nii.gz", "ct_train/ct_train_{}_label.nii.gz"),
    }[layout]
    for number in (1, 2, 3):
        for part, name in zip(("imagesTr", "labelsTr"), names, strict=True):
            place = root / name.format(number)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made / part / f"case_{number:02d}.nii.gz", place)
            if number == 2 and part in broken:
                break_links(place)
    if layout == "nnunet":
        about = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2}}
        write_json(root / "dataset.json", about | {"file_ending": ".nii.gz", "numTraining": 3})
    if layout == "bids":
        table = "participant_id\nsub-1\nsub-2\nsub-3\n"
        (root / "participants.tsv").write_text(table)
    dataset = open_dataset(root)
    assert len(dataset.cases) == 2
    (name,) = dataset.left_out
    assert "2" in name
    assert "without content" in dataset.left_out[name]
    assert counts_of(dataset)["found"] == 3
    raw = write_project(dataset, tmp_path / "raw")
    again = read_dataset(raw)
    assert again.left_out == dataset.left_out
    assert count_lines(again) == count_lines(dataset)
    assert f"left out: {name}: {dataset.left_out[name]}" in count_lines(again)


def test_a_set_of_links_without_content_is_refused(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", 2)
    break_links(*root.rglob("*.nii.gz"))
    with pytest.raises(DataError, match="2 cases, each a link without content"):
        open_dataset(root)


def test_counts_are_printed_and_stored_all_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folders(tmp_path / "set")
    break_links(root / "imagesTr/case_02.nii.gz")
    (root / "labelsTr/case_03.nii.gz").unlink()
    shutil.copy(root / "imagesTr/case_01.nii.gz", root / "odd.nii.gz")
    raw, audit, prepared = (str(tmp_path / name) for name in ("raw", "audit", "prepared"))
    words = ["--labels", "front=1", "back=2"]
    assert main(["import", str(root), "--out", raw, *words]) == 0
    main(["audit", raw, "--out", audit])
    assert main(["preprocess", raw, "--out", prepared]) == 0
    told = capsys.readouterr().out
    for line in (
        "3 cases found, 2 used, 1 labelled",
        "left out: case_02: a link without content",
        "left out: odd.nii.gz: no case names this file",
        "cases without a label are not used in training: case_03",
    ):
        assert told.count(line) == 3
    counts = read_json(Path(prepared) / "manifest.json")["dataset"]["counts"]
    assert (counts["found"], counts["used"], counts["labelled"]) == (3, 2, 1)
    assert sorted(counts["left_out"]) == ["case_02", "odd.nii.gz"]
    assert read_json(Path(audit) / "summary.json")["counts"] == counts


def test_a_limit_names_what_it_leaves_out(tmp_path: Path) -> None:
    root = tiny.make(tmp_path / "raw", 3)
    dataset = read_dataset(root, DatasetSettings(name="x", path=str(root), limit=2))
    assert dataset.left_out == {"case_03": "dataset.limit is 2"}
    assert counts_of(dataset)["found"] == 3


@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_channel_numbers_with_a_gap_are_refused(tmp_path: Path, key: str) -> None:
    root = tiny.make(tmp_path / "raw", 1)
    listing = read_json(root / "dataset.json")
    listing |= {"file_ending": ".nii.gz"} if key == "channel_names" else {}
    del listing["modality"]
    listing[key] = {"0": "T1", "2": "T2"}
    if key == "channel_names":
        listing["labels"] = {"background": 0, "front": 1}
        del listing["training"]
    write_json(root / "dataset.json", listing)
    for read in (open_dataset, declared_task):
        with pytest.raises(DataError, match="channels are numbered 0, 2"):
            read(root)


def brats(root: Path, *names: str, separator: str = "_", missing: str = "") -> Path:
    contrasts = ("flair", "t1", "t1ce", "t2") if separator == "_" else ("t2f", "t1n", "t1c", "t2w")
    image, label = tiny.volumes(1, (8, 8, 8))
    for name in names:
        for contrast in contrasts:
            tiny.save(root / name / f"{name}{separator}{contrast}.nii", image)
        if name != missing:
            tiny.save(root / name / f"{name}{separator}seg.nii", label)
    return root


def test_the_misnamed_segmentation_of_brats_2020_is_taken_and_told(tmp_path: Path) -> None:
    names = [f"BraTS20_Training_{number}" for number in ("001", "355")]
    root = brats(tmp_path / "set", *names, missing=names[1])
    label = tiny.volumes(1, (8, 8, 8))[1]
    tiny.save(root / names[1] / "W39_1998.09.19_Segm.nii", label)
    dataset = open_dataset(root)
    assert [case.label is not None for case in dataset.cases] == [True, True]
    note = f"{names[1]}: W39_1998.09.19_Segm.nii is taken as its segmentation"
    assert note in count_lines(read_dataset(write_project(dataset, tmp_path / "raw")))


def test_a_subject_without_segmentation_among_others_is_told(tmp_path: Path) -> None:
    names = [f"BraTS20_Training_{number}" for number in ("001", "002")]
    dataset = open_dataset(brats(tmp_path / "set", *names, missing=names[1]))
    line = f"cases without a label are not used in training: {names[1]}"
    assert line in count_lines(dataset)


def test_two_editions_of_brats_in_one_folder_are_refused(tmp_path: Path) -> None:
    root = brats(tmp_path / "set", "BraTS2021_00001")
    brats(root, "BraTS-GLI-00001-000", separator="-")
    with pytest.raises(DataError, match=r"subjects of BraTS2021 .* and BraTS2023"):
        open_dataset(root)


def test_subjects_that_a_table_does_not_list_are_told(tmp_path: Path) -> None:
    image, label = tiny.volumes(1)
    for number in (1, 2):
        name = f"sub-{number}"
        tiny.save(tmp_path / f"{name}/anat/{name}_T1w.nii.gz", image)
        place = tmp_path / f"derivatives/manual/{name}/anat/{name}_T1w_seg.nii.gz"
        tiny.save(place, label)
    tiny.save(tmp_path / "derivatives/manual/sub-9/anat/sub-9_T1w_seg.nii.gz", label)
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-1\n")
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["sub-1"]
    assert dataset.left_out["sub-2"] == "not in participants.tsv"
    assert any("sub-9" in name for name in dataset.left_out)
    assert counts_of(dataset)["found"] == 2


def test_other_channels_and_labels_without_images_of_nnunet_are_told(tmp_path: Path) -> None:
    image, label = tiny.volumes(1)
    for name in ("a_0000", "a_0001"):
        tiny.save(tmp_path / f"imagesTr/{name}.nii.gz", image)
    for name in ("a", "b"):
        tiny.save(tmp_path / f"labelsTr/{name}.nii.gz", label)
    about = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "front": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(about | {"file_ending": ".nii.gz"}))
    dataset = open_dataset(tmp_path)
    assert set(dataset.left_out) == {"imagesTr/a_0001.nii.gz", "labelsTr/b.nii.gz"}
