"""The data audit: everything that can be checked in a data set before training on it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nibabel.imageglobals import LoggingOutputSuppressor

from lunet.data.audit.case import examine
from lunet.data.audit.cohort import check_cohort
from lunet.data.audit.findings import COLUMNS, SEVERITIES, CaseFacts, Finding, counts
from lunet.data.audit.header import EQUAL_MM
from lunet.data.audit.listing import check_listing, check_splits
from lunet.data.audit.page import audit_page
from lunet.data.dataset import Dataset
from lunet.data.io.images import GRID_TOLERANCE, RoundedLabels
from lunet.data.left_out import count_lines, counts_of
from lunet.errors import DataError
from lunet.files import write_csv, write_json, write_text
from lunet.own_files import claim
from lunet.task import of_pictures


@dataclass(frozen=True)
class Audit:
    """Findings, most severe first, and what is known of each readable case."""

    dataset: Dataset
    findings: tuple[Finding, ...]
    facts: tuple[CaseFacts, ...]

    @property
    def errors(self) -> int:
        """Number of findings that stop a study."""
        return counts(self.findings)["error"]


def audit(
    dataset: Dataset, *, splits: str | Path | None = None, log: Callable[[str], None] | None = None
) -> Audit:
    """Examine a data set: listing, files, headers, values, then all cases against each other.

    Parameters
    ----------
    dataset
        As read by :func:`lunet.data.dataset.read_dataset`; its files may be missing or broken.
    splits
        A split file to check for subjects that are in more than one part.
    log
        Called with a line of progress now and then.
    """
    findings, facts = list(check_listing(dataset)), []
    for number, case in enumerate(dataset.cases, start=1):
        # what reading a file repairs silently, or with a warning, is a finding here
        with LoggingOutputSuppressor(), warnings.catch_warnings():
            warnings.simplefilter("ignore", RoundedLabels)
            known, found = examine(case, dataset)
        findings += found
        facts += [known] if known else []
        if log and (number % 50 == 0 or number == len(dataset.cases)):
            log(f"examined {number} of {len(dataset.cases)} cases")
    if not dataset.cases:
        findings.append(
            Finding("error", "no_cases", field="training", found="0", expected="at least one case")
        )
    findings += check_cohort(facts, dataset.task, dataset.unit)
    if splits is not None:
        findings += check_splits(dataset, Path(splits))
    if facts and all(len(case.shape) == 2 for case in facts):
        findings = [_of_pictures(finding) for finding in findings]
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), f.check, f.case, f.file, f.field))
    return Audit(dataset, tuple(findings), tuple(facts))


def _of_pictures(finding: Finding) -> Finding:
    found, expected = of_pictures(finding.found), of_pictures(finding.expected)
    return replace(finding, found=found, expected=expected, command=of_pictures(finding.command))


def write_audit(result: Audit, out: str | Path) -> None:
    """Write ``findings.csv``, ``audit.html`` and, last, ``summary.json`` into ``out``.

    Raises
    ------
    ConfigError
        If ``out`` holds files that no step of this package wrote.
    """
    out = Path(out)
    names = ("findings.csv", "audit.html", "summary.json")
    with claim(out, names, step="audit", inputs=[result.dataset.root], alone=True):
        write_csv(out / names[0], COLUMNS, (finding.as_row() for finding in result.findings))
        write_text(out / names[1], audit_page(result.dataset, result.findings, result.facts))
        write_json(out / names[2], audit_summary(result))


def audit_summary(result: Audit) -> dict[str, Any]:
    """Counts by severity and check, and the tolerances that were applied; plain JSON."""
    cases = result.dataset.cases
    return {
        "name": result.dataset.name,
        "task": result.dataset.task.as_dict(),
        "cases": len(cases),
        "labelled": sum(case.labelled for case in cases),
        "counts": counts_of(result.dataset),
        "groups": len({case.group for case in cases}),
        "readable": len(result.facts),
        "findings": counts(result.findings),
        "checks": dict(sorted(Counter(finding.check for finding in result.findings).items())),
        "tolerances": {"equal_mm": EQUAL_MM, "grid_voxels": GRID_TOLERANCE},
    }


def audit_lines(result: Audit, *, limit: int = 20) -> list[str]:
    """Lines for a terminal or a log: the counts, and the findings, most severe first.

    All errors are included, each with the command that fixes it: a workflow deletes the tables of
    a failed step but keeps its log. Other findings follow until there are ``limit``.
    """
    limit = max(limit, result.errors)
    shown = [finding.line() for finding in result.findings[:limit]]
    if len(result.findings) > limit:
        shown.append(f"... and {len(result.findings) - limit} more")
    count = counts(result.findings)
    total = ", ".join(f"{count[name]} {name}{'s' * (count[name] != 1)}" for name in SEVERITIES)
    last = f"{result.dataset.name}: {len(result.dataset.cases)} cases, {total}"
    return [*count_lines(result.dataset, most=limit), *shown, last]


def require_sound(result: Audit, out: str | Path) -> None:
    """Raise :class:`DataError`, with the first error in one line, if there is any."""
    if not result.errors:
        return
    first = result.findings[0]
    raise DataError(
        where=first.file or first.case or result.dataset.root,
        found=f"{first.check}: {first.field} {first.found}",
        expected=f"{first.expected}; {result.errors} error(s) in all",
        action=f"All are listed above and in {Path(out) / 'findings.csv'}; if a workflow deleted "
        f"that file, `lunet audit {result.dataset.root} --out audit` writes it again, with a page",
    )
