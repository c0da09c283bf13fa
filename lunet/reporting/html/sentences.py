"""Every sentence of the methods paragraph, as a template, in the order of the paragraph.

:mod:`lunet.reporting.html.methods` fills in the sentences whose facts are recorded in the files and
leaves out the others.
"""

from __future__ import annotations

from lunet.reporting.costs import BUSY

SENTENCES = {
    # data
    "data": "The data set {name} was used.",
    "structures": "The networks segment {structures}.",
    "synthetic": "These data are synthetic: a program generated them, so no result applies to "
    "patients.",
    "used": "Of {found} cases that were found, {used} were used, {labelled} of them with labels.",
    "repaired": "A repair of the files corrected {repaired} and left out {left_out}.",
    "folds": "The cases were divided into {made} folds for cross-validation; {used} of them "
    "{were} used ({numbers}).",
    "one_fold": "The cases were divided once.",
    "disjoint": "No subject is in both the test part and another part of a fold.",
    "mixed": "Some subjects are in both the test part and another part of a fold.",
    "held_out": "A set of {held_out} cases was held out of all folds.",
    "parts": "Each fold used {train} for training, {validation} for choosing weights "
    "and {test} for testing.",
    "two_parts": "Each fold used {train} for training and {test} for testing.",
    "tested": "Together, {tested} were tested.",
    # preparation
    "orientation": "Images were reoriented to {orientation} orientation.",
    "own_orientation": "Images kept their orientation.",
    "spacing": "They were resampled to voxels of {spacing} {unit}, images by cubic B-splines and "
    "labels by the nearest neighbour.",
    "own_spacing": "They kept their voxel size.",
    "clip": "Intensities were clipped to the percentiles {low:g} and {high:g} of each image and "
    "channel.",
    "window": "Intensities were clipped to the fixed window from {low:g} to {high:g}.",
    "no_clip": "Intensities were not clipped.",
    "zscore": "They were then normalised to mean 0 and standard deviation 1, for each image and "
    "channel.",
    "zscore_nonzero": "They were then normalised to mean 0 and standard deviation 1 of the voxels "
    "that are not zero, for each image and channel.",
    "minmax": "They were then mapped to the range from 0 to 1, for each image and channel.",
    "none": "They were not normalised.",
    "size": "Images were cropped or padded about their centre to {size} voxels.",
    "own_size": "Images kept their size.",
    "cropped_labels": "In {cases} of {all} cases this cut voxels off the labels, at most {most} of "
    "them; no network was trained on these voxels, and they count as missed.",
    # training
    "recipe": "{presets} {were} trained for {epochs} epochs with {optimiser} at a learning rate of "
    "{rate:g} ({schedule}), in batches of {batch} {samples}, with the {loss} as the loss and "
    "{augmentation}{more}.",
    "selection": "The weights with the best validation {monitor} were kept.",
    "dropout": "The dropout rate of {presets} was {rate:g}.",
    "precision": "Training of {presets} was computed in {precision} on {device}{threads}.",
    "seed": "Each network was trained once in each fold, so the variance between trainings "
    "is not known.",
    "seeds": "Each network was trained with {seeds} random seeds in each fold.",
    "hours": "All trainings together took {hours} device hours.",
    # rows that were made elsewhere
    "external": "The predictions of {name} were not made by this study{source}; they were taken "
    "as they are ({layout}) and evaluated like all others.",
    "rival": "{name}{source} was planned, trained and used for prediction by its own code, on the "
    "data and folds of this study, once in each fold. The validation cases of the fold were among "
    "the cases that it trained with.",
    "external_checked": "The split of its training shows that no case was predicted by a "
    "model of {name} that trained on it.",
    "external_unchecked": "Whether {name} was trained on cases of this data set is not recorded.",
    "external_missing": "For {missing} of {tested} test cases there is no prediction of {name}, so "
    "their structures are counted as missed ({cases}).",
    "reader": "{name} is a second reader{source}: the agreement of these masks with the reference "
    "is the inter-rater line of the figures. A reader is no candidate for the smallest network, "
    "and is compared only where the configuration names it.",
    # cost
    "counted": "Multiply-adds of convolutions, linear layers and matrix products were counted for "
    "one input of {size} {grid}.",
    "latency": "The latency of one image was measured on {device}{threads}, in fresh processes "
    "after warm-up; it is reported as the median and percentiles of {runs}.",
    "busy": BUSY,
    # evaluation
    "space": "Predictions were compared with the references in native image space, in {unit}, "
    "for each case and structure.",
    "missed": "A missed structure scores the worst value and is counted.",
    "empty": "Where a reference is empty, an empty prediction scores the best value if another "
    "network predicts the structure; if none does, the case is left out for all networks and "
    "counted.",
    "masks": "R is the mask of the reference and P the mask of the prediction.",
    "metric": "{title} is the {definition}.",
    "formula": "{title} is {definition}.",
    "mean": "The mean over labels is the mean of a case's values of its {labels} structures.",
    # statistics
    "primary": "Networks were compared by {metric}, paired by case.",
    "bootstrap": "Means over cases and their differences have bootstrap {level:g} % confidence "
    "intervals (BCa, {resamples} resamples of subjects, seed {seed}).",
    "sign_flips": "The verdicts come from sign-flip permutation tests over subjects, which take "
    "these trained networks as given.",
    "components": "Means over cases and their differences have {level:g} % confidence intervals "
    "that include the variance between subjects and between trainings.",
    "t_tests": "The verdicts come from t tests with the same error (the quantiles of both t "
    "distributions, weighted by their variances).",
    "holm": "Differences were tested two-sided at a level of {two_sided:g} %{noninferior}; p "
    "values were adjusted by Holm's method over all comparisons and structures.",
    "margin": "The non-inferiority margin was {margin:g}{unit} in {metric} ({when}).",
    "no_margin": "Non-inferiority was not tested; the comparisons were set "
    "in the configuration ({when}).",
    "changed": "{changed}",
    "software": "The software was {packages}, with Python {python}.",
}
