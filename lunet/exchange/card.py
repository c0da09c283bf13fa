"""The model card of a release: what the network is, for what, how good, under which licence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lunet.inference.description import Description
from lunet.metrics.catalog import title

RESULTS = ("dice", "hd95", "assd")
"""Metrics that a card shows."""

_USE = """\
## Use

```
lunet predict --weights {folder} scan.nii.gz --out masks/
```

```python
import lunet
model = lunet.load_model("{folder}")
mask = lunet.predict(model, "scan.nii.gz")  # class indices on the grid of the scan
```

`plan.json` says how an image is prepared; `labels.json` names the channels of the logits.
"""
_ONNX = """\
`model.onnx` takes `image` (batch, channel, {axes}) float32, any size, and gives `logits`. It was
compared with torch on {count} random shapes: largest difference {worst:.1e} of the largest logit.
"""
_PROGRAM = """\
`model.pt2` is for `torch.export.load("model.pt2").module()`: (batch, channel, {axes}) float32,
{sizes} voxels, to logits, compared with torch too. Loading such a file may unpickle parts of
it, which can run code: load it only from a source that you trust.
"""
_LIMITS = """\
## Limits

A research model. It is not a medical device and must not guide treatment. Its results hold for
images like those of the data set above; check them on images of your own (`lunet evaluate`).
"""


def model_card(
    described: Description,
    *,
    parameters: int,
    data: Mapping[str, Any],
    results: Mapping[str, Mapping[str, float]],
    checks: Sequence[Mapping[str, Any]],
    program: str = "",
) -> str:
    """Markdown text.

    Parameters
    ----------
    described
        What the network was made for.
    parameters
        Number of its parameters.
    data
        ``name``, ``source`` (licence, citation) and ``digest`` of the data set, or empty.
    results
        Structure -> measured means, or empty.
    checks
        Comparisons of ONNX and torch, or empty.
    program
        Sizes that ``model.pt2`` takes, or empty without one.
    """
    preset = described.model.get("preset") or described.model["name"]
    axes = ", ".join("xyz"[: described.task.dimensions])
    parts = [
        f"# {preset}\n",
        _about(described, parameters),
        _data(data),
        _results(results),
        _USE.format(folder=preset),
        _onnx(checks, axes),
        _PROGRAM.format(axes=axes, sizes=program) if program else "",
        _LIMITS,
    ]
    return "\n".join(part for part in parts if part)


def _about(described: Description, parameters: int) -> str:
    task = described.task
    lines = [
        f"A {task.dimensions}D segmentation network with {parameters:,} parameters.",
        "",
        f"- Channels: {', '.join(task.channels)}",
        f"- Labels: {', '.join(f'{name} = {index}' for name, index in task.labels.items())}",
    ]
    if task.regions:
        regions = (f"{name} = {list(i)}" for name, i in task.regions.items())
        lines.append(f"- Regions: {', '.join(regions)}")
    lines += [f"- {key}: {value}" for key, value in sorted(described.training.items())]
    lines.append("- Preprocessing: " + _pairs(described.preprocess))
    return "\n".join(lines) + "\n"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def _data(data: Mapping[str, Any]) -> str:
    if not data:
        return "## Data\n\nNot recorded: export with `--manifest` to name data set and licence.\n"
    source = data.get("source") or {}
    lines = [f"## Data\n\n- Data set: {data.get('name')}"]
    lines += [f"- {key}: {value}" for key, value in sorted(source.items()) if value]
    lines.append(f"- Digest of the prepared data: {data.get('digest')}")
    if not source.get("licence"):
        lines.append("- Licence of the data: not recorded; ask its owner before you pass this on")
    return "\n".join(lines) + "\n"


def _results(results: Mapping[str, Mapping[str, float]]) -> str:
    if not results:
        return "## Results\n\nNot measured: export with `--metrics metrics.csv`.\n"
    lines = [
        "## Results\n",
        "Means over the test cases; a missed structure counts with the worst value.\n",
        f"| structure | cases | missed | {' | '.join(map(title, RESULTS))} |",
        "|---" * (3 + len(RESULTS)) + "|",
    ]
    for name, row in results.items():
        numbers = [f"{row[key]:.3g}" if key in row else "" for key in RESULTS]
        cells = [name, f"{row['cases']:g}", f"{row['missed']:g}", *numbers]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _onnx(checks: Sequence[Mapping[str, Any]], axes: str) -> str:
    if not checks:
        return ""
    worst = max(float(row["difference"]) for row in checks)
    return _ONNX.format(axes=axes, count=len(checks), worst=worst)
