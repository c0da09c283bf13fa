"""How a network is computed: device, autocast type, memory format, compilation, threads."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lunet.training.compute.narrow_layers import NarrowLayers
from lunet.training.recipe import Engine

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Forward = Callable[[Tensor], Tensor | Sequence[Tensor]]


@dataclass(frozen=True)
class Arithmetic:
    """A choice that is made once per training and kept when it resumes.

    Attributes
    ----------
    device
        ``cpu`` or ``cuda``.
    precision
        ``fp32``, or the type of autocast: ``bf16``, ``fp16``. Weights stay float32.
    memory_format
        ``contiguous`` or ``channels_last``.
    compile
        Whether training steps go through ``torch.compile``.
    threads
        CPU threads.
    deterministic
        Deterministic kernels, also on CUDA.
    graph
        Whether a training step is one CUDA graph, which computes the same numbers.
    """

    device: str
    precision: str
    memory_format: str
    compile: bool
    threads: int
    deterministic: bool
    graph: bool = False

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        where = f"cpu with {threads}" if self.device == "cpu" else self.device
        how = "compiled, " * self.compile + "deterministic" * self.deterministic
        words = f"{self.precision}, {self.memory_format} on {where}"
        return f"{words} ({how.removesuffix(', ')})" if how else words

    def prepare(self) -> None:
        """Set up the process for this arithmetic."""
        torch.set_num_threads(self.threads)
        if self.device == "cuda":
            # cuBLAS is deterministic only with a workspace of fixed size, set before its first use
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
            # deterministic mode would also fill all new memory, which costs a pass over it
            mode = torch.utils.deterministic
            mode.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            # its order of additions varies, but windows without overlap add to each zero only once
            warnings.filterwarnings("ignore", message="max_pool.*_backward_cuda")
            # "fp32" means float32 on every GPU; the default of convolutions is TF32
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.deterministic = self.deterministic
            torch.backends.cudnn.benchmark = not self.deterministic

    def place(self, model: nn.Module) -> nn.Module:
        """Move a network to the device, in the memory format."""
        model.to(self.device)
        for parameter in model.parameters():
            parameter.data = parameter.data.contiguous(memory_format=self._layout(parameter))
        return model

    def forward(self, model: nn.Module, image: Tensor) -> Tensor:
        """Logits of a batch ``(B, C, *S)`` under autocast."""
        with self.autocast():
            return model(self.arrange(image))

    def arrange(self, image: Tensor) -> Tensor:
        """The batch in the memory format."""
        return image.contiguous(memory_format=self._layout(image))

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """The context for forward passes: narrow layers and autocast, which losses switch off."""
        with ExitStack() as contexts:
            if self.precision != "fp32":
                contexts.enter_context(torch.autocast(self.device, dtype=_TYPES[self.precision]))
            if self.device == "cpu" and self.memory_format == "channels_last" and not self.compile:
                contexts.enter_context(NarrowLayers())
            yield

    def compiled(self, model: nn.Module, *, graphs: bool = True) -> Forward:
        """The network as the training step calls it; it shares the parameters of ``model``.

        ``graphs`` allows CUDA graphs, which overwrite the gradients of the previous step. They are
        not used within a graph of the whole step.
        """
        if not self.compile:
            return model
        graphs = graphs and self.device == "cuda" and not self.graph
        return torch.compile(model, mode="reduce-overhead" if graphs else None)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs."""
        return torch.amp.GradScaler(self.device, enabled=self.precision == "fp16")

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def _layout(self, tensor: Tensor) -> torch.memory_format:
        if self.memory_format == "channels_last" and tensor.ndim in (4, 5):
            return torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d
        return torch.contiguous_format


def plain_arithmetic(engine: Engine, device: torch.device) -> Arithmetic:
    """The arithmetic that the recipe fixes; where it has ``auto``, plain float32."""
    layout = engine.memory_format
    return Arithmetic(
        device=device.type,
        precision="fp32" if engine.precision == "auto" else engine.precision,
        memory_format="contiguous" if layout == "auto" else layout,
        compile=engine.compile == "on",
        threads=engine.threads or torch.get_num_threads(),
        deterministic=engine.deterministic,
    )


def open_precisions(device: str) -> tuple[str, ...]:
    """The precisions to choose from where the recipe leaves it open.

    On a GPU it is bf16 from compute capability 8.0 on, else float32: by this rule and not by a
    measurement, so that noise never decides it. On a CPU without AVX-512, PyTorch emulates bf16: a
    step is many times slower than in float32, and it is not even measured.
    """
    if device == "cuda":
        return ("bf16",) if torch.cuda.get_device_capability() >= (8, 0) else ("fp32",)
    is_native = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return ("fp32", "bf16") if is_native else ("fp32",)


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks for the next step instead of returning them to the system.

    Otherwise each large activation is mapped, page-faulted and unmapped in every step. Only glibc
    has ``mallopt``; returns whether it was set. Call this before large tensors are created.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    trim_threshold, mmap_max = -1, -4
    return bool(libc.mallopt(mmap_max, 0) and libc.mallopt(trim_threshold, 2**31 - 1))
