"""What happens once when Snakemake starts, after the study is known and before any job."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lunet.devices import share_gpus
from lunet.study.cluster_check import prepare_cluster
from lunet.study.freeze import freeze_networks
from lunet.study.protocol import hand_over, known_warnings
from lunet.study.study import Study, check_requested_files


def launch(study: Study, words: Sequence[str], *, warn: Callable[[str], None] | None) -> None:
    """Check the targets and the cluster, and pass on to the jobs what they need.

    Jobs get it through the environment, not through parameters of rules: a change of how many jobs
    share a GPU, or of what the study states, must not train anything again.

    Parameters
    ----------
    study
        The study.
    words
        Snakemake's arguments.
    warn
        Receives a line for each thing that the study cannot resolve; None in the jobs that
        Snakemake starts, which must not repeat the warnings.

    Raises
    ------
    LunetError
        If a target belongs to an unknown preset, or SLURM would refuse the profile's requests.
    """
    check_requested_files(study, words)
    prepare_cluster(words)
    share_gpus(study.config.runs_per_gpu)
    hand_over(study)
    if warn is not None:
        freeze_networks(preset.module for preset, _ in study.presets.values())
        for line in known_warnings(study):
            warn(f"{study.name}: {line}")
