"""Every sentence of the methods paragraph, as a template, in the order of the paragraph.

:mod:`lunet.reporting.html.methods` chooses those whose facts the files hold and fills them in; a
sentence whose facts are not recorded is left out.
"""

from __future__ import annotations

SENTENCES = {
    # data
    "data": "The data set {name} was used.",
    "structures": "The networks segment {structures}.",
    "synthetic": "These data are synthetic: a program made them, so that no result is about "
    "patients.",
    "used": "Of {found} cases that were found, {used} were used, {labelled} of them with labels.",
    "repaired": "A repair of the files mended {repaired} and left out {left_out}.",
    "folds": "The cases were divided into {made} folds for cross-validation; {used} of them "
    "{were} used ({numbers}).",
    "one_fold": "The cases were divided once.",
    "disjoint": "No subject stands both in the test part of a fold and in its other parts.",
    "mixed": "Some subjects stand both in the test part of a fold and in its other parts.",
    "held_out": "A part of {held_out} cases was held out of all folds.",
    "parts": "A fold trained on {train}, chose weights on {validation} and tested on {test}.",
    "two_parts": "A fold trained on {train} and tested on {test}.",
    "tested": "Together, {tested} were tested.",
    # preparation
    "orientation": "Volumes were turned to {orientation} orientation.",
    "own_orientation": "Volumes kept their orientation.",
    "spacing": "They were resampled to voxels of {spacing} mm, images by cubic B-splines and "
    "labels by the nearest neighbour.",
    "own_spacing": "They kept their voxel size.",
    "clip": "Intensities were clipped to the percentiles {low:g} and {high:g} of each volume and "
    "channel.",
    "window": "Intensities were clipped to the fixed window from {low:g} to {high:g}.",
    "no_clip": "Intensities were not clipped.",
    "zscore": "They were then normalised to mean 0 and standard deviation 1, for each volume and "
    "channel.",
    "zscore_nonzero": "They were then normalised to mean 0 and standard deviation 1 of the voxels "
    "that are not zero, for each volume and channel.",
    "minmax": "They were then mapped to the range from 0 to 1, for each volume and channel.",
    "none": "They were not normalised.",
    "size": "Volumes were cropped or padded about their centre to {size} voxels.",
    "own_size": "Volumes kept their size.",
    # training
    "recipe": "{presets} {were} trained for {epochs} epochs with {optimiser} at a learning rate of "
    "{rate:g} ({schedule}), in batches of {batch} {samples}, with the {loss} as the loss and "
    "{augmentation}{more}.",
    "selection": "The weights with the best validation {monitor} were kept.",
    "dropout": "The dropout rate of {presets} was {rate:g}.",
    "precision": "Training of {presets} was computed in {precision} on {device}{threads}.",
    "seed": "Each network was trained once in each fold, so that the variance between trainings "
    "is not known.",
    "seeds": "Each network was trained with {seeds} random seeds in each fold.",
    "hours": "All trainings together took {hours} device hours.",
    # cost
    "counted": "Multiply-adds of convolutions, linear layers and matrix products were counted for "
    "one input of {size} voxels.",
    "latency": "The latency of one volume was measured on {device}{threads}, in fresh processes "
    "after warm-up; it is given as median and percentiles of {runs}.",
    # evaluation
    "space": "Predictions were compared with the references in native image space, in mm, for "
    "each case and structure.",
    "missed": "A missed structure scores the worst value and is counted.",
    "empty": "Where a reference is empty, an empty prediction scores the best value if another "
    "network invents the structure; if none does, the case is left out for all and counted.",
    "masks": "R is the mask of the reference and P that of the prediction.",
    "metric": "{title} is the {definition}.",
    "formula": "{title} is {definition}.",
    "mean": "The mean over labels is the mean of a case's values of its {labels} structures.",
    # statistics
    "primary": "Networks were compared by {metric}, paired by case.",
    "bootstrap": "Means over cases and their differences have bootstrap {level:g} % confidence "
    "intervals (BCa, {resamples} resamples of subjects, seed {seed}).",
    "sign_flips": "The verdicts are those of sign-flip permutation tests of subjects, with these "
    "trained networks taken as given.",
    "components": "Means over cases and their differences have {level:g} % confidence intervals "
    "that hold the variance between subjects and between trainings.",
    "t_tests": "The verdicts are those of t tests with the same error (the points of both t "
    "distributions, weighted by their variances).",
    "holm": "Differences were tested two-sided at a level of {two_sided:g} %{noninferior}; p "
    "values were adjusted by Holm's method over all comparisons and structures.",
    "margin": "The non-inferiority margin was {margin:g}{unit} in {metric} ({when}).",
    "no_margin": "Non-inferiority was not tested; the comparisons are those asked for ({when}).",
    "changed": "{changed}",
    "software": "The software was {packages}, with Python {python}.",
}
