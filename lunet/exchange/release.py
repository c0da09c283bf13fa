"""Writes the release folder of a network: weights, ONNX, plan, labels, licence, model card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn

from lunet.data.prepared import AboutForm
from lunet.errors import DataError
from lunet.exchange.card import model_card
from lunet.files import write_bytes, write_json, write_text
from lunet.inference.description import Description, description_of
from lunet.inference.load import find_weights, load_model
from lunet.metrics.catalog import find_metric
from lunet.own_files import claim, discard
from lunet.pages import TEMPLATES
from lunet.public import public
from lunet.reading import number_in, read_object, read_record, read_rows

STEP = "export"
FILES = (
    WEIGHTS := "weights.safetensors",
    PLAN := "plan.json",
    LABELS := "labels.json",
    DATA := "data.json",
    MEANS := "results.json",
    CARD := "README.md",
)
"""Files of every release. Further files, if they are requested or there is a record:"""
ONNX, SCRIPT, PROGRAM, RECORD = "model.onnx", "infer_onnx.py", "model.pt2", "run.json"
Results = dict[str, dict[str, float]]


@dataclass(frozen=True)
class ReleaseSources:
    """Files that the model card is made from; each may be missing.

    Attributes
    ----------
    metrics
        ``metrics.csv`` of the run (a row per case and structure).
    manifest
        ``manifest.json`` of the prepared data: name, licence and citation of the data set.
    record
        ``run.json`` of the training.
    """

    metrics: Path | None = None
    manifest: Path | None = None
    record: Path | None = None


def export_release(
    run: str | Path,
    out: str | Path,
    *,
    sources: ReleaseSources | None = None,
    with_onnx: bool = True,
    with_program: bool = False,
    network: str | Path | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Write the release folder ``out`` of a run (or weights file).

    It holds ``weights.safetensors``, ``model.onnx`` (checked against torch on random sizes) with
    ``infer_onnx.py``, which segments scans without this package, if requested ``model.pt2``
    (torch.export, :mod:`lunet.exchange.torch_export`), ``plan.json`` (task, preprocessing,
    network), ``labels.json``, ``data.json`` (source and licence of the data), ``results.json`` and
    ``README.md`` (the model card, written last).
    ``network`` is the Python file of the network's class, if it is not in this package.

    Raises
    ------
    DataError
        If the run has no weights, or a named file is missing.
    ConfigError
        If ``out`` is the run, or holds files that no step of this package wrote.
    LunetError
        If the ONNX or torch.export file cannot be made or does not compute what torch computes,
        or a package is missing.
    """
    folder, weights = Path(out), find_weights(run)
    if weights.suffix != ".safetensors":
        raise DataError(
            where=weights,
            found="is not a safetensors file",
            expected="a run of `lunet train` is expected",
        )
    found = _sources(weights.parent, sources or ReleaseSources())
    model = load_model(weights, network=network)
    described = description_of(model)
    names = [*FILES, *([RECORD] if found.record else [])]
    names += ([PROGRAM] if with_program else []) + ([ONNX, SCRIPT] if with_onnx else [])
    inputs = [weights, *filter(None, vars(found).values())]
    with claim(folder, names, step=STEP, inputs=inputs, alone=True) as old:
        _write_network(described, weights, folder)
        program = _write_program(model, described, folder / PROGRAM, log) if with_program else ""
        checks = _write_onnx(model, described, folder / ONNX, log) if with_onnx else []
        if with_onnx:
            write_bytes(folder / SCRIPT, (TEMPLATES / SCRIPT).read_bytes())
        data, results = _write_sources(found, folder)
        card = model_card(
            described,
            parameters=sum(p.numel() for p in model.parameters()),
            data=data,
            results=results,
            checks=checks,
            program=program,
        )
        discard(folder, old, step=STEP)
        write_text(folder / CARD, card)
    log(f"released {described.model.get('preset')} in {folder}")


def _write_network(described: Description, weights: Path, folder: Path) -> None:
    write_bytes(folder / WEIGHTS, weights.read_bytes())
    write_json(folder / PLAN, public(described.as_dict()))
    write_json(folder / LABELS, _labels(described))


def _write_sources(found: ReleaseSources, folder: Path) -> tuple[dict[str, Any], Results]:
    """Write what is known about the data and the results; returns both for the model card."""
    data = _data(found.manifest)
    results = mean_results(found.metrics) if found.metrics else {}
    write_json(folder / DATA, data)
    write_json(folder / MEANS, results)
    if found.record:
        write_json(folder / RECORD, public(read_object(found.record)))
    return data, results


def mean_results(path: Path) -> Results:
    """Structure -> ``cases``, ``missed`` and the mean of each metric of a metrics.csv.

    The metrics are the columns that :mod:`lunet.metrics.catalog` knows, except plain sizes. Empty
    cells (both masks empty) are left out of the means; ``missed`` counts the structures that the
    network did not find at all, whose worst values are included in the means.
    """
    rows = read_rows(path, needed=("label", "status"), what="a metrics.csv of `lunet evaluate`")
    metrics = [name for name in (rows[0] if rows else ()) if _is_quality(name)]
    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        groups[row["label"]].append(row)
    return {label: _means(members, metrics, path) for label, members in groups.items()}


def _is_quality(column: str) -> bool:
    row = find_metric(column)
    return row is not None and row.better != "neither"


def _means(rows: list[dict[str, str]], metrics: list[str], path: Path) -> dict[str, float]:
    means: dict[str, float] = {
        "cases": len(rows),
        "missed": sum(row["status"] == "missed" for row in rows),
    }
    for name in metrics:
        values = [number_in(row, name, path) for row in rows if row[name] != ""]
        if values:
            means[name] = round(fmean(values), 4)
    return means


def _sources(run: Path, given: ReleaseSources) -> ReleaseSources:
    """The named files, else the ones in the run's folder."""

    def choose(path: Path | None, name: str) -> Path | None:
        if path is not None and not path.is_file():
            raise DataError(where=path, found="the file is missing", expected=f"a {name} was named")
        return path or (run / name if (run / name).is_file() else None)

    return ReleaseSources(
        choose(given.metrics, "metrics.csv"),
        choose(given.manifest, "manifest.json"),
        choose(given.record, "run.json"),
    )


def _data(manifest: Path | None) -> dict[str, Any]:
    if manifest is None:
        return {}
    content = read_record(manifest, AboutForm)
    dataset = content.get("dataset") or {}
    return {
        "name": public(dataset.get("name")),
        "source": public(dataset.get("source") or {}),
        "digest": content.get("digest"),
    }


def _labels(described: Description) -> dict[str, Any]:
    task = described.task
    return {
        "labels": {"background": 0, **task.labels},
        "regions": {name: list(indices) for name, indices in task.regions.items()},
        "output_channels": list(
            task.names if task.activation == "sigmoid" else ("background", *task.names)
        ),
        "activation": task.activation,
    }


def _write_onnx(
    model: nn.Module, described: Description, path: Path, log: Callable[[str], None]
) -> list[dict[str, Any]]:
    from lunet.inference.onnx import check_onnx, export_onnx

    size = {"channels": len(described.task.channels), "ndim": described.task.dimensions}
    try:
        export_onnx(model, path, **size, description=described.as_dict())
    except ImportError as error:
        raise DataError(
            where="ONNX export",
            found=f"{error.name} is not installed",
            expected="torch's exporter needs it",
            action="Install it with `pip install 'lunet[export]'`, or export with --no-onnx",
        ) from error
    rows = check_onnx(model, path, **size)
    worst = max(row["difference"] for row in rows)
    log(f"ONNX equals torch to {worst:.1e} (relative) on {len(rows)} random shapes")
    return rows


def _write_program(
    model: nn.Module, described: Description, path: Path, log: Callable[[str], None]
) -> str:
    """Write ``model.pt2``; returns the sizes that it accepts, in words."""
    from lunet.exchange.torch_export import export_program

    size = {"channels": len(described.task.channels), "ndim": described.task.dimensions}
    found = export_program(model, path, **size, description=described.as_dict())
    worst = max(row["difference"] for row in found.checks)
    shapes = f"{len(found.checks)} random shapes"
    log(f"torch.export equals torch to {worst:.1e} (relative) on {shapes}; {found.sizes} voxels")
    return str(found.sizes)
