"""What the workflow prints when it ends: the answer and where it is, or why each job failed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from lunet.errors import LunetError
from lunet.failures import telling_line
from lunet.reading import read_object
from lunet.study.study import Study

_MOST_CLAIMS = 6
_SLACK = 2.0
"""Seconds that the clock of a file server may be behind."""
_LOGS = re.compile(r"^ +log: (.+) \(check log file\(s\) for error details\)$", re.MULTILINE)


class Ending:
    """The last lines of one start of the workflow.

    Parameters
    ----------
    study
        The study that is run.
    """

    def __init__(self, study: Study) -> None:
        self.results = Path(study.results)
        self.presets = tuple(study.presets)
        self.started = time.time() - _SLACK

    def answer(self) -> list[str]:
        """The sentences that answer the study's question, and where report and tables are.

        Empty if this start made neither: it had other targets. A file that cannot be read is told
        in a line; the jobs are done, and the end of a run must not fail.
        """
        report, claims = self.results / "report.html", self.results / "tables/claims.json"
        lines = []
        if self._is_new(report) or self._is_new(claims):
            try:
                lines += ["", *self._weak(), *self._sentences(claims), ""]
            except LunetError as error:
                lines += ["", str(error), ""]
        lines += [f"tables   {claims.parent}/"] if self._is_new(claims) else []
        lines += [f"report   {report}"] if self._is_new(report) else []
        return lines

    def _is_new(self, path: Path) -> bool:
        return path.is_file() and path.stat().st_mtime >= self.started

    def _weak(self) -> list[str]:
        """Networks that have not learnt the task, before any comparison with them."""
        from lunet.reporting.markup import read_table
        from lunet.reporting.tables.scores import FINDING

        paths = [self.results / "presets" / name / "summary.json" for name in self.presets]
        tables = [read_table(path) for path in paths if path.is_file()]
        found = (str(row.get(FINDING) or "") for table in tables for row in table.records)
        return [sentence for sentence in dict.fromkeys(found) if sentence]

    def _sentences(self, claims: Path) -> list[str]:
        """The verdict of a search, or else the claims, those about the mean over labels if any."""
        from lunet.reporting.html.answer import main_comparisons
        from lunet.reporting.markup import read_table

        verdict = self.results / "smallest" / "verdict.json"
        if verdict.is_file():
            return [str(read_object(verdict)["sentence"])]
        if not claims.is_file():
            return []
        table = read_table(claims)
        found = [str(row["sentence"]) for row in main_comparisons({"claims": table})]
        if not found:
            return [table.note]
        more = len(found) - _MOST_CLAIMS
        rest = [f"... and {more} more in {claims.with_suffix('.md')}"] if more > 0 else []
        return [*found[:_MOST_CLAIMS], *rest]


def failed_jobs(logs: Iterable[str]) -> Iterator[str]:
    """A line for each failed job: its log, and the line in it that says why.

    Parameters
    ----------
    logs
        Log files of Snakemake, which name the logs of the failed jobs.
    """
    texts = [Path(log).read_text(encoding="utf-8", errors="replace") for log in logs]
    names = [name for text in texts for found in _LOGS.findall(text) for name in found.split(", ")]
    for path in map(Path, dict.fromkeys(names)):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        yield f"{path}: {telling_line(text) or 'is empty; the job was killed, or never started'}"
