"""Targets of a Snakemake command, checked before anything asks for their preset."""

from __future__ import annotations

from collections.abc import Iterable

from lunet.study.study import PRIOR, Study

_FOLDERS = ("runs", "presets", "pruning")


def check_targets(study: Study, words: Iterable[str]) -> None:
    """Refuse files of a preset that does not exist: one line, where a rule would show a trace.

    ``words`` are those of the command line, for Snakemake tells its targets only after the rules
    are read; words that are no file of a preset in the study's results are passed over.

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
        if folder in _FOLDERS and file and name not in (*study.presets, PRIOR):
            study.resolve(name)
