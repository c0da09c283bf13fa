from __future__ import annotations

import io
import math

import pytest
import torch
from torch import nn

from lunet.errors import ConfigError, TrainingError
from lunet.training.optim import (
    LearningRate,
    build_optimiser,
    extendable,
    set_learning_rate,
)
from lunet.training.recipe import Optimiser, Schedule

SETTINGS = [
    Optimiser("adam", 1e-2),
    Optimiser("adamw", 1e-3, weight_decay=0.05, betas=(0.9, 0.95)),
    Optimiser("sgd", 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True),
]


def rates(schedule: Schedule, base: float, epochs: int) -> list[float]:
    course = LearningRate(schedule, base, epochs)
    return [course.at(epoch) for epoch in range(epochs)]


def torch_rates(make, base: float, epochs: int) -> list[float]:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    scheduler, found = make(optimiser), []
    for _ in range(epochs):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


def test_cosine_step_and_polynomial_equal_torch() -> None:
    lr = torch.optim.lr_scheduler
    cosine = torch_rates(lambda o: lr.CosineAnnealingLR(o, 40, eta_min=1e-6), 5e-5, 40)
    assert rates(Schedule("cosine", floor=1e-6), 5e-5, 40) == pytest.approx(cosine, rel=1e-9)
    step = torch_rates(lambda o: lr.StepLR(o, 30, 0.1), 1e-2, 100)
    assert rates(Schedule("step"), 1e-2, 100) == pytest.approx(step, rel=1e-9)
    poly = torch_rates(lambda o: lr.PolynomialLR(o, 50, power=0.9), 1e-2, 50)
    assert rates(Schedule("polynomial"), 1e-2, 50) == pytest.approx(poly, rel=1e-9)


def test_warmup_rises_linearly_and_no_epoch_stands_still() -> None:
    found = rates(Schedule("cosine", warmup_epochs=4), 1.0, 24)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[14] == pytest.approx((1 + math.cos(math.pi * 10 / 20)) / 2)
    assert all(rate > 0 for rate in found)
    assert rates(Schedule("constant", warmup_epochs=1), 1.0, 3) == [0.5, 1.0, 1.0]
    with pytest.raises(ConfigError, match="warmup_epochs"):
        LearningRate(Schedule(warmup_epochs=5), 1.0, 5)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_plateau_equals_torch(higher_is_better: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    metrics = torch.rand(200, generator=generator).cummax(0).values
    metrics = [m.item() + 0.05 * math.sin(i) for i, m in enumerate(metrics)]
    if not higher_is_better:
        metrics = [2 - m for m in metrics]
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=5e-5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, mode="max" if higher_is_better else "min", factor=0.5, patience=7, min_lr=1e-6
    )
    schedule = Schedule("plateau", factor=0.5, patience=7, floor=1e-6)
    ours = LearningRate(schedule, 5e-5, 200, higher_is_better=higher_is_better)
    for epoch, metric in enumerate(metrics):
        assert ours.at(epoch) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        scheduler.step(metric)
        ours.observe(metric)
    assert ours.reductions >= 3


def test_plateau_resumes_exactly_and_counts_nan_as_no_gain() -> None:
    schedule = Schedule("plateau", factor=0.5, patience=2)
    whole, first = LearningRate(schedule, 1.0, 20), LearningRate(schedule, 1.0, 20)
    metrics = [0.1, 0.2, math.nan, 0.2, 0.1, 0.3, 0.3, 0.2, 0.1]
    for metric in metrics:
        whole.observe(metric)
    for metric in metrics[:4]:
        first.observe(metric)
    second = LearningRate(schedule, 1.0, 20)
    second.load_state_dict(first.state_dict())
    for metric in metrics[4:]:
        second.observe(metric)
    assert second.state_dict() == whole.state_dict()
    assert whole.at(9) == 0.25
    with pytest.raises(TrainingError):
        second.load_state_dict({"best": 1.0})


def test_only_schedules_without_an_end_are_extendable() -> None:
    for name in ("constant", "step", "plateau", "cosine", "polynomial"):
        schedule = Schedule(name)
        same = rates(schedule, 1.0, 40)[:20] == rates(schedule, 1.0, 20)
        assert extendable(schedule) == same


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s.name)
def test_resumed_optimiser_goes_on_bit_for_bit(settings: Optimiser) -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 1))

    def steps(model: nn.Module, optimiser: torch.optim.Optimizer, start: int, stop: int) -> None:
        for i in range(start, stop):
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(i))
            set_learning_rate(optimiser, settings.lr / (i + 1))
            optimiser.zero_grad(set_to_none=True)
            model(x).square().mean().backward()
            optimiser.step()

    whole = network()
    steps(whole, build_optimiser(whole, settings), 0, 6)
    first = network()
    optimiser = build_optimiser(first, settings)
    steps(first, optimiser, 0, 3)
    buffer = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimiser": optimiser.state_dict()}, buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    second = network()
    second.load_state_dict(state["model"])
    optimiser = build_optimiser(second, settings)
    optimiser.load_state_dict(state["optimiser"])
    steps(second, optimiser, 3, 6)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_optimiser_constants_reach_torch() -> None:
    model = nn.Linear(2, 2)
    group = build_optimiser(model, SETTINGS[1]).param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.95), 0.05)
    group = build_optimiser(model, SETTINGS[2]).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0.99, True)
    model.bias.requires_grad_(False)
    assert len(build_optimiser(model, SETTINGS[0]).param_groups[0]["params"]) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"name": "sgd", "momentum": 0.0},
        {"lr": 0.0},
        {"name": "adamw", "betas": (0.9, 1.0)},
    ],
)
def test_impossible_optimisers_are_refused(values: dict) -> None:
    with pytest.raises(ConfigError, match="optimiser"):
        Optimiser(**values)
