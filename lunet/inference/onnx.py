"""Exports networks to ONNX with free sizes, checks them against torch, and loads such files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lunet.errors import DataError, LunetError
from lunet.files import atomic, canonical_json
from lunet.inference.description import Description, build_described, description_from_dict
from lunet.reading import parse_json

INPUT, OUTPUT, KEY = "image", "logits", "lunet"
_EXAMPLE = (2, 40, 48, 56)  # batch and sizes: equal ones, and 0 or 1, would be fixed
_INSTALL = "Install them with `pip install 'lunet[export]'`"


class OnnxNetwork(nn.Module):
    """An ONNX file as a network on the CPU: (B, C, \\*spatial) float32 to logits.

    ``twin`` is the same network without weights (on the meta device), for memory estimates.
    """

    def __init__(self, session: Any, twin: nn.Module, *, out_channels: int, path: Path) -> None:
        super().__init__()
        self._session = session
        self._out_channels = out_channels
        self._path = path
        self._twin = (twin,)  # inside a tuple it is not registered as a sub-module

    @property
    def twin(self) -> nn.Module:
        """The network on the meta device."""
        return self._twin[0]

    def forward(self, x: Tensor) -> Tensor:
        """Logits, on the device of ``x``.

        Raises
        ------
        DataError
            If the file fails, or gives another shape than (B, K, \\*spatial) or no numbers.
        """
        feed = {INPUT: np.ascontiguousarray(x.detach().float().cpu().numpy())}
        try:
            logits = self._session.run([OUTPUT], feed)[0]
        except Exception as error:  # onnxruntime's errors have no common base
            reason, shape = (str(error).splitlines() or [""])[0], tuple(x.shape)
            raise DataError(
                where=self._path,
                found=f"fails on an image of {shape} ({reason})",
                expected="batch and sizes must be free",
                action="Take a file of `lunet export`",
            ) from error
        wanted = (len(x), self._out_channels, *x.shape[2:])
        if logits.shape != wanted:
            raise DataError(
                where=self._path,
                found=f"gives logits of shape {logits.shape} for an image of {tuple(x.shape)}",
                expected=f"{wanted} is described",
                action="Take a file of `lunet export`",
            )
        if not np.isfinite(logits).all():  # checking the weights would need another package
            raise DataError(
                where=self._path,
                found="gives NaN or infinite logits",
                expected="its weights are damaged, or the image is far from what it was trained on",
                action="Get the file from its source again",
            )
        return torch.from_numpy(logits).to(x.device)


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    channels: int,
    ndim: int,
    description: dict[str, Any] | None = None,
) -> None:
    """Write a network as ONNX with free batch and spatial sizes, weights inside, atomically.

    Parameters
    ----------
    model
        Network on the CPU; it is exported in evaluation mode.
    channels, ndim
        Channels of its input and number of its spatial axes.
    description
        Plain values that are stored in the file's metadata, where :func:`load_onnx` finds task and
        preprocessing.

    Raises
    ------
    ImportError
        If onnxscript is missing.
    LunetError
        If the exporter cannot express the network with free sizes.
    """
    import onnxscript  # noqa: F401  torch's exporter needs it; ask before the long work

    batch, *sizes = _EXAMPLE[: ndim + 1]
    free = dict.fromkeys((0, *range(2, ndim + 2)), torch.export.Dim.DYNAMIC)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                model.eval(),
                (torch.zeros(batch, channels, *sizes),),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=(free,),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        found = f"ONNX cannot express {type(model).__name__} with free sizes ({reason:.160})"
        raise LunetError(
            where=path, found=found, expected="", action="Export it with --no-onnx"
        ) from error
    assert program is not None  # the dynamo exporter always returns one
    _forget_sources(program.model)
    if description is not None:
        program.model.metadata_props[KEY] = canonical_json(description)
    with atomic(path) as part:
        program.save(part, external_data=False)


def _forget_sources(model: Any) -> None:
    """Remove the lines and folders of the source code that torch's exporter notes at each node."""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.metadata_props.clear()
    model.graph.metadata_props.clear()


def load_onnx(path: str | Path, *, network: str | Path | None = None) -> OnnxNetwork:
    """The network of an ONNX file written by :func:`export_onnx`, with its description.

    ``network`` is as of :func:`lunet.inference.load.load_model`: memory is estimated with it.

    Raises
    ------
    LunetError
        If onnxruntime is missing.
    DataError
        If the file is damaged or has no description.
    """
    session = _session(path)
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise DataError(
            where=path,
            found="has no description",
            expected="an ONNX file of `lunet export` is needed",
        )
    described = description_from_dict(parse_json(text, path), where=path)
    _check_ends(session, described, path)
    twin = build_described(described, where=path, network=network).to("meta")
    found = OnnxNetwork(session, twin, out_channels=described.task.out_channels, path=Path(path))
    found.lunet = described  # type: ignore[assignment]
    return found.eval()


def _check_ends(session: Any, described: Description, path: str | Path) -> None:
    """Check that the input and the output of an ONNX file match its description.

    Raises
    ------
    DataError
        If a name, a type, or the number of axes or channels differs.
    """
    axes, task = described.task.dimensions + 2, described.task
    ends = (
        ("input", session.get_inputs(), INPUT, len(task.channels)),
        ("output", session.get_outputs(), OUTPUT, task.out_channels),
    )
    for kind, found, name, channels in ends:
        ends_found = [f"{end.name}: {end.type} {end.shape}" for end in found]
        fits = len(found) == 1 and (found[0].name, found[0].type) == (name, "tensor(float)")
        shape = list(found[0].shape) if fits else []
        # a free size has a name or None instead of a number
        if not fits or len(shape) != axes or shape[1] not in (channels, None):
            if fits and len(shape) == axes and isinstance(shape[1], str):
                continue
            expected = f"{name}: float, {axes} axes, {channels} channel(s) are described"
            raise DataError(
                where=path, found=f"{kind} {'; '.join(ends_found) or 'missing'}", expected=expected
            )


def check_onnx(
    model: nn.Module, path: str | Path, *, channels: int, ndim: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Compare an ONNX file with the network it was made from on five random inputs.

    Batches are 1 to 2, sides 9 to 49 voxels.

    Returns
    -------
    ``{"shape": [...], "difference": d}`` of each; d relative to the largest logit.

    Raises
    ------
    LunetError
        If a difference exceeds 1e-4 or a shape differs.
    """
    session, draw = _session(path), np.random.default_rng(seed)
    shapes = [
        (int(draw.integers(1, 3)), channels, *map(int, draw.integers(9, 50, ndim)))
        for _ in range(5)
    ]

    def run(x: Floats) -> Floats:
        found: Floats = session.run([OUTPUT], {INPUT: x})[0]
        return found

    return compare_with_torch(run, model, shapes, where=path, draw=draw)


def _session(path: str | Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise LunetError(
            where=path,
            found=f"{error.name} is not installed",
            expected="ONNX files need it",
            action=_INSTALL,
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        reason = str(error).splitlines()[0]
        raise DataError(
            where=path, found=f"is not an ONNX file ({reason})", expected="a model.onnx is expected"
        ) from error


TOLERANCE = 1e-4  # largest difference of logits, relative to the largest logit
Floats = NDArray[np.float32]


def compare_with_torch(
    run: Callable[[Floats], Floats],
    model: nn.Module,
    shapes: Iterable[tuple[int, ...]],
    *,
    where: str | Path,
    draw: np.random.Generator,
) -> list[dict[str, Any]]:
    """Compare ``run`` with ``model`` on a random input of each shape (batch, channel, \\*spatial).

    Returns
    -------
    ``{"shape": [...], "difference": d}`` of each; d relative to the largest logit.

    Raises
    ------
    LunetError
        If a difference exceeds 1e-4 or a shape differs; it names the file ``where``.
    """
    rows = []
    for shape in shapes:
        x = draw.standard_normal(shape, np.float32)
        given = run(x)
        with torch.no_grad():
            wanted = model.eval()(torch.from_numpy(x)).numpy()
        same = given.shape == wanted.shape
        error = float(np.abs(given - wanted).max() / np.abs(wanted).max()) if same else np.inf
        if error > TOLERANCE:
            found = f"differs from torch by {error:.2g} (relative) at shape {shape}"
            raise LunetError(where=where, found=found, expected=f"at most {TOLERANCE:g} is allowed")
        rows.append({"shape": list(shape), "difference": error})
    return rows


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the notes of torch's exporters about packages that are not needed."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
