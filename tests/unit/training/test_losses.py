from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import GOLDEN

import lunet
from lunet.errors import ConfigError, LunetError
from lunet.task import Task
from lunet.training.losses.build import build_loss, build_objective, encode_target
from lunet.training.losses.table import LOSSES, losses_table, objective_options

VALUES = json.loads((GOLDEN / "loss_values.json").read_text())
CALLS = {
    "dice": ("dice_2d", {}),
    "ce": ("ce", {}),
    "ce_classweights_1_5": ("ce", {"class_weights": [1, 5]}),
    "combined_default_ce1_dice1": ("combined", {}),
    "combined_half_half_noweights": ("combined", {"ce_weight": 0.5, "dice_weight": 0.5}),
    "focal_gamma2_alphaNone": ("focal", {}),
    "focal_gamma0.75_alphaNone": ("focal", {"gamma": 0.75}),
    "focal_gamma2_alpha_1_5": ("focal", {"class_weights": [1, 5]}),
    "focal_tversky_class_default_a.7_b.3_g.75": ("focal_tversky", {}),
    "focal_tversky_factory_default_g2": ("focal_tversky", {"gamma": 2}),
    "balanced_ce_w.5": ("balanced_ce", {}),
    "balanced_ce_w.7": ("balanced_ce", {"foreground_weight": 0.7}),
    "dice_bce (1,1,.5)": ("dice_bce_2d", {}),
    "dice_keep_background": ("dice_2d", {"include_background": True}),
}
BINARY = Task(channels=("ct",), labels={"tumour": 1}, dimensions=2)
CLASSES = Task(channels=("mr",), labels={"anterior": 1, "posterior": 2})
REGIONS = Task(
    channels=("mr",),
    labels={"necrosis": 1, "oedema": 2, "enhancing": 4},
    regions={"tc": (1, 4), "wt": (1, 2, 4), "et": (4,)},
)


def golden_logits() -> torch.Tensor:
    return torch.sin(0.37 * torch.arange(1024, dtype=torch.float64)).reshape(2, 2, 16, 16)


def golden_target(block: str = "") -> torch.Tensor:
    target = (torch.arange(512) % 7 == 0).long().reshape(2, 16, 16)
    if "first_image_empty" in block:
        target[0] = 0
    return torch.zeros_like(target) if "all_empty" in block else target


def one_logit() -> torch.Tensor:
    return torch.sin(0.37 * torch.arange(512, dtype=torch.float64)).reshape(2, 1, 16, 16)


@pytest.mark.parametrize("key", CALLS)
@pytest.mark.parametrize(
    "block", ["2class", "2class_first_image_empty", "2class_all_empty", "binary_equivalent"]
)
def test_published_values(block: str, key: str) -> None:
    name, options = CALLS[key]
    logits = golden_logits()
    if block == "binary_equivalent":
        logits = torch.cat([torch.zeros_like(one_logit()), one_logit()], dim=1)
    value = build_loss(name, **options)(logits, golden_target(block)).item()
    assert value == pytest.approx(VALUES[block][key], rel=1e-6)


@pytest.mark.parametrize("key", CALLS)
def test_one_logit_equals_the_two_logits_zero_and_z(key: str) -> None:
    name, options = CALLS[key]
    value = build_loss(name, **options)(one_logit(), golden_target()).item()
    assert value == pytest.approx(VALUES["binary_equivalent"][key], rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_the_same_for_one_and_two_logits_in_3d(name: str) -> None:
    z = torch.randn(2, 1, 4, 5, 6, dtype=torch.float64)
    target = (torch.rand(2, 4, 5, 6) < 0.3).to(torch.uint8)
    two = torch.cat([torch.zeros_like(z) + 3, z + 3], dim=1)
    loss = build_loss(name)
    assert loss(z, target).item() == pytest.approx(loss(two, target).item(), rel=1e-12)


@pytest.mark.parametrize("name", VALUES["gradients_2class"])
def test_published_gradients(name: str) -> None:
    logits = golden_logits().requires_grad_()
    build_loss({"dice": "dice_2d"}.get(name, name))(logits, golden_target()).backward()
    gradient, expected = logits.grad.flatten(), VALUES["gradients_2class"][name]
    assert gradient.abs().sum().item() == pytest.approx(expected["grad_abs_sum"], rel=1e-6)
    assert gradient[0].item() == pytest.approx(expected["grad_flat0"], rel=1e-5)
    assert gradient[300].item() == pytest.approx(expected["grad_flat300"], rel=1e-5)


@pytest.mark.parametrize("name", ["dice", "dice_bce"])
def test_published_deep_supervision_sums(name: str) -> None:
    z = golden_logits()
    own = {"dice": "dice_2d", "dice_bce": "dice_bce_2d"}[name]
    two = Task(channels=("ct",), labels={"tumour": 1}, dimensions=2)
    objective = build_objective({own: 1.0}, {}, task=two, deep_supervision=(1, 0.4, 0.2, 0.1))
    value = objective([z, 0.5 * z, 0.25 * z, 0.125 * z], golden_target().to(torch.uint8))
    assert value.item() == pytest.approx(
        VALUES["deep_supervision"][f"{name}_w[1,.4,.2,.1]"], rel=1e-6
    )


def test_paper_dice_pools_batch_and_space_per_channel() -> None:
    z = torch.randn(3, 2, 4, 4, 4, dtype=torch.float64)
    masks = (torch.rand(3, 2, 4, 4, 4) < 0.4).double()
    masks[0] = 0  # a sample without foreground: pooled and per sample must differ
    p = z.sigmoid()
    expected = 0.0
    for c in range(2):
        y = masks[:, c]
        expected += (1 - 2 * (p[:, c] * y).sum() / ((p[:, c] + y).sum() + 1e-7)) / 2
    assert build_loss("dice")(z, masks).item() == pytest.approx(expected.item(), rel=1e-12)
    per_sample = build_loss("dice", over="sample")(z, masks).item()
    assert abs(per_sample - expected.item()) > 0.01


def test_softmax_dice_leaves_the_background_out() -> None:
    z = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 4, 4, 4))
    p = z.softmax(1)
    parts = []
    for c in (1, 2):
        y = (target == c).double()
        parts.append(1 - 2 * (p[:, c] * y).sum() / ((p[:, c] + y).sum() + 1e-7))
    expected = torch.stack(parts).mean().item()
    assert build_loss("dice")(z, target).item() == pytest.approx(expected, rel=1e-12)


def test_bce_of_a_softmax_task_is_one_against_the_rest() -> None:
    z = torch.randn(2, 4, 3, 3, 3, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 3, 3, 3))
    p = z.softmax(1)[:, 1:]
    y = torch.stack([(target == c).double() for c in (1, 2, 3)], dim=1)
    expected = torch.nn.functional.binary_cross_entropy(p, y).item()
    assert build_loss("bce")(z, target).item() == pytest.approx(expected, rel=1e-9)


def test_dice_ce_is_the_sum_of_both_terms_without_background_in_dice() -> None:
    z = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 4, 4, 4))
    p, terms = z.softmax(1), []
    for b in range(2):
        for c in (1, 2):
            y = (target[b] == c).double()
            hit = (p[b, c] * y).sum()
            terms.append((2 * hit + 1e-5) / (p[b, c].sum() + y.sum() + 1e-5))
    ce = torch.nn.functional.cross_entropy(z, target)
    expected = (ce + 1 - torch.stack(terms).mean()).item()
    assert build_loss("dice_ce")(z, target).item() == pytest.approx(expected, rel=1e-9)


def test_focal_dice_of_regions() -> None:
    z = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    y = (torch.rand(2, 3, 4, 4, 4) < 0.5).double()
    p = z.sigmoid()
    pt = torch.where(y > 0, p, 1 - p)
    focal = (-((1 - pt) ** 2) * pt.log()).mean()
    hit, size = (p * y).sum((2, 3, 4)), (p + y).sum((2, 3, 4))
    expected = (focal + (1 - 2 * hit / (size + 1e-5)).mean()).item()
    assert build_loss("focal_dice")(z, y).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["dice", "dice_2d", "dice_ce", "focal_dice", "dice_bce"])
def test_empty_target_and_empty_prediction_cost_nothing(name: str) -> None:
    z = torch.full((2, 1, 8, 8, 8), -30.0, requires_grad=True)
    value = build_loss(name)(z, torch.zeros(2, 8, 8, 8, dtype=torch.uint8))
    assert value.item() == pytest.approx(0, abs=1e-4)
    full = build_loss("dice")(torch.full((2, 1, 8, 8, 8), 30.0), torch.zeros(2, 8, 8, 8))
    assert full.item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("truth", [0, 1])
@pytest.mark.parametrize("size", [0.0, 12.0, 100.0, 1e4])
@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("channels", [1, 2])
def test_finite_values_and_gradients_at_the_edges(
    name: str, truth: int, size: float, right: bool, channels: int
) -> None:
    sign = 1 if (truth == 1) == right else -1
    z = torch.zeros(2, channels, 6, 6)
    z[:, -1] = sign * size
    z.requires_grad_()
    value = build_loss(name)(z, torch.full((2, 6, 6), truth, dtype=torch.uint8))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_mixed_prediction_has_finite_gradient_and_nearly_no_loss(name: str) -> None:
    target = torch.zeros(1, 6, 6, 6, dtype=torch.uint8)
    target[:, 2:4, 2:4, 2:4] = 1
    z = torch.where(target > 0, 60.0, -60.0).unsqueeze(1).requires_grad_()
    value = build_loss(name)(z, target)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-4)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_float32_even_under_autocast(name: str) -> None:
    z = torch.randn(2, 1, 8, 8)
    target = (torch.rand(2, 8, 8) < 0.2).to(torch.uint8)
    plain = build_loss(name)(z.bfloat16().float(), target)
    with torch.autocast("cpu", torch.bfloat16):
        half = build_loss(name)(z.bfloat16(), target)
    assert half.dtype == torch.float32
    assert half.item() == plain.item()


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_agrees_with_finite_differences(name: str) -> None:
    torch.manual_seed(3)
    z = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 3, (2, 3, 3))
    assert torch.autograd.gradcheck(lambda x: build_loss(name)(x, target), (z,))


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(LOSSES)),
    st.integers(2, 3),
    st.integers(1, 4),
    st.integers(0, 2**31 - 1),
)
def test_a_step_against_the_gradient_lowers_the_loss(
    name: str, ndim: int, channels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, channels, *[4] * ndim)
    z = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, max(2, channels), (2, *shape[2:]), generator=generator)
    loss = build_loss(name)
    before = loss(z, target)
    before.backward()
    after = loss(z.detach() - 1e-3 * z.grad / z.grad.norm().clamp_min(1e-12), target)
    assert after.item() <= before.item()
    assert before.item() >= 0


def test_class_weights_of_three_classes() -> None:
    z = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    target = torch.randint(0, 3, (2, 4, 4))
    weights = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(z, target, weight=weights).item()
    assert build_loss("ce", class_weights=[1, 2, 5])(z, target).item() == pytest.approx(expected)
    with pytest.raises(ConfigError, match="3 are expected"):
        build_loss("ce", class_weights=[1, 5])(z, target)


def test_targets_of_the_three_kinds_of_tasks() -> None:
    labels = torch.tensor([[0, 1, 2, 4]], dtype=torch.uint8).reshape(1, 1, 4)
    odd = Task(channels=("a",), labels={"x": 4, "y": 2}, dimensions=2)
    assert encode_target(labels, odd).flatten().tolist() == [0, 0, 1, 2]
    regions = encode_target(labels, REGIONS)
    assert regions.shape == (1, 3, 1, 4)
    assert regions[0, :, 0].tolist() == [[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]]
    assert encode_target(labels, BINARY).flatten().tolist() == [0, 1, 0, 0]
    two = Task(channels=("a",), labels={"only": 2})
    assert encode_target(labels, two).flatten().tolist() == [0, 0, 1, 0]
    assert encode_target(labels, CLASSES).flatten().tolist() == [0, 1, 2, 0]


def test_objective_is_the_weighted_sum_with_options() -> None:
    z, labels = torch.randn(2, 3, 4, 4, 4), torch.randint(0, 3, (2, 4, 4, 4)).to(torch.uint8)
    objective = build_objective(
        {"dice": 0.5, "focal": 2.0, "ce": 0.0}, {"gamma": 1.5}, task=CLASSES
    )
    target = labels.long()
    expected = 0.5 * build_loss("dice")(z, target) + 2 * build_loss("focal", gamma=1.5)(z, target)
    assert objective(z, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    nested = build_objective({"focal": 1.0}, {"focal": {"gamma": 0.0}}, task=CLASSES)
    ce = build_loss("ce")(z, target).item()
    assert nested(z, labels).item() == pytest.approx(ce, rel=1e-6)


def test_deep_supervision_of_smaller_outputs_and_of_one_output() -> None:
    labels = (torch.rand(1, 8, 8) < 0.3).to(torch.uint8)
    outputs = [torch.randn(1, 1, 8, 8), torch.randn(1, 1, 4, 4)]
    objective = build_objective({"dice": 1.0}, {}, task=BINARY, deep_supervision=(1.0, 0.5))
    large = torch.nn.functional.interpolate(
        outputs[1], size=(8, 8), mode="bilinear", align_corners=True
    )
    dice = build_loss("dice")
    expected = dice(outputs[0], labels) + 0.5 * dice(large, labels)
    assert objective(outputs, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    assert objective(outputs[0], labels).item() == dice(outputs[0], labels).item()
    with pytest.raises(ConfigError, match="deep_supervision"):
        objective([*outputs, outputs[1]], labels)


def test_halving_weighs_any_number_of_outputs() -> None:
    labels = (torch.rand(1, 8, 8) < 0.3).to(torch.uint8)
    outputs = [torch.randn(1, 1, 8, 8) for _ in range(3)]
    objective = build_objective({"dice": 1.0}, {}, task=BINARY, deep_supervision="halving")
    dice = [build_loss("dice")(output, labels).item() for output in outputs]
    expected = (4 * dice[0] + 2 * dice[1] + dice[2]) / 7
    assert objective(outputs, labels).item() == pytest.approx(expected, rel=1e-6)
    expected = (2 * dice[0] + dice[1]) / 3
    assert objective(outputs[:2], labels).item() == pytest.approx(expected, rel=1e-6)
    assert objective(outputs[0], labels).item() == dice[0]


@pytest.mark.parametrize(
    ("name", "options", "advice"),
    [
        ("dyce", {}, "did you mean 'dice'"),
        ("focal", {"gama": 2}, "did you mean 'gamma'"),
        ("focal", {"gamma": "much"}, "a number"),
        ("focal", {"gamma": True}, "a number"),
        ("ce", {"class_weights": [1, -5]}, "weights"),
        ("ce", {"class_weights": 5}, "weights"),
        ("dice", {"over": "image"}, "batch"),
        ("dice_2d", {"include_background": 1}, "true or false"),
    ],
)
def test_mistakes_are_refused_with_advice(name: str, options: dict, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        lunet.build_loss(name, **options)


def test_objective_mistakes_are_refused() -> None:
    for loss, options in [
        ({}, {}),
        ({"dice": 0.0}, {}),
        ({"dice": -1.0}, {}),
        ({"dice": 1.0}, {"gamma": 2}),
        ({"focal": 1.0}, {"focal": {"gamme": 2}}),
        ({"focol": 1.0}, {}),
    ]:
        with pytest.raises(ConfigError):
            objective_options(loss, options)


def test_shapes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(LunetError, match="shape"):
        build_loss("dice")(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 5))


def test_table_names_every_loss_and_its_source() -> None:
    rows = losses_table()
    assert [row["name"] for row in rows] == list(LOSSES)
    assert all(row["formula"] and row["source"] for row in rows)
    for name in LOSSES:
        build_loss(name)
