"""Training steps as a training computes them: ``python -m lunet.efficiency.training_engine``.

A fresh process does what a training does to choose its engine: it tries each arithmetic that the
recipe allows, plain float32 first, on the recipe's batch. From the results,
:mod:`lunet.efficiency.forecast` predicts the memory and the time of trainings. The process reads
a job as JSON from standard input and writes the result as JSON to standard output. Compilation is
tried only if the recipe requires it (``compile: on``), because it takes minutes.

The loss is torch's cross entropy, so that an edit of the package's losses repeats no measurement.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from lunet.efficiency.measure import Bench, MeasureJob, cross_entropy, make_bench
from lunet.efficiency.memory import HighWater, process_bytes
from lunet.errors import is_out_of_memory
from lunet.settings import build_settings
from lunet.training.compute.arithmetic import (
    Arithmetic,
    keep_freed_memory,
    open_precisions,
    plain_arithmetic,
)
from lunet.training.recipe import Engine

_SMALL = 32  # voxels per axis of a first step, which loads kernels


def measure_arithmetics(job: MeasureJob) -> dict[str, Any]:
    """Time and memory of a training step in each arithmetic.

    Returns
    -------
    ``batch``; ``process_bytes``: resident memory of the process after a small step, on CUDA at the
    end (None where the system does not report it); ``tried``: per arithmetic ``precision``,
    ``memory_format``, ``compile``, ``step_ms`` (median) and ``growth_bytes``, the largest growth of
    the process (on CUDA of the allocator) so far, with network and input. It includes the earlier
    arithmetics, because a training also tries all of them in one process.
    """
    keep_freed_memory()
    bench = make_bench(job)
    settings = bench.settings
    engine = build_settings(Engine, job["engine"] | {"threads": settings.threads}, "train.engine")
    plain = plain_arithmetic(engine, torch.device(bench.device))
    plain.prepare()
    _step(bench, plain, torch.zeros(2, *bench.shape(1)[1:2], *(_SMALL,) * bench.task.dimensions))()
    before, mark = process_bytes(), HighWater(bench.device)
    image = bench.image(bench.training_batch)
    tried = []
    choices = arithmetics(engine, plain)
    for arithmetic in choices:
        try:
            row = _measured(bench, arithmetic, image)
        except (RuntimeError, MemoryError) as error:
            if arithmetic == choices[0] or not is_out_of_memory(error):
                raise
            continue  # a training also leaves it out
        tried.append(row | {"growth_bytes": mark.growth()})
    resident = process_bytes() if bench.device == "cuda" else before
    return {"batch": bench.training_batch, "process_bytes": resident, "tried": tried}


def arithmetics(engine: Engine, plain: Arithmetic) -> list[Arithmetic]:
    """The arithmetics that a training tries, first the one that needs no measurement.

    The same as :func:`lunet.training.compute.autotune.candidate_arithmetics` (a test compares
    them), whose module is not imported because it depends on all losses.
    """
    is_open = engine.precision == "auto"
    precisions = open_precisions(plain.device) if is_open else (engine.precision,)
    layouts: Sequence[str] = ("contiguous", "channels_last")
    if engine.memory_format != "auto":
        layouts = (engine.memory_format,)
    return [replace(plain, precision=p, memory_format=m) for p in precisions for m in layouts]


def _measured(bench: Bench, arithmetic: Arithmetic, image: torch.Tensor) -> dict[str, Any]:
    arithmetic.prepare()
    milliseconds = sorted(bench.series(_step(bench, arithmetic, image), least=3)["ms"])
    return {
        "precision": arithmetic.precision,
        "memory_format": arithmetic.memory_format,
        "compile": arithmetic.compile,
        "step_ms": round(milliseconds[len(milliseconds) // 2], 6),
    }


def _step(bench: Bench, arithmetic: Arithmetic, image: torch.Tensor) -> Callable[[], None]:
    """A step of training on ``image`` with a fresh network and optimiser."""
    model = arithmetic.place(copy.deepcopy(bench.model)).train()
    forward, scaler = arithmetic.compiled(model), arithmetic.scaler()
    optimiser = torch.optim.Adam(model.parameters())
    image = image.to(bench.device)

    def step() -> None:
        with arithmetic.autocast():
            output = forward(arithmetic.arrange(image))  # kept during the backward pass
            loss = cross_entropy(output)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)

    return step


def main() -> None:
    """Read a job, measure, write the result."""
    print(json.dumps(measure_arithmetics(json.load(sys.stdin)), allow_nan=False))


if __name__ == "__main__":
    main()
