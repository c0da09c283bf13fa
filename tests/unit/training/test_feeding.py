from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import TASK, TINY, job, prepare, resave, results

from lunet.data.prepared import read_manifest
from lunet.errors import ConfigError, DataError, TrainingError
from lunet.reading import read_json
from lunet.task import Task
from lunet.training import volumes as holding
from lunet.training.recipe import Recipe
from lunet.training.run import run_training
from lunet.training.sampling import Sampler, build_sampler, epoch_order, foreground_voxels
from lunet.training.volumes import Volumes, load_volumes

CPU = torch.device("cpu")


def volumes(folder: Path, *, budget: int | None = None, task: Task = TASK) -> Volumes:
    cases = list(read_manifest(folder).cases.values())
    return load_volumes(cases, task, device=CPU, budget=budget)


def sampler(source: Volumes, recipe: Recipe = TINY, dimensions: int = 3, seed: int = 0) -> Sampler:
    return build_sampler(source, recipe, dimensions=dimensions, seed=seed)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("even") / "d")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = ((10, 11, 12), (14, 9, 8), (9, 9, 9), (6, 20, 7))
    return prepare(tmp_path_factory.mktemp("uneven") / "d", shapes=shapes, validation=1)


def test_an_epoch_shows_each_case_once_and_drops_the_rest(data: Path) -> None:
    feed = sampler(volumes(data), replace(TINY, batch_size=4))
    assert feed.steps == 2
    names = [name for step in range(2) for name in feed.batch(1, step).cases]
    assert len(set(names)) == 8
    assert names != [name for step in range(2) for name in feed.batch(2, step).cases]


def test_batches_are_the_volumes_themselves(data: Path) -> None:
    batch = sampler(volumes(data)).batch(1, 0)
    assert batch.image.shape == (3, 1, 12, 12, 12)
    assert batch.image.dtype == torch.float32
    assert batch.label.dtype == torch.uint8
    cases = read_manifest(data).cases
    for name, image, label in zip(batch.cases, batch.image, batch.label, strict=True):
        assert np.array_equal(image.numpy(), cases[name].image())
        assert np.array_equal(label.numpy(), cases[name].label())


@pytest.mark.parametrize("patch", [None, (8, 8, 8)])
def test_memory_mapped_batches_equal_resident_ones(
    data: Path, patch: tuple[int, ...] | None
) -> None:
    recipe = replace(TINY, patch=patch, sampler="balanced")
    resident, mapped = volumes(data), volumes(data, budget=0)
    assert resident.resident
    assert not mapped.resident
    first, second = sampler(resident, recipe), sampler(mapped, recipe)
    for epoch, step in ((2, 0), (2, 1), (2, 2), (3, 0), (7, 1)):  # the last ones were read ahead
        one, two = first.batch(epoch, step), second.batch(epoch, step)
        assert one.cases == two.cases
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.label, two.label)


@pytest.mark.parametrize(
    ("place", "size", "home"),
    [
        ("auto", 5, "cuda"),
        ("auto", 6, "cpu"),
        ("auto", 500, "cpu"),
        ("auto", 501, None),
        ("host", 5, "cpu"),
        ("disk", 5, None),
        ("device", 501, "cuda"),
    ],
)
def test_volumes_are_held_where_they_fit(
    monkeypatch: pytest.MonkeyPatch, place: str, size: int, home: str | None
) -> None:
    free = {"cuda": 10, "cpu": 1000}
    monkeypatch.setattr(holding, "available_memory", lambda device: free[device.type])
    found = holding._home(place, size, torch.device("cuda"), None)
    assert (found and found.type) == home


def test_the_recipe_says_where_volumes_are_and_results_do_not_depend_on_it(
    data: Path, tmp_path: Path
) -> None:
    for place in ("disk", "host"):
        run_training(job(data, tmp_path / place, replace(TINY, resident=place)))
    assert results(tmp_path / "disk") == results(tmp_path / "host")
    recorded = [
        read_json(tmp_path / place / "out" / "run.json")["resident"] for place in ("disk", "host")
    ]
    assert recorded == [False, True]


@pytest.mark.parametrize("place", ["device", "disk"])
def test_images_may_be_held_as_float16(data: Path, place: str) -> None:
    cases = list(read_manifest(data).cases.values())
    whole = load_volumes(cases, TASK, device=CPU)
    half = load_volumes(cases, TASK, device=CPU, place=place, half=True)
    crops = [(0, (slice(0, 5),) * 3), (1, (slice(2, 7),) * 3)]
    expected, found = (v.gather(crops, size=(5, 5, 5), squeeze=False) for v in (whole, half))
    assert found.image.dtype == torch.float32
    torch.testing.assert_close(found.image, expected.image.half().float(), rtol=0, atol=0)
    assert not torch.equal(found.image, expected.image)
    assert torch.equal(found.label, expected.label)
    if place == "device":
        assert {image.dtype for image in half.images} == {torch.float16}


def test_float16_takes_half_of_the_memory(data: Path) -> None:
    cases = list(read_manifest(data).cases.values())
    voxels = sum(case.image().size for case in cases)
    for half, budget in ((False, 5 * voxels), (True, 3 * voxels)):
        assert load_volumes(cases, TASK, device=CPU, budget=budget, half=half).resident
        assert not load_volumes(cases, TASK, device=CPU, budget=budget - 1, half=half).resident


@pytest.mark.parametrize("values", [[0.0, 1e5], [1000.0, 1000.3], [3.14, 3.14]])
def test_images_that_float16_changes_are_refused(values: list[float]) -> None:
    image = np.resize(np.float32(values), (1, 4, 4, 4))
    with pytest.raises(DataError, match=r"standard deviation.*train\.images: fp32"):
        holding.check_rounding("case", image)
    holding.check_rounding("case", np.random.default_rng(0).normal(size=(1, 8, 8, 8)))


@settings(max_examples=15)
@given(epoch=st.integers(1, 10**4), step=st.integers(0, 2), seed=st.integers(0, 2**31))
def test_a_batch_depends_on_seed_epoch_and_step_alone(
    data: Path, epoch: int, step: int, seed: int
) -> None:
    recipe, source = replace(TINY, patch=(6, 6, 6), sampler="balanced"), volumes(data)
    fresh, used = sampler(source, recipe, seed=seed), sampler(source, recipe, seed=seed)
    used.batch(epoch + 1, 0)
    assert fresh.crops(epoch, step) == used.crops(epoch, step)


def test_patches_of_uneven_cases_have_one_size_and_differ(uneven: Path) -> None:
    recipe = replace(TINY, patch=(8, 10, 8), batch_size=2, patches_per_case=3)
    feed = sampler(volumes(uneven), recipe)
    assert feed.steps == 6
    assert feed.batch(1, 0).image.shape == (2, 1, 8, 10, 8)
    crops = [crop for step in range(feed.steps) for crop in feed.crops(1, step)]
    starts = {(case, *(s.start for s in window)) for case, window in crops}
    assert len(starts) > 8


def test_cases_smaller_than_the_patch_are_padded_with_zeros(uneven: Path) -> None:
    source = volumes(uneven)
    index = source.shapes.index((6, 20, 7))
    window = tuple(slice(0, n) for n in (6, 20, 7))
    batch = source.gather([(index, window)], size=(10, 20, 8), squeeze=False)
    assert batch.image[0, :, 2:8, :, 0:7].equal(source.images[index])
    assert batch.image[0, :, :2].abs().sum() == 0
    assert batch.label[0, 8:].sum() == 0


def test_half_of_the_balanced_patches_hold_foreground(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "d", shapes=((40, 40, 40),) * 4, validation=1)
    for path in (folder / "labels").iterdir():  # a structure of four voxels in 64000
        label = np.zeros((40, 40, 40), np.uint8)
        label[30:32, 5:7, 20] = 2
        resave(path, label)
    recipe = replace(TINY, patch=(8, 8, 8), batch_size=4, patches_per_case=20)
    shares = {}
    for name in ("shuffle", "balanced"):
        feed = sampler(volumes(folder), replace(recipe, sampler=name))
        shown = [feed.batch(1, s).label.flatten(1).any(1) for s in range(feed.steps)]
        shares[name] = float(torch.cat(shown).float().mean())
    assert shares["balanced"] >= 0.5
    assert shares["shuffle"] < 0.2


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        ((48, 44, 10), (32, 24, 4)),  # 0.7 x 0.7 x 5 mm
        ((30, 34, 12), (16, 16, 8)),  # 1 x 1 x 3 mm
        ((6, 30, 30), (8, 16, 16)),  # 4 x 1 x 1 mm, a patch thicker than the volume
    ],
)
def test_patches_of_anisotropic_volumes(
    tmp_path: Path, shape: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    """Drawn as configured, half of them around foreground, also where it touches the border."""
    folder = prepare(tmp_path / "d", shapes=(shape,) * 4, validation=1)
    corners = [(0, 0, 0), tuple(n - 1 for n in shape), (shape[0] - 1, 0, shape[2] // 2)]
    for corner, path in zip(corners, sorted((folder / "labels").iterdir()), strict=False):
        label = np.zeros(shape, np.uint8)
        label[corner] = 1
        resave(path, label)
    recipe = replace(TINY, patch=patch, batch_size=4, patches_per_case=24, sampler="balanced")
    source = volumes(folder, budget=0)
    feed = sampler(source, recipe)
    crops = [crop for step in range(feed.steps) for crop in feed.crops(1, step)]
    for _, window in crops:
        for part, want, length in zip(window, patch, shape, strict=True):
            assert 0 <= part.start < part.stop <= length
            assert part.stop - part.start == min(want, length)
    batches = [feed.batch(1, step) for step in range(feed.steps)]
    assert {batch.image.shape[2:] for batch in batches} == {patch}
    shown = [source.labels[case][window].any() for case, window in crops]
    assert all(shown[::2])
    drawn = torch.cat([batch.label.flatten(1).any(1) for batch in batches])
    assert drawn.tolist() == [bool(value) for value in shown]
    assert len({tuple(part.start for part in window) for _, window in crops}) > 8


def test_foreground_voxels_are_found_per_label(data: Path) -> None:
    source = volumes(data)
    found = foreground_voxels(source, 0, seed=0)
    assert len(found) == 2
    for index, voxels in enumerate(found, start=1):
        assert (source.labels[0].numpy()[tuple(voxels.T)] == index).all()


def test_slices_of_a_2d_task(data: Path) -> None:
    task = replace(TASK, dimensions=2)
    feed = sampler(volumes(data, task=task), replace(TINY, batch_size=5), dimensions=2)
    assert len(feed.items) == 9 * 12
    batch = feed.batch(1, 0)
    assert batch.image.shape == (5, 1, 12, 12)
    assert batch.label.shape == (5, 12, 12)
    patches = sampler(volumes(data), replace(TINY, patch=(8, 6)), dimensions=2)
    assert patches.batch(1, 0).image.shape == (3, 1, 8, 6)


def test_half_of_the_balanced_slices_show_foreground(data: Path) -> None:
    source = volumes(data)
    feed = sampler(source, replace(TINY, sampler="balanced"), dimensions=2)
    shown = feed.foreground[epoch_order(feed, 1)]
    assert 0 < feed.foreground.sum() < len(feed.foreground)
    assert abs(shown.mean() - 0.5) < 0.01


@pytest.mark.parametrize("budget", [None, 0])
def test_balanced_patches_of_slices_hold_foreground(data: Path, budget: int | None) -> None:
    source = volumes(data) if budget is None else volumes(data, budget=budget)
    recipe = replace(TINY, patch=(3, 3), batch_size=2, sampler="balanced")
    feed = sampler(source, recipe, dimensions=2)
    batches = [feed.batch(epoch, step) for epoch in (1, 2) for step in range(feed.steps)]
    shown = torch.cat([batch.label.flatten(1).any(dim=1) for batch in batches])
    assert shown[0::2].all()
    assert not shown[1::2].any()


def test_an_epoch_may_be_a_given_number_of_samples(data: Path) -> None:
    source = volumes(data)
    recipe = replace(TINY, batch_size=4, sampler="balanced", samples_per_epoch=30)
    feed = sampler(source, recipe, dimensions=2)
    assert feed.steps == 7
    first, second = epoch_order(feed, 1), epoch_order(feed, 2)
    assert len(first) == 28
    assert feed.foreground[first].mean() == 0.5
    assert set(first) != set(second)  # each epoch shows another part
    plain = sampler(source, replace(recipe, sampler="shuffle", samples_per_epoch=12))
    assert len(plain.items) == 9
    assert set(epoch_order(plain, 1)) == set(range(9))
    with pytest.raises(ConfigError, match=r"samples_per_epoch: found 3"):
        sampler(source, replace(recipe, samples_per_epoch=3), dimensions=2)


def test_pictures_are_volumes_of_one_slice(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "d")
    for kind in ("images", "labels"):
        for path in (folder / kind).iterdir():
            resave(path, np.load(path)[..., 6])
    source = volumes(folder, task=replace(TASK, dimensions=2))
    assert source.shapes[0] == (12, 12, 1)
    batch = sampler(source, replace(TINY, batch_size=5), dimensions=2).batch(1, 0)
    assert (batch.image.shape, batch.label.shape) == ((5, 1, 12, 12), (5, 12, 12))


def test_too_few_cases_for_a_batch_is_an_error_before_training(data: Path) -> None:
    with pytest.raises(TrainingError, match=r"train.batch_size: 16.*has 9 samples"):
        sampler(volumes(data), replace(TINY, batch_size=16))
    small = sampler(volumes(data), replace(TINY, batch_size=16, few_samples="shrink"))
    assert (small.batch_size, small.steps) == (9, 1)


def test_volumes_of_several_shapes_need_a_patch(uneven: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.patch: none, but the images have 4 shapes"):
        sampler(volumes(uneven))
    one = sampler(volumes(uneven), replace(TINY, batch_size=1))
    sizes = {one.batch(1, s).image.shape[2:] for s in range(one.steps)}
    assert len(sizes) == 4
    with pytest.raises(ConfigError, match="3 numbers"):
        sampler(volumes(uneven), replace(TINY, patch=(8, 8)))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("images", np.nan, "case case_2: 1 values of the image are NaN or infinite"),
        ("labels", 7, r"case case_2: class indices \[7\]"),
    ],
)
def test_planted_values_are_told_with_their_case(
    tmp_path: Path, kind: str, value: float, message: str
) -> None:
    folder = prepare(tmp_path / "d")
    path = folder / kind / "case_2.npy"
    array = np.load(path)
    array.flat[100] = value
    resave(path, array)
    with pytest.raises(DataError, match=message):
        volumes(folder)


def test_image_and_label_must_fit_each_other_and_the_task(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 channels"):
        volumes(data, task=replace(TASK, channels=("T1", "T2")))
    folder = prepare(tmp_path / "d")
    resave(folder / "labels/case_0.npy", np.zeros((12, 12, 11), np.uint8))
    with pytest.raises(DataError, match="the manifest says uint8 of"):
        volumes(folder)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("budget", [None, 0])
def test_many_cases_need_few_open_files(data: Path, budget: int | None) -> None:
    recipe = replace(TINY, patch=(8, 8, 8), sampler="balanced")
    few = sampler(volumes(data, budget=budget), recipe)
    few.batch(1, 0)
    cases = [case for case in read_manifest(data).cases.values() for _ in range(20)]
    before, (soft, hard) = open_files(), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 12, hard))  # two maps a case: 240 and more
    try:
        many = load_volumes(cases, TASK, device=CPU, budget=budget)
        feed = sampler(many, recipe)
        names = {name for step in range(feed.steps) for name in feed.batch(1, step).cases}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(many.names) > 100
    assert names == set(few.volumes.names)
    assert open_files() <= before + 2
