from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from patience import patient
from tiny_training import EVERYTHING, TASK, TINY, job, prepare

from lunet.data.folds import read_splits
from lunet.data.prepared import read_manifest
from lunet.errors import ConfigError
from lunet.models.build import build_network
from lunet.reading import read_json
from lunet.training import setup
from lunet.training.compute import autotune as engine
from lunet.training.compute.arithmetic import Arithmetic, open_precisions, plain_arithmetic
from lunet.training.compute.autotune import (
    Question,
    candidate_arithmetics,
    choose_arithmetic,
    step_seconds,
)
from lunet.training.compute.device import choose_device, device_facts, send
from lunet.training.losses.build import Objective, build_objective
from lunet.training.recipe import Engine
from lunet.training.sampling import Sampler, build_sampler
from lunet.training.setup import assemble, build_training
from lunet.training.state import TrainingState
from lunet.training.validation import build_validator
from lunet.training.volumes import Volumes

CPU = torch.device("cpu")
LAYOUTS = ("contiguous", "channels_last")
PLAIN = plain_arithmetic(Engine(threads=1), CPU)
MEASURED = replace(EVERYTHING, patch=None, batch_size=2, grad_accumulation=1, sampler="shuffle")


def make() -> torch.nn.Module:
    arguments = {"widths": [4, 4]}
    return build_network("unet", "UNet", in_channels=1, out_channels=3, ndim=3, arguments=arguments)


def question(steps: int = 10_000, **fixed: object) -> Question:
    sampler, objective = volumes()
    return Question(
        engine=replace(Engine(threads=1), **fixed),
        model={"name": "UNet"},
        make=make,
        batch=sampler.batch(1, 0),
        objective=objective,
        steps=steps,
        sizes=1,
        training=training,
    )


def volumes() -> tuple[Sampler, Objective]:
    """Batches of two noise volumes, and the loss."""
    label = torch.randint(0, 3, (4, 8, 8, 8), dtype=torch.uint8)
    image = torch.randn(4, 1, 8, 8, 8)
    cases = Volumes(tuple("abcd"), list(image), list(label), ((8, 8, 8),) * 4, CPU, resident=True)
    sampler = build_sampler(cases, MEASURED, dimensions=3, seed=0)
    return sampler, build_objective({"dice": 1.0}, {}, task=TASK)


def training(choice: Arithmetic) -> TrainingState:
    sampler, objective = volumes()
    validator = build_validator(sampler.volumes, TASK, objective, patch=None, batch_size=2)
    return assemble(MEASURED, choice.place(make()), choice, sampler, validator)


def pretend(monkeypatch: pytest.MonkeyPatch, times: dict[tuple[str, str], float]) -> list[str]:
    """Replace the stop-watch, all being sound; returns the list of what was measured."""
    asked: list[str] = []

    def measured(_question: Question, choice: Arithmetic) -> float:
        asked.append(f"{choice.precision} {choice.memory_format} {choice.compile}")
        return times[(choice.precision, choice.memory_format)] / (2 if choice.compile else 1)

    monkeypatch.setattr(engine, "step_seconds", measured)
    monkeypatch.setattr(engine, "find_fault", lambda *_: None)
    return asked


SLOW = {
    ("fp32", "contiguous"): 0.10,
    ("fp32", "channels_last"): 0.05,
    ("bf16", "contiguous"): 0.03,
    ("bf16", "channels_last"): 0.029,
}


def choose(asked: Question, cache: Path | None = None) -> Arithmetic:
    return choose_arithmetic(asked, cache=cache, log=lambda line: None)


@pytest.fixture(autouse=True)
def _native_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests choose as on a CPU with AVX-512, whatever this one has."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


def test_emulated_bf16_is_not_even_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_precisions("cpu") == ("fp32", "bf16")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert open_precisions("cpu") == ("fp32",)


def test_the_fastest_is_chosen_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = pretend(monkeypatch, SLOW)
    cache = tmp_path / "engine.json"
    first = choose(question(), cache)
    # 3 % faster is within the noise: the plainer layout wins
    assert (first.precision, first.memory_format, first.compile) == ("bf16", "contiguous", False)
    assert len(asked) == 4
    monkeypatch.setattr(engine, "step_seconds", lambda *_: pytest.fail("measured again"))
    assert choose(question(), cache) == first
    entry = next(iter(read_json(cache).values()))
    assert entry["seconds_per_step"]["fp32 contiguous"] == 0.10


@pytest.mark.parametrize(("steps", "measured"), [(19, 0), (599, 1), (601, 4), (12_001, 5)])
def test_what_is_measured_depends_on_the_length(
    monkeypatch: pytest.MonkeyPatch, steps: int, measured: int
) -> None:
    asked = pretend(monkeypatch, SLOW)
    chosen = choose(question(steps))
    assert len(asked) == measured
    assert chosen.compile is (measured == 5)
    assert (chosen == PLAIN) is (measured < 4)


def test_samples_of_several_sizes_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretend(monkeypatch, SLOW)
    assert not choose(replace(question(12_001), sizes=2)).compile
    assert len(asked) == 4


def test_what_the_recipe_fixes_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pretend(monkeypatch, SLOW)
    fixed = question(precision="fp32", memory_format="channels_last", compile="off")
    assert choose(fixed).memory_format == "channels_last"
    assert asked == []
    assert choose(question(precision="fp32")).precision == "fp32"
    assert all(name.startswith("fp32") for name in asked)


def test_another_batch_or_network_is_another_question(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = pretend(monkeypatch, SLOW)
    cache, one = tmp_path / "engine.json", question()
    choose(one, cache)
    choose(replace(one, model={"name": "other"}), cache)
    choose(replace(one, batch=replace(one.batch, image=one.batch.image[:1])), cache)
    assert len(asked) == 12
    assert len(read_json(cache)) == 3


def test_a_choice_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine._step_seconds

    def full(asked: Question, choice: Arithmetic) -> float:
        if choice.precision == "bf16":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(asked, choice)

    monkeypatch.setattr(engine, "_step_seconds", full)
    bf16 = replace(PLAIN, precision="bf16")
    assert step_seconds(question(), bf16) == float("inf")
    assert 0 < step_seconds(question(), PLAIN) < 60


def test_steps_are_measured_as_they_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the recipe's optimiser, clipping, moving average and augmentation, eleven times."""
    done: list[TrainingState] = []
    clipped: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda w, norm: clipped.append(norm) or clip(w, norm)
    )

    def built(choice: Arithmetic) -> TrainingState:
        state = training(choice)
        monkeypatch.setattr(state, "augment", counted(state.augment, augmented))
        done.append(state)
        return state

    augmented: list[object] = []
    assert step_seconds(replace(question(), training=built), PLAIN) > 0
    (state,) = done
    assert len(clipped) == len(augmented) == 11
    assert state.ema is not None
    assert state.ema.step == 11
    assert {group["fused"] for group in state.optimiser.param_groups} == {True}
    assert {int(s["step"]) for s in state.optimiser.state.values()} == {11}


def counted(call: Any, calls: list[object]) -> Any:
    def wrapped(*arguments: Any) -> Any:
        calls.append(call)
        return call(*arguments)

    return wrapped


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")]
)
def test_on_a_gpu_precision_is_fixed_by_rule(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    on_gpu = replace(PLAIN, device="cuda")
    found = candidate_arithmetics(Engine(), on_gpu)
    assert [c.precision for c in found] == [precision] * 2
    assert [c.memory_format for c in found] == ["contiguous", "channels_last"]
    assert candidate_arithmetics(Engine(precision="fp16"), on_gpu)[0].precision == "fp16"


def test_the_rule_is_not_followed_where_the_precision_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = pretend(monkeypatch, SLOW)
    by_rule = [replace(PLAIN, precision="bf16", memory_format=m) for m in LAYOUTS]
    monkeypatch.setattr(engine, "candidate_arithmetics", lambda *_: by_rule)
    assert choose(question(compile="off")).precision == "bf16"
    assert {name.split()[0] for name in asked} == {"bf16"}
    asked.clear()
    monkeypatch.setattr(
        engine, "find_fault", lambda choice, *_: "noise" if choice.precision == "bf16" else None
    )
    chosen = choose(question(compile="off"))
    assert (chosen.precision, chosen.memory_format) == ("fp32", "channels_last")
    assert {name.split()[0] for name in asked} == {"fp32"}


@pytest.mark.parametrize("choice", candidate_arithmetics(Engine(), PLAIN), ids=str)
def test_every_candidate_computes_nearly_the_same(choice: Arithmetic) -> None:
    torch.manual_seed(0)
    model = make().eval()
    image = torch.randn(2, 1, 12, 12, 12)
    with torch.no_grad():
        expected = model(image)
        found = choice.forward(choice.place(model), image).float()
    tolerance = 1e-5 if choice.precision == "fp32" else 0.05 * float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_moments_and_losses_stay_float32(precision: str, tmp_path: Path) -> None:
    data = prepare(tmp_path / "d")
    recipe = replace(TINY, engine=replace(TINY.engine, precision=precision))
    task = job(data, tmp_path, recipe)
    fold = read_splits(task.splits).folds[0]
    training = build_training(task, read_manifest(task.manifest), fold, None)
    from lunet.training.loop import train_step

    train_step(training)
    tensors: Sequence[torch.Tensor] = [
        *training.model.state_dict().values(),
        *(t for state in training.optimiser.state.values() for t in state.values()),
        training.progress.losses,
    ]
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float32}


def test_a_resumed_training_is_computed_as_it_began(tmp_path: Path) -> None:
    data = prepare(tmp_path / "d")
    free = replace(TINY, engine=Engine(device="cpu", threads=1), keep_state=True)
    task = job(data, tmp_path, free)
    fold, manifest = read_splits(task.splits).folds[0], read_manifest(task.manifest)
    began = replace(PLAIN, precision="bf16", memory_format="channels_last")
    state = {**build_training(task, manifest, fold, None).state(), "arithmetic": asdict(began)}
    assert build_training(task, manifest, fold, state).arithmetic == began
    state["arithmetic"]["device"] = "cuda"  # the device is gone: chosen anew
    assert build_training(task, manifest, fold, state).arithmetic == PLAIN


def test_the_gradients_of_a_training_are_always_checked_in_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = job(prepare(tmp_path / "d"), tmp_path, replace(TINY, engine=Engine(threads=1)))
    fold, manifest = read_splits(task.splits).folds[0], read_manifest(task.manifest)
    checked: list[list[torch.Tensor]] = []

    def choose_plain(asked: Question, **_: object) -> Arithmetic:
        checked.append([asked.batch.image, *asked.make().parameters()])
        return PLAIN

    monkeypatch.setattr(setup, "choose_arithmetic", choose_plain)
    for chance in (1, 2):
        torch.manual_seed(chance)
        build_training(task, manifest, fold, None)
    assert all(torch.equal(one, two) for one, two in zip(*checked, strict=True))


def at_once(number: int, cache: Path, gate: Any, answers: Any) -> None:
    """A fold in a process of its own, whose stop-watch prefers another arithmetic."""
    torch.set_num_threads(1)
    order = candidate_arithmetics(Engine(), PLAIN)
    best = order[number % len(order)]
    engine.step_seconds = lambda _, choice: 0.01 if choice == best else 0.1
    gate.wait()
    same = choose(question(3000), cache)
    choose(replace(question(3000), model={"fold": number}), cache)
    answers.put(same)


def test_folds_that_measure_at_once_compute_alike_and_no_entry_is_lost(tmp_path: Path) -> None:
    context, cache = multiprocessing.get_context("fork"), tmp_path / "engine.json"
    gate, answers = context.Barrier(2), context.Queue()
    folds = [context.Process(target=at_once, args=(i, cache, gate, answers)) for i in (1, 2)]
    for fold in folds:
        fold.start()
    found = {answers.get(timeout=patient(15)) for _ in folds}
    for fold in folds:
        fold.join()
    assert len(found) == 1
    assert len(read_json(cache)) == 3


def test_a_choice_of_another_machine_is_checked_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, SLOW)
    cache = tmp_path / "engine.json"
    chosen = choose(question(), cache)
    monkeypatch.setattr(engine, "cpu_model", lambda: "another")
    assert choose(question(), cache) == chosen
    assert "another" in next(iter(read_json(cache).values()))["machines"]
    monkeypatch.setattr(engine, "cpu_model", lambda: "a third")
    monkeypatch.setattr(engine, "find_fault", lambda *_: "noise")
    with pytest.raises(ConfigError, match="wrong gradients: noise"):
        choose(question(), cache)


def test_a_missing_device_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("cpu") == choose_device("auto") == CPU
    for name in ("cuda", "cuda:1"):
        with pytest.raises(ConfigError, match=f"--device: is '{name}'.* sees no GPU"):
            choose_device(name)
    monkeypatch.setenv("SLURM_JOB_GPUS", "1")
    assert choose_device("cpu") == CPU
    with pytest.raises(ConfigError, match=r"gave GPU 1.*setting train\.device to cpu"):
        choose_device("auto", key="train.device")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")


def test_a_copy_to_a_gpu_is_pinned_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned, copies, numbers = torch.ones(3), [], torch.zeros(3)
    assert send(numbers, CPU) is numbers
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda _: pinned)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, *to, **how: copies.append((tensor, to, how))
    )
    send(numbers, torch.device("cuda"))
    assert copies == [(pinned, (torch.device("cuda"),), {"non_blocking": True})]


def test_the_facts_of_a_device_name_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_facts(CPU)["instructions"] == torch.backends.cpu.get_cpu_capability()
    about = SimpleNamespace(name="A GPU", major=9, minor=0, total_memory=2**37)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: about)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    answer = SimpleNamespace(returncode=0, stdout="550.54.15\n550.54.15\n")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: answer)
    found = device_facts(torch.device("cuda"))
    assert (found["name"], found["capability"]) == ("A GPU", "9.0")
    assert (found["memory_bytes"], found["driver"]) == (2**37, "550.54.15")
    assert found["tf32_convolutions"] is torch.backends.cudnn.allow_tf32
    answer.returncode = 9  # the driver does not answer
    assert device_facts(torch.device("cuda"))["driver"] is None
