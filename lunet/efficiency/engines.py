"""The ways to run a network: eager, compiled, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lunet.models.single_sample import fast_copy

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Unavailable(Exception):
    """An engine cannot run here; the reason is recorded."""


@dataclass(frozen=True)
class Runner:
    """A network ready to run.

    Attributes
    ----------
    call
        Runs one forward pass of the input that the runner was made for.
    prepare_s
        Seconds for compilation or conversion, including the first run.
    """

    call: Callable[[], object]
    prepare_s: float


@dataclass(frozen=True)
class Source:
    """The inputs of an engine.

    Attributes
    ----------
    model, x
        Network in evaluation mode and its input, float32, on one device.
    precision
        ``fp32`` or ``bf16`` (weights and activations; OpenVINO decides per layer).
    threads
        CPU threads.
    onnx
        Returns the network as ONNX; may raise :class:`Unavailable`.
    """

    model: nn.Module
    x: Tensor
    precision: str
    threads: int
    onnx: Callable[[], bytes]


def make_runner(engine: str, source: Source) -> Runner:
    """Make the network ready for ``eager``, ``compiled`` (torch.compile), ``onnx`` or ``openvino``.

    The network runs once here.

    Raises
    ------
    Unavailable
        If a package or compiler is missing, or the engine has no such precision or device.
    """
    start = time.perf_counter()
    call = _ENGINES[engine](source)
    with torch.inference_mode():
        call()
    return Runner(call, time.perf_counter() - start)


def onnx_bytes(model: nn.Module, *, channels: int, ndim: int) -> bytes:
    """The network as an ONNX file in memory.

    Raises
    ------
    Unavailable
        If onnxscript is missing.
    """
    from lunet.inference.onnx import export_onnx

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(model, path, channels=channels, ndim=ndim)
            return path.read_bytes()
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed") from error


def _eager(source: Source) -> Callable[[], object]:
    kind = _TYPES[source.precision]
    network, image = fast_copy(source.model.to(kind)), source.x.to(kind)
    return lambda: network(image)


def _compiled(source: Source) -> Callable[[], object]:
    kind = _TYPES[source.precision]
    mode = "reduce-overhead" if source.x.device.type == "cuda" else None  # CUDA graphs
    network, image = torch.compile(source.model.to(kind), mode=mode), source.x.to(kind)
    try:
        with torch.inference_mode():
            network(image)
    except Exception as error:  # the compiler's errors have no common base
        raise Unavailable(f"torch.compile failed: {_first_line(error)}") from error
    return lambda: network(image)


def _onnx(source: Source) -> Callable[[], object]:
    if source.precision != "fp32" or source.x.device.type != "cpu":
        raise Unavailable("measured in fp32 on a CPU only")
    try:
        import onnxruntime
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = source.threads, 1
    session = onnxruntime.InferenceSession(
        source.onnx(), options, providers=["CPUExecutionProvider"]
    )
    feed = {session.get_inputs()[0].name: source.x.numpy()}
    return lambda: session.run(None, feed)


def _openvino(source: Source) -> Callable[[], object]:
    if source.x.device.type != "cpu":
        raise Unavailable("measured on a CPU only")
    try:
        import openvino
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed") from error
    core = openvino.Core()
    hints: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": source.threads,
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[source.precision],
    }
    request = core.compile_model(
        core.read_model(source.onnx()), "CPU", hints
    ).create_infer_request()
    feed = {0: source.x.numpy()}
    return lambda: request.infer(feed)


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


_ENGINES = {"eager": _eager, "compiled": _compiled, "onnx": _onnx, "openvino": _openvino}
