import os
from shlex import quote

from snakemake.logging import logger

from lunet.data.source import source_digest

# Paths and the few functions that rules share; everything else is in lunet.study. A command is
# given paths of its rule's inputs and outputs only: in a workflow that includes this one with a
# `prefix:`, Snakemake changes these, and no others.

RESULTS = study.results
WORK = study.work
RUN = f"{RESULTS}/runs/{{preset}}/fold-{{fold}}/seed-{{seed}}"
LOGS = f"{RESULTS}/logs/{{preset}}/fold-{{fold}}/seed-{{seed}}"


# what is trained; the atlas prior has predictions but no network
TRAINED = r"(?!atlas_prior/)[^/]+"


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
    """Parameter: the outputs' path without its suffix."""
    return os.path.splitext(output[0])[0]


def training_state(wildcards, input):
    """Parameter: where a training keeps its resume state, beside the prepared volumes."""
    return _state(input, "runs", wildcards.preset, wildcards)


def pruning_state(wildcards, input):
    """Parameter: where a pruning keeps its resume state."""
    return _state(input, "pruning", wildcards.preset, wildcards.strategy, wildcards)


def _state(input, *names):
    *folders, run = names
    work = os.path.dirname(os.path.dirname(input.manifest))
    return os.path.join(work, *folders, f"fold-{run.fold}", f"seed-{run.seed}")


def protocol(wildcards, input):
    """Parameter: the study's protocol, beside its splits."""
    return os.path.join(os.path.dirname(input.splits), "protocol.json")


def manifest_option(wildcards, input):
    """Parameter: the manifest, where a table is made of it."""
    found = [path for path in input if os.path.basename(path) == "manifest.json"]
    return f" --manifest {quote(found[0])}" if found else ""


def source(wildcards):
    """Parameter: what the local data set holds, so that a change of it is seen."""
    target = getattr(wildcards, "target", None)
    if target is None:
        return source_digest(
            study.config.dataset, rules.download.output.raw, logger.info
        )
    raw = rules.transfer_download.output.raw.format(target=target)
    return source_digest(study.config.transfer[target].dataset, raw, logger.info)
