import os
from shlex import quote

from snakemake.logging import logger

from lunet.data.source import source_digest


include: "options.smk"


# Paths and the few functions that rules share; everything else is in lunet.study. Commands only get
# paths of their rule's inputs and outputs, because a workflow that includes this one with a
# `prefix:` changes these and no other paths.

RESULTS = study.results
WORK = study.work
RUN = f"{RESULTS}/runs/{{preset}}/fold-{{fold}}/seed-{{seed}}"
LOGS = f"{RESULTS}/logs/{{preset}}/fold-{{fold}}/seed-{{seed}}"


# networks that are trained; the atlas prior and external rows have predictions but no network
TRAINED = rf"(?!(?:{one_of(('atlas_prior', *study.external))})/)[^/]+"
EXTERNAL, RIVALS = one_of(study.made_elsewhere), one_of(study.rivals)


wildcard_constraints:
    preset=r"[^/]+",
    fold=r"\d+",
    seed=r"\d+",
    name=r"[^/]+",


def folder(wildcards, output):
    """Parameter: the folder of a rule's outputs."""
    return os.path.dirname(output[0])


def run_folder(wildcards, input):
    """Parameter: the folder of the run whose weights are an input."""
    return os.path.dirname(input.weights)


def base(wildcards, output):
    """Parameter: the path of the first output without its suffix."""
    return os.path.splitext(output[0])[0]


def training_state(wildcards, input):
    """Parameter: the folder of a training's resume state, next to the prepared volumes."""
    return _state(input, "runs", wildcards.preset, wildcards)


def pruning_state(wildcards, input):
    """Parameter: the folder of a pruning's resume state."""
    return _state(input, "pruning", wildcards.preset, wildcards.strategy, wildcards)


def _state(input, *names):
    *folders, run = names
    work = os.path.dirname(os.path.dirname(input.manifest))
    return os.path.join(work, *folders, f"fold-{run.fold}", f"seed-{run.seed}")


def protocol(wildcards, input):
    """Parameter: the study's protocol, next to its splits."""
    return os.path.join(os.path.dirname(input.splits), "protocol.json")


def source(wildcards):
    """Parameter: digest of a local data set, so that a change in it is noticed."""
    target = getattr(wildcards, "target", None)
    if target is None:
        return source_digest(
            study.config.dataset, rules.download.output.raw, logger.info
        )
    raw = rules.transfer_download.output.raw.format(target=target)
    return source_digest(study.config.transfer[target].dataset, raw, logger.info)
