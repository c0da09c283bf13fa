"""Finished results survive what Snakemake removes, and are used by the retry only."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_training import TINY, job, prepare, results

from lunet.training.job import TrainingJob
from lunet.training.kept_results import FOLDER, forget, is_kept, keep, release
from lunet.training.run import run_training, tidy


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("data") / "prepared")


def trained_again(task: TrainingJob, capsys: pytest.CaptureFixture[str]) -> bool:
    """Run the job after its outputs were removed, as Snakemake does; whether it trained."""
    shutil.rmtree(task.out)
    capsys.readouterr()
    run_training(task)
    return "epoch 1/" in capsys.readouterr().err


def test_a_retry_takes_finished_results_and_only_its_own(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = job(data, tmp_path, replace(TINY, epochs=2), finished="both")
    run_training(task)
    first = results(tmp_path)
    assert not trained_again(task, capsys)
    assert results(tmp_path) == first
    # asked for again with its results in place, as by `snakemake --forcerun` after `forget`
    run_training(task)
    assert "epoch 1/" in capsys.readouterr().err
    assert results(tmp_path) == first
    assert trained_again(replace(task, seed=1), capsys)
    assert trained_again(replace(task, recipe=replace(TINY, epochs=3)), capsys)
    kept = task.work / FOLDER / "weights.safetensors"
    kept.unlink()
    kept.write_bytes(b"damaged")
    assert trained_again(replace(task, recipe=replace(TINY, epochs=3)), capsys)


def test_without_being_asked_nothing_is_kept(data: Path, tmp_path: Path) -> None:
    run_training(job(data, tmp_path, replace(TINY, epochs=1)))
    assert not (tmp_path / "work").exists()


def kept_run(folder: Path) -> tuple[Path, Path]:
    """Folders of state and results of a run whose results are kept."""
    run = "runs/a/fold-0/seed-0"
    work, out = folder / "work" / run, folder / "results" / run
    out.mkdir(parents=True)
    (out / "run.json").write_text("{}")
    keep(out, work, ["run.json", "missing.txt"], stamp="x")
    return work, out


def test_what_is_in_its_place_is_forgotten(tmp_path: Path) -> None:
    work, out = kept_run(tmp_path)
    (out / "run.json").unlink()  # the job failed
    forget(tmp_path / "work", tmp_path / "results")
    assert is_kept(work, stamp="x", log=print)
    release(work, out)
    forget(tmp_path / "work", tmp_path / "results")
    assert not work.exists()
    assert (out / "run.json").read_text() == "{}"


def test_a_resume_state_beside_it_is_not_forgotten(tmp_path: Path) -> None:
    work, _ = kept_run(tmp_path)
    (work / "state.pt").write_text("state")
    forget(tmp_path / "work", tmp_path / "results")
    assert os.listdir(work) == ["state.pt"]


def test_while_jobs_may_run_results_are_kept_until_they_are_predicted(tmp_path: Path) -> None:
    work, out = kept_run(tmp_path)
    forget(tmp_path / "work", tmp_path / "results", may_run=True)
    assert is_kept(work, stamp="x", log=print)
    (out / "predictions").mkdir()
    (out / "predictions/predictions.json").write_text("{}")
    forget(tmp_path / "work", tmp_path / "results", may_run=True)
    assert not work.exists()


def test_leftovers_of_a_killed_process_are_removed_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / ".part-1234-5-6-state.pt").write_text("half")
    (tmp_path / ".part-1234-5-6-predictions").mkdir()
    (tmp_path / ".part-1234-5-6-predictions/mask.nii.gz").write_text("half")
    (tmp_path / "state.pt").write_text("state")
    tidy(tmp_path)
    assert os.listdir(tmp_path) == ["state.pt"]


def test_a_file_system_without_links_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link  # locks use it, too, and have a way of their own without

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == "run.json":
            raise OSError(errno.EXDEV, "another file system")
        link(source, target)

    monkeypatch.setattr(os, "link", refuse)
    work, out = kept_run(tmp_path)
    (out / "run.json").unlink()
    release(work, out)
    assert (out / "run.json").read_text() == "{}"
    assert (out / "run.json").stat().st_nlink == 1
