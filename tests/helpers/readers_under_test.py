"""Every reader of lunet with a small valid file of its own, and ways to damage such a file."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import numpy as np
import study_of_numbers
import tiny_dataset
import torch
import yaml
from small_networks import BINARY, UNET, save_run

from lunet.data.geometry import plan_geometry
from lunet.errors import LunetError
from lunet.failures import classify
from lunet.files import sha256, write_csv, write_json

Read = Callable[[Path], object]
PATIENCE = 120
"""Seconds after which a reader hangs, on any machine."""


@dataclass(frozen=True)
class Reader:
    """A reader, the file that it reads, and how it is called with that file's path."""

    name: str
    path: Path
    read: Read


def readers(root: Path) -> list[Reader]:
    """All readers, their valid files below ``root``."""
    makers = (_data_sets, _prepared, _results, _configurations, _networks, _records)
    return [reader for make in makers for reader in make(root / make.__name__.lstrip("_"))]


def _data_sets(root: Path) -> Iterator[Reader]:
    from lunet.data.audit.listing import check_listing
    from lunet.data.dataset import read_dataset
    from lunet.data.dataset_json import declared_task
    from lunet.data.io.images import read_image, read_label
    from lunet.data.layouts.open import open_dataset
    from lunet.data.preprocess import prepare_image
    from lunet.data.settings import PreprocessSettings

    def listed(path: Path) -> None:
        list(check_listing(read_dataset(path.parent)))
        declared_task(path.parent)
        open_dataset(path.parent)

    def opened(path: Path) -> None:
        open_dataset(path.parent)
        declared_task(path.parent)

    decathlon = tiny_dataset.make(root / "decathlon", cases=2)
    yield Reader("decathlon", decathlon / "dataset.json", listed)
    image, label = tiny_dataset.volumes(1, (8, 9, 7))
    nnunet = root / "nnunet"
    tiny_dataset.save(nnunet / "imagesTr/a_0000.nii.gz", image)
    tiny_dataset.save(nnunet / "labelsTr/a.nii.gz", label)
    named = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "front": 1, "both": [1, 2]}}
    _json(nnunet / "dataset.json", named | {"numTraining": 1, "file_ending": ".nii.gz"})
    yield Reader("nnunet", nnunet / "dataset.json", opened)
    bids = root / "bids"
    tiny_dataset.save(bids / "sub-1/anat/sub-1_T1w.nii.gz", image)
    tiny_dataset.save(bids / "derivatives/m/sub-1/anat/sub-1_T1w_dseg.nii.gz", label)
    (bids / "participants.tsv").write_text("participant_id\tage\nsub-1\t30\n")
    (bids / "derivatives/m/all_dseg.tsv").write_text("index\tname\n1\tfront\n2\tback\n")
    _json(bids / "dataset_description.json", {"Name": "bids", "BIDSVersion": "1.8"})
    for name in ("participants.tsv", "dataset_description.json", "derivatives/m/all_dseg.tsv"):
        yield Reader(f"bids {name}", bids / name, lambda path: open_dataset(bids))
    table = root / "table" / "cases.csv"
    tiny_dataset.save(table.parent / "i.nii.gz", image)
    tiny_dataset.save(table.parent / "l.nii.gz", label)
    table.write_text("id,image,label,group\none,i.nii.gz,l.nii.gz,g\ntwo,i.nii.gz,l.nii.gz,g\n")
    yield Reader("csv listing", table, open_dataset)

    def scanned(path: Path) -> None:
        prepare_image(read_image([path]), PreprocessSettings(), name=str(path))
        read_label(path)

    for name in ("scan.nii", "scan.nii.gz", "scan.nrrd", "scan.mha", "scan.png"):
        path = root / "scans" / name
        _save_scan(path, image if name.endswith("png") else label)
        yield Reader(name, path, scanned)


def _save_scan(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        from PIL import Image

        Image.fromarray((array[..., 0] % 255).astype(np.uint8)).save(path)
    elif path.suffix in (".nrrd", ".mha"):
        import SimpleITK as sitk

        sitk.WriteImage(sitk.GetImageFromArray(array), str(path), useCompression=False)
    else:
        tiny_dataset.save(path, array)


def _prepared(root: Path) -> Iterator[Reader]:
    from lunet.data.audit.listing import check_splits
    from lunet.data.custom_splits import own_splits
    from lunet.data.dataset import read_dataset
    from lunet.data.folds import SplitCase, read_cases, read_splits
    from lunet.data.prepared import read_manifest
    from lunet.data.settings import SplitSettings
    from lunet.efficiency.calibration import volumes
    from lunet.inference.output import geometry_of
    from lunet.reading import read_json, wrong_in

    manifest = root / "manifest.json"
    write_json(manifest, _manifest(root))

    def prepared(path: Path) -> None:
        found = read_manifest(path)
        _ = found.task
        for case in found.cases.values():
            case.image().sum()
            case.label().sum()
            geometry_of(case).affine.sum()
            _ = (case.raw_images, case.raw_label)
        read_cases(path)
        with wrong_in(path):
            volumes(read_json(path))

    yield Reader("manifest", manifest, prepared)
    for name in ("images/a.npy", "labels/a.npy"):
        yield Reader(name, root / name, lambda path: prepared(manifest))
    data = read_dataset(tiny_dataset.make(root / "data", cases=4))
    cases = [SplitCase(case.id, case.group) for case in data.cases]
    names = [case.id for case in cases]
    one = {"train": names[:2], "validation": names[2:3], "test": names[3:]}
    other = {"train": names[2:], "validation": names[1:2], "test": names[:1]}
    write_json(root / "splits.json", {"seed": 0, "held_out": [], "folds": [one, other]})

    def split(path: Path) -> None:
        read_splits(path)
        own_splits(path, cases, SplitSettings(folds=2))
        list(check_splits(data, path))

    yield Reader("splits", root / "splits.json", split)
    theirs = [{"train": names[:3], "val": names[3:]}, {"train": names[1:], "val": names[:1]}]
    write_json(root / "splits_final.json", theirs)
    settings = SplitSettings(folds=2, validation=0.3)
    yield Reader(
        "nnU-Net splits", root / "splits_final.json", lambda path: own_splits(path, cases, settings)
    )


def _manifest(root: Path) -> dict[str, Any]:
    shape = (6, 5, 4)
    for kind, array in (
        ("images", np.ones((1, *shape), np.float32)),
        ("labels", np.ones(shape, np.uint8)),
    ):
        (root / kind).mkdir(parents=True, exist_ok=True)
        np.save(root / kind / "a.npy", array)
    sums = {kind: sha256(root / f"{kind}s" / "a.npy") for kind in ("image", "label")}
    geometry = plan_geometry(shape, np.eye(4))
    case = {
        "id": "a",
        "group": "a",
        "labelled": True,
        "image": "images/a.npy",
        "label": "labels/a.npy",
        "image_sha256": sums["image"],
        "label_sha256": sums["label"],
        "shape": list(shape),
        "spacing": [1.0, 1.0, 1.0],
        "affine": np.eye(4).tolist(),
        "foreground": 120,
        "geometry": geometry.as_dict(),
        "raw": {"images": ["a.nii.gz"], "label": "l.nii.gz"},
    }
    return {
        "task": BINARY.as_dict(),
        "preprocess": {"orientation": "RAS", "spacing": "keep", "size": None},
        "dataset": {"name": "tiny", "source": {"licence": "CC0"}},
        "digest": "0" * 64,
        "cases": [case],
    }


def _results(root: Path) -> Iterator[Reader]:
    from lunet.exchange.release import mean_results
    from lunet.reporting.costs import device, fastest, flat
    from lunet.reporting.markup import Column, Table, as_json, cell, read_table
    from lunet.reporting.pruned import by_strategy, layer_columns, read_prunings
    from lunet.reporting.published import read_published
    from lunet.reporting.read_frame import read_texts
    from lunet.reporting.result_files import (
        ResultFiles,
        from_inputs,
        prediction_folders,
        read_cases,
        read_efficiency,
        read_histories,
        read_lesions,
        read_runs,
    )

    study_of_numbers.write_study(root, folds=1, seeds=1, cases=3, epochs=3)
    run = root / "runs/lunet_small_4f/fold-0/seed-0"

    def metrics(path: Path) -> None:
        from_inputs([str(path)])
        read_cases(ResultFiles(metrics=(path,)))
        prediction_folders(ResultFiles(metrics=(path,)))
        mean_results(path)

    def efficiency(path: Path) -> None:
        from lunet.efficiency.calibration import calibration
        from lunet.reading import wrong_in

        found = read_efficiency(from_inputs([str(path)]))
        for cost in found.values():
            _ = (flat(cost), fastest(cost), device(cost))
            with wrong_in(path):
                calibration(cost)

    def runs(path: Path) -> None:
        from lunet.efficiency.calibration import calibration, volumes
        from lunet.efficiency.forecast import check

        found = read_runs(from_inputs([str(path)]))
        cost, manifest = study_of_numbers.cost("lunet_small_4f", 1), study_of_numbers.manifest(2)
        check(calibration(cost), volumes(manifest), found)

    yield Reader("metrics.csv", run / "metrics.csv", metrics)
    yield Reader(
        "history.csv", run / "history.csv", lambda p: read_histories(from_inputs([str(p)]))
    )
    for name in ("lesions", "froc"):
        yield Reader(f"{name}.csv", run / f"{name}.csv", lambda path: read_lesions([path]))
    yield Reader("run.json", run / "run.json", runs)
    yield Reader("efficiency.json", root / "presets/lunet_small_4f/efficiency.json", efficiency)
    (root / "list.txt").write_text(f"{run}/metrics.csv\n{run}/run.json\n")
    yield Reader("list of files", root / "list.txt", lambda path: from_inputs([f"@{path}"]))
    (root / "published.csv").write_text(
        "# a source, https://example.org\nmodel,structure,metric,value\n"
        "UNet,front,dice,0.9\nUNet,,jitter_ms,0.5\n"
    )
    yield Reader("published.csv", root / "published.csv", read_published)
    write_csv(
        root / "claims.csv", ("label", "verdict", "sentence"), [{"label": "a", "verdict": "b"}]
    )
    yield Reader("claims.csv", root / "claims.csv", lambda path: read_texts(path, what="claims"))
    table = Table(
        name="scores",
        caption="Scores",
        columns=(Column("Preset", text=True), Column("Dice")),
        rows=((cell("a"), cell("0.9")),),
        records=({"preset": "a", "dice": 0.9},),
        note="",
    )
    write_json(root / "scores.json", as_json(table))
    yield Reader("table.json", root / "scores.json", read_table)

    def pruned(path: Path) -> None:
        groups = by_strategy(read_prunings(ResultFiles(trajectories=(prune / "trajectory.csv",))))
        for members in groups.values():
            layer_columns(members[0].trajectory)

    prune = root / "pruning"
    size = {"parameters": 10, "macs": 20, "channels": 3, "iteration": 1, "dice": 0.5}
    record = study_of_numbers.provenance("p_stamp", 0, 0, 4) | {
        "preset": "p_stamp",
        "pruned_preset": "p",
        "strategy": "stamp",
        "chosen": size | {"model": UNET},
        "test": {"dice": 0.5, "optimistic": {"dice": 0.6, "iteration": 1}},
    }
    write_json(prune / "run.json", record)
    row = size | {"epochs": 1, "removed": "a:1 2", "channels_encoder.0": 3}
    write_csv(prune / "trajectory.csv", list(row), [row, row | {"iteration": 2}])
    for name in ("run.json", "trajectory.csv"):
        yield Reader(f"pruning {name}", prune / name, pruned)


def _configurations(root: Path) -> Iterator[Reader]:
    from lunet.cli import main
    from lunet.study.config import load, read_mapping, read_plan
    from lunet.study.presets import find_preset, read_structure
    from lunet.study.recover import queue_of
    from lunet.study.steps import STEPS
    from lunet.study.study import study_of

    root.mkdir(parents=True)

    def studied(path: Path) -> None:
        study = study_of(read_mapping(path))
        for step in STEPS:
            for preset in study.presets:
                study.settings(step, preset)(None)

    (root / "study.yaml").write_text(
        yaml.safe_dump(
            {
                "study": "tiny",
                "dataset": {"name": "phantom", "phantom": {"subjects": 3, "seed": 1}},
                "presets": ["unet_small_4f", "wide"],
                "variants": {"wide": {"base": "unet_small_2f", "train": {"epochs": 3}}},
                "folds": [0],
                "seeds": [0, 1],
                "train": {"epochs": 2, "optimiser": {"lr": 0.01}, "patch": [16, 16, 16]},
                "preprocess": {"spacing": [1.0, 1.0, 1.0], "size": [16, 16, 16]},
                "split": {"folds": 3, "counts": {"train": 2}},
                "statistics": {"margin": 0.01, "reference": "wide"},
                "evaluate": {"tolerances": [1.0]},
            }
        )
    )
    yield Reader("configuration", root / "study.yaml", studied)
    plan = {"train": {"patch": [16, 16, 16], "batch_size": 2}, "preprocess": {"size": [16] * 3}}
    (root / "plan.yaml").write_text(yaml.safe_dump(plan))
    base = {"study": "t", "dataset": {"name": "phantom"}, "plan": str(root / "plan.yaml")}
    (root / "planned.yaml").write_text(yaml.safe_dump(base))

    def planned(path: Path) -> None:
        read_plan(path)
        study_of(read_mapping(root / "planned.yaml"))
        load(root / "planned.yaml")

    yield Reader("plan", root / "plan.yaml", planned)
    (root / "profile").mkdir()
    (root / "profile/config.yaml").write_text("slurm-jobname-prefix: tiny\njobs: 3\n")
    yield Reader("profile", root / "profile/config.yaml", lambda path: queue_of(str(path.parent)))
    write_json(root / "structure.json", {"arguments": {"widths": [2, 2]}, "name": "UNet"})
    preset = find_preset("unet_small_4f")
    yield Reader(
        "structure", root / "structure.json", lambda path: read_structure(path, preset, "variants")
    )
    data = tiny_dataset.make(root / "data", cases=3)
    write_json(
        root / "settings.json",
        {
            "dataset": {"name": "tiny", "path": str(data)},
            "task": {"channels": ["MRI"], "labels": {"front": 1, "back": 2}},
            "preprocess": {"size": [24, 32, 16], "spacing": "keep"},
        },
    )

    def by_rule(path: Path) -> None:
        """A whole step, as a rule calls it; its exit code must not be that of a bug."""
        words = ["preprocess", str(data), "--out", str(root / "out")]
        told = io.StringIO()
        with redirect_stderr(told), redirect_stdout(told):
            text = path.read_text(encoding="utf-8", errors="replace")
            code = main([*words, f"--settings={text}"])
        if "Traceback" in told.getvalue() or code not in (0, 2):
            raise AssertionError(told.getvalue())

    yield Reader("settings of a step", root / "settings.json", by_rule)


def _networks(root: Path) -> Iterator[Reader]:
    from safetensors.torch import save_file

    from lunet.exchange.import_weights import read_entries
    from lunet.inference.load import load_model
    from lunet.inference.predict import predict
    from lunet.training.weights import load_weights

    save_run(root)
    weights = root / "weights.safetensors"
    yield Reader("weights", weights, load_model)
    state, about = load_weights(weights)
    write_json(root / "description.json", about)

    def described(path: Path) -> None:
        """Weights whose header holds the text of the file."""
        text = path.read_text(encoding="utf-8", errors="replace")
        save_file(state, root / "described.safetensors", {"lunet": text})
        model = load_model(root / "described.safetensors")
        predict(model, np.random.default_rng(0).random((1, 9, 8, 7)).astype(np.float32))

    yield Reader("description", root / "description.json", described)
    write_json(root / "order.json", list(state))

    def ordered(path: Path) -> None:
        text = path.read_text(encoding="utf-8", errors="replace")
        save_file(state, root / "ordered.safetensors", {"order": text})
        read_entries(root / "ordered.safetensors")

    yield Reader("order of weights", root / "order.json", ordered)
    torch.save({"model": state}, root / "foreign.pt")
    yield Reader("foreign weights", root / "foreign.pt", read_entries)


def _records(root: Path) -> Iterator[Reader]:
    from lunet.commands.predict import _chosen
    from lunet.data.download.fetch import _read_state
    from lunet.exchange.nnunet import changed_plans, export_plans
    from lunet.file_list import read_list
    from lunet.locks import read_owner
    from lunet.pruning.job import _Stamped
    from lunet.reading import read_record
    from lunet.study.protocol import register
    from lunet.study.study import study_of
    from lunet.training.compute.autotune import _entries

    one = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "compile": False}
    known: Mapping[str, tuple[Any, Read]] = {
        "chosen.json": (
            {"threshold": 0.5, "flip_axes": [0], "largest_component": False},
            lambda path: _chosen(str(path)),
        ),
        ".lunet-files.json": (
            {
                "files": {
                    "a.nii.gz": {"step": "predict", "size": 3},
                    "b": {"step": "x", "size": None},
                }
            },
            lambda path: read_list(path.parent),
        ),
        "engine.json": (
            {"key": {"choice": one, "seconds_per_step": {"a": 1.0}, "machines": ["m"]}},
            _entries,
        ),
        "lock.json": (
            {"token": "t", "host": "h", "pid": 1, "process_start": "1", "slurm_job": ""},
            read_owner,
        ),
        "part.json": (
            {"url": "https://example.org", "validator": None, "total": 3},
            lambda path: _read_state(path.with_suffix("")),
        ),
        "stamp.json": (
            {"epochs": 3, "chosen": {"parameters": 9, "model": {"arguments": {"widths": [2]}}}},
            lambda path: read_record(path, _Stamped),
        ),
    }
    for name, (content, read) in known.items():
        _json(root / name, content)
        yield Reader(name, root / name, read)
    folder = root / "study"
    write_json(folder / "splits.json", {"folds": [{"train": ["a"], "test": ["b", "c"]}] * 2})
    write_json(folder / "manifest.json", {"cases": [{"id": name, "group": "g"} for name in "abc"]})
    sections = study_of(
        {
            "study": "s",
            "dataset": {"name": "phantom"},
            "presets": ["unet_small_2f", "lunet_small_2f"],
            "folds": [0, 1],
            "statistics": {"pairs": [["lunet_small_2f", "unet_small_2f"]]},
        }
    ).sections("register")

    def registered(path: Path) -> None:
        named = {"manifest": folder / "manifest.json", "splits": folder / "splits.json"}
        register(folder / "protocol.json", sections, **named)

    registered(folder)
    for name in ("protocol.json", "splits.json", "manifest.json"):
        yield Reader(f"register {name}", folder / name, registered)
    plans = {"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": {"patch_size": [8] * 3}}}
    _json(root / "plans/nnUNetPlans.json", plans)
    assert changed_plans
    yield Reader(
        "nnU-Net plans",
        root / "plans/nnUNetPlans.json",
        lambda path: export_plans(path, UNET),
    )


def _json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


NASTY: tuple[Any, ...] = (
    None,
    True,
    "",
    "x",
    "é" * 3,
    "a" * 20_000,
    "1e-3",
    "-1",
    "../../x",
    "a\nb\x1b[31m",
    "$(touch x)",
    0,
    -1,
    1,
    255,
    2**31,
    2**63,
    2**70,
    10**400,
    1e300,
    -1e300,
    1e-300,
    0.5,
    [],
    {},
    [0],
    [None],
    [-1, 0, 1],
    list(range(70)),
    {"a": 1},
    {"0": 0},
    [[[[[]]]]],
)
RAW = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b'"', b"{", b"}", b",", b"\n", b";", b"\t"),
    *(b"[" * 3000, b"NaN", b"1e999", b"-", b"9" * 5000, b"&a [*a]", b"a: &a [x,x]\nb: [*a,*a]\n"),
)


def damaged(content: bytes, draw: Random) -> bytes:
    """The file with one fault, or a few: in its values, its cells, its bytes or its encoding."""
    (change,) = draw.choices((_value, _bytes, _encoding, _cells), (6, 3, 0.4, 2))
    return change(content, draw)


def _value(content: bytes, draw: Random) -> bytes:
    """A value of a JSON or YAML file replaced, removed or repeated."""
    try:
        text = content.decode()
        is_json = text.lstrip()[:1] in ("{", "[")
        value = json.loads(text) if is_json else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return _bytes(content, draw)
    if not isinstance(value, dict | list):
        return _cells(content, draw)
    for _ in range(draw.choice((1, 1, 2))):
        places = list(_places(value))
        parent, key = draw.choice(places) if places else ([None], 0)
        kind = draw.random()
        if kind < 0.15:
            del parent[key]
        elif kind < 0.25 and isinstance(parent, list):
            parent.append(parent[key])
        elif kind < 0.3 and isinstance(parent, dict):
            parent[draw.choice(("x", "", "id", "labels"))] = _nasty(draw)
        else:
            parent[key] = _nasty(draw)
    if is_json:
        return json.dumps(value).encode()
    return yaml.safe_dump(value, allow_unicode=True).encode()


def _nasty(draw: Random) -> Any:
    """A copy: a later change of the same file may put one into another, or into itself."""
    return deepcopy(draw.choice(NASTY))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


def _cells(content: bytes, draw: Random) -> bytes:
    """A cell of a table replaced or removed, a line repeated or cut."""
    sign = b"\t" if b"\t" in content else b","
    lines = content.split(b"\n")
    place = draw.randrange(len(lines))
    cells = lines[place].split(sign)
    kind = draw.random()
    if kind < 0.5:
        cell = str(draw.choice(NASTY[:23])) if draw.random() < 0.9 else "nan"
        cells[draw.randrange(len(cells))] = cell.encode(errors="replace")
    elif kind < 0.7:
        del cells[draw.randrange(len(cells))]
    elif kind < 0.8:
        cells.append(draw.choice(cells))
    elif kind < 0.9:
        lines.insert(place, lines[place])
    else:
        del lines[draw.randrange(len(lines)) :]
        return b"\n".join(lines)
    lines[place] = sign.join(cells)
    return b"\n".join(lines)


def _bytes(content: bytes, draw: Random) -> bytes:
    """Bytes flipped, cut, removed or put in."""
    place = draw.randrange(len(content) + 1)
    kind = draw.random()
    if kind < 0.5 and content:
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 4))):
            # headers are short and at the front
            end = len(changed) if draw.random() < 0.5 else min(len(changed), 352)
            changed[draw.randrange(end)] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if kind < 0.65:
        return content[:place]
    if kind < 0.8:
        return content[:place] + content[place + draw.choice((1, 4, 30)) :]
    return content[:place] + draw.choice(RAW) + content[place:]


def _encoding(content: bytes, draw: Random) -> bytes:
    """The whole text in another encoding."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return _bytes(content, draw)
    name = draw.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1"))
    return (text + ("\u00e9" if name == "latin-1" else "")).encode(name, errors="replace")


def survives(reader: Reader, content: bytes) -> LunetError | None:
    """Read a damaged file; the error that refused it, or None if it was taken.

    Raises
    ------
    AssertionError
        If it takes more than two minutes, or the message is more than a few lines.
    """
    whole = reader.path.read_bytes()
    reader.path.write_bytes(content)
    try:
        with _alarm(reader.name):
            reader.read(reader.path)
    except OSError as error:
        if classify(error).is_bug:
            raise
    except LunetError as error:
        text = str(error).replace(str(reader.path.parent), "")
        if len(text) > 3000 or not all(line.isprintable() for line in text.splitlines()):
            raise AssertionError(f"{reader.name}: {len(text)} characters: {text!r:.500}") from error
        return error
    finally:
        reader.path.write_bytes(whole)
    return None


@contextmanager
def _alarm(name: str) -> Iterator[None]:
    def hangs(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"{name} hangs")

    former = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
