"""Augmentation by TorchIO 2 on whole batches; a process of an environment that has it.

It reads the name of a chain per line from standard input, augments a batch once, and writes the
seconds that it took (processor time on a CPU; until the work is done on a GPU). TorchIO 2 cannot be
installed beside 1.2.1, so nothing of lunet is imported here. Arguments: samples of a batch and
voxels per axis.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
import torchio as tio

_AFFINE: dict[str, Any] = {"scales": (0.85, 1.15), "degrees": (-15.0, 15.0), "isotropic": True}
_ELASTIC: dict[str, Any] = {"num_control_points": 7, "max_displacement": 5.0, "locked_borders": 2}
_INTENSITY = [
    tio.Gamma(log_gamma=(-0.3, 0.3)),
    tio.Noise(std=(0.0, 0.1)),
    *[tio.Flip(axes=axis, flip_probability=0.5) for axis in range(3)],
]
CHAINS = {
    "usual": [tio.Affine(**_AFFINE), tio.ElasticDeformation(**_ELASTIC), *_INTENSITY],
    "fused": [tio.Spatial(**_AFFINE, **_ELASTIC), *_INTENSITY],
    "affine": [tio.Affine(**_AFFINE)],
    "elastic": [tio.ElasticDeformation(**_ELASTIC)],
}


def main() -> None:
    """Serve until standard input ends."""
    batch, *size = map(int, sys.argv[1:])
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.randn(batch, 1, *size, device=device)
    labels = torch.randint(0, 3, (batch, 1, *size), dtype=torch.uint8, device=device)
    affines = [tio.AffineMatrix() for _ in range(batch)]
    print(tio.__version__, flush=True)
    for line in sys.stdin:
        transform = tio.Compose(CHAINS[line.strip()])
        subjects = tio.SubjectsBatch(
            {
                "image": tio.ImagesBatch(images.clone(), affines),
                "label": tio.ImagesBatch(labels.clone(), affines, image_class=tio.LabelMap),
            }
        )
        start = seconds(device)
        transform(subjects)
        print(seconds(device) - start, flush=True)


def seconds(device: str) -> float:
    """A time, after the GPU has done its work."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
