"""`lunet selftest` passes on a sound machine, and each of its checks finds its fault."""

from __future__ import annotations

import getpass
import json
import platform
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lunet.cli import main
from lunet.efficiency import engines
from lunet.efficiency import selftest as report
from lunet.reading import read_json
from lunet.training import selftest
from lunet.training.compute.arithmetic import Arithmetic
from lunet.training.selftest import Failed, NotApplicable
from lunet.training.signals import StopRequest
from lunet.training.state import TrainingState

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LACKING = ("CUDA graphs", "steps as CUDA graphs", "energy")
Patch = pytest.MonkeyPatch


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in report.CHECKS if name not in LACKING])
def test_a_sound_machine_passes(name: str) -> None:
    assert report.CHECKS[name](CPU)


@pytest.mark.parametrize("name", LACKING)
def test_what_a_cpu_lacks_is_not_applicable(name: str) -> None:
    with pytest.raises(NotApplicable, match="GPU"):
        report.CHECKS[name](CPU)


def spoil_half_precision(patch: Patch, spoil: Callable[[Tensor], Tensor]) -> None:
    """Weight gradients of 3D convolutions that are wrong under autocast."""
    real = nn.Conv3d._conv_forward

    def forward(self: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_autocast_enabled("cpu") and weight.requires_grad:
            weight = weight.view_as(weight)
            weight.register_hook(spoil)
        return real(self, x, weight, bias)

    patch.setattr(nn.Conv3d, "_conv_forward", forward)


def test_wrong_gradients_fail(monkeypatch: Patch) -> None:
    real = selftest.find_fault

    def spoilt(choice: Arithmetic, *rest: Any) -> str | None:
        return "x differs" if choice.precision == "fp32" else real(choice, *rest)

    monkeypatch.setattr(selftest, "find_fault", spoilt)
    with pytest.raises(Failed, match="fp32 channels_last: x differs"):
        report.CHECKS["gradients of UNet"](CPU)


def test_wrong_kernels_of_bf16_on_a_cpu_are_told(monkeypatch: Patch) -> None:
    """Trainings refuse them; which sizes are wrong differs between CPUs."""
    spoil_half_precision(monkeypatch, lambda g: 2 * g)
    told = report.CHECKS["gradients of UNet"](CPU)
    assert told.startswith(
        "the gradients of fp32 channels_last agree with float32; bf16 contiguous"
    )
    assert "is refused, as by trainings: the gradient of encoder" in told


@pytest.mark.slow
def test_a_random_number_fails_determinism(monkeypatch: Patch) -> None:
    monkeypatch.setattr(selftest, "seed_everything", lambda _: torch.seed())
    with pytest.raises(Failed, match="different weights or losses"):
        selftest.check_determinism(CPU)


@pytest.mark.parametrize("part", ["optimiser", "random numbers", "average"])
def test_a_state_that_is_not_restored_fails_resumption(monkeypatch: Patch, part: str) -> None:
    def nothing(*_: Any) -> None:
        """Restore nothing."""

    if part == "optimiser":
        monkeypatch.setattr(torch.optim.Adam, "load_state_dict", nothing)
    elif part == "average":
        monkeypatch.setattr("lunet.training.ema.MovingAverage.load_state_dict", nothing)
    else:
        monkeypatch.setattr("lunet.training.state.set_random_state", nothing)
    with pytest.raises(Failed, match="other weights or losses than an uninterrupted one"):
        selftest.check_resume(CPU)


def test_a_signal_without_effect_fails_resumption(monkeypatch: Patch) -> None:
    monkeypatch.setattr(StopRequest, "pending", property(lambda _: False))
    monkeypatch.setattr(StopRequest, "received", lambda *_: None)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(Failed, match="a signal did not stop"):
        selftest.check_resume(CPU)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_half_precision_that_does_not_learn_fails(monkeypatch: Patch) -> None:
    spoil_half_precision(monkeypatch, torch.neg)
    with pytest.raises(Failed, match=r"bf16 contiguous: the loss of .* off float32's"):
        selftest.check_precision(CPU)


def test_a_wrong_layout_fails(monkeypatch: Patch) -> None:
    real = Arithmetic.arrange

    def turned(self: Arithmetic, image: Tensor) -> Tensor:
        wrong = self.memory_format == "channels_last"
        return real(self, image.transpose(2, 3).flip(4) if wrong else image)

    monkeypatch.setattr(Arithmetic, "arrange", turned)
    with pytest.raises(Failed, match="fp32 channels_last: the loss of an epoch"):
        selftest.check_layout(CPU)


def test_a_wrong_compiled_network_fails(monkeypatch: Patch) -> None:
    def wrong(self: Arithmetic, model: nn.Module, *, graphs: bool = True) -> Any:
        return (lambda image: model(image.flip(2))) if self.compile else model

    monkeypatch.setattr(Arithmetic, "compiled", wrong)
    with pytest.raises(Failed, match="differs from float32's"):
        selftest.check_compile(CPU)


def test_graphs_that_repeat_their_first_step_fail(monkeypatch: Patch) -> None:
    """On a pretended GPU that computes on the CPU."""
    real = selftest.plain
    kept: dict[int, Tensor] = {}

    def wrong(self: Arithmetic, model: nn.Module, *, graphs: bool = True) -> Any:
        return (lambda image: model(kept.setdefault(0, image))) if self.compile else model

    monkeypatch.setattr(Arithmetic, "compiled", wrong)
    monkeypatch.setattr(selftest, "plain", lambda *_, **options: real(CPU, **options))
    with pytest.raises(Failed, match="fp32 contiguous compiled: the loss of an epoch"):
        selftest.check_graphs(GPU)


def test_compilation_needs_a_compiler(monkeypatch: Patch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(NotApplicable, match="C\\+\\+ compiler"):
        selftest.check_compile(CPU)


def test_an_unknown_text_of_full_memory_fails(monkeypatch: Patch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(selftest, "is_out_of_memory", lambda _: False)
        with pytest.raises(Failed, match="not recognised as full memory of cpu"):
            selftest.check_memory(CPU)
    monkeypatch.setattr(selftest, "out_of_memory", lambda *_: "out of memory, sorry")
    with pytest.raises(Failed, match=r"does not name \['batch_size', 'free'\]"):
        selftest.check_memory(CPU)


def test_an_engine_with_other_logits_fails(monkeypatch: Patch) -> None:
    zeros = [np.zeros((1, 3, 16, 16, 16), np.float32)]
    monkeypatch.setitem(engines._ENGINES, "onnx", lambda _source: lambda: zeros)
    with pytest.raises(Failed, match="the logits of onnx differ from those of eager by 1"):
        report.check_latency(CPU)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ({"joules_per_volume": 0.0}, Failed, "0 J per volume"),
        ({"left_out": "pynvml is not installed"}, NotApplicable, "pynvml"),
    ],
)
def test_a_counter_that_stands_still_fails(
    monkeypatch: Patch, answer: dict[str, Any], error: type[Exception], words: str
) -> None:
    on_cpu = report._network(CPU)
    monkeypatch.setattr(report, "_network", lambda _: on_cpu)
    monkeypatch.setattr(report, "joules_per_volume", lambda *_: answer)
    with pytest.raises(error, match=words):
        report.check_energy(GPU)


def test_speed_is_the_ratio_of_two_measured_steps(monkeypatch: Patch) -> None:
    """Whatever the ratio is: a slow machine is no fault."""
    seconds = iter([0.3, 0.4, 0.2, 0.6, 0.6])
    steps: list[Callable[[], None]] = []
    monkeypatch.setattr(
        report, "median_seconds", lambda step, _: (steps.append(step), next(seconds))[1]
    )
    assert "200.0 ms in fp32 channels_last" in (found := report.check_speed(CPU))
    assert found.endswith("1.50 times as fast")
    states: list[TrainingState] = []
    real = report.train_step
    monkeypatch.setattr(report, "train_step", lambda s: (states.append(s), real(s)))
    for step in steps[:2]:
        step()
    assert [int(state.progress.samples) for state in states] == [2]


def fails(device: torch.device) -> str:
    """A check that meets an error with names and paths in its text."""
    raise OSError(
        f"{Path.home()}/scans/Jane Doe.nii.gz: cannot read '/data/Jane Doe/x' on {device}"
    )


@pytest.mark.parametrize(("broken", "code"), [(True, 1), (False, 0)])
def test_the_command_prints_and_writes_what_an_issue_can_carry(
    monkeypatch: Patch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    broken: bool,
    code: int,
) -> None:
    threads = torch.get_num_threads()

    def lacking(device: torch.device) -> str:
        torch.set_num_threads(threads + 1)  # a check may set its own
        return report.check_energy(device)

    checks = {"full memory": selftest.check_memory, "energy": lacking}
    monkeypatch.setattr(report, "CHECKS", checks | ({"scan": fails} if broken else {}))
    out = tmp_path / "sub" / "selftest.json"
    assert main(["selftest", "--device", "cpu", "--out", str(out)]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok             full memory: a failed allocation")
    assert lines[1].startswith("not applicable energy: only a GPU")
    content = read_json(out)
    assert [row["state"] for row in content["checks"]][:2] == ["ok", "not applicable"]
    assert content["failed"] == int(broken)
    assert content["provenance"]["packages"]["torch"] == torch.__version__
    assert content["device"]["type"] == "cpu"
    assert content["device"]["threads"] == torch.get_num_threads() == threads
    text = json.dumps(content)
    personal = (str(tmp_path), str(Path.home()) + "/", "/data", platform.node(), getpass.getuser())
    assert [word for word in personal if word in text] == []
    if broken:
        assert lines[2].startswith("failed         scan: OSError: PATH")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 samples/s, ratio 3/4", "12 samples/s, ratio 3/4"),
        ("no such file: '/home/a b/c.txt'", "no such file: PATH"),
        ("~/x.py, line 3", "PATH, line 3"),
        (r"C:\Users\me\x failed", "PATH failed"),
        ("(/opt/a:/opt/b)", "(PATH:PATH)"),
    ],
)
def test_paths_are_left_out(text: str, expected: str) -> None:
    assert report.without_paths(text) == expected


def test_no_gpu_is_an_error_of_the_request(
    monkeypatch: Patch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "selftest.json"
    assert main(["selftest", "--device", "cuda", "--out", str(out)]) == 2
    assert "sees no GPU" in capsys.readouterr().err
    assert not out.exists()
