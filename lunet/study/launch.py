"""What happens once when Snakemake starts, after the study is known and before any job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from lunet.data.dataset_json import declared_task
from lunet.data.settings import DatasetSettings
from lunet.data.source import local_source
from lunet.devices import share_gpus
from lunet.reading import wrong_in
from lunet.study.cluster_check import prepare_cluster
from lunet.study.external import check_external
from lunet.study.freeze import freeze_networks
from lunet.study.profile import is_dry_run
from lunet.study.protocol import hand_over, known_warnings
from lunet.study.rivals import check_rivals, hand_over_rivals
from lunet.study.running import announce
from lunet.study.shown import hand_over_shown
from lunet.study.study import PRIOR, Study
from lunet.study.together import (
    advise_measuring,
    choose_together,
    hand_over_predictions,
    hand_over_together,
)
from lunet.training.kept_results import forget

_FOLDERS = ("runs", "presets", "pruning")


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
        Receives a line for each thing that the study cannot resolve, and for labels that the
        data set calls otherwise; None in the jobs that Snakemake starts, which must not repeat the
        warnings.

    Raises
    ------
    LunetError
        If a target belongs to an unknown preset, a data set is neither here nor at its path, the
        predictions of an external row are not there, a rival's interpreter does not find its tool,
        TensorBoard is asked for and not installed, or SLURM would refuse the profile's requests.
    """
    check_requested_files(study, words)
    prepare_cluster(words)
    share_gpus(study.config.runs_per_gpu)
    hand_over(study)
    hand_over_rivals(study)
    hand_over_shown({name: study.shown(name) for name in study.presets})
    if warn is not None:
        check_external(study)
        check_rivals(study)
        freeze_networks(preset.module for preset, _ in study.presets.values())
        hand_over_together(choose_together(study, words))
        if not is_dry_run(words):
            announce()
            forget(Path(study.work), Path(study.results), may_run=True)
        advice = advise_measuring(study, words)
        for line in [*source_warnings(study), *known_warnings(study), *advice]:
            warn(f"{study.name}: {line}")
    hand_over_predictions(study)


def check_requested_files(study: Study, words: Iterable[str]) -> None:
    """Refuse targets of unknown presets, with one line instead of a traceback from a rule.

    ``words`` are the words of the command line, because Snakemake reveals its targets only after
    the rules are read. Words that are not files of a preset in the study's results are ignored.

    Raises
    ------
    ConfigError
        If the path of a file in the study's results names an unknown preset.
    """
    for word in words:
        path = word.removeprefix("./")
        if not path.startswith(f"{study.results}/"):
            continue
        folder, _, rest = path.removeprefix(f"{study.results}/").partition("/")
        name, _, file = rest.partition("/")
        if folder in _FOLDERS and file and name not in (*study.presets, *study.external, PRIOR):
            study.resolve(name)


def source_warnings(study: Study) -> Iterator[str]:
    """Where the configuration and the ``dataset.json`` of a local data set disagree.

    Raises
    ------
    DataError
        If a ``path`` does not exist and the data were not copied from it before.
    """
    places = {"dataset": (study.config.dataset, f"{study.work}/raw")}
    for name, target in study.config.transfer.items():
        raw = f"{study.work}/transfer/{name}/raw"
        places[f"transfer.{name}.dataset"] = target.dataset, raw
    for where, (settings, raw) in places.items():
        if settings.path is not None and not Path(raw).exists():
            with wrong_in(f"{where}.path"):
                local_source(settings)
        yield from (f"{where}.{line}" for line in _differences(settings))


def _differences(settings: DatasetSettings) -> Iterator[str]:
    declared = declared_task(settings.path) if settings.path is not None else None
    if declared is None:
        return
    if settings.labels is not None and not settings.remap and not declared.regions:
        names = {index: name for name, index in declared.labels.items()}
        for name, index in settings.labels.items():
            if index != 0 and names.get(index) != name:
                there = f"is called {names[index]!r}" if index in names else "is not listed"
                yield f"labels: {name!r} is label {index}, which {there} in its dataset.json"
    if declared.regions and settings.regions is None and settings.labels and settings.channels:
        theirs = ", ".join(declared.regions)
        yield f"regions: none are named, so the labels are trained; its dataset.json has {theirs}"
    if settings.channels is not None and len(settings.channels) != len(declared.channels):
        theirs = ", ".join(declared.channels)
        yield f"channels: {len(settings.channels)} are named, its dataset.json has {theirs}"
