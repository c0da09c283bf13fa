"""What happens once at a start of Snakemake, after the study is known and before any job."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lunet.devices import share_gpus
from lunet.study.cluster_check import prepare_cluster
from lunet.study.protocol import hand_over, known_warnings
from lunet.study.study import Study, check_requested_files


def launch(study: Study, words: Sequence[str], *, warn: Callable[[str], None] | None) -> None:
    """Check the targets and the cluster, and tell the jobs what they must know.

    Jobs learn it through the environment and not through a rule's parameter: neither how many of
    them share a GPU nor what a study states may train anything again.

    Parameters
    ----------
    study
        The study of this start.
    words
        Snakemake's arguments.
    warn
        Receives a line for each thing that the study cannot resolve; None in a job of the start.

    Raises
    ------
    LunetError
        If a target does not exist, or SLURM would refuse the profile's requests.
    """
    check_requested_files(study, words)
    prepare_cluster(words)
    share_gpus(study.config.runs_per_gpu)
    hand_over(study)
    if warn is not None:
        for line in known_warnings(study):
            warn(f"{study.name}: {line}")
