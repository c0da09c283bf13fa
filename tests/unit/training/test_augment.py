from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import torchio as tio
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torchio_augment import TorchioAugmenter

from lunet.errors import ConfigError
from lunet.training.augmentation import intensity
from lunet.training.augmentation.batched import Augmenter, active
from lunet.training.augmentation.spatial import (
    Warp,
    draw_warp,
    resample_batch,
    spline_basis,
)
from lunet.training.recipe import Augmentation
from lunet.training.setup import build_augment

SPATIAL_KEYS = ("affine_p", "elastic_p", "grid_distortion_p")
SPATIAL = {**dict.fromkeys(SPATIAL_KEYS, 1.0), "translate": 0.05}
INTENSITY = dict.fromkeys(
    (
        "blur_p",
        "low_resolution_p",
        "gamma_p",
        "gamma_inverted_p",
        "bias_p",
        "brightness_p",
        "noise_p",
    ),
    1.0,
)
ENGINES = {"batched": Augmenter, "torchio": TorchioAugmenter}
ALL = Augmentation(**SPATIAL, **INTENSITY, dropout_p=1.0, flip_axes=(0, 1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(ndim: int, count: int = 3, channels: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    size = (20, 24, 16)[:ndim]
    images = torch.randn(count, channels, *size, generator=generator(1))
    labels = torch.randint(0, 3, (count, *size), generator=generator(2)).to(torch.uint8)
    return images, labels


def smooth_labels(ndim: int, count: int = 4) -> torch.Tensor:
    """Blobs of class 1 and 2, large enough to have an inside."""
    size = (40, 44, 36)[:ndim]
    field = ndimage.gaussian_filter(
        np.random.default_rng(0).standard_normal((count, *size)), (0, *[4] * ndim)
    )
    field /= field.std()
    return torch.from_numpy((field > 0.3).astype(np.uint8) + (field > 1.0).astype(np.uint8))


def coordinates(size: tuple[int, ...], count: int) -> torch.Tensor:
    """Images whose channels are the voxel's own coordinates."""
    axes = torch.meshgrid(*[torch.arange(s, dtype=torch.float32) for s in size], indexing="ij")
    return torch.stack(axes).repeat(count, 1, *[1] * len(size))


@pytest.mark.parametrize("ndim", [2, 3])
def test_shapes_types_and_untouched_inputs(ndim: int) -> None:
    images, labels = batch(ndim)
    before = images.clone(), labels.clone()
    moved, mapped = Augmenter(ALL, ndim)(images, labels, generator())
    assert moved.shape == images.shape
    assert mapped.shape == labels.shape
    assert (moved.dtype, mapped.dtype) == (torch.float32, torch.uint8)
    assert torch.isfinite(moved).all()
    assert not torch.equal(moved, images)
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


@settings(max_examples=25)
@given(
    st.integers(2, 3),
    st.integers(0, 2**31),
    st.sampled_from(
        ["affine_p", "elastic_p", "grid_distortion_p", "noise_p", "dropout_p", "blur_p"]
    ),
    st.sets(st.integers(0, 255), min_size=1, max_size=5),
)
def test_labels_never_get_a_value_that_was_not_there(
    ndim: int, seed: int, name: str, values: set[int]
) -> None:
    table = torch.tensor(sorted(values), dtype=torch.uint8)
    size = (9, 1, 7)[:ndim]
    labels = table[torch.randint(0, len(table), (2, *size), generator=generator(seed))]
    images = labels.unsqueeze(1).float()
    chosen = Augmentation(**{name: 1.0}, flip_axes=(0,), degrees=45.0)
    _, mapped = Augmenter(chosen, ndim)(images, labels, generator(seed))
    assert set(mapped.unique().tolist()) <= values | {0}


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("engine", ENGINES)
def test_image_and_label_move_together(ndim: int, engine: str) -> None:
    labels = smooth_labels(ndim)
    chosen = Augmentation(affine_p=1.0, elastic_p=1.0, translate=0.05, flip_axes=tuple(range(ndim)))
    apply = ENGINES[engine](chosen, ndim)
    moved, mapped = apply(labels.unsqueeze(1).float(), labels, generator())
    assert not torch.equal(mapped, labels)
    inside = (moved[:, 0] - moved[:, 0].round()).abs() < 0.02  # far from interpolated borders
    assert inside.float().mean() > 0.6
    agree = moved[:, 0][inside].round() == mapped[inside].float()
    assert agree.float().mean() > 0.995
    for value in (1, 2):
        assert 0.5 < (mapped == value).sum() / (labels == value).sum() < 1.6


@pytest.mark.parametrize("ndim", [2, 3])
def test_flips_are_exact_on_the_named_axes_only(ndim: int) -> None:
    images, labels = batch(ndim, count=40, channels=1)
    chosen = Augmentation(flip_axes=(0, 1), flip_p=(1.0, 0.3))
    moved, mapped = Augmenter(chosen, ndim)(images, labels, generator())
    seen = 0
    for i in range(40):
        once = torch.equal(moved[i], images[i].flip(1)) and torch.equal(
            mapped[i], labels[i].flip(0)
        )
        both = torch.equal(moved[i], images[i].flip(1, 2)) and torch.equal(
            mapped[i], labels[i].flip(0, 1)
        )
        assert once or both
        seen += both
    assert 4 <= seen <= 20


def test_share_and_parameters_are_of_each_sample() -> None:
    images = batch(3, count=1)[0].repeat(200, 1, 1, 1, 1)
    labels = torch.zeros(200, *images.shape[2:], dtype=torch.uint8)
    for name in (*SPATIAL_KEYS, *INTENSITY, "dropout_p"):
        moved, _ = Augmenter(Augmentation(**{name: 0.3}), 3)(images, labels, generator(3))
        changed = (moved != images).flatten(1).any(1)
        assert 35 <= int(changed.sum()) <= 85, name
        sums = moved[changed].flatten(1).double().square().sum(1)
        different = (
            15 if name == "low_resolution_p" else len(sums)
        )  # coarse grids are whole numbers
        assert len(sums.unique()) >= different, name


def test_nothing_switched_on_is_no_augmentation() -> None:
    assert not active(Augmentation())
    assert build_augment(Augmentation(), 3) is None
    images, labels = batch(3)
    moved, mapped = Augmenter(Augmentation(), 3)(images, labels, generator())
    assert torch.equal(moved, images)
    assert torch.equal(mapped, labels)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_generator_is_the_whole_random_state(engine: str) -> None:
    images, labels = batch(3, count=2, channels=1)
    apply = ENGINES[engine](ALL, 3)
    first = generator(5)
    apply(images, labels, first)
    state = first.get_state()
    torch.manual_seed(1)
    moved, mapped = apply(images, labels, first)
    second = torch.Generator()
    second.set_state(state)
    torch.manual_seed(2)
    np.random.seed(2)
    again, mapped_again = apply(images, labels, second)
    assert torch.equal(moved, again)
    assert torch.equal(mapped, mapped_again)
    assert torch.equal(first.get_state(), second.get_state())
    other, _ = apply(images, labels, second)
    assert not torch.equal(other, again)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_global_random_state_is_left_alone(engine: str) -> None:
    images, labels = batch(2)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ENGINES[engine](ALL, 2)(images, labels, generator())
    assert torch.equal(before, torch.get_rng_state())


def test_autocast_does_not_coarsen_coordinates() -> None:
    images, labels = batch(3)
    apply = Augmenter(ALL, 3)
    plain, _ = apply(images, labels, generator())
    with torch.autocast("cpu", torch.bfloat16):
        cast, _ = apply(images, labels, generator())
    assert torch.equal(plain, cast)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_does_what_the_cpu_does() -> None:
    images, labels = batch(3)
    apply = Augmenter(replace(ALL, noise_p=0.0), 3)
    on_cpu, labels_cpu = apply(images, labels, generator())
    on_gpu, labels_gpu = apply(images.cuda(), labels.cuda(), generator())
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-3)
    assert (labels_gpu.cpu() == labels_cpu).float().mean() > 0.999


@pytest.mark.parametrize("engine", ENGINES)
def test_an_axis_that_is_not_there_is_refused(engine: str) -> None:
    with pytest.raises(ConfigError, match="flip_axes"):
        ENGINES[engine](Augmentation(flip_axes=(2,)), 2)


@pytest.mark.parametrize("ndim", [2, 3])
def test_resampling_equals_scipy_at_independently_computed_positions(ndim: int) -> None:
    size, spacing = (14, 11, 9)[:ndim], (1.0, 2.0, 1.5)[:ndim]
    chosen = Augmentation(**SPATIAL, degrees=25.0)
    index, warp = draw_warp(chosen, 2, size, spacing, generator(4))
    assert index == [0, 1]
    images = torch.rand(2, 1, *size, generator=generator(6))
    labels = (images[:, 0] * 3).to(torch.uint8)
    moved, mapped = resample_batch(images, labels, warp)
    centre = [(s - 1) / 2 for s in size]
    bases = [spline_basis(s, chosen.elastic_points).double().numpy() for s in size]
    for n in range(2):
        places = np.empty((ndim, *size))
        for voxel in np.ndindex(*size):
            u = np.array([float(warp.coordinates[j][n, voxel[j]]) for j in range(ndim)])
            d = warp.control[n].double().numpy()
            for j in reversed(range(ndim)):
                d = d @ bases[j][voxel[j]]
            at = warp.matrix[n].double().numpy() @ u + warp.shift[n].double().numpy() + d
            places[(slice(None), *voxel)] = at + centre
        low = float(images[n].min())
        expected = ndimage.map_coordinates(
            np.pad(images[n, 0].double().numpy() - low, 1), places + 1, order=1, mode="constant"
        )
        np.testing.assert_allclose(moved[n, 0].numpy(), expected + low, atol=2e-4)
        exact = np.abs(places - np.floor(places) - 0.5).min(0) > 1e-3  # no tie between neighbours
        nearest = ndimage.map_coordinates(
            np.pad(labels[n].numpy(), 1), places + 1, order=0, mode="constant"
        )
        assert (mapped[n].numpy() == nearest)[exact].all()


def test_spline_equals_itk() -> None:
    size, points = (12, 15, 9), 7
    control = np.random.default_rng(0).uniform(-1, 1, (points, points, points, 3))
    transform = sitk.BSplineTransformInitializer(sitk.Image(list(size), sitk.sitkFloat32), [4] * 3)
    transform.SetParameters(control.flatten(order="F").tolist())
    bases = [spline_basis(s, points).double().numpy() for s in size]
    ours = np.einsum("ijlc,xi,yj,zl->xyzc", control, *bases)
    for voxel in [(0, 0, 0), (5, 7, 3), (3, 2, 6), (11, 14, 8)]:
        theirs = np.array(transform.TransformPoint([float(v) for v in voxel])) - voxel
        np.testing.assert_allclose(ours[voxel], theirs, atol=1e-5)


def test_affine_equals_torchio() -> None:
    """Rotation about one axis, anisotropic voxels, scale above 1 enlarges: as TorchIO."""
    size, spacing = (18, 20, 16), (1.0, 1.5, 2.0)
    image = torch.from_numpy(
        ndimage.gaussian_filter(np.random.default_rng(1).random((1, *size)), (0, 2, 2, 2))
    ).float()
    for axis in range(3):
        degrees = [0.0, 0.0, 0.0]
        degrees[axis] = 20.0
        theirs = tio.Affine(scales=(1.2,) * 3, degrees=degrees, translation=(0, 0, 0))(
            tio.ScalarImage(tensor=image, affine=np.diag([*spacing, 1]))
        ).data
        gaps = []
        for sign in (-1, 1):
            angle, (a, b) = sign * math.radians(20), [(1, 2), (2, 0), (0, 1)][axis]
            turn = torch.eye(3)
            turn[a, a] = turn[b, b] = math.cos(angle)
            turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
            mm = torch.tensor(spacing)
            places = tuple((torch.arange(s) - (s - 1) / 2)[None] for s in size)
            warp = Warp((turn * mm / mm[:, None] / 1.2)[None], torch.zeros(1, 3), places)
            ours, _ = resample_batch(image[None], torch.zeros(1, *size), warp)
            gaps.append((ours[0] - theirs)[:, 3:-3, 3:-3, 3:-3].abs().max().item())
        assert min(gaps) < 1e-4 < max(gaps)


@pytest.mark.parametrize("name", ["affine", "elastic"])
def test_displacements_have_torchio_s_distribution(name: str) -> None:
    size, count = (24, 28, 20), 60
    places, labels = coordinates(size, count), torch.zeros(count, *size, dtype=torch.uint8)
    shift = 0.05 if name == "affine" else 0.0
    moments = {}
    for engine in ENGINES:
        chosen = Augmentation(**{f"{name}_p": 1.0}, degrees=15, elastic_voxels=2.0, translate=shift)
        moved, _ = ENGINES[engine](chosen, 3)(places, labels, generator(11))
        inner = (moved - places)[:, :, 7:-7, 7:-7, 7:-7]
        moments[engine] = inner.mean((0, 2, 3, 4)), inner.std((0, 2, 3, 4)), inner.abs().amax()
    ours, theirs = moments["batched"], moments["torchio"]
    spread = theirs[1].max()
    assert (ours[0] - theirs[0]).abs().max() < 0.45 * spread
    torch.testing.assert_close(ours[1], theirs[1], rtol=0.25, atol=0.0)
    assert ours[2].item() == pytest.approx(theirs[2].item(), rel=0.4)


def test_noise_and_bias_have_torchio_s_distribution() -> None:
    images = torch.ones(150, 1, 12, 12, 12)
    labels = torch.zeros(150, 12, 12, 12, dtype=torch.uint8)
    for name in ("noise", "bias"):
        seen = {}
        for engine in ENGINES:
            chosen = Augmentation(**{f"{name}_p": 1.0}, noise_std=0.2)
            moved, _ = ENGINES[engine](chosen, 3)(images, labels, generator(3))
            change = moved.log() if name == "bias" else moved - 1
            spread = change.flatten(1).std(1)
            seen[engine] = torch.stack([spread.mean(), spread.std(), change.std()])
        torch.testing.assert_close(seen["batched"], seen["torchio"], rtol=0.2, atol=0.0)


def test_bias_field_equals_torchio_s_for_the_same_coefficients() -> None:
    size = (7, 9, 5)
    mask = intensity.polynomial_mask(3)
    values = torch.randn(1, 1, 4, 4, 4, generator=generator()) * mask
    flat = values[0, 0][mask].tolist()
    theirs = tio.BiasField.generate_bias_field(torch.zeros(1, *size), 3, flat)
    ours = intensity.bias_field(torch.ones(1, 1, *size), values)[0, 0]
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4)


def test_blur_equals_scipy_inside() -> None:
    image = torch.rand(1, 1, 30, 32, 28, generator=generator())
    operators = [intensity.blur_operator(s, torch.tensor([0.9])) for s in (30, 32, 28)]
    ours = intensity.separable(image, operators)[0, 0].numpy()
    theirs = ndimage.gaussian_filter(image[0, 0].double().numpy(), 0.9, truncate=8)
    np.testing.assert_allclose(ours[6:-6, 6:-6, 6:-6], theirs[6:-6, 6:-6, 6:-6], atol=1e-5)


def test_separable_operators_are_each_samples_own() -> None:
    image = torch.rand(2, 3, 5, 6, generator=generator())
    operators = [torch.rand(2, 5, 5), torch.rand(2, 6, 6)]
    expected = torch.einsum("ncxy,nax,nby->ncab", image, *operators)
    torch.testing.assert_close(intensity.separable(image, operators), expected)


def test_coarsening_keeps_constants_and_removes_detail() -> None:
    operator = intensity.coarse_operator(20, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(operator.sum(2), torch.ones(2, 20))
    torch.testing.assert_close(operator[1], torch.eye(20))
    assert int((operator[0].abs().sum(0) > 0).sum()) == 10  # half of the voxels are looked at
    ramp = torch.arange(20.0)
    assert (operator[0] @ ramp - ramp).abs().max() <= 1.0
    assert intensity.coarse_operator(1, torch.tensor([0.5])).tolist() == [[[1.0]]]


def test_gamma_keeps_the_range_and_the_order() -> None:
    images = torch.randn(2, 2, 6, 6, generator=generator()) * 3 - 1
    bent = intensity.gamma(images, torch.tensor([[1.5, 0.7], [1.0, 2.0]]))
    axes = (2, 3)
    torch.testing.assert_close(bent.amin(axes), images.amin(axes))
    torch.testing.assert_close(bent.amax(axes), images.amax(axes))
    assert torch.equal(bent[0, 0].flatten().argsort(), images[0, 0].flatten().argsort())
    torch.testing.assert_close(bent[1, 0], images[1, 0])
    assert bent[0, 0].mean() < images[0, 0].mean() < images.max()
    constant = intensity.gamma(torch.full((1, 1, 4, 4), 2.0), torch.tensor([[0.7]]))
    torch.testing.assert_close(constant, torch.full((1, 1, 4, 4), 2.0))


def test_brightness_and_contrast() -> None:
    images = torch.randn(1, 2, 8, 8, generator=generator()) + 2
    factor, contrast = torch.tensor([[1.2, 0.8]]), torch.tensor([[0.5, 1.5]])
    shift = torch.tensor([[0.1, -0.1]])
    ours = intensity.brightness_contrast(images, factor, contrast, shift)
    for c in range(2):
        x, m = images[0, c], images[0, c].mean()
        expected = ((x - m) * contrast[0, c] + m) * factor[0, c] + shift[0, c]
        torch.testing.assert_close(ours[0, c], expected)


@pytest.mark.parametrize("ndim", [2, 3])
def test_dropout_makes_holes_of_the_told_size_and_number(ndim: int) -> None:
    size = (40, 48, 32)[:ndim]
    images = torch.rand(30, 1, *size, generator=generator()) + 1
    labels = torch.ones(30, *size, dtype=torch.uint8)
    chosen = Augmentation(dropout_p=1.0, dropout_holes=(2, 3), dropout_size=(0.125, 0.125))
    moved, mapped = Augmenter(chosen, ndim)(images, labels, generator())
    hole = math.prod(round(s / 8) for s in size)
    for before, after in zip(images, moved, strict=True):
        changed = before != after
        assert hole - 1 <= int(changed.sum()) <= 3 * hole
        assert (after[changed] == before.min()).all()
    assert torch.equal(mapped, labels)


def test_grid_distortion_keeps_the_ends_and_stays_monotone() -> None:
    chosen = Augmentation(grid_distortion_p=1.0, grid_limit=0.5)
    _, warp = draw_warp(chosen, 20, (33, 20, 17), (1.0, 1.0, 1.0), generator())
    for axis, s in zip(warp.coordinates, (33, 20, 17), strict=True):
        torch.testing.assert_close(axis[:, 0], torch.full((20,), -(s - 1) / 2))
        torch.testing.assert_close(axis[:, -1], torch.full((20,), (s - 1) / 2))
        assert (axis.diff(dim=1) > 0).all()
        assert (axis - (torch.arange(s) - (s - 1) / 2)).abs().max() > 0.3
