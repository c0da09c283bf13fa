"""What Snakemake shows in the terminal: a line when a job begins, ends, or fails and why.

Its own messages repeat a job's settings, files and resources, thousands of characters per job.
They stay in its log file (``.snakemake/log``); dry runs, ``--verbose`` and ``--printshellcmds``
show them in the terminal, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lunet.failures import telling_line
from lunet.study.profile import is_dry_run

_IN_FULL = {"--verbose", "--printshellcmds", "-p"}
_LEFT_OUT = ("JOB_STARTED", "GROUP_INFO", "GROUP_ERROR", "SHELLCMD")
_ORDER = ("preset", "strategy", "target", "fold", "seed", "name")


def be_brief(logger: logging.Logger, words: Sequence[str]) -> None:
    """Shorten what a logger of Snakemake shows in the terminal.

    Parameters
    ----------
    logger
        Snakemake's logger; its handler for the terminal is changed, if it has one.
    words
        Snakemake's arguments.
    """
    if is_dry_run(words) or _IN_FULL & set(words):
        return
    for handler in logger.handlers:
        is_terminal = type(handler) is not logging.FileHandler and hasattr(handler, "stream")
        if is_terminal and not isinstance(handler.formatter, BriefFormatter):
            handler.setFormatter(BriefFormatter(handler.formatter or logging.Formatter()))
            handler.addFilter(lambda record: _event(record) not in _LEFT_OUT)


class BriefFormatter(logging.Formatter):
    """A line per change of a job; everything else as the usual formatter has it.

    Parameters
    ----------
    usual
        Snakemake's own formatter.
    """

    def __init__(self, usual: logging.Formatter) -> None:
        super().__init__()
        self._usual = usual
        self._names: dict[int, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        """The text of a message."""
        event, known = _event(record), vars(record)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        if event == "JOB_INFO":
            name = job_name(known["rule_name"], known.get("wildcards") or {})
            self._names[known["jobid"]] = name
            return f"{clock} begins   {name}"
        if event == "JOB_FINISHED":
            number = known["job_id"]
            return f"{clock} done     {self._names.get(number, f'job {number}')}"
        if event == "JOB_ERROR":
            name = self._names.get(known["jobid"], known["rule_name"])
            return "\n".join([f"{clock} failed   {name}", *_reasons(known.get("log") or ())])
        return self._usual.format(record)


def _event(record: logging.LogRecord) -> str:
    return str(getattr(getattr(record, "event", None), "name", ""))


def job_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """The rule and the run that a job is about."""
    known = [key for key in _ORDER if key in wildcards]
    others = [key for key in wildcards if key not in known]
    return " ".join([rule, *(_value(key, wildcards[key]) for key in [*known, *others])])


def _value(key: str, value: str) -> str:
    return f"{key} {value}" if key in ("fold", "seed") else value


def _reasons(logs: Sequence[str]) -> list[str]:
    """For each log the line that says why the job failed, and how it ended."""
    lines = []
    for path in map(Path, logs):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        last = (text.rstrip().splitlines() or [""])[-1].strip()
        told = dict.fromkeys([telling_line(text), last])
        lines += [f"         {path}: {line}" for line in told if line]
    return lines
