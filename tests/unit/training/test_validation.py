from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from operators import Operators
from tiny_training import TASK, prepare
from torch import Tensor, nn

from lunet.data.prepared import read_manifest
from lunet.errors import TrainingError
from lunet.task import Task
from lunet.training.losses.build import build_objective
from lunet.training.losses.table import LOSSES
from lunet.training.validation import (
    Validator,
    build_validator,
    overlap_counts,
    sample_losses,
)
from lunet.training.volumes import Volumes, load_volumes

BINARY = Task(channels=("MR",), labels={"organ": 3})
REGIONS = Task(channels=("MR",), labels={"a": 1, "b": 2}, regions={"whole": (1, 2), "inner": (2,)})


class Oracle(nn.Module):
    """Knows the labels: logits of a network that is right but for the first voxels of x."""

    def __init__(self, task: Task, wrong: int = 0) -> None:
        super().__init__()
        self.task, self.wrong = task, wrong

    def forward(self, image: Tensor) -> Tensor:
        label = image[:, 0].round().long()
        label[:, : self.wrong] = 0
        return torch.stack([10.0 * (label == k) for k in range(self.task.out_channels)], dim=1)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    """Volumes whose image is their label."""
    shapes = ((12, 12, 12), (12, 10, 9), (9, 12, 13))
    folder = prepare(tmp_path_factory.mktemp("v") / "d", shapes=shapes, validation=1)
    cases = list(read_manifest(folder).cases.values())
    source = load_volumes(cases, TASK, device=torch.device("cpu"))
    return replace(source, images=[label[None].float() for label in source.labels])


def validator(
    volumes: Volumes, task: Task = TASK, patch: tuple[int, ...] | None = None, batch_size: int = 2
) -> Validator:
    objective = build_objective({"dice": 1.0}, {}, task=task)
    return build_validator(volumes, task, objective, patch=patch, batch_size=batch_size)


def apply(model: nn.Module, image: Tensor) -> Tensor:
    return model(image)


@pytest.mark.parametrize(
    ("task", "logits", "label", "expected"),
    [
        (BINARY, [[2.0, -1.0, 0.0, 3.0]], [3, 3, 3, 0], [[1, 2, 3]]),
        (
            TASK,
            [[0.0, 0, 9, 0], [1.0, 1, 0, 0], [0.0, 2, 0, 1]],
            [1, 1, 2, 2],
            [[1, 1, 2], [1, 2, 2]],
        ),
        (REGIONS, [[1.0, 1, 1, -1], [-1.0, 1, -1, 1]], [1, 2, 0, 2], [[2, 3, 3], [2, 2, 2]]),
    ],
)
def test_counts_of_each_kind_of_task(
    task: Task, logits: list[list[float]], label: list[int], expected: list[list[int]]
) -> None:
    found = overlap_counts(
        torch.tensor(logits).view(1, -1, 2, 2),
        torch.tensor(label, dtype=torch.uint8).view(1, 2, 2),
        task,
    )
    assert found.tolist() == [expected]


@pytest.mark.parametrize("patch", [None, (5, 12, 4)])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_each_case_counts_once_and_whole(
    volumes: Volumes, patch: tuple[int, ...] | None, dimensions: int
) -> None:
    task = replace(TASK, dimensions=dimensions)
    check = validator(volumes, task, patch if dimensions == 3 else None, batch_size=3)
    found = check.run(Oracle(task, wrong=5), apply, stop=lambda: False)
    assert found is not None
    if patch is None:
        for case, label in enumerate(volumes.labels):
            for k in (1, 2):
                true, both = (label == k).sum(), (label[5:] == k).sum()
                expected = float(2 * both / (true + both)) if dimensions == 3 else None
                if expected is not None:
                    assert float(found.case_dice[case, k - 1]) == pytest.approx(expected)
    covered = [torch.zeros(shape, dtype=torch.int) for shape in volumes.shapes]
    for group in check.tiles:
        assert len({tuple(s.stop - s.start for s in window) for _, window in group}) == 1
        for case, window in group:
            covered[case][window] += 1
    assert all(bool((count == 1).all()) for count in covered)


def test_a_right_network_has_dice_one_and_mean_is_over_structures(volumes: Volumes) -> None:
    found = validator(volumes).run(Oracle(TASK), apply, stop=lambda: False)
    assert found is not None
    assert found.dice == {"shell": 1.0, "core": 1.0}
    assert found.mean_dice == 1.0
    assert found.loss == pytest.approx(0.0, abs=0.01)


def test_a_structure_that_is_nowhere_is_undefined_not_one(volumes: Volumes) -> None:
    empty = replace(volumes, labels=[label.clamp_max(1) for label in volumes.labels])
    empty = replace(empty, images=[label[None].float() for label in empty.labels])
    found = validator(empty).run(Oracle(TASK), apply, stop=lambda: False)
    assert found is not None
    assert math.isnan(found.dice["core"])
    assert found.mean_dice == 1.0


def test_it_stops_when_asked_and_gives_the_mode_back(volumes: Volumes) -> None:
    model = Oracle(TASK).train()
    answers = iter([False, True, True])
    assert validator(volumes).run(model, apply, stop=lambda: next(answers)) is None
    assert model.training


def test_a_case_whose_loss_is_not_finite_is_named(volumes: Volumes) -> None:
    images = [image.clone() for image in volumes.images]
    images[1][:] = math.nan

    def poison(model: nn.Module, image: Tensor) -> Tensor:
        return model(image.nan_to_num()) + image[:, :1]

    check = validator(replace(volumes, images=images))
    with pytest.raises(TrainingError, match="loss of case case_1 is nan"):
        check.run(Oracle(TASK), poison, stop=lambda: False)


@pytest.mark.parametrize("task", [BINARY, TASK, REGIONS])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_a_batch_are_those_of_its_samples(name: str, task: Task) -> None:
    objective = build_objective({name: 1.0}, {}, task=task)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, task.out_channels, 6, 5, 4, generator=generator)
    label = torch.randint(0, 4, (4, 6, 5, 4), generator=generator).to(torch.uint8)
    label[1] = 0
    one_by_one = [objective(logits[i : i + 1], label[i : i + 1]) for i in range(len(logits))]
    # sums may be in another order
    torch.testing.assert_close(
        sample_losses(objective, logits, label), torch.stack(one_by_one), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("task", [BINARY, TASK, REGIONS])
def test_a_batch_has_the_operators_of_one_sample_and_never_waits(task: Task) -> None:
    objective = build_objective({"dice": 1.0}, {}, task=task)
    found = set()
    for cases in (1, 9):
        label = torch.ones(cases, 4, 4, 4, dtype=torch.uint8)
        logits = torch.randn(cases, task.out_channels, 4, 4, 4)
        with Operators() as seen:
            sample_losses(objective, logits, label)
            overlap_counts(logits, label, task)
        assert seen.waits == 0
        found.add(seen.count)
    assert len(found) == 1
