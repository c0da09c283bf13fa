"""The planned topology beside nnU-Net's own plans for the ten tasks of the Decathlon."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lunet.data.fingerprint import Channel, Fingerprint
from lunet.data.plan import NetworkCost, propose
from lunet.data.topology import Topology, explain, plan_topology

IN_PLANE = (1, 2, 2)
# Spacing, median shape, patch (z, y, x), strides after the first level, and levels at which the
# kernel is 1 along z, from nnU-Net 2's default plans (nnUNetPlans, 3d_fullres) as recorded by the
# public runs of github.com/automl/AutoNNUnet, output/baseline/*/3d_fullres/fold_0/debug.json.
# Last: halvings per axis that our planner proposes for the same spacing, shapes and voxels of a
# patch, where it chooses another patch.
NNUNET = {
    "BrainTumour": ((1, 1, 1), (138, 169, 138), (128, 128, 128), [2, 2, 2, 2, 2], 0, None),
    "Heart": ((1.37, 1.25, 1.25), (115, 320, 232), (80, 192, 160), [2, 2, 2, 2, IN_PLANE], 0,
              (5, 5, 5)),
    "Liver": ((1, 0.7676, 0.7676), (482, 512, 512), (128, 128, 128), [2, 2, 2, 2, 2], 0, (4, 5, 5)),
    "Hippocampus": ((1, 1, 1), (36, 50, 35), (40, 56, 40), [2, 2, 2], 0, None),
    "Prostate": ((3.6, 0.625, 0.625), (20, 320, 319), (20, 320, 256),
                 [IN_PLANE, IN_PLANE, 2, 2, IN_PLANE, IN_PLANE], 2, None),
    "Lung": ((1.245, 0.7852, 0.7852), (252, 512, 512), (80, 192, 160), [2, 2, 2, 2, IN_PLANE], 0,
             None),
    "Pancreas": ((2.5, 0.8027, 0.8027), (96, 512, 512), (40, 224, 224),
                 [IN_PLANE, 2, 2, 2, IN_PLANE], 1, None),
    "HepaticVessel": ((1.5, 0.7988, 0.7988), (150, 512, 512), (64, 192, 192),
                      [2, 2, 2, 2, IN_PLANE], 0, None),
    "Spleen": ((1.6, 0.793, 0.793), (187, 512, 512), (64, 192, 160), [IN_PLANE, 2, 2, 2, 2], 1,
               None),
    "Colon": ((3, 0.7812, 0.7812), (150, 512, 512), (56, 192, 192), [IN_PLANE, 2, 2, 2, IN_PLANE],
              1, None),
}  # fmt: skip


def theirs(task: str) -> Topology:
    steps, flat = NNUNET[task][3], NNUNET[task][4]
    strides = ((1, 1, 1), *((2, 2, 2) if step == 2 else step for step in steps))
    kernels = ((1, 3, 3),) * flat + ((3, 3, 3),) * (len(strides) - flat)
    return Topology(strides, kernels)


@pytest.mark.parametrize("task", NNUNET)
def test_for_a_patch_of_nnunet_the_topology_is_nnunets(task: str) -> None:
    spacing, _, patch, *_ = NNUNET[task]
    assert plan_topology(spacing, patch) == theirs(task)


@pytest.mark.parametrize("task", NNUNET)
def test_with_our_patch_the_halvings_are_nnunets_but_for_two(task: str) -> None:
    """nnU-Net shortens the axis that is longest relative to the median volume, we the one that is
    longest in mm. For the heart our patch is a cube in mm (128 voxels along z instead of 80), which
    leaves room for one halving more along z; for the liver it has 112 slices of 1 mm instead of
    128, which leaves room for one less."""
    spacing, shape, patch, *_, ours = NNUNET[task]
    channel = Channel("MR", 10, 50, 90, 50, 10, 0)
    data = Fingerprint(9, np.array([spacing] * 9, float), np.array([shape] * 9), (channel,), 0.1, 9)
    voxels = 2 * math.prod(patch)  # one byte per voxel
    choices = propose(data, lambda topology: NetworkCost(1, 0, topology.multiple), memory=voxels)
    found = {choice.key: choice.value for choice in choices}
    halvings = [
        sum(step > 1 for step in steps) for steps in zip(*found["topology.strides"], strict=True)
    ]
    expected = ours or [round(math.log2(m)) for m in theirs(task).multiple]
    assert halvings == list(expected)
    size = found.get("train.patch") or found["preprocess.size"]
    assert all(n % 2**count == 0 for n, count in zip(size, halvings, strict=True))


@pytest.mark.parametrize(
    ("spacing", "size", "strides", "kernels"),
    [
        # twice as coarse is too coarse, a little less is not
        ((1, 1, 2), (16, 16, 16), [(2, 2, 1), (2, 2, 2)], [(3, 3, 1), (3, 3, 3)]),
        ((1, 1, 1.9), (8, 8, 8), [(2, 2, 2)], [(3, 3, 3)]),
        # thin slices are never halved, and their kernel is 1 above the bottleneck
        ((0.5, 0.5, 7.5), (49, 54, 9), [(2, 2, 1)] * 3, [(3, 3, 1)] * 3),
        # a single axis is halved only if 6 voxels remain
        ((1, 1, 1), (6, 8, 6), [], []),
        ((1, 1, 1), (6, 12, 6), [(1, 2, 1)], [(3, 3, 3)]),
        ((1, 1), (7, 7), [], []),
        ((1, 3), (32, 32), [(2, 1), (2, 2), (2, 2)], [(3, 1), (3, 3), (3, 3)]),
    ],
)
def test_rules(spacing, size, strides, kernels) -> None:
    found = plan_topology(spacing, size)
    assert found.strides == ((1,) * len(size), *strides)
    assert found.kernels == (*kernels, (3,) * len(size))


def test_the_reasons_name_the_coarse_axis() -> None:
    spacing, size = (3.6, 0.625, 0.625), (20, 320, 256)
    text = explain(plan_topology(spacing, size), spacing, size)
    assert "7 levels and 5 x 5 x 4 voxels at the deepest" in text
    assert "axis 0 is 5.76 times coarser" in text
    assert "not halved before level 3" in text
    thin = (0.5, 0.5, 7.5)
    assert "not halved at any level" in explain(plan_topology(thin, (49, 54, 9)), thin, (49, 54, 9))


def test_a_network_of_slices_gets_a_topology_of_two_axes() -> None:
    channel = Channel("CT", 10, 50, 90, 50, 10, 0)
    data = Fingerprint(
        3, np.array([[1, 1]] * 3, float), np.array([[64, 48]] * 3), (channel,), 0.1, 60
    )
    cost = NetworkCost(1, 0, (16, 16))
    choices = propose(data, lambda _: cost, memory=1e9)
    found = {choice.key: choice.value for choice in choices}
    assert found["topology.strides"] == [[1, 1], [2, 2], [2, 2], [2, 2]]
    assert found["topology.kernels"] == [[3, 3]] * 4
