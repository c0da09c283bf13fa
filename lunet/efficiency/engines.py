"""The ways in which a user could run a network: eager, compiled, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Unavailable(Exception):
    """This engine cannot run here; the text says why. Recorded, never hidden."""


@dataclass(frozen=True)
class Runner:
    """A network ready to run.

    Attributes
    ----------
    call
        One forward pass of the input that it was made for.
    prepare_s
        Seconds that compilation or conversion took, the first run included.
    """

    call: Callable[[], object]
    prepare_s: float


def make_runner(
    engine: str, model: nn.Module, x: Tensor, *, precision: str, threads: int
) -> Runner:
    """Make the network ready and run it once.

    Parameters
    ----------
    engine
        ``eager``, ``compiled`` (torch.compile), ``onnx``, ``openvino``.
    model, x
        Network in evaluation mode and its input, float32, on one device.
    precision
        ``fp32`` or ``bf16`` (weights and activations; OpenVINO decides per layer).
    threads
        CPU threads.

    Raises
    ------
    Unavailable
        If a package or compiler is missing, or the engine has no such precision or device.
    """
    start = time.perf_counter()
    call = _ENGINES[engine](model, x, precision, threads)
    with torch.inference_mode():
        call()
    return Runner(call, time.perf_counter() - start)


def _eager(model: nn.Module, x: Tensor, precision: str, threads: int) -> Callable[[], object]:
    network, image = model.to(_TYPES[precision]), x.to(_TYPES[precision])
    return lambda: network(image)


def _compiled(model: nn.Module, x: Tensor, precision: str, threads: int) -> Callable[[], object]:
    network, image = model.to(_TYPES[precision]), x.to(_TYPES[precision])
    compiled = torch.compile(network)
    try:
        with torch.inference_mode():
            compiled(image)
    except Exception as error:  # the compiler's errors have no common base
        raise Unavailable(f"torch.compile failed: {_first_line(error)}") from error
    return lambda: compiled(image)


def _onnx(model: nn.Module, x: Tensor, precision: str, threads: int) -> Callable[[], object]:
    if precision != "fp32" or x.device.type != "cpu":
        raise Unavailable("measured in fp32 on a CPU only")
    try:
        import onnxruntime
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        _onnx_bytes(model, x), options, providers=["CPUExecutionProvider"]
    )
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)


def _openvino(model: nn.Module, x: Tensor, precision: str, threads: int) -> Callable[[], object]:
    if x.device.type != "cpu":
        raise Unavailable("measured on a CPU only")
    try:
        import openvino
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed") from error
    core = openvino.Core()
    hints: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
    }
    compiled = core.compile_model(core.read_model(_onnx_bytes(model, x)), "CPU", hints)
    request = compiled.create_infer_request()
    feed = {0: x.numpy()}
    return lambda: request.infer(feed)


def _onnx_bytes(model: nn.Module, x: Tensor) -> bytes:
    from lunet.inference.onnx import export_onnx

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(model.float(), path, channels=x.shape[1], ndim=x.ndim - 2)
            return path.read_bytes()
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


_ENGINES = {"eager": _eager, "compiled": _compiled, "onnx": _onnx, "openvino": _openvino}
