from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lunet.errors import ConfigError, LunetError
from lunet.file_list import MARKER
from lunet.files import write_text
from lunet.leftovers import part_of, remove_leftovers
from lunet.own_files import claim, claim_files, discard, is_own, renewed
from lunet.reading import read_json


def write(folder: Path, *names: str, step: str = "predict", text: str = "x") -> list[str]:
    """What a step does: claim, then write; returns what it may remove."""
    with claim(folder, names, step=step) as old:
        for name in names:
            write_text(folder / name, text)
    return old


def test_own_files_are_replaced_and_stale_ones_named(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert write(folder, "a.nii.gz", "b.nii.gz") == []
    assert write(folder, "b.nii.gz", "c.nii.gz", text="longer") == ["a.nii.gz"]
    discard(folder, ["a.nii.gz"], step="predict")
    assert sorted(p.name for p in folder.glob("*.gz")) == ["b.nii.gz", "c.nii.gz"]
    assert "a.nii.gz" not in read_json(folder / MARKER)["files"]


def test_a_foreign_file_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    expert = tmp_path / "expert.nii.gz"
    expert.write_text("by hand")
    assert write(tmp_path, "a.nii.gz") == []
    with pytest.raises(ConfigError, match=r"expert\.nii\.gz exists and was not written"):
        write(tmp_path, "a.nii.gz", "expert.nii.gz")
    discard(tmp_path, ["expert.nii.gz"], step="predict")
    assert expert.read_text() == "by hand"


def test_a_file_of_another_step_is_foreign(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", step="table")
    with pytest.raises(ConfigError, match=r"a\.csv exists and was written by `lunet table`"):
        write(tmp_path, "a.csv", step="figure")


def test_a_file_that_was_changed_since_is_foreign(tmp_path: Path) -> None:
    write(tmp_path, "a.nii.gz")
    (tmp_path / "a.nii.gz").write_text("corrected by an expert")
    with pytest.raises(ConfigError, match=r"was changed after `lunet predict` wrote it"):
        write(tmp_path, "a.nii.gz")
    assert write(tmp_path, "b.nii.gz") == ["a.nii.gz"]
    discard(tmp_path, ["a.nii.gz"], step="predict")
    assert (tmp_path / "a.nii.gz").read_text() == "corrected by an expert"


def test_a_change_that_keeps_the_length_is_seen(tmp_path: Path) -> None:
    write(tmp_path, "a.nii.gz", "b.nii.gz", text="000111")
    (tmp_path / "a.nii.gz").write_text("001111")
    with pytest.raises(ConfigError, match=r"a\.nii\.gz exists and was changed after"):
        write(tmp_path, "a.nii.gz")
    with (
        pytest.raises(ConfigError, match=r"a\.nii\.gz exists and was changed after"),
        renewed(tmp_path, step="predict"),
    ):
        pass
    assert not is_own(tmp_path / "a.nii.gz", step="predict")
    discard(tmp_path, ["a.nii.gz", "b.nii.gz"], step="predict")
    assert (tmp_path / "a.nii.gz").read_text() == "001111"
    assert not (tmp_path / "b.nii.gz").exists()


def test_a_touched_or_copied_file_is_still_the_step_s_own(tmp_path: Path) -> None:
    write(tmp_path / "out", "a.csv")
    os.utime(tmp_path / "out" / "a.csv", (0, 0))
    assert is_own(tmp_path / "out" / "a.csv", step="predict")
    shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copyfile)
    assert write(tmp_path / "copy", "a.csv", text="y") == []


def test_a_large_file_is_known_by_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lunet.file_list._LARGEST", 3)
    write(tmp_path, "a.npy", text="long", step="preprocess")
    assert read_json(tmp_path / MARKER)["files"]["a.npy"]["sha256"] is None
    (tmp_path / "a.npy").write_text("LONG")
    assert is_own(tmp_path / "a.npy", step="preprocess")


def test_a_large_mask_that_an_expert_corrected_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An uncompressed mask keeps its length, whatever is painted."""
    monkeypatch.setattr("lunet.file_list._LARGEST", 3)
    write(tmp_path, "a.nii", text="000111")
    (tmp_path / "a.nii").write_text("001111")
    with pytest.raises(ConfigError, match=r"a\.nii exists and was changed after"):
        write(tmp_path, "a.nii")
    assert (tmp_path / "a.nii").read_text() == "001111"


def test_what_is_noted_is_protected_also_after_a_kill(tmp_path: Path) -> None:
    program = """
import os
from pathlib import Path
from lunet.own_files import claim, note
with claim("out", ["a.nii", "b.nii"], step="predict"):
    Path("out/a.nii").write_text("000111")
    note("out", ["a.nii"], step="predict")
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    (tmp_path / "out/a.nii").write_text("001111")
    with pytest.raises(ConfigError, match=r"a\.nii exists and was changed after"):
        write(tmp_path / "out", "a.nii", "b.nii")
    assert (tmp_path / "out/a.nii").read_text() == "001111"
    (tmp_path / "a.npy").write_text("longer")
    assert not is_own(tmp_path / "a.npy", step="predict")


def test_a_link_to_elsewhere_of_the_same_length_is_somebody_s(tmp_path: Path) -> None:
    with claim(tmp_path, ["a"], step="import"):
        (tmp_path / "a").symlink_to("x")
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to("y")
    assert not is_own(tmp_path / "a", step="import")


def test_a_list_of_lengths_alone_still_counts(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / MARKER).write_text(json.dumps({"files": {"a": {"step": "predict", "size": 1}}}))
    assert write(tmp_path, "a") == []


def test_what_was_claimed_and_never_written_is_not_ours_later(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claim_files([tmp_path / "m.csv"], step="evaluate"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "m.csv").write_text("the user's")
    with (
        pytest.raises(ConfigError, match="was not written"),
        claim_files([tmp_path / "m.csv"], step="evaluate"),
    ):
        pass


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink", "folder", "dots"])
def test_an_input_is_never_an_output(tmp_path: Path, link: str) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    scan = scans / "a.nii.gz"
    write(scans, "a.nii.gz")
    out = scans
    if link in ("symlink", "hardlink"):
        out = tmp_path / "out"
        out.mkdir()
        make = os.symlink if link == "symlink" else os.link
        make(scan, out / "a.nii.gz")
    elif link == "folder":
        out = tmp_path / "out"
        out.symlink_to(scans)
    elif link == "dots":
        out = scans / ".." / "scans"
    with (
        pytest.raises(ConfigError, match="is an input"),
        claim(out, ["a.nii.gz"], inputs=[scan], step="predict"),
    ):
        pass
    assert scan.read_text() == "x"


def test_a_dangling_link_of_somebody_else_stays(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="was not written"):
        write(tmp_path, "a.nii.gz")


@pytest.mark.parametrize("name", ["../precious", "/precious", "b/../../precious"])
def test_a_list_that_names_files_elsewhere_gives_no_right_to_them(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "precious").write_text("x")
    folder = tmp_path / "out"
    folder.mkdir()
    name = name if name != "/precious" else str(tmp_path / "precious")
    entry = {"step": "predict", "size": 1}
    (folder / MARKER).write_text(json.dumps({"files": {name: entry}}))
    assert write(folder, "b.txt") == []
    discard(folder, [name], step="predict")
    assert (tmp_path / "precious").read_text() == "x"


@pytest.mark.parametrize("text", ["[1]", "{", '{"files": [1]}', '{"files": {"a": 1}}'])
def test_a_list_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text(text)
    with pytest.raises(LunetError, match="a list that lunet wrote"):
        write(tmp_path, "b")
    assert (tmp_path / MARKER).read_text() == text


def test_a_list_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("{}")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / MARKER).symlink_to(tmp_path / "precious")
    with pytest.raises(LunetError, match="a list that lunet wrote"):
        write(folder, "b")
    assert (tmp_path / "precious").read_text() == "{}"


def test_alone_means_that_any_foreign_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "splits.json", step="folds")
    with claim(tmp_path, ["a"], step="audit", alone=True):
        write_text(tmp_path / "a", "x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "note.txt").write_text("mine")
    with (
        pytest.raises(ConfigError, match=r"deep/note\.txt exists"),
        claim(tmp_path, ["a"], step="audit", alone=True),
    ):
        pass


def test_several_processes_can_list_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from lunet.own_files import claim_files; from lunet.files import write_text\n"
        "for k in range(20):\n"
        "    path = f'{sys.argv[1]}/{sys.argv[2]}-{k}'\n"
        "    with claim_files([path], step='table'): write_text(path, 'x')\n"
    )
    run = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)]) for n in range(4)]
    assert [process.wait() for process in run] == [0] * 4
    assert len(read_json(tmp_path / MARKER)["files"]) == 80
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: write(tmp_path, f"thread-{k}"), range(40)))
    assert len(read_json(tmp_path / MARKER)["files"]) == 120


def test_two_processes_of_one_step_may_write_the_same_file(tmp_path: Path) -> None:
    code = (
        "import sys; from lunet.own_files import claim_files; from lunet.files import write_text\n"
        "from pathlib import Path\n"
        "for k in range(40):\n"
        "    Path(sys.argv[1], f'at-{k}-{sys.argv[2]}').touch()\n"
        "    while len(list(Path(sys.argv[1]).glob(f'at-{k}-*'))) < 3: pass\n"
        "    path = f'{sys.argv[1]}/out/crate-{k}'\n"
        "    with claim_files([path], step='register'): write_text(path, 'x')\n"
    )
    run = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)]) for n in range(3)]
    try:
        assert [process.wait(120) for process in run] == [0] * 3
    finally:
        for process in run:
            process.kill()  # one that waits for another that failed
    assert all(is_own(tmp_path / "out" / f"crate-{k}", step="register") for k in range(40))


def test_a_refused_claim_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "expert.nii.gz").write_text("by hand")
    with pytest.raises(ConfigError, match="was not written"):
        write(tmp_path, "expert.nii.gz")
    assert os.listdir(tmp_path) == ["expert.nii.gz"]


def test_a_folder_is_renewed_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for names in (("a", "b/c"), ("a",)):
        with renewed(out, step="import") as stage:
            assert stage.parent == tmp_path
            for name in names:
                write_text(stage / name, "x")
    assert sorted(p.name for p in out.iterdir()) == [MARKER, "a"]
    (out / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"note\.txt"), renewed(out, step="import"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert (out / "note.txt").read_text() == "mine"


def test_a_file_that_comes_while_the_new_folder_is_made_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def bring() -> None:
        with renewed(out, step="import") as stage:
            write_text(stage / "a", "x")
            (out / "note").write_text("mine")

    with pytest.raises(ConfigError, match="note"):
        bring()
    assert [p.name for p in out.iterdir()] == ["note"]


def test_a_folder_that_is_read_is_not_renewed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with renewed(out, step="repair") as stage:
        write_text(stage / "a", "x")
    for read in (out, out / "a", tmp_path / "." / "out" / ".." / "out"):
        with (
            pytest.raises(ConfigError, match="is an input"),
            renewed(out, step="repair", inputs=[read]),
        ):
            pass


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    code = "import sys; from lunet.leftovers import part_of; print(part_of(sys.argv[1]))"
    dead = [
        Path(
            subprocess.run(
                [sys.executable, "-c", code, str(tmp_path / name)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
        )
        for name in ("a.csv", "b.csv", "out")
    ]
    dead[2].mkdir()
    (dead[2] / "half").write_text("half")
    for path in dead[:2]:
        path.write_text("half")
    living, foreign = part_of(tmp_path / "a.csv"), tmp_path / ".part-mine-a.csv"
    for path in (living, foreign):
        path.write_text("x")
    other_host = tmp_path / ".part-00000000-1-1-a.csv"
    other_host.write_text("x")
    remove_leftovers(tmp_path, {"a.csv", "out"})
    assert sorted(tmp_path.iterdir()) == sorted([dead[1], living, foreign, other_host])
    os.utime(other_host, (0, 0))
    remove_leftovers(tmp_path, {"a.csv"})
    assert not other_host.exists()
