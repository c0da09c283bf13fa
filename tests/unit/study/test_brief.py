"""What Snakemake's messages become in the terminal."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest
from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent

from lunet.study.brief import be_brief

RUN = {"preset": "lunet_small_4f", "fold": "2", "seed": "0"}
BEGUN = {"jobid": 7, "rule_name": "train", "wildcards": RUN, "log": ["x.log"]}


@pytest.fixture
def terminal() -> tuple[logging.Logger, io.StringIO]:
    """A logger as Snakemake sets it up: terminal."""
    logger, stream = logging.Logger("snakemake", logging.INFO), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(DefaultFormatter())
    logger.addHandler(handler)
    return logger, stream


def tell(logger: logging.Logger, event: LogEvent | None, text: str = "", **extra: Any) -> None:
    logger.info(text, extra={"event": event, **extra} if event else extra)


def test_a_line_per_change_of_a_job(
    terminal: tuple[logging.Logger, io.StringIO], tmp_path: Path
) -> None:
    logger, stream = terminal
    be_brief(logger, ["all", "--cores", "2"])
    log = tmp_path / "train.log"
    log.write_text("epoch 1\nerror: x.nii.gz: is empty.\nlunet ended: bad data.\n")
    tell(logger, LogEvent.JOB_STARTED, "Execute 1 jobs...", jobs=[7])
    tell(logger, LogEvent.JOB_INFO, "Rule: train", **BEGUN)
    tell(logger, LogEvent.JOB_FINISHED, "Finished jobid: 7", job_id=7)
    tell(logger, LogEvent.PROGRESS, done=1, total=4)
    tell(logger, LogEvent.JOB_ERROR, **BEGUN | {"log": [str(log)], "shellcmd": "lunet " * 99})
    tell(logger, None, "Job 7 has been submitted")
    name = "train lunet_small_4f fold 2 seed 0"
    begins, done, progress, failed, why, ended, other = stream.getvalue().splitlines()
    assert (begins[9:], done[9:]) == (f"begins   {name}", f"done     {name}")
    assert progress == "1 of 4 steps (25%) done"
    assert failed[9:] == f"failed   {name}"
    assert why.strip() == f"{log}: error: x.nii.gz: is empty."
    assert ended.strip() == f"{log}: lunet ended: bad data."
    assert other == "Job 7 has been submitted"


@pytest.mark.parametrize("words", [["-n"], ["--verbose"], ["all", "-p"]])
def test_who_asks_for_everything_gets_it(
    terminal: tuple[logging.Logger, io.StringIO], words: list[str]
) -> None:
    logger, stream = terminal
    be_brief(logger, words)
    tell(logger, LogEvent.JOB_STARTED, "Execute 1 jobs...", jobs=[7])
    assert stream.getvalue() == "Execute 1 jobs...\n"


def test_the_log_file_stays_whole(
    terminal: tuple[logging.Logger, io.StringIO], tmp_path: Path
) -> None:
    logger, _ = terminal
    file = logging.FileHandler(tmp_path / "log")
    file.setFormatter(DefaultFormatter())
    logger.addHandler(file)
    be_brief(logger, [])
    tell(logger, LogEvent.JOB_STARTED, "Execute 1 jobs...", jobs=[7])
    file.close()
    assert (tmp_path / "log").read_text() == "Execute 1 jobs...\n"
