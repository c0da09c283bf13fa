"""Convert a data set of another layout to the project's layout, with links instead of copies.

Layouts: decathlon, nnunet (a folder, or a number in $nnUNet_raw), bids, brats, mmwhs, per_subject
(KiTS23, ACDC, BTCV), csv, folders (images/ and masks/, or images and masks in one folder), kaggle,
totalsegmentator; auto detects the layout.
Formats: NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF.

Examples: lunet import Dataset004_Hippocampus --layout nnunet --out raw
          lunet import slices --labels tumour=1 --threshold 127 --groups '^(\\d+)_' --out raw

--layout kaggle converts a task folder of the Kaggle collection "Medical Image Segmentation:
Evaluation". Download it first with your own Kaggle credentials; this command asks for none. The
pickled labels are read in a separate process, by a reader that accepts nothing but labels.

Example: lunet import Task006_Lung --layout kaggle --dimensions 2 --out raw

--layout totalsegmentator merges the masks of each subject into one label file; --labels chooses
structures by the names of their masks (default: the 24 organs).

Example: lunet import Totalsegmentator_dataset_v201 --layout totalsegmentator --out raw
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_out
from lunet.commands.raw import add_description, by_hand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet import``."""
    parser.add_argument("source", metavar="SOURCE", help="folder, CSV listing, or nnU-Net number")
    add_out(parser, "DIR", "new folder")
    add_description(parser)


def run(arguments: argparse.Namespace) -> None:
    """Read the other layout, then write links and ``dataset.json``."""
    from lunet.data.layouts.importing import write_project
    from lunet.data.layouts.open import open_dataset
    from lunet.data.left_out import count_lines
    from lunet.data.subjects import subject_lines

    if arguments.layout == "kaggle":
        from lunet.data.layouts.kaggle.collection import import_kaggle

        dataset = import_kaggle(arguments.source, arguments.out, by_hand(arguments))
    elif arguments.layout == "totalsegmentator":
        from lunet.data.layouts.totalsegmentator import import_totalsegmentator

        dataset = import_totalsegmentator(arguments.source, arguments.out, by_hand(arguments))
    else:
        dataset = open_dataset(arguments.source, by_hand(arguments), arguments.layout)
        write_project(dataset, arguments.out)
    for line in count_lines(dataset):
        print(line)
    for line in subject_lines((case.id, case.group) for case in dataset.cases):
        print(line)
    labels = ", ".join(f"{name} {index}" for name, index in dataset.task.labels.items())
    print(f"{dataset.name}: {len(dataset.cases)} cases, labels {labels}, in {arguments.out}")
