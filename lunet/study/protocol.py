"""The protocol of a study: what it states before its first training; written once, never replaced.

``results/{study}/protocol.json`` holds what is compared and how (``stated``, with its digest and
time), all settings that a result depends on, and the digests of the code, the prepared data and the
splits. ``ro-crate-metadata.json`` in the same folder describes it as an RO-Crate 1.1, so that the
two files can be deposited. :mod:`lunet.statistics.registration` reads the protocol.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from lunet.errors import ConfigError, DataError, LunetError
from lunet.files import canonical_json, sha256, write_json, write_new
from lunet.own_files import claim_files
from lunet.provenance import stamp
from lunet.reading import read_object, read_record
from lunet.statistics.attainable import smallest_p
from lunet.statistics.registration import Registration, digest, read_protocol, registration
from lunet.study.code_digest import PACKAGE, code_digest

if TYPE_CHECKING:
    from lunet.study.study import Study

STEP_CODE = (
    "lunet.training.run",
    "lunet.inference.predict_run",
    "lunet.evaluation.evaluation",
    "lunet.reporting.tables.index",
)
"""Modules whose import closure, with the networks' modules, is the code of a study's results."""
STATED = "LUNET_STATED"
CRATE = "ro-crate-metadata.json"


class _Case(TypedDict):
    id: str
    group: NotRequired[str]


class _Manifest(TypedDict):
    """What is read of a manifest."""

    cases: list[_Case]


class _Fold(TypedDict):
    test: list[str]


class _Splits(TypedDict):
    """What is read of a split file."""

    folds: list[_Fold]


def stated(sections: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared and how: the settings of statistics, presets, folds and seeds."""
    return {"statistics": sections["statistics"], **sections["grid"]}


def protocol(
    sections: Mapping[str, Any],
    *,
    manifest: Path | None = None,
    splits: Path | None = None,
    trained: int = 0,
    package: Path = PACKAGE,
) -> dict[str, Any]:
    """The content of ``protocol.json``.

    Parameters
    ----------
    sections
        Sections of the step ``register``: every setting that a result depends on.
    manifest, splits
        Files of the prepared data; ignored while they do not exist.
    trained
        Number of trainings of the study that have already finished.
    package
        Folder of the package whose code is digested.
    """
    networks = sorted({row["model"]["module"] for row in sections["networks"].values()})
    statement = stated(sections)
    data = read_object(manifest) if manifest and manifest.is_file() else {}
    return {
        "stated": statement,
        "digest": digest(statement),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "trained": trained,
        "settings": dict(sections),
        "settings_digest": digest(dict(sections)),
        "code": code_digest(*STEP_CODE, networks=networks, package=package),
        "data": data.get("digest"),
        "splits": sha256(splits) if splits and splits.is_file() else None,
        "made_with": stamp(),
    }


def hand_over(study: Study, store: str | Path = ".snakemake") -> Path:
    """Pass what the study states on to the jobs of this run of Snakemake.

    The sections are written to a file that an environment variable names. As a parameter of a rule
    they would train everything again whenever a statement changes.
    """
    sections = study.sections("register")
    path = Path(store, "stated", f"{digest(sections)[:12]}.json").resolve()
    if not path.is_file():
        write_json(path, sections)
    os.environ[STATED] = str(path)
    return path


def handed_over() -> dict[str, Any] | None:
    """The sections that :func:`hand_over` passed to a job of the workflow; None outside of one."""
    path = os.environ.get(STATED)
    return read_object(path) if path else None


def known_warnings(study: Study) -> list[str]:
    """What the study cannot resolve, by its splits or, before they exist, by its source."""
    sections = study.sections("register")
    splits, manifest = Path(study.results, "splits.json"), Path(study.manifest)
    try:
        if splits.is_file() and manifest.is_file():
            return warnings_of_files(sections, manifest, splits)
        subjects = _subjects_of_source(study)
        if subjects is None:
            return []
        return resolution_warnings(sections, subjects, _structures(sections))
    except LunetError:
        return []  # the step that needs a damaged file reports it


def _subjects_of_source(study: Study) -> int | None:
    """About how many subjects the study's folds will test on; None where the source is not here."""
    from lunet.data.layouts.open import open_dataset
    from lunet.data.source import local_source

    settings, split = study.config.dataset, study.config.split
    if split.file is not None:
        return None
    if settings.name == "phantom":
        subjects = settings.phantom.subjects
    else:
        folder = local_source(settings)
        if folder is None or not folder.is_dir():
            return None
        cases = open_dataset(folder, settings).cases
        subjects = len({case.group for case in cases if case.labelled})
    share = len(study.folds) / split.folds if split.folds > 1 else split.held_out
    return round(min(1.0, share) * (1 - split.held_out * (split.folds > 1)) * subjects)


def finished_trainings(results: Path) -> int:
    """Number of trainings of a study that have written their record."""
    records = results.glob("runs/*/fold-*/seed-*/run.json")
    # an external row has a record too, but no training
    return sum(1 for path in records if "external" not in read_object(path))


def lock(path: Path, content: Mapping[str, Any], *, name: str, licence: str = "") -> bool:
    """Write the protocol and its RO-Crate description; an existing protocol is never replaced.

    Parameters
    ----------
    path
        ``protocol.json``.
    content
        The value of :func:`protocol`.
    name
        Name of the study.
    licence
        URL of the licence under which the files are deposited.

    Returns
    -------
    Whether this call wrote the protocol.
    """
    is_new = write_new(path, content)
    crate = path.with_name(CRATE)
    if not os.path.lexists(crate):
        written = content if is_new else read_protocol(path)
        with claim_files([crate], step="register"):
            write_json(crate, ro_crate(written, path, name=name, licence=licence))
    return is_new


def register(
    path: Path,
    sections: Mapping[str, Any],
    *,
    manifest: Path | None = None,
    splits: Path | None = None,
    name: str = "",
    licence: str = "",
) -> list[str]:
    """Make sure that a study has its protocol; return lines that describe it.

    Parameters
    ----------
    path
        ``protocol.json``; written if it does not exist, and never replaced.
    sections
        Sections of the step ``register``.
    manifest, splits
        Files of the prepared data; ignored while they do not exist.
    name, licence
        As in :func:`lock`.
    """
    trained = finished_trainings(path.parent)
    content = protocol(sections, manifest=manifest, splits=splits, trained=trained)
    if lock(path, content, name=name or path.parent.name, licence=licence):
        lines = [f"{path}: registered on {content['time']}, digest {content['digest'][:12]}"]
        if trained:
            lines.append(f"note: {trained} training(s) of the study had already finished")
        for key, what in (("data", "prepared volumes"), ("splits", "splits")):
            if content[key] is None:
                lines.append(f"note: without their digest, since there are no {what} yet")
    else:
        found = compare(path, sections)
        lines = [found.sentence or f"registered on {found.time}; nothing has changed since"]
    if manifest and splits:
        lines += [f"warning: {line}" for line in warnings_of_files(sections, manifest, splits)]
    return lines


def compare(path: Path, sections: Mapping[str, Any]) -> Registration:
    """What has changed since the protocol at ``path`` was written."""
    return registration(read_protocol(path), sections["statistics"], sections["grid"])


def ro_crate(
    content: Mapping[str, Any], path: Path, *, name: str, licence: str = ""
) -> dict[str, Any]:
    """The description of the protocol as an RO-Crate 1.1 (https://w3id.org/ro/crate/1.1)."""
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Protocol of the study {name}",
        "description": "What a comparison of segmentation networks states before its first "
        "training: metric, margin, comparisons, networks, folds, seeds; settings and digests.",
        "datePublished": content["time"],
        "license": {"@id": licence} if licence else "no licence is stated yet",
        "hasPart": [{"@id": path.name}],
        "identifier": f"sha256:{content['settings_digest']}",
    }
    described = {
        "@id": path.name,
        "@type": "File",
        "name": "Protocol",
        "encodingFormat": "application/json",
        "dateCreated": content["time"],
        "contentSize": str(path.stat().st_size),
        "sha256": sha256(path),
    }
    about = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    graph = [about, root, described]
    if licence:
        graph.append({"@id": licence, "@type": "CreativeWork", "name": licence})
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}


def subjects_tested(
    splits: Mapping[str, Any], manifest: Mapping[str, Any], folds: Sequence[int]
) -> int:
    """Number of subjects in the test cases of the study's folds, each counted once."""
    groups = {case["id"]: str(case.get("group", case["id"])) for case in manifest["cases"]}
    tested = {case for fold in folds for case in splits["folds"][fold]["test"]}
    return len({groups.get(case, case) for case in tested})


def comparisons(sections: Mapping[str, Any], structures: int) -> int:
    """Number of tests that Holm's method adjusts: pairs times structures, their mean included."""
    statistics, presets = sections["statistics"], sections["grid"]["presets"]
    pairs = len(statistics["pairs"])
    if statistics["pairs"] == "all":
        pairs = len(presets) * (len(presets) - 1) // 2
    elif not pairs and statistics["reference"] is not None:
        pairs = len([name for name in presets if name != statistics["reference"]])
    return pairs * (structures + 1 if structures > 1 else structures)


def resolution_warnings(sections: Mapping[str, Any], subjects: int, structures: int) -> list[str]:
    """What the study cannot resolve whatever its results are, one text each.

    Parameters
    ----------
    sections
        Sections of the step ``register``.
    subjects
        Number of subjects in the test cases.
    structures
        Number of structures that are segmented.
    """
    tests, seeds = comparisons(sections, structures), len(sections["grid"]["seeds"])
    level = 1 - sections["statistics"]["confidence"]
    if not tests:
        return [
            "No comparison is configured, so nothing can be claimed. Set statistics.reference or "
            "statistics.pairs."
        ]
    if seeds == 1:
        least, found = min(1.0, tests * smallest_p(subjects)), []
        if least > level:
            found = [
                f"No comparison can be resolved with {subjects} subjects: the smallest adjusted p "
                f"of {tests} tests is {least:.2g}, above {level:.2g}. More "
                "subjects (folds) or fewer comparisons would help."
            ]
        return [
            *found,
            "One seed: the claims will be about the trained networks, not about their "
            "architectures. Two seeds or more let them be about architectures.",
        ]
    if seeds < 3 or subjects < 12:
        return [
            f"{subjects} subjects and {seeds} seeds are few: the intervals were found to have "
            "their stated coverage with at least 12 subjects and 3 seeds."
        ]
    return []


def warnings_of_files(sections: Mapping[str, Any], manifest: Path, splits: Path) -> list[str]:
    """Like :func:`resolution_warnings`, from files; empty while they do not exist."""
    if not (manifest.is_file() and splits.is_file()):
        return []
    folds = sections["grid"]["folds"]
    split, data = read_record(splits, _Splits), read_record(manifest, _Manifest)
    if max(folds) >= len(split["folds"]):
        raise DataError(
            where=splits,
            found=f"{len(split['folds'])} folds",
            expected=f"fold {max(folds)} is asked for",
        )
    subjects = subjects_tested(split, data, folds)
    return resolution_warnings(sections, subjects, _structures(sections))


def _structures(sections: Mapping[str, Any]) -> int:
    task = sections["task"]
    return len(task.get("regions") or task["labels"])


def check_same(path: Path, sections: Mapping[str, Any]) -> None:
    """Check that the protocol at ``path`` agrees with the sections of the step ``register``.

    Raises
    ------
    ConfigError
        If the protocol states something else.
    """
    found = compare(path, sections)
    is_same = canonical_json(read_protocol(path)["settings"]) == canonical_json(dict(sections))
    if found.changes or not is_same:
        what = "; ".join(found.changes) or "with other settings"
        action = "Give the study another name, or keep it: the report then lists the changes"
        raise ConfigError(
            where=path,
            found=f"registered on {found.time} ({what})",
            expected="a protocol is never replaced",
            action=action,
        )
