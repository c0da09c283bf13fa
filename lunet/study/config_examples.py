"""A short example for each section of the configuration, as its manual shows it.

Each is a part of a study's file. A test reads all of them.
"""

from __future__ import annotations

EXAMPLES = {
    "": """
study: spleen
dataset: {name: spleen, path: data/spleen, channels: [CT], labels: {spleen: 1}}
presets: [unet_small_8f, lunet_small_4f]
folds: [0, 1, 2]
seeds: [0, 1]
plan: auto
statistics: {reference: unet_small_8f, margin: 0.01}
""",
    "dataset": """
dataset:
  name: cord
  path: ~/data/cord              # images in folders, one per case
  layout: folders
  channels: [T1, T2]
  labels: {grey: 1, white: 2}
  groups: (sub-[0-9]+)           # sub-01_ses-1 and sub-01_ses-2 are one subject
""",
    "dataset.phantom": """
dataset: {name: phantom, phantom: {kind: spleen, subjects: 20, difficulty: 2}}
""",
    "variants.<name>": """
presets: [unet_small_4f, slow, mine]
variants:
  slow: {base: unet_small_4f, train: {optimiser: {lr: 1e-4}, epochs: 300}}
  mine: {network: nets/my_net.py:MyNet, arguments: {width: 8}}
""",
    "planning": """
plan: auto
planning: {memory_gb: 8, largest_batch: 4}
""",
    "external.<name>": """
external:
  nnunet: {predictions: nnUNet_results/Dataset004/3d_fullres, layout: nnunet}
  second_reader: {predictions: reader2, role: reader}
""",
    "external.<name>.cost": """
external:
  nnunet:
    predictions: nnUNet_results/Dataset004/3d_fullres
    layout: nnunet
    cost: {parameters: 31195784}
""",
    "rivals.<name>": """
rivals:
  nnunet_3d_fullres: {python: ~/nnunet/bin/python}
  nnunet_resenc_m: {python: ~/nnunet/bin/python, network: resenc_m, epochs: 250}
  mist_pocket: {python: ~/mist/bin/python, network: mist_pocket}
statistics: {reference: nnunet_3d_fullres}
""",
    "topology": """
presets: [nnunet_like_8f, pocket_small_8f]
topology:                        # voxels of 0.5 x 0.5 x 7.5 mm: no pooling along the last axis
  strides: [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 1]]
  kernels: [[3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3]]
""",
    "roots": """
roots: {results: results, work: $SCRATCH/lunet}
""",
    "preprocess": """
preprocess:
  spacing: [1.5, 1.5, 3]         # mm
  window: [-150, 250]            # Hounsfield units
  normalise: minmax
""",
    "split": """
split: {folds: 5, seed: 42, held_out: 0.2}
""",
    "predict": """
predict: {patch: [96, 96, 64], overlap: 0.5, flip_axes: [0], largest_component: true}
""",
    "evaluate": """
evaluate: {tolerances: [1, 2]}
report: {metrics: [dice, hd95, nsd_1, nsd_2]}
""",
    "transfer.<name>": """
transfer:
  clinic:
    dataset: {name: clinic, path: data/clinic, channels: [MR], labels: {hippocampus: 1}}
    map: {Anterior: hippocampus, Posterior: hippocampus}
""",
    "lesions": """
lesions: {enabled: true, overlap: 0.1}
predict: {probabilities: true}
""",
    "statistics": """
statistics:
  metric: hd95
  reference: unet_small_4f
  margin: 1                      # mm, the unit of the metric
""",
    "efficiency": """
efficiency: {size: [96, 96, 64], batches: [1], threads: 4, budget_s: 5, processes: 3}
""",
    "report": """
report: {title: "How small can it be?", metrics: [dice, hd95], examples: 5}
""",
    "prune": """
prune:
  enabled: true
  preset: unet_small_4f
  strategies: [stamp, scratch]
  iterations: 10
""",
    "smallest": """
smallest:
  reference: unet_small_8f
  families: [lunet_small, unet_small]
  widths: [2, 4, 8]
  cost: latency_ms
  margin: 0.01
""",
    "train": """
train: {epochs: 50, batch_size: 4, patch: [64, 64, 64], loss: {dice: 1, ce: 1}}
overrides:
  lunet_small_4f: {epochs: 100}
""",
    "train.optimiser": """
train: {optimiser: {name: adamw, lr: 1e-3, weight_decay: 0.01}}
""",
    "train.schedule": """
train: {schedule: {name: cosine, warmup_epochs: 5}}
""",
    "train.augmentation": """
train:
  augmentation: {flip_axes: [0], affine_p: 0.5, degrees: 10, noise_p: 0.2}
""",
    "train.ema": """
train: {ema: {decay: 0.999, warmup_steps: 100}}
""",
    "train.early_stopping": """
train: {early_stopping: {patience: 20, metric: dice}}
""",
    "train.engine": """
train: {engine: {device: cuda, precision: bf16, threads: 4}}
""",
    "shown": """
train: {curves: true, tensorboard: true}   # then: tensorboard --logdir results/my_study/runs
""",
}
"""Path of the section (empty: the whole study) -> YAML."""
