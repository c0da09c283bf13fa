"""Whole steps from a graph, with a stand-in for CUDA's: it calls what it should replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from operators import Operators
from torch import Tensor

import lunet.training.compute.autotune as engine
import lunet.training.setup as setup
from lunet.training import selftest
from lunet.training.compute.arithmetic import Arithmetic
from lunet.training.compute.graph_check import find_graph_fault
from lunet.training.compute.step_graph import WARM_UPS, GraphedStep
from lunet.training.loop import train_step
from lunet.training.optim import build_optimiser, set_learning_rate
from lunet.training.recipe import Engine, Optimiser
from lunet.training.state import TrainingState

CPU = torch.device("cpu")
GRAPH = replace(selftest.plain(CPU), graph=True)


class StandIn:
    """Computes nothing while it records, as CUDA; a replay calls the recorded function."""

    made: list[StandIn]

    def __init__(self) -> None:
        self.did: list[str] = []
        self.function: Callable[[], None] | None = None
        StandIn.made.append(self)

    def warm_up(self, function: Callable[[], None]) -> None:
        self.did.append("warm-up")
        function()

    def record(self, function: Callable[[], None]) -> None:
        self.did.append("record")
        self.function = function

    def replay(self) -> None:
        self.did.append("replay")
        assert self.function
        self.function()


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    StandIn.made = []
    monkeypatch.setattr(setup, "CudaGraph", StandIn)


def test_it_warms_up_then_records_once_and_replays_on_its_own_buffers() -> None:
    seen: list[tuple[int, int]] = []

    def step(image: Tensor, label: Tensor) -> Tensor:
        seen.append((image.data_ptr(), label.data_ptr()))
        return image.sum() + label.sum()

    graphed = GraphedStep(step, StandIn)
    for number in range(WARM_UPS + 2):
        image, label = torch.full((2, 1, 3), float(number)), torch.ones(2, 3, dtype=torch.uint8)
        assert float(graphed(image, label)) == 6 * number + 6
    assert StandIn.made[0].did == ["warm-up"] * WARM_UPS + ["record", "replay", "replay"]
    assert len(set(seen)) == 1


def test_a_training_ends_as_one_that_is_launched_step_by_step() -> None:
    """Also one that a signal stops in the middle of an epoch, which warms up and records again."""
    plain = selftest._finished(selftest.short_training(GRAPH, dropout=0.1))
    one = StandIn.made[-1]
    launched = selftest.short_training(GRAPH, dropout=0.1)
    launched.graph = None
    selftest._finished(launched)
    resumed = selftest._stopped_and_resumed(GRAPH)
    assert "replay" in one.did
    assert "replay" in StandIn.made[-1].did
    assert selftest._result(plain) == selftest._result(launched) == selftest._result(resumed)


def test_a_step_that_is_recorded_never_waits() -> None:
    """A stream that is being recorded refuses whatever needs a result on the CPU."""
    training = selftest.short_training(GRAPH, dropout=0.1)
    assert training.graph
    training.model.train()
    batch = training.sampler.batch(1, 0)
    train_step(training)  # the first one makes the optimiser's state
    with Operators() as seen:
        training.graph(batch.image, batch.label)
    assert seen.count > 100
    assert seen.waits == 0


def test_the_check_finds_steps_that_change_something(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_graph_fault(selftest.short_training, GRAPH) is None

    class Stale(StandIn):
        """Replays nothing."""

        def replay(self) -> None:
            self.did.append("replay")

    monkeypatch.setattr(setup, "CudaGraph", Stale)
    reason = find_graph_fault(selftest.short_training, GRAPH)
    assert reason is not None
    assert f"step {WARM_UPS + 1}" in reason


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_the_rate_of_a_recorded_optimiser_is_a_tensor_that_stays_in_place(name: Any) -> None:
    model = torch.nn.Linear(3, 1)
    settings = Optimiser(name=name, lr=0.25)
    optimiser = build_optimiser(model, settings, recorded=True)
    rate = optimiser.param_groups[0]["lr"]
    set_learning_rate(optimiser, 0.125)
    assert optimiser.param_groups[0]["lr"] is rate
    assert float(rate) == 0.125
    twin = torch.nn.Linear(3, 1)
    twin.load_state_dict(model.state_dict())
    other = build_optimiser(twin, replace(settings, lr=0.125))
    for network, own in ((model, optimiser), (twin, other)):
        for _ in range(2):
            network(torch.ones(1, 3)).sum().backward()
            own.step()
            own.zero_grad()
    torch.testing.assert_close(model.weight, twin.weight)


class Asked:
    """A question on a pretended GPU; what is measured takes the seconds given here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: str | None = None) -> None:
        self.measured: list[Arithmetic] = []
        self.lines: list[str] = []
        sampler = selftest.phantoms(CPU).sampler
        self.question = engine.Question(
            engine=Engine(threads=1), model={}, make=lambda: selftest.network("UNet"),
            batch=sampler.batch(1, 0), objective=selftest.objective(), steps=3000, sizes=1,
            training=selftest.short_training, may_graph=True,
        )  # fmt: skip
        plain = replace(selftest.plain(CPU), device="cuda")
        monkeypatch.setattr(engine, "plain_of", lambda _: plain)
        monkeypatch.setattr(engine, "candidate_arithmetics", lambda *_: [plain, plain])
        monkeypatch.setattr(engine, "find_fault", lambda *_: None)
        monkeypatch.setattr(engine, "find_graph_fault", lambda *_: fault)
        monkeypatch.setattr(engine, "step_seconds", self.seconds)

    def seconds(self, _: engine.Question, choice: Arithmetic) -> float:
        self.measured.append(choice)
        return 0.1 / (3 if choice.graph else 1) / (2 if choice.compile else 1)

    def choose(self, **changes: Any) -> Arithmetic:
        self.measured.clear()
        return engine.fastest(replace(self.question, **changes), self.lines.append)[0]


def test_a_graph_is_chosen_where_it_is_faster_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(monkeypatch)
    assert asked.choose().graph
    assert any("in a graph" in line for line in asked.lines)
    both = asked.choose(steps=100_000)  # long enough to compile as well
    assert both.graph
    assert both.compile


@pytest.mark.parametrize(
    "changes",
    [{"may_graph": False}, {"engine": Engine(compile="off")}, {"engine": Engine(precision="fp16")}],
)
def test_a_graph_is_not_tried_where_it_cannot_be(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    asked = Asked(monkeypatch)
    if "fp16" in str(changes):
        half = replace(engine.plain_of(asked.question), precision="fp16")
        monkeypatch.setattr(engine, "candidate_arithmetics", lambda *_: [half, half])
    asked.choose(**changes)
    assert not any(choice.graph for choice in asked.measured)


def test_a_graph_that_changes_something_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, fault="the loss of step 4 differs")
    assert not asked.choose().graph
    assert any("refused: the loss of step 4 differs" in line for line in asked.lines)


def test_a_graph_that_cannot_be_recorded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)

    def broken(*_: object) -> str | None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(engine, "find_graph_fault", broken)
    assert not asked.choose().graph
    assert any("stream is capturing" in line for line in asked.lines)


def test_batches_that_are_not_whole_steps_have_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    made: TrainingState = selftest.short_training(selftest.plain(CPU))
    assert made.graph is None
    train_step(made)
    assert not StandIn.made
