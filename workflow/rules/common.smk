import os
from shlex import quote

from snakemake.logging import logger

from lunet.data.source import source_digest

# Paths and the few functions that rules share; everything else is in lunet.study.

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


def source(wildcards):
    """Parameter: what the local data set holds, so that a change of it is seen."""
    target = getattr(wildcards, "target", None)
    if target is None:
        return source_digest(
            study.config.dataset, rules.download.output.raw, logger.info
        )
    raw = rules.transfer_download.output.raw.format(target=target)
    return source_digest(study.config.transfer[target].dataset, raw, logger.info)
